//! Writing a GGUF file: header, metadata and tensor table first, then the data of one tensor after the other.

use std::path::Path;

use super::entries::{Entries, ToValue};
use super::table::{self, DEFAULT_ALIGNMENT, MAX_DIMS};
use super::{Gguf, MAX_NAME, Metadata, header};
use crate::atomic_file::AtomicFile;
use crate::error::{FormatError, Result};
use crate::tensor::TensorType;

/// A line of the tensor table.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Name in the file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Type of the elements: floats or blocks.
    pub ty: TensorType,
}

/// A GGUF file that is being written, as `NAME.part` beside the place where it will be. Dropped before
/// [`Writer::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    file: AtomicFile,
    /// Header, metadata, and table.
    head: Vec<u8>,
    tensors: Vec<(TensorInfo, u64)>,
    /// The tensor whose data are being written, and how many bytes of it have been.
    current: usize,
    written: u64,
}

impl Entries {
    /// The entries as read back from a file of no tensors that is called `file` in errors.
    ///
    /// # Errors
    /// When a key is empty or too long, or was given twice.
    pub fn to_metadata(&self, file: &str) -> Result<Metadata> {
        let bytes = [header::write(0, self.count()).as_slice(), self.bytes()].concat();
        Gguf::parse(file, bytes.into()).map(|gguf| gguf.into_parts().0)
    }
}

impl Writer {
    /// Begins the file that will be at `path`, with all of its metadata and the table of the tensors whose data follow.
    ///
    /// # Errors
    /// When the metadata have an alignment of their own, a tensor has a name, shape or type that no reader would take,
    /// or the file cannot be written.
    pub fn create(path: &Path, entries: &Entries, tensors: Vec<TensorInfo>) -> Result<Writer> {
        let file_name = path.display().to_string();
        let metadata = entries.to_metadata(&file_name)?;
        if table::alignment(&metadata)? != DEFAULT_ALIGNMENT {
            let expected = DEFAULT_ALIGNMENT.to_string();
            return Err(FormatError::invalid(file_name, table::ALIGNMENT, expected, "another"));
        }
        if let Some(name) = table::duplicate(tensors.iter().map(|tensor| tensor.name.as_str())) {
            let field = table::field(name);
            return Err(FormatError::invalid(file_name, field, "one tensor of this name", "a second one"));
        }
        let mut head = header::write(tensors.len() as u64, entries.count());
        head.extend_from_slice(entries.bytes());
        let mut sized = Vec::with_capacity(tensors.len());
        let mut offset = 0u64;
        for tensor in tensors {
            let n_bytes = tensor.write(&file_name, offset, &mut head)?;
            offset = (offset + n_bytes).next_multiple_of(DEFAULT_ALIGNMENT as u64);
            sized.push((tensor, n_bytes));
        }
        let mut file = AtomicFile::create(path)?;
        file.append(&head)?;
        file.align(DEFAULT_ALIGNMENT as u64)?;
        Ok(Writer { file, head, tensors: sized, current: 0, written: 0 })
    }

    /// Writes some of the data of the first tensor of the table whose data are not complete.
    ///
    /// # Errors
    /// When that tensor has fewer bytes left, or the file cannot be written.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        let Some((tensor, n_bytes)) = self.tensors.get(self.current) else {
            return Err(self.invalid("tensor data", "no more of them", format!("{} bytes", data.len())));
        };
        let (left, n_bytes) = (n_bytes - self.written, *n_bytes);
        if data.len() as u64 > left {
            let field = table::field(&tensor.name);
            return Err(self.invalid(&field, &format!("{left} bytes more"), data.len().to_string()));
        }
        self.file.append(data)?;
        self.written += data.len() as u64;
        if self.written == n_bytes {
            (self.current, self.written) = (self.current + 1, 0);
            self.file.align(DEFAULT_ALIGNMENT as u64)?;
        }
        Ok(())
    }

    /// Waits until all is on the medium and gives the file its name in place of what may have had it. Returns its size
    /// in bytes.
    ///
    /// # Errors
    /// When data are missing, or the file cannot be written or renamed; then nothing is left of it.
    pub fn finish(self) -> Result<u64> {
        if let Some((tensor, n_bytes)) = self.tensors.get(self.current) {
            let field = table::field(&tensor.name);
            return Err(self.invalid(&field, &format!("{n_bytes} bytes"), self.written.to_string()));
        }
        let n_bytes = self.file.len();
        self.file.finish(&self.head)?;
        Ok(n_bytes)
    }

    fn invalid(&self, field: &str, expected: &str, found: String) -> FormatError {
        FormatError::invalid(self.file.path().display().to_string(), field, expected, found)
    }
}

impl TensorInfo {
    /// Appends the line of a tensor whose data are at `offset`; how many bytes they are.
    fn write(&self, file: &str, offset: u64, out: &mut Vec<u8>) -> Result<u64> {
        let field = table::field(&self.name);
        let invalid = |expected: String, found: String| FormatError::invalid(file, &field, expected, found);
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            let expected = format!("a name of 1 to {MAX_NAME} bytes");
            return Err(invalid(expected, format!("{} bytes", self.name.len())));
        }
        let id =
            table::id(self.ty).ok_or_else(|| FormatError::unsupported(file, &field, self.ty.to_string()))?;
        let n_bytes = self.ty.n_bytes(&self.shape).filter(|&n_bytes| n_bytes > 0);
        let is_sound = (1..=MAX_DIMS as usize).contains(&self.shape.len());
        let n_bytes = n_bytes.filter(|_| is_sound).ok_or_else(|| {
            let expected = format!("1 to {MAX_DIMS} dimensions, of whole {} blocks", self.ty);
            invalid(expected, format!("{:?}", self.shape))
        })?;
        self.name.as_str().write(out);
        (self.shape.len() as u32).write(out);
        self.shape.iter().rev().for_each(|&dim| (dim as u64).write(out));
        id.write(out);
        offset.write(out);
        Ok(n_bytes as u64)
    }
}
