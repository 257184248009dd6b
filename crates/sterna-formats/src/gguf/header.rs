//! The first fields of a GGUF file: magic, version, and how many tensors and entries follow.

use super::reader::Reader;
use crate::error::{FormatError, Result};

const MAGIC: &[u8; 4] = b"GGUF";

/// The version that is written.
const VERSION: u32 = 3;

/// How much follows.
pub(super) struct Counts {
    pub(super) n_tensors: usize,
    pub(super) n_entries: usize,
}

/// Reads the header and checks that the file can hold what it counts. `n_tensors` is bounded by the size of the file.
pub(super) fn read(reader: &mut Reader) -> Result<Counts> {
    let magic = reader.u32("magic")?.to_le_bytes();
    if &magic != MAGIC {
        return Err(reader.invalid("magic", "\"GGUF\"", format!("\"{}\"", magic.escape_ascii())));
    }
    let found = match reader.u32("version")? {
        2 | 3 => {
            // Length and one byte of the key, value type, and one byte of the value.
            const MIN_ENTRY_BYTES: usize = 8 + 1 + 4 + 1;
            let n_tensors = reader.count("tensor_count", super::table::MIN_BYTES)?;
            return Ok(Counts { n_tensors, n_entries: reader.count("metadata_kv_count", MIN_ENTRY_BYTES)? });
        }
        swapped if (1..=3).contains(&swapped.swap_bytes()) => {
            format!("big-endian GGUF (version {})", swapped.swap_bytes())
        }
        version => format!("GGUF version {version}"),
    };
    Err(FormatError::unsupported(reader.file(), "version", found))
}

/// The header of a file with so many tensors and entries.
pub(super) fn write(n_tensors: u64, n_entries: u64) -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), &n_tensors.to_le_bytes(), &n_entries.to_le_bytes()].concat()
}
