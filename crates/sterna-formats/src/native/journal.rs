//! What a file that is being written holds so far, noted beside it as `NAME.part.json`, so that writing can go on after
//! an interruption of any kind.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::directory::Directory;
use crate::atomic_file::AtomicFile;
use crate::error::{FormatError, Result};

/// The note. Replaced as a whole each time, once what it tells of is on the medium.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Of the parts written so far.
    pub(super) directory: Directory,
    /// Bytes that are good; what comes after them was not noted any more.
    pub(super) len: u64,
    /// What the writer's user wants to know when it goes on.
    pub(super) state: Value,
}

impl Journal {
    /// Beside the unfinished file `part`.
    fn path(part: &Path) -> PathBuf {
        let mut path = part.as_os_str().to_owned();
        path.push(".json");
        PathBuf::from(path)
    }

    pub(super) fn write(&self, part: &Path) -> Result<()> {
        let path = Journal::path(part);
        let json = serde_json::to_vec(self).map_err(|error| {
            FormatError::invalid(
                path.display().to_string(),
                "journal",
                "what JSON can write",
                error.to_string(),
            )
        })?;
        let mut file = AtomicFile::create(&path)?;
        file.append(&json)?;
        file.finish(&[])
    }

    /// The note about `part`, if there is one.
    pub(super) fn read(part: &Path) -> Result<Option<Journal>> {
        let path = Journal::path(part);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FormatError::io(&path)(error)),
        };
        let journal: Journal = serde_json::from_slice(&text).map_err(|error| {
            let file = path.display().to_string();
            FormatError::invalid(file, "journal", "a journal of this version", error.to_string())
        })?;
        let end = usize::try_from(journal.len).unwrap_or(usize::MAX);
        journal.directory.check(&part.display().to_string(), end)?;
        Ok(Some(journal))
    }

    /// Takes the note away.
    pub(super) fn remove(part: &Path) -> Result<()> {
        let path = Journal::path(part);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(FormatError::io(&path)(error)),
            _ => Ok(()),
        }
    }
}
