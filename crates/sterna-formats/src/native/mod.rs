//! Native files, `NAME.sterna`: one mapped file with everything a model needs, its matrices in the layout that the
//! kernels read. `docs/format.md` in the repository describes every byte.
//!
//! ```text
//! | header, 64 bytes | zeros to 4096 | documents and tensors, each on a cache line | directory |
//! ```
//!
//! [`Writer`] makes one, tensor by tensor; [`Native::open`] checks structure and sizes, and [`verify`] the contents.
//! The configuration, tokenizer and chat template inside are the origin's own files, word for word: [`Documents`].

mod directory;
mod documents;
mod header;
mod journal;
mod writer;

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

pub use documents::{Document, Documents, Kind};
pub use writer::{Resumed, Writer};

use crate::error::{FormatError, Result};
use crate::hf::json;
use crate::mapped;
use crate::tensor::Tensor;
use directory::{Directory, Part};

/// What native files are called by.
pub const EXTENSION: &str = "sterna";

/// Version of the format that is written. Files of another major version are refused; a minor version adds only what
/// readers of earlier ones may overlook.
pub const VERSION: (u16, u16) = (1, 4);

/// Every document and every tensor begins at a multiple of this.
pub const ALIGNMENT: usize = 64;

/// Where the first of them begins: on a page of its own.
const DATA_START: usize = 4096;

/// The longest name of a document or a tensor, in bytes.
const MAX_NAME: usize = 1024;

/// What a file says about where it comes from, in no form that a program depends on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// The checkpoint that it was made of: a name, a path, an address.
    pub origin: String,
    /// Name or text of the licence, as far as the origin says.
    pub license: Option<String>,
    /// How it was made: settings and formats. Null: not said.
    pub recipe: Value,
    /// What that cost, as measured. Null: not measured.
    pub quality: Value,
}

/// A native file without its tensors.
#[derive(Debug, Clone)]
pub struct Native {
    file: String,
    version: (u16, u16),
    documents: Documents,
    made_by: String,
    origin: String,
    license: Option<String>,
    recipe: Option<Bytes>,
    quality: Option<Bytes>,
}

impl Native {
    /// Opens the file at `path`: its contents but the tensors, and those.
    ///
    /// # Errors
    /// When the file cannot be mapped, is no native file or one of a newer major version, or its parts are not inside
    /// it. Contents are not read; see [`verify`].
    pub fn open(path: &Path) -> Result<(Native, Vec<Tensor>)> {
        Native::parse(&path.display().to_string(), mapped::open(path)?)
    }

    /// As [`Native::open`], for the bytes of a file; `file` is its name in errors.
    ///
    /// # Errors
    /// As [`Native::open`].
    pub fn parse(file: &str, bytes: Bytes) -> Result<(Native, Vec<Tensor>)> {
        let (version, directory) = Directory::read(file, &bytes)?;
        let slice = |part: &Part| bytes.slice(part.range());
        let documents = directory.documents.iter();
        let documents = Documents {
            kind: directory.kind,
            list: documents.map(|it| Document { name: it.name.clone(), bytes: slice(&it.data) }).collect(),
        };
        let tensors = directory.tensors(file, &bytes)?;
        let native = Native {
            file: file.to_owned(),
            version,
            documents,
            made_by: directory.made_by,
            origin: directory.origin,
            license: directory.license,
            recipe: directory.recipe.as_ref().map(slice),
            quality: directory.quality.as_ref().map(slice),
        };
        Ok((native, tensors))
    }

    /// Version of the format.
    pub fn version(&self) -> (u16, u16) {
        self.version
    }

    /// The files of the origin.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// The program that wrote the file, with its version.
    pub fn made_by(&self) -> &str {
        &self.made_by
    }

    /// Where it comes from and how it was made.
    ///
    /// # Errors
    /// When recipe or quality report is not JSON.
    pub fn about(&self) -> Result<About> {
        let parsed = |field: &str, bytes: &Option<Bytes>| {
            let Some(bytes) = bytes else { return Ok(Value::Null) };
            let invalid = |found: String| FormatError::invalid(&self.file, field, "JSON", found);
            let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
            json::parse(text).map_err(|error| invalid(error.to_string()))
        };
        Ok(About {
            origin: self.origin.clone(),
            license: self.license.clone(),
            recipe: parsed("recipe", &self.recipe)?,
            quality: parsed("quality", &self.quality)?,
        })
    }
}

/// Whether the file at `path` begins as native files do. A file that cannot be read does not.
pub(crate) fn is_native(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; header::MAGIC.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == header::MAGIC
}

/// Compares every document and every tensor of the file at `path` with its checksum; how many bytes that were.
///
/// # Errors
/// As [`Native::open`], and the first part that is not what was written.
pub fn verify(path: &Path) -> Result<u64> {
    let (file, bytes) = (path.display().to_string(), mapped::open(path)?);
    let (_, directory) = Directory::read(&file, &bytes)?;
    directory.verify(&file, &bytes)
}
