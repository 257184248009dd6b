//! Writing a file of a state: section by section, whole or not at all.

use std::path::Path;

use super::{HEADER_BYTES, MAGIC, SectionKind, VERSION};
use crate::atomic_file::AtomicFile;
use crate::error::Result;
use crate::identity::ModelIdentity;

/// Where sections begin: on cache lines.
const ALIGNMENT: u64 = 64;

/// A file that is being written. Dropped before [`StateWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct StateWriter {
    file: AtomicFile,
    identity: ModelIdentity,
    n_sections: u32,
    directory: Vec<u8>,
}

impl StateWriter {
    /// Begins the file that will be at `path`, for the model that `identity` is of.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path, identity: ModelIdentity) -> Result<StateWriter> {
        let mut file = AtomicFile::create(path)?;
        file.append(&[0; HEADER_BYTES])?;
        Ok(StateWriter { file, identity, n_sections: 0, directory: Vec::new() })
    }

    /// Writes a section of `kind` from its parts.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add<'a>(&mut self, kind: SectionKind, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        self.file.align(ALIGNMENT)?;
        let start = self.file.len();
        let mut checksum = crc32fast::Hasher::new();
        for part in parts {
            checksum.update(part);
            self.file.append(part)?;
        }
        self.directory.extend((kind as u32).to_le_bytes());
        self.directory.extend(checksum.finalize().to_le_bytes());
        self.directory.extend(start.to_le_bytes());
        self.directory.extend((self.file.len() - start).to_le_bytes());
        self.n_sections += 1;
        Ok(())
    }

    /// Waits until all is on the medium, and gives the file its name in place of what may have had it.
    ///
    /// # Errors
    /// It cannot be written or renamed; then what was there before still is.
    pub fn finish(mut self) -> Result<()> {
        self.file.align(ALIGNMENT)?;
        let offset = self.file.len();
        self.file.append(&self.directory)?;
        let mut header = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.n_sections.to_le_bytes());
        put(16, &self.identity.0);
        put(48, &offset.to_le_bytes());
        put(56, &crc32fast::hash(&self.directory).to_le_bytes());
        let checksum = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
        self.file.finish(&header)
    }
}
