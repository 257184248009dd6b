//! Writing a native file: data first, one tensor after the other; then the directory; then, when all of it is on the
//! medium, its name.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use sterna_tensor::{DType, PackedMatrix};

use super::directory::{self, Directory, Entry, Named, Part};
use super::journal::Journal;
use super::{ALIGNMENT, About, DATA_START, Documents, MAX_NAME, documents, header};
use crate::atomic_file::{AtomicFile, part_of};
use crate::error::{FormatError, Result};
use crate::mapped;
use crate::tensor::{Tensor, TensorType};

/// A native file that is being written, as `NAME.part` beside the place where it will be. Dropped before
/// [`Writer::finish`], it leaves nothing, or, after a [`Writer::checkpoint`], what [`Writer::resume`] goes on with.
#[derive(Debug)]
pub struct Writer {
    file: AtomicFile,
    directory: Directory,
    /// Of the tensors.
    names: HashSet<String>,
}

/// A file that is gone on with.
#[derive(Debug)]
pub struct Resumed {
    /// To add what is missing to.
    pub writer: Writer,
    /// What was given to the last [`Writer::checkpoint`].
    pub state: Value,
    /// What was added until then, mapped.
    pub tensors: Vec<Tensor>,
}

impl Writer {
    /// Begins the file that will be at `path` with the documents of its origin.
    ///
    /// # Errors
    /// When the file cannot be created or written, or a document's name is no file name.
    pub fn create(path: &Path, documents: &Documents) -> Result<Writer> {
        // A note about an earlier file would be wrong about this one.
        Journal::remove(&part_of(path))?;
        let mut writer = Writer {
            file: AtomicFile::create(path)?,
            directory: Directory {
                made_by: format!("sterna {}", env!("CARGO_PKG_VERSION")),
                kind: documents.kind,
                ..Directory::default()
            },
            names: HashSet::new(),
        };
        // The header is written last: until then the file is none of this format.
        writer.file.append(&[0; DATA_START])?;
        for document in &documents.list {
            let name = document.name.clone();
            let is_new = writer.directory.documents.iter().all(|other| other.name != name);
            if !documents::is_file_name(&name) || !is_new {
                return Err(writer.invalid("documents", "plain file names, each once", format!("{name:?}")));
            }
            let data = writer.part(&document.bytes)?;
            writer.directory.documents.push(Named { name, data });
        }
        Ok(writer)
    }

    /// Notes on the medium that all is well so far. Whatever happens to the program from here on, [`Writer::resume`] finds
    /// what was added until now, and `state`.
    ///
    /// # Errors
    /// When the file or the note cannot be written.
    pub fn checkpoint(&mut self, state: &Value) -> Result<()> {
        self.file.keep()?;
        let journal =
            Journal { directory: self.directory.clone(), len: self.file.len(), state: state.clone() };
        journal.write(self.file.part_path())
    }

    /// Goes on with the file that would have been at `path`, from its last [`Writer::checkpoint`]; `None` where there is
    /// none. All tensors are compared with their checksums.
    ///
    /// # Errors
    /// When the file or the note cannot be read, or are not what was written.
    pub fn resume(path: &Path) -> Result<Option<Resumed>> {
        let part = part_of(path);
        let Some(Journal { directory, len, state }) = Journal::read(&part)? else { return Ok(None) };
        let Some(file) = AtomicFile::resume(path, len)? else { return Ok(None) };
        let name = part.display().to_string();
        let bytes = mapped::open(&part)?;
        directory.verify(&name, &bytes)?;
        let tensors = directory.tensors(&name, &bytes)?;
        let names = directory.tensors.iter().map(|entry| entry.name.clone()).collect();
        Ok(Some(Resumed { writer: Writer { file, directory, names }, state, tensors }))
    }

    /// Writes a tensor: little-endian floats, or the bytes of a packed matrix ([`PackedMatrix::as_bytes`]).
    ///
    /// # Errors
    /// When the type is none of native files, the bytes are not as many as type and shape ask for, the name was used
    /// before, or the file cannot be written.
    pub fn add(&mut self, name: &str, shape: &[usize], ty: TensorType, data: &[u8]) -> Result<()> {
        let field = directory::field(name);
        if !directory::is_known(ty) {
            return Err(FormatError::unsupported(self.file_name(), field, format!("type {ty}")));
        }
        if ty.n_bytes(shape) != Some(data.len()) || data.is_empty() {
            let expected = format!("the bytes of {ty} {shape:?}");
            return Err(self.invalid(&field, &expected, format!("{} bytes", data.len())));
        }
        if name.is_empty() || name.len() > MAX_NAME {
            let expected = format!("a name of 1 to {MAX_NAME} bytes");
            return Err(self.invalid(&field, &expected, format!("{} bytes", name.len())));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(self.invalid(&field, "one tensor of this name", "a second one".to_owned()));
        }
        let data = self.part(data)?;
        let entry = Entry { name: name.to_owned(), ty: ty.to_string(), shape: shape.to_vec(), data };
        self.directory.tensors.push(entry);
        Ok(())
    }

    /// Writes a packed matrix.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn add_packed(&mut self, name: &str, matrix: &PackedMatrix) -> Result<()> {
        let (shape, ty) = ([matrix.rows(), matrix.cols()], TensorType::Packed(matrix.format()));
        self.add(name, &shape, ty, matrix.as_bytes())
    }

    /// Writes floats as they are.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn add_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.add(name, shape, TensorType::Dense(DType::F32), &bytes)
    }

    /// Writes what `about` says and the directory, waits until all is on the medium, and gives the file its name in
    /// place of what may have had it.
    ///
    /// # Errors
    /// When the file cannot be written or renamed; then nothing is left of it, and what was there before still is.
    pub fn finish(mut self, about: &About) -> Result<()> {
        self.directory.origin.clone_from(&about.origin);
        self.directory.license.clone_from(&about.license);
        self.directory.recipe = self.report(&about.recipe)?;
        self.directory.quality = self.report(&about.quality)?;
        let directory = serde_json::to_vec(&self.directory)
            .map_err(|error| self.invalid("directory", "what JSON can write", error.to_string()))?;
        self.file.align(ALIGNMENT as u64)?;
        let (offset, part) = (self.file.len(), self.file.part_path().to_owned());
        self.file.append(&directory)?;
        self.file.finish(&header::write(offset, &directory))?;
        Journal::remove(&part)
    }

    /// A report as JSON text, if there is one.
    fn report(&mut self, report: &Value) -> Result<Option<Part>> {
        if report.is_null() {
            return Ok(None);
        }
        self.part(report.to_string().as_bytes()).map(Some)
    }

    /// Writes `data` on a cache line of its own.
    fn part(&mut self, data: &[u8]) -> Result<Part> {
        self.file.align(ALIGNMENT as u64)?;
        let offset = self.file.len() as usize;
        self.file.append(data)?;
        Ok(Part { offset, length: data.len(), sha256: directory::sha256(data) })
    }

    fn file_name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn invalid(&self, field: &str, expected: &str, found: String) -> FormatError {
        FormatError::invalid(self.file_name(), field, expected, found)
    }
}
