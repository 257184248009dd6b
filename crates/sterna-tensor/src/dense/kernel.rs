//! `y = x · Wᵀ` for float weights and float activations.

use std::ops::Range;

use super::DenseMatrix;
use crate::Isa;

/// Where a chunk of a linear layer writes: `y[token, row]` lies at `start + token * stride + row`.
///
/// A plain pointer, because chunks that run side by side own interleaved columns of one `[n_tokens, rows]` buffer,
/// which no set of `&mut` slices can express.
#[derive(Debug, Clone, Copy)]
pub struct OutputTile {
    /// `y[0, 0]`.
    pub start: *mut f32,
    /// Elements from one token's outputs to the next.
    pub stride: usize,
}

// SAFETY: the pointer is only written through `DenseMatrix::rows_dot`, whose caller vouches that no two threads write
// the same element.
unsafe impl Send for OutputTile {}
// SAFETY: as above; sharing the tile shares no reference to the floats.
unsafe impl Sync for OutputTile {}

impl DenseMatrix {
    /// Writes `y[t, r] = Σ x[t, c] · w[r, c]` for `r` in `rows` and every token of `x` `[n_tokens, cols]`.
    ///
    /// # Safety
    /// For every `t < n_tokens` and `r` in `rows`, `out.start + t * out.stride + r` must be valid for writes, and
    /// nobody else may touch it during the call.
    ///
    /// # Panics
    /// When `rows` is outside the matrix or `x` is not `n_tokens * cols` long.
    pub unsafe fn rows_dot(&self, isa: Isa, rows: Range<usize>, x: &[f32], n_tokens: usize, out: OutputTile) {
        assert!(rows.end <= self.rows(), "rows {rows:?} of {}", self.rows());
        assert_eq!(x.len(), n_tokens * self.cols(), "activations of {n_tokens} tokens");
        let _ = isa;
        let mut w = vec![0.0; self.cols()];
        for r in rows {
            self.row(r, &mut w);
            for t in 0..n_tokens {
                let x = &x[t * self.cols()..][..self.cols()];
                let y = w.iter().zip(x).map(|(w, x)| w * x).sum();
                // SAFETY: the caller vouches for every (t, r).
                unsafe { out.start.add(t * out.stride + r).write(y) };
            }
        }
    }
}
