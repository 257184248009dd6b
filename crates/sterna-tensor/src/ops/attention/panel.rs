//! The inner product of attention: a few rows of floats times a panel of cached vectors.

use crate::kv::KvElement;
use crate::simd::{LANES, Simd};

/// Rows of a matrix in a flat buffer.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

/// `Σ_k rows[r][k] * panel[k * step]` for `r < R` and `k < n`: every panel vector is loaded and widened once for all
/// rows.
#[inline(always)]
pub(super) fn panel_product<S: Simd, T: KvElement, const R: usize>(
    simd: S,
    rows: Rows<'_>,
    panel: &[[T; LANES]],
    step: usize,
    n: usize,
    mut sums: [S::F32; R],
) -> [S::F32; R] {
    if n == 0 {
        return sums;
    }
    assert!((R - 1) * rows.stride + n <= rows.data.len() && (n - 1) * step < panel.len());
    for k in 0..n {
        // SAFETY: k <= n - 1, so the assertion above covers this index.
        let v = T::load(simd, unsafe { panel.get_unchecked(k * step) });
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: r <= R - 1 and k < n, so the assertion above covers this index.
            let x = unsafe { *rows.data.get_unchecked(r * rows.stride + k) };
            *sum = simd.mul_add(simd.splat(x), v, *sum);
        }
    }
    sums
}
