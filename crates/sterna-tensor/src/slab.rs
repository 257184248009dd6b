//! Memory in huge pages, which matrices share.
//!
//! A pass over a gigabyte of weights in pages of 4 KiB looks up a quarter of a million addresses, and processors do not fetch ahead
//! across the end of a page that they have not looked up. Pages of 2 MiB are read up to half again as fast
//! (`docs/kernels.md`), but matrices are not multiples of 2 MiB: so they lie one behind the other in slabs that are.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapMut;

use crate::simd::CodeRegister;

/// Slabs begin at multiples of this.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes of a slab, unless one matrix takes more. Only what is written to takes memory.
const SLAB_BYTES: usize = 64 << 20;

/// The slab that is being filled.
static FILLING: Mutex<Weak<Slab>> = Mutex::new(Weak::new());

/// A mapping that is given away from its start on, and returned as a whole.
struct Slab {
    start: NonNull<u8>,
    n_bytes: usize,
    taken: AtomicUsize,
    /// Keeps the memory that `start` is in.
    _map: MmapMut,
}

// SAFETY: of the memory, nothing is read or written here, and no part of it is given away twice.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    /// `n_bytes` of zeros, or some more.
    fn new(n_bytes: usize) -> io::Result<Slab> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let n_bytes = n_bytes.checked_next_multiple_of(HUGE_PAGE).ok_or_else(too_large)?;
        let mut map = MmapMut::map_anon(n_bytes.checked_add(HUGE_PAGE).ok_or_else(too_large)?)?;
        // Only advice: memory in small pages is as good, and slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let before = map.as_ptr().addr().wrapping_neg() % HUGE_PAGE;
        let start = NonNull::from(&mut map[before..]).cast();
        Ok(Slab { start, n_bytes, taken: AtomicUsize::new(0), _map: map })
    }

    /// The next `n_bytes` that nobody has.
    fn take(&self, n_bytes: usize) -> Option<NonNull<u8>> {
        let end = |taken: usize| taken.checked_add(n_bytes).filter(|end| *end <= self.n_bytes);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end).ok()?;
        // SAFETY: that is within the mapping, which has room for `n_bytes` behind `start`.
        Some(unsafe { self.start.add(taken) })
    }
}

/// Lines of a slab that belong to one owner.
pub(crate) struct SlabLines {
    lines: NonNull<[CodeRegister]>,
    /// Keeps the memory.
    _slab: Arc<Slab>,
}

// SAFETY: nobody else has these lines, and they are only bytes.
unsafe impl Send for SlabLines {}
// SAFETY: as above; they are written through an exclusive reference only.
unsafe impl Sync for SlabLines {}

impl SlabLines {
    /// `n_lines` of zeros.
    ///
    /// # Errors
    /// When there is no such memory.
    pub(crate) fn zeroed(n_lines: usize) -> io::Result<SlabLines> {
        let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let n_bytes = n_lines.checked_mul(size_of::<CodeRegister>()).ok_or_else(out_of_memory)?;
        let (slab, start) = Self::room(n_bytes)?;
        let lines = NonNull::slice_from_raw_parts(start.cast(), n_lines);
        Ok(SlabLines { lines, _slab: slab })
    }

    /// `n_bytes` of the slab that is being filled, or of a new one.
    fn room(n_bytes: usize) -> io::Result<(Arc<Slab>, NonNull<u8>)> {
        let mut filling = FILLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slab) = filling.upgrade()
            && let Some(start) = slab.take(n_bytes)
        {
            return Ok((slab, start));
        }
        let slab = Arc::new(Slab::new(n_bytes.max(SLAB_BYTES))?);
        let start = slab.take(n_bytes).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        if n_bytes < SLAB_BYTES {
            *filling = Arc::downgrade(&slab);
        }
        Ok((slab, start))
    }

    pub(crate) fn lines(&self) -> &[CodeRegister] {
        // SAFETY: the slab lives as long as `self`, and gave these lines, which were zeros, to nobody else.
        unsafe { self.lines.as_ref() }
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [CodeRegister] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { self.lines.as_mut() }
    }
}

impl fmt::Debug for SlabLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlabLines").field("n_lines", &self.lines.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_lines_of_their_own_and_they_are_zeros() {
        let sizes = [1, 3, 100, SLAB_BYTES / 64 + 1, 7, SLAB_BYTES / 2 / 64, SLAB_BYTES / 2 / 64, 2, 0];
        let mut owners: Vec<SlabLines> = sizes.map(|n| SlabLines::zeroed(n).unwrap()).into();
        for (i, owner) in owners.iter_mut().enumerate() {
            let lines = owner.lines_mut();
            assert_eq!(lines.len(), sizes[i]);
            assert!(lines.as_ptr().addr().is_multiple_of(64));
            assert!(lines.iter().step_by(1009).chain(lines.last()).all(|line| *line == [0; 64]));
            lines.iter_mut().step_by(1009).for_each(|line| *line = [i as u8; 64]);
        }
        owners.swap_remove(1);
        for (i, owner) in owners.iter().enumerate().filter(|(i, _)| *i != 1) {
            assert!(owner.lines().iter().step_by(1009).all(|line| *line == [i as u8; 64]));
        }
        assert!(SlabLines::zeroed(usize::MAX / 64).is_err());
        assert!(SlabLines::zeroed(usize::MAX).is_err());
    }

    #[test]
    fn what_is_taken_lies_behind_one_another() {
        let slab = Slab::new(1).unwrap();
        assert!(slab.start.addr().get().is_multiple_of(HUGE_PAGE));
        assert_eq!(slab.take(64).map(|at| at.addr()), Some(slab.start.addr()));
        assert_eq!(slab.take(64).map(|at| at.addr().get()), Some(slab.start.addr().get() + 64));
        assert_eq!(slab.take(HUGE_PAGE), None);
    }
}
