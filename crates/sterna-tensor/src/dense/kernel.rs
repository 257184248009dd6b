//! `y = x · Wᵀ` for float weights and float activations.
//!
//! Weights and activations both run along the columns, so a block of a few rows by a few tokens keeps one vector of
//! partial sums per pair, loads every operand once per block, and adds the lanes up at the end. Caches see three levels:
//! tokens are visited in groups that stay in L2 while the rows of a chunk pass by; a few of them, over a run of columns,
//! stay in L1 while a tile of several blocks of rows passes by; and a block's sums stay in registers.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::DenseMatrix;
use crate::ops::load_partial;
use crate::simd::{Kernel, LANES, Simd, unroll};
use crate::{DType, Isa};

/// Bytes of activations that are visited again and again before the next ones are looked at.
const TOKEN_GROUP_BYTES: usize = 256 << 10;

/// Most vectors of a run of columns: six tokens and four rows of one take 30 KiB.
const RUN: usize = 48;

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
        if self.n_tokens == 1 {
            self.groups::<S, E, 1, 4, 1>(simd);
        } else if S::TOKENS < 8 {
            self.groups::<S, E, 8, 2, 3>(simd);
        } else {
            self.groups::<S, E, 4, 4, 6>(simd);
        }
    }

    /// Tiles of `Q` blocks of `R` rows by `T` tokens, with narrower ones at the edges.
    #[inline(always)]
    fn groups<S: Simd, E: Element, const Q: usize, const R: usize, const T: usize>(&self, simd: S) {
        let group_len = TOKEN_GROUP_BYTES / size_of::<f32>() / self.matrix.cols.max(1);
        let group_len = (group_len / T * T).max(T);
        for first in (0..self.n_tokens).step_by(group_len) {
            let tokens = first..self.n_tokens.min(first + group_len);
            let mut row = self.rows.start;
            while row + R <= self.rows.end {
                let n_blocks = ((self.rows.end - row) / R).min(Q);
                self.row_tile::<S, E, Q, R, T>(simd, row, n_blocks, tokens.clone());
                row += n_blocks * R;
            }
            for row in row..self.rows.end {
                self.row_tile::<S, E, 1, 1, T>(simd, row, 1, tokens.clone());
            }
        }
    }

    #[inline(always)]
    fn row_tile<S: Simd, E: Element, const Q: usize, const R: usize, const T: usize>(
        &self,
        simd: S,
        row: usize,
        n_blocks: usize,
        tokens: Range<usize>,
    ) {
        let mut token = tokens.start;
        while token + T <= tokens.end {
            self.tile::<S, E, Q, R, T>(simd, row, n_blocks, token);
            token += T;
        }
        while token + 2 <= tokens.end {
            self.tile::<S, E, Q, R, 2>(simd, row, n_blocks, token);
            token += 2;
        }
        if token < tokens.end {
            self.tile::<S, E, Q, R, 1>(simd, row, n_blocks, token);
        }
    }

    /// `n_blocks`, at most `Q`, blocks of rows, all by the same tokens, which stay in L1 for a run of columns. The order of
    /// additions is that of one token and one row alone.
    #[inline(always)]
    fn tile<S: Simd, E: Element, const Q: usize, const R: usize, const T: usize>(
        &self,
        simd: S,
        row: usize,
        n_blocks: usize,
        token: usize,
    ) {
        let cols = self.matrix.cols;
        let n = cols / LANES;
        let n_runs = if T == 1 { 1 } else { n.div_ceil(RUN).max(1) };
        let run_len = n.div_ceil(n_runs).max(1);
        let mut tile = [[[simd.splat(0.0); T]; R]; Q];
        for first in (0..n).step_by(run_len) {
            let len = run_len.min(n - first);
            let mut x: [&[[f32; LANES]]; T] = [&[]; T];
            for (t, x) in x.iter_mut().enumerate() {
                *x = &self.token(token + t).as_chunks().0[first..][..len];
            }
            for (q, sums) in tile.iter_mut().enumerate().take(n_blocks) {
                let mut w: [&[E::Vector]; R] = [&[]; R];
                for (r, w) in w.iter_mut().enumerate() {
                    let bytes = &self.matrix.row_bytes(row + q * R + r)[first * size_of::<E::Vector>()..];
                    *w = bytemuck::cast_slice(&bytes[..len * size_of::<E::Vector>()]);
                }
                *sums = add_runs::<S, E, R, T>(simd, &w, &x, len, *sums);
            }
        }
        for (q, sums) in tile.iter_mut().enumerate().take(n_blocks) {
            let row = row + q * R;
            if n * LANES < cols {
                self.add_rest::<S, E, R, T>(simd, row, token, sums);
            }
            for t in 0..T {
                let mut column = [simd.splat(0.0); 4];
                column.iter_mut().zip(sums.iter()).for_each(|(column, row)| *column = row[t]);
                let column = simd.reduce_sums(column);
                for (r, sum) in column.into_iter().enumerate().take(R) {
                    // SAFETY: the caller of `rows_dot` vouches for every token and row; these are some of them.
                    unsafe { self.out.start.add((token + t) * self.out.stride + row + r).write(sum) };
                }
            }
        }
    }

    /// Adds the products of the last columns, which fill no vector.
    #[inline(always)]
    fn add_rest<S: Simd, E: Element, const R: usize, const T: usize>(
        &self,
        simd: S,
        row: usize,
        token: usize,
        sums: &mut [[S::F32; T]; R],
    ) {
        let first = self.matrix.cols / LANES * LANES;
        for (r, sums) in sums.iter_mut().enumerate() {
            let mut last = E::Vector::zeroed();
            let bytes = &self.matrix.row_bytes(row + r)[first / LANES * size_of::<E::Vector>()..];
            bytemuck::bytes_of_mut(&mut last)[..bytes.len()].copy_from_slice(bytes);
            let w = E::load(simd, &last);
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = simd.mul_add(w, load_partial(simd, &self.token(token + t)[first..]), *sum);
            }
        }
    }

    #[inline(always)]
    fn token(&self, token: usize) -> &[f32] {
        &self.x[token * self.matrix.cols..][..self.matrix.cols]
    }
}

/// Adds the products `w[r] * x[t]` of `n` vectors, lane by lane, to `sums`. All indices but `k` are constants, and nothing
/// else is done to the sums here, so that they stay in registers.
///
/// # Panics
/// When one of the slices is not `n` long.
#[inline(always)]
fn add_runs<S: Simd, E: Element, const R: usize, const T: usize>(
    simd: S,
    w: &[&[E::Vector]; R],
    x: &[&[[f32; LANES]]; T],
    n: usize,
    mut sums: [[S::F32; T]; R],
) -> [[S::F32; T]; R] {
    assert!(w.iter().all(|w| w.len() == n) && x.iter().all(|x| x.len() == n));
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
