//! Memory for packed weights: zeroed, aligned to pages, in huge pages where the system has them, because a pass over a
//! gigabyte of weights otherwise spends its time in page faults and address translation.

use std::fmt;
use std::io;

use memmap2::MmapMut;

use crate::simd::CodeRegister;

/// Whole lines of 64 bytes.
pub(super) struct Memory {
    map: MmapMut,
    n_lines: usize,
}

impl Memory {
    /// `n_lines` of zeros.
    pub(super) fn zeroed(n_lines: usize) -> io::Result<Memory> {
        let n_bytes = n_lines
            .checked_mul(size_of::<CodeRegister>())
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let map = MmapMut::map_anon(n_bytes.max(1))?;
        // Only advice: memory in small pages is as good, a little slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Memory { map, n_lines })
    }

    pub(super) fn lines(&self) -> &[CodeRegister] {
        &self.map.as_chunks().0[..self.n_lines]
    }

    pub(super) fn lines_mut(&mut self) -> &mut [CodeRegister] {
        &mut self.map.as_chunks_mut().0[..self.n_lines]
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("n_lines", &self.n_lines).finish_non_exhaustive()
    }
}
