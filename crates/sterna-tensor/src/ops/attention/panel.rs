//! The inner product of attention: a few rows of floats times a panel of cached vectors.

use crate::kv::floats::{KvElement, Panel};
use crate::simd::Simd;

/// Rows of a matrix in a flat buffer.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Elements of a row.
    pub(super) n: usize,
}

/// How many columns of a panel are taken side by side, so that even one row keeps several sums going: 4 where registers are many,
/// of `rest` that there are, or else 2.
#[inline(always)]
pub(super) fn columns_at_once<S: Simd>(rest: usize) -> usize {
    if const { S::TOKENS >= 8 } && rest >= 4 { 4 } else { 2 }
}

/// `Σ_k rows[r][k] * panel[k, c]` for `r < R`: every panel vector is loaded and widened once for all rows.
#[inline(always)]
pub(super) fn panel_product<S: Simd, T: KvElement, const R: usize, const COLUMNS: usize>(
    simd: S,
    rows: Rows<'_>,
    panel: Panel<'_, T>,
) -> [[S::F32; COLUMNS]; R] {
    let mut sums = [[simd.splat(0.0); COLUMNS]; R];
    let (Rows { stride, n, .. }, Panel { data, step }) = (rows, panel);
    if n == 0 {
        return sums;
    }
    assert!((R - 1) * stride + n <= rows.data.len(), "rows of the product");
    assert!((n - 1) * step + COLUMNS <= data.len(), "panel of the product");
    for k in 0..n {
        let v: [S::F32; COLUMNS] = std::array::from_fn(|c| {
            // SAFETY: k <= n - 1 and c <= COLUMNS - 1, so the second assertion covers this index.
            T::load(simd, unsafe { data.get_unchecked(k * step + c) })
        });
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: r <= R - 1 and k < n, so the first assertion covers this index.
            let x = simd.splat(unsafe { *rows.data.get_unchecked(r * stride + k) });
            for c in 0..COLUMNS {
                sums[c] = simd.mul_add(x, v[c], sums[c]);
            }
        }
    }
    sums
}
