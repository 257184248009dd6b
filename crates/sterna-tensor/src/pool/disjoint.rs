//! A slice of which the chunks of a region take disjoint mutable parts.

use std::marker::PhantomData;
use std::ops::Range;

/// Mutable slice whose parts are handed to several threads; the caller answers for them being disjoint.
#[derive(Debug)]
pub struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Disjoint` is a `&mut [T]` that is cut into parts, each used by one thread, which is sending `T`s.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above: `slice` asks its callers never to hand an element to two threads.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Borrows `data` for as long as its parts are in use.
    pub fn new(data: &'a mut [T]) -> Self {
        Disjoint { start: data.as_mut_ptr(), len: data.len(), data: PhantomData }
    }

    /// Elements in the whole slice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part `range`.
    ///
    /// # Safety
    /// While the returned slice lives, no other slice that overlaps it may be taken from this `Disjoint`.
    ///
    /// # Panics
    /// When `range` is not inside the slice.
    #[must_use]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: the range is inside the borrowed slice, and the caller promises that no part overlaps it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
