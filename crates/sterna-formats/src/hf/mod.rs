//! Hugging Face directories: `config.json` and its siblings, and safetensors files, one or sharded; read and written.

mod config;
mod generation;
pub mod json;
pub mod quantized;
mod safetensors;
mod shards;
mod writer;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(crate) use config::MAX_CONFIG_BYTES;
pub use config::{ConfigFile, ConfigView};
pub use generation::GenerationConfig;
pub use safetensors::read as read_safetensors;
pub use shards::{INDEX, SINGLE, open as open_weights};
pub use writer::{FolderWriter, PlannedTensor};

use crate::error::{FormatError, Result};

/// Reads a file of at most `limit` bytes; a larger one is an error, whatever the file system says its size is.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = || FormatError::io(path);
    let metadata = std::fs::metadata(path).map_err(io())?;
    let invalid = |expected, found| FormatError::invalid(path.display().to_string(), "size", expected, found);
    if !metadata.is_file() {
        return Err(invalid("a regular file".to_owned(), "something else".to_owned()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io())?.take(limit + 1).read_to_end(&mut bytes).map_err(io())?;
    if bytes.len() as u64 > limit {
        return Err(invalid(format!("at most {limit} bytes"), format!("{} bytes", metadata.len())));
    }
    Ok(bytes)
}

/// Reads a UTF-8 file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String> {
    text(path, read_small(path, limit)?)
}

/// The contents `bytes` of the file at `path` as text.
pub(crate) fn text(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        FormatError::invalid(path.display().to_string(), "content", "UTF-8", error.to_string())
    })
}
