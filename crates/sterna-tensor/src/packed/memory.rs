//! Memory for packed weights: tiles that were made here, or that lie in a mapped file.

use std::fmt;
use std::io;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::simd::CodeRegister;

/// Whole lines of 64 bytes, aligned to 64 bytes.
#[derive(Debug)]
pub(super) enum Memory {
    Owned(OwnedLines),
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
        let mut owned = OwnedLines::zeroed(lines.len())?;
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

/// Lines in huge pages where the system has them, because a pass over a gigabyte of weights otherwise spends its time in
/// page faults and address translation.
pub(super) struct OwnedLines {
    map: MmapMut,
    n_lines: usize,
}

impl OwnedLines {
    /// `n_lines` of zeros.
    pub(super) fn zeroed(n_lines: usize) -> io::Result<OwnedLines> {
        let n_bytes = n_lines
            .checked_mul(size_of::<CodeRegister>())
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let map = MmapMut::map_anon(n_bytes.max(1))?;
        // Only advice: memory in small pages is as good, a little slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(OwnedLines { map, n_lines })
    }

    fn lines(&self) -> &[CodeRegister] {
        &self.map.as_chunks().0[..self.n_lines]
    }

    pub(super) fn lines_mut(&mut self) -> &mut [CodeRegister] {
        &mut self.map.as_chunks_mut().0[..self.n_lines]
    }
}

impl fmt::Debug for OwnedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedLines").field("n_lines", &self.n_lines).finish_non_exhaustive()
    }
}
