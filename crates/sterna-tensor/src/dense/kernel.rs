//! `y = x · Wᵀ` for float weights and float activations.
//!
//! Weights and activations both run along the columns, so a block of a few rows by a few tokens keeps one vector of
//! partial sums per pair, loads every operand once per block, and adds the lanes up at the end. Tokens are visited in
//! groups that stay in L2 while the rows of a chunk pass by.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::DenseMatrix;
use crate::ops::load_partial;
use crate::simd::{Kernel, LANES, Simd, unroll};
use crate::{DType, Isa};

/// Bytes of activations that are visited again and again before the next ones are looked at.
const TOKEN_GROUP_BYTES: usize = 256 << 10;

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

// SAFETY: the pointer is only written by kernels whose callers vouch that no two threads write the same element.
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
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert_eq!(x.len(), n_tokens * self.cols, "activations of {n_tokens} tokens");
        isa.run(RowsDot { matrix: self, rows, x, n_tokens, out });
    }
}

struct RowsDot<'a> {
    matrix: &'a DenseMatrix,
    rows: Range<usize>,
    x: &'a [f32],
    n_tokens: usize,
    out: OutputTile,
}

impl Kernel for RowsDot<'_> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.matrix.dtype {
            DType::F32 => self.by_groups::<S, F32>(simd),
            DType::F16 => self.by_groups::<S, F16>(simd),
            DType::BF16 => self.by_groups::<S, Bf16>(simd),
        }
    }
}

impl RowsDot<'_> {
    #[inline(always)]
    fn by_groups<S: Simd, E: Element>(&self, simd: S) {
        let group_len = (TOKEN_GROUP_BYTES / size_of::<f32>() / self.matrix.cols.max(1)).max(1);
        for first in (0..self.n_tokens).step_by(group_len) {
            let tokens = first..self.n_tokens.min(first + group_len);
            if tokens.len() == 1 {
                self.blocks::<S, E, 4, 1>(simd, tokens);
            } else if S::TOKENS < 8 {
                self.blocks::<S, E, 2, 3>(simd, tokens);
            } else {
                self.blocks::<S, E, 4, 6>(simd, tokens);
            }
        }
    }

    /// Blocks of `R` rows by `T` tokens, with narrower ones at the edges.
    #[inline(always)]
    fn blocks<S: Simd, E: Element, const R: usize, const T: usize>(&self, simd: S, tokens: Range<usize>) {
        let mut row = self.rows.start;
        while row + R <= self.rows.end {
            self.row_block::<S, E, R, T>(simd, row, tokens.clone());
            row += R;
        }
        for row in row..self.rows.end {
            self.row_block::<S, E, 1, T>(simd, row, tokens.clone());
        }
    }

    #[inline(always)]
    fn row_block<S: Simd, E: Element, const R: usize, const T: usize>(
        &self,
        simd: S,
        row: usize,
        tokens: Range<usize>,
    ) {
        let mut token = tokens.start;
        while token + T <= tokens.end {
            self.block::<S, E, R, T>(simd, row, token);
            token += T;
        }
        for token in token..tokens.end {
            self.block::<S, E, R, 1>(simd, row, token);
        }
    }

    #[inline(always)]
    fn block<S: Simd, E: Element, const R: usize, const T: usize>(&self, simd: S, row: usize, token: usize) {
        let cols = self.matrix.cols;
        let n = cols / LANES;
        let rows: [&[u8]; R] = std::array::from_fn(|r| self.matrix.row_bytes(row + r));
        let tokens: [&[f32]; T] = std::array::from_fn(|t| &self.x[(token + t) * cols..][..cols]);
        let w: [&[E::Vector]; R] = rows.map(|w| &bytemuck::cast_slice(&w[..n * size_of::<E::Vector>()])[..n]);
        let x: [&[[f32; LANES]]; T] = tokens.map(|x| &x.as_chunks().0[..n]);

        let mut sums = sums_of_products::<S, E, R, T>(simd, &w, &x, n);
        if n * LANES < cols {
            for r in 0..R {
                let mut last = E::Vector::zeroed();
                let bytes = &rows[r][n * size_of::<E::Vector>()..];
                bytemuck::bytes_of_mut(&mut last)[..bytes.len()].copy_from_slice(bytes);
                let w = E::load(simd, &last);
                for t in 0..T {
                    sums[r][t] = simd.mul_add(w, load_partial(simd, &tokens[t][n * LANES..]), sums[r][t]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (t, sum) in sums.into_iter().enumerate() {
                // SAFETY: the caller of `rows_dot` vouches for every token and row; these are some of them.
                unsafe {
                    let to = self.out.start.add((token + t) * self.out.stride + row + r);
                    to.write(simd.reduce_sum(sum));
                }
            }
        }
    }
}

/// The sums of `w[r] * x[t]` lane by lane over the first `n` vectors. All indices but `k` are constants, and nothing else
/// is done to the sums here, so that they stay in registers.
///
/// # Panics
/// When one of the slices is not `n` long.
#[inline(always)]
fn sums_of_products<S: Simd, E: Element, const R: usize, const T: usize>(
    simd: S,
    w: &[&[E::Vector]; R],
    x: &[&[[f32; LANES]]; T],
    n: usize,
) -> [[S::F32; T]; R] {
    assert!(w.iter().all(|w| w.len() == n) && x.iter().all(|x| x.len() == n));
    let mut sums = [[simd.splat(0.0); T]; R];
    for k in 0..n {
        let mut tokens = [simd.splat(0.0); T];
        // Checked indices would be half of the instructions here.
        unroll!(t < T, of 0 1 2 3 4 5 => {
            // SAFETY: all slices are `n` long.
            tokens[t] = simd.load(unsafe { x[t].get_unchecked(k) })
        });
        unroll!(r < R, of 0 1 2 3 => {
            // SAFETY: as above.
            let w = E::load(simd, unsafe { w[r].get_unchecked(k) });
            add_products(simd, w, &tokens, &mut sums[r])
        });
    }
    sums
}

/// `sums[t] += w * x[t]`
#[inline(always)]
fn add_products<S: Simd, const T: usize>(simd: S, w: S::F32, x: &[S::F32; T], sums: &mut [S::F32; T]) {
    unroll!(t < T, of 0 1 2 3 4 5 => { sums[t] = simd.mul_add(w, x[t], sums[t]) });
}

/// How sixteen weights lie in memory of any alignment.
trait Element {
    type Vector: Pod;
    fn load<S: Simd>(simd: S, from: &Self::Vector) -> S::F32;
}

struct F32;
struct F16;
struct Bf16;

impl Element for F32 {
    type Vector = [u8; 4 * LANES];
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &Self::Vector) -> S::F32 {
        simd.load(&bytemuck::cast(*from))
    }
}

impl Element for F16 {
    type Vector = [u8; 2 * LANES];
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &Self::Vector) -> S::F32 {
        simd.load_f16(&bytemuck::cast(*from))
    }
}

impl Element for Bf16 {
    type Vector = [u8; 2 * LANES];
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &Self::Vector) -> S::F32 {
        simd.load_bf16(&bytemuck::cast(*from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, ramp};
    use bytes::Bytes;
    use half::{bf16, f16};
    use proptest::prelude::*;

    /// A matrix of about `values`, `shift` bytes off any alignment.
    fn matrix(rows: usize, cols: usize, dtype: DType, values: &[f32], shift: usize) -> DenseMatrix {
        let mut bytes = vec![0; shift];
        for &v in values {
            match dtype {
                DType::F32 => bytes.extend(v.to_le_bytes()),
                DType::F16 => bytes.extend(f16::from_f32(v).to_le_bytes()),
                DType::BF16 => bytes.extend(bf16::from_f32(v).to_le_bytes()),
            }
        }
        DenseMatrix::new(rows, cols, dtype, Bytes::from(bytes).slice(shift..)).unwrap()
    }

    proptest! {
        #[test]
        fn products_are_those_of_f64(
            (rows, cols, n_tokens) in (1usize..14, 1usize..100, 0usize..14),
            shift in 0usize..5,
        ) {
            let x = ramp(n_tokens * cols);
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let w = matrix(rows, cols, dtype, &ramp(rows * cols), shift);
                for isa in Isa::available() {
                    let first = rows.min(1);
                    let mut y = vec![7.0; n_tokens * rows];
                    let out = OutputTile { start: y.as_mut_ptr(), stride: rows };
                    // SAFETY: `y` has an element for every token and row.
                    unsafe { w.rows_dot(isa, first..rows, &x, n_tokens, out) };
                    let mut row = vec![0.0; cols];
                    for r in 0..rows {
                        w.row(r, &mut row);
                        for t in 0..n_tokens {
                            let x = &x[t * cols..][..cols];
                            let exact: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                            assert_close(y[t * rows + r], if r < first { 7.0 } else { exact }, 1e-5);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn many_tokens_in_several_groups() {
        let (rows, cols, n_tokens) = (3, 4096, 40);
        let x = ramp(n_tokens * cols);
        let w = matrix(rows, cols, DType::F32, &ramp(rows * cols), 0);
        let mut all = vec![0.0; n_tokens * rows];
        let mut one = [0.0; 3];
        for isa in Isa::available() {
            let out = OutputTile { start: all.as_mut_ptr(), stride: rows };
            // SAFETY: `all` has an element for every token and row.
            unsafe { w.rows_dot(isa, 0..rows, &x, n_tokens, out) };
            for (t, x) in x.chunks(cols).enumerate() {
                // SAFETY: `one` has an element for every row of one token.
                unsafe {
                    w.rows_dot(isa, 0..rows, x, 1, OutputTile { start: one.as_mut_ptr(), stride: rows })
                };
                assert_eq!(all[t * rows..][..rows], one, "a token does not depend on its neighbours");
            }
        }
    }
}
