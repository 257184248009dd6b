//! One puller per model at a time, across processes.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::{Progress, Stage, StoreError};

/// Held while a model is pulled or removed; given back when dropped, also by the system when the process dies.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for whoever holds it, and says so.
    pub(crate) fn acquire(path: &Path, progress: &mut dyn Progress) -> Result<Self, StoreError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(StoreError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.stage(&Stage::Waiting);
                file.lock().map_err(StoreError::io("lock", path))?;
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
        Ok(Self { _file: file })
    }
}
