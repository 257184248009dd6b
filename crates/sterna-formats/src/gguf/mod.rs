//! GGUF files, versions 2 and 3: metadata, and tensors that are slices of the mapped file.
//!
//! Layout: header, metadata entries, tensor table, padding to `general.alignment`, tensor data. The parser walks
//! it once, front to back; [`Writer`] writes one the same way. Source: `docs/gguf.md` of github.com/ggml-org/ggml.

mod entries;
mod header;
mod metadata;
mod reader;
mod shards;
mod table;
mod value;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use entries::{Entries, ToValue};
pub use metadata::{FromValue, Metadata};
pub use value::{Array, Value, ValueType};
pub use writer::{TensorInfo, Writer};

use crate::error::Result;
use crate::mapped;
use crate::tensor::Tensor;
use header::Counts;
use reader::Reader;

/// The longest key and the longest tensor name, in bytes. Real ones stay far below.
const MAX_NAME: usize = 1024;

/// A parsed GGUF file, or the shards of one taken together.
#[derive(Debug, Clone)]
pub struct Gguf {
    metadata: Metadata,
    tensors: Vec<Tensor>,
}

impl Gguf {
    /// Opens the file at `path`. When it is one shard of several (`…-00001-of-00003.gguf`), opens all of them: the
    /// metadata are then those of the first.
    ///
    /// # Errors
    /// When a file cannot be mapped or is malformed, or shards are missing or do not belong together.
    pub fn open(path: &Path) -> Result<Gguf> {
        let gguf = Gguf::open_one(path)?;
        match gguf.metadata.get::<u32>(shards::COUNT)? {
            Some(count) if count > 1 => shards::open_all(path, count),
            _ => Ok(gguf),
        }
    }

    fn open_one(path: &Path) -> Result<Gguf> {
        Gguf::parse(&path.display().to_string(), mapped::open(path)?)
    }

    /// Parses the bytes of one file; `file` is its name in errors.
    ///
    /// # Errors
    /// When the bytes are not a well-formed GGUF file.
    pub fn parse(file: &str, bytes: Bytes) -> Result<Gguf> {
        let file: Arc<str> = file.into();
        let mut reader = Reader::new(bytes.clone(), file.clone());
        let Counts { n_tensors, n_entries } = header::read(&mut reader)?;
        let entries = read_metadata(&mut reader, n_entries)?;
        let metadata = Metadata::new(file, bytes.slice(..reader.position()), entries);
        let tensors = table::read(&mut reader, n_tensors, &metadata, &bytes)?;
        Ok(Gguf { metadata, tensors })
    }

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor called `name`, found by looking at each.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Metadata and tensors, for owners who index them their own way.
    pub fn into_parts(self) -> (Metadata, Vec<Tensor>) {
        (self.metadata, self.tensors)
    }
}

fn read_metadata(reader: &mut Reader, n_entries: usize) -> Result<BTreeMap<String, Value>> {
    let mut entries = BTreeMap::new();
    for index in 0..n_entries {
        let key = reader.name(&format!("key of metadata entry {index}"), MAX_NAME)?;
        let field = format!("key {key}");
        let value = reader.value(&field)?;
        if entries.insert(key, value).is_some() {
            return Err(reader.invalid(&field, "one value", "a second one"));
        }
    }
    Ok(entries)
}
