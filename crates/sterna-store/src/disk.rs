//! The few operations on which "whole or absent" rests, behind a trait so that tests can fail each of them.

use std::fs::File;
use std::path::Path;

use crate::StoreError;

/// What must have happened before the next step may be believed.
pub(crate) trait Disk: Send + Sync {
    /// A file's bytes and length are on the medium.
    fn sync_file(&self, path: &Path) -> Result<(), StoreError>;
    /// A directory's entries are on the medium.
    fn sync_dir(&self, path: &Path) -> Result<(), StoreError>;
    /// `to` is what `from` was, in one step; `to` must not exist.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError>;
}

/// The disk of this machine.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        // Windows flushes only what was opened for writing.
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.sync_all()).map_err(StoreError::io("sync", path))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        // Windows has no such call: NTFS journals its directory entries.
        if cfg!(unix) {
            File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", path))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        std::fs::rename(from, to).map_err(StoreError::io("rename", from))
    }
}
