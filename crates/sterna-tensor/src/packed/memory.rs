//! Memory for packed weights: tiles that were made here, or that lie in a mapped file.

use std::io;

use bytes::Bytes;

use crate::simd::CodeRegister;
use crate::slab::SlabLines;

/// Whole lines of 64 bytes, aligned to 64 bytes.
#[derive(Debug)]
pub(super) enum Memory {
    Owned(SlabLines),
    /// Bytes of somebody else, such as a mapped file: aligned, and whole lines.
    Shared(Bytes),
}

impl Memory {
    /// `bytes`, shared if they are aligned, else copied; what is beyond the last whole line is left out.
    pub(super) fn from_bytes(bytes: Bytes) -> io::Result<Memory> {
        if bytes.as_ptr().addr().is_multiple_of(size_of::<CodeRegister>()) {
            return Ok(Memory::Shared(bytes));
        }
        let lines = bytes.as_chunks().0;
        let mut owned = SlabLines::zeroed(lines.len())?;
        owned.lines_mut().copy_from_slice(lines);
        Ok(Memory::Owned(owned))
    }

    pub(super) fn lines(&self) -> &[CodeRegister] {
        match self {
            Memory::Owned(owned) => owned.lines(),
            Memory::Shared(bytes) => bytes.as_chunks().0,
        }
    }
}
