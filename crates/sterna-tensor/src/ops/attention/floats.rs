//! Products with keys and values that are floats: every vector of them is widened once for a few query rows.
//!
//! Sums are gone through by index: an iterator over an array of vectors keeps it in memory, and every access waits for the last.

use std::marker::PhantomData;

use super::block::{BLOCK, BlockAttention, Stored, for_rows, put_scores, rows_at_once};
use super::panel::{Rows, columns_at_once, panel_product};
use crate::kv::KvPage;
use crate::kv::floats::{KvElement, Panel};
use crate::simd::{LANES, Simd};

/// Keys and values of type `T`.
pub(super) struct Floats<T>(PhantomData<T>);

impl<T: KvElement> Stored for Floats<T> {
    const DOTS: bool = false;

    #[inline(always)]
    fn prepare<S: Simd>(_: S, _: &mut BlockAttention<'_>) {}

    #[inline(always)]
    fn score<S: Simd>(simd: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize) {
        let strip = page.float_strip::<T>(it.kv_head, slot);
        // The last tiles may reach beyond `n_keys`: into zeros, or into keys that the mask hides.
        let n_tiles = n_keys.div_ceil(LANES);
        let mut tile = 0;
        while tile < n_tiles {
            let n = columns_at_once::<S>(BLOCK / LANES - tile);
            match n {
                4 => score_tiles::<S, T, 4>(simd, it, strip.keys(tile), tile),
                _ => score_tiles::<S, T, 2>(simd, it, strip.keys(tile), tile),
            }
            tile += n;
        }
    }

    #[inline(always)]
    fn gather<S: Simd>(simd: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize) {
        let n_columns = it.shape.row_len() / LANES;
        let strip = page.float_strip::<T>(it.kv_head, slot);
        let mut first = 0;
        while first < n_columns {
            let n = columns_at_once::<S>(n_columns - first);
            match n {
                4 => gather_columns::<S, T, 4>(simd, it, strip.values(first), first, n_keys),
                _ => gather_columns::<S, T, 2>(simd, it, strip.values(first), first, n_keys),
            }
            first += n;
        }
    }
}

/// Scores of all rows at `N` neighbouring tiles of keys.
#[inline(always)]
fn score_tiles<S: Simd, T: KvElement, const N: usize>(
    simd: S,
    it: &mut BlockAttention<'_>,
    keys: Panel<'_, T>,
    tile: usize,
) {
    let (n_rows, head_dim, cap) = (it.partial.sum.len(), it.shape.head_dim, it.shape.softcap);
    let mut row = 0;
    while row < n_rows {
        let n = rows_at_once::<S>(n_rows - row);
        let queries = Rows { data: &it.queries[row * head_dim..], stride: head_dim, n: head_dim };
        let scores = &mut it.scores[row * BLOCK + tile * LANES..];
        for_rows!(n, score_rows::<S, T, N>(simd, queries, keys, cap, scores));
        row += n;
    }
}

/// Adds weighted values to `N` neighbouring columns of all rows.
#[inline(always)]
fn gather_columns<S: Simd, T: KvElement, const N: usize>(
    simd: S,
    it: &mut BlockAttention<'_>,
    values: Panel<'_, T>,
    first: usize,
    n_keys: usize,
) {
    let (n_rows, row_len) = (it.partial.sum.len(), it.shape.row_len());
    let mut row = 0;
    while row < n_rows {
        let n = rows_at_once::<S>(n_rows - row);
        let weights = Rows { data: &it.scores[row * BLOCK..], stride: BLOCK, n: n_keys };
        let out = &mut it.partial.weighted[row * row_len + first * LANES..];
        for_rows!(n, gather_rows::<S, T, N>(simd, weights, values, out, row_len));
        row += n;
    }
}

/// Scores of `R` rows, `BLOCK` apart in `scores`.
#[inline(always)]
fn score_rows<S: Simd, T: KvElement, const N: usize, const R: usize>(
    simd: S,
    queries: Rows<'_>,
    keys: Panel<'_, T>,
    cap: Option<f32>,
    scores: &mut [f32],
) {
    let sums = panel_product::<S, T, R, N>(simd, queries, keys);
    for r in 0..R {
        put_scores(simd, sums[r], cap, &mut scores[r * BLOCK..]);
    }
}

/// Adds weighted values to `R` rows, `stride` apart in `out`.
#[inline(always)]
fn gather_rows<S: Simd, T: KvElement, const N: usize, const R: usize>(
    simd: S,
    weights: Rows<'_>,
    values: Panel<'_, T>,
    out: &mut [f32],
    stride: usize,
) {
    let sums = panel_product::<S, T, R, N>(simd, weights, values);
    for r in 0..R {
        let to = &mut out[r * stride..].as_chunks_mut().0[..N];
        for i in 0..N {
            simd.store(simd.add(simd.load(&to[i]), sums[r][i]), &mut to[i]);
        }
    }
}
