//! What the reference's predictions depend on, as one number.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use sterna_formats::Checkpoint;

use crate::eval::{EvalError, Result, Windows};

/// Raised whenever files or predictions change their meaning.
const VERSION: u32 = 1;

/// Bytes hashed at either end of a file. Names and shapes are at one end, weights at the other.
const SAMPLE: u64 = 1 << 20;

/// SHA-256 of all that decides the predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey(pub(super) [u8; 32]);

impl CacheKey {
    /// The predictions of `model` over `windows`. `computing` tells apart ways of computing whose results differ:
    /// precision, storage of keys and values.
    pub fn new(model: &ModelIdentity, computing: &str, vocab_size: usize, windows: &Windows) -> CacheKey {
        let mut hasher = Sha256::new();
        hasher.update(VERSION.to_le_bytes());
        hasher.update(model.0);
        for text in [env!("CARGO_PKG_VERSION"), computing] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        hasher.update((vocab_size as u64).to_le_bytes());
        hasher.update((windows.length() as u64).to_le_bytes());
        windows.all_tokens().iter().for_each(|token| hasher.update(token.to_le_bytes()));
        CacheKey(hasher.finalize().into())
    }

    /// Whether `text` is a key as `Display` writes it.
    pub(super) fn is_text(text: &str) -> bool {
        text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which files a model is, and that they have not changed: of each the path, size, time of change, and SHA-256 of the
/// first and the last MiB. (To hash gigabytes would cost as much as the cache saves.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelIdentity([u8; 32]);

impl ModelIdentity {
    /// Of the files that `checkpoint` was opened from.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub fn of(checkpoint: &Checkpoint) -> Result<ModelIdentity> {
        let mut files: BTreeSet<PathBuf> =
            checkpoint.tensors().map(|tensor| PathBuf::from(&*tensor.file)).collect();
        if checkpoint.path().is_dir() {
            files.extend(configurations(checkpoint.path())?);
        } else {
            files.insert(checkpoint.path().to_owned());
        }
        let mut hasher = Sha256::new();
        for file in files {
            add_file(&mut hasher, &file).map_err(EvalError::io(&file))?;
        }
        Ok(ModelIdentity(hasher.finalize().into()))
    }
}

/// The JSON files of a directory.
fn configurations(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let paths = entries.map_err(EvalError::io(directory))?.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect())
}

fn add_file(hasher: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let mut file = File::open(&path)?;
    let metadata = file.metadata()?;
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let name = path.as_os_str().as_encoded_bytes();
    hasher.update((name.len() as u64).to_le_bytes());
    hasher.update(name);
    hasher.update(metadata.len().to_le_bytes());
    hasher.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
    let mut sample = Vec::new();
    for start in [0, metadata.len().saturating_sub(SAMPLE)] {
        file.seek(SeekFrom::Start(start))?;
        (&mut file).take(SAMPLE).read_to_end(&mut sample)?;
    }
    hasher.update((sample.len() as u64).to_le_bytes());
    hasher.update(&sample);
    Ok(())
}
