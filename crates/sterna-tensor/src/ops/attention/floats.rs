//! Products with keys and values that are floats: every vector of them is widened once for a few query rows.

use std::marker::PhantomData;

use super::block::{BLOCK, BlockAttention, Stored, for_rows, put_scores, rows_at_once};
use super::panel::{COLUMNS, Panel, Rows, panel_product};
use crate::kv::{KvElement, KvPage};
use crate::simd::{LANES, Simd};

/// Keys and values of type `T`.
pub(super) struct Floats<T>(PhantomData<T>);

impl<T: KvElement> Stored for Floats<T> {
    const DOTS: bool = false;

    #[inline(always)]
    fn prepare<S: Simd>(_: S, _: &mut BlockAttention<'_>) {}

    #[inline(always)]
    fn score<S: Simd>(simd: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize) {
        let (n_rows, head_dim, cap) = (it.partial.sum.len(), it.shape.head_dim, it.shape.softcap);
        let keys = page.keys::<T>(it.kv_head);
        // The last tiles may reach beyond `n_keys`: into zeros, or into keys that the mask hides.
        for tile in (0..n_keys.div_ceil(LANES)).step_by(COLUMNS) {
            let data = &keys[(slot / LANES + tile) * head_dim..];
            let keys = Panel { data, step: 1, column: head_dim, n: head_dim };
            let mut row = 0;
            while row < n_rows {
                let n = rows_at_once::<S>(n_rows - row);
                let queries = Rows { data: &it.queries[row * head_dim..], stride: head_dim };
                let scores = &mut it.scores[row * BLOCK + tile * LANES..];
                for_rows!(n, score_tiles::<S, T>(simd, queries, keys, cap, scores));
                row += n;
            }
        }
    }

    #[inline(always)]
    fn gather<S: Simd>(simd: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize) {
        let (n_rows, row_len) = (it.partial.sum.len(), it.shape.row_len());
        let step = row_len / LANES;
        let values = &page.values::<T>(it.kv_head)[slot * step..];
        for first in (0..step).step_by(COLUMNS) {
            let values = Panel { data: &values[first..], step, column: 1, n: n_keys };
            let mut row = 0;
            while row < n_rows {
                let n = rows_at_once::<S>(n_rows - row);
                let weights = Rows { data: &it.scores[row * BLOCK..], stride: BLOCK };
                let out = &mut it.partial.weighted[row * row_len + first * LANES..];
                for_rows!(n, gather_columns::<S, T>(simd, weights, values, out, row_len));
                row += n;
            }
        }
    }
}

/// Scores of `R` rows, `BLOCK` apart in `scores`, at neighbouring tiles of keys.
#[inline(always)]
fn score_tiles<S: Simd, T: KvElement, const R: usize>(
    simd: S,
    queries: Rows<'_>,
    keys: Panel<'_, T>,
    cap: Option<f32>,
    scores: &mut [f32],
) {
    let sums = panel_product::<S, T, R>(simd, queries, keys);
    for (r, sums) in sums.into_iter().enumerate() {
        put_scores(simd, sums, cap, &mut scores[r * BLOCK..]);
    }
}

/// Adds weighted values to neighbouring columns of `R` rows, `stride` apart in `out`.
#[inline(always)]
fn gather_columns<S: Simd, T: KvElement, const R: usize>(
    simd: S,
    weights: Rows<'_>,
    values: Panel<'_, T>,
    out: &mut [f32],
    stride: usize,
) {
    let sums = panel_product::<S, T, R>(simd, weights, values);
    for (r, sums) in sums.into_iter().enumerate() {
        for (sum, to) in sums.into_iter().zip(out[r * stride..].as_chunks_mut().0) {
            simd.store(simd.add(simd.load(to), sum), to);
        }
    }
}
