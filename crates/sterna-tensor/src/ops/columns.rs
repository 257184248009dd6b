//! Columns of a recurrence's state that are computed with side by side: sums over rows are then as many chains as there are
//! vectors, none of which waits for another.

use super::elementwise::{load_partial, store_partial};
use crate::simd::{LANES, Simd};

/// `W` vectors of neighbouring columns.
pub(super) trait Columns<const W: usize>: Copy {
    /// Those of `row`.
    fn load<S: Simd>(self, simd: S, row: &[f32]) -> [S::F32; W];
    /// Writes those of `row`.
    fn store<S: Simd>(self, simd: S, vectors: [S::F32; W], row: &mut [f32]);
}

/// `W` vectors of columns, the first of which this is.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) usize);

/// Fewer columns than a vector has: those from this one to the last.
#[derive(Clone, Copy)]
pub(super) struct Rest(pub(super) usize);

impl<const W: usize> Columns<W> for Whole {
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, row: &[f32]) -> [S::F32; W] {
        let row = &row[self.0..self.0 + W * LANES];
        let mut vectors = [simd.splat(0.0); W];
        for (vector, lanes) in vectors.iter_mut().zip(row.as_chunks().0) {
            *vector = simd.load(lanes);
        }
        vectors
    }

    #[inline(always)]
    fn store<S: Simd>(self, simd: S, vectors: [S::F32; W], row: &mut [f32]) {
        let row = &mut row[self.0..self.0 + W * LANES];
        for (vector, lanes) in vectors.into_iter().zip(row.as_chunks_mut().0) {
            simd.store(vector, lanes);
        }
    }
}

impl Columns<1> for Rest {
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, row: &[f32]) -> [S::F32; 1] {
        [load_partial(simd, &row[self.0..])]
    }

    #[inline(always)]
    fn store<S: Simd>(self, simd: S, [vector]: [S::F32; 1], row: &mut [f32]) {
        store_partial(simd, vector, &mut row[self.0..]);
    }
}
