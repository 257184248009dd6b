//! Attention of a few queries to a range of cached positions, block by block, with the online softmax of
//! arXiv:2205.14135: sums are relative to the largest score so far and scaled down whenever that grows.

use std::ops::Range;

use super::panel::{Rows, panel_product};
use super::{AttentionShape, exp, tanh};
use crate::kv::{KvElement, KvPage, KvType, KvView};
use crate::simd::{Kernel, LANES, Simd};

/// Positions whose scores are computed before their values are summed: scores, keys and values stay in L1.
pub(super) const BLOCK: usize = 64;

/// The running state of some query rows; all buffers belong to the scratch of a worker.
pub(super) struct Partial<'a> {
    /// Largest score so far, `[n_rows]`.
    pub(super) largest: &'a mut [f32],
    /// Σ e^(score - largest), `[n_rows]`.
    pub(super) sum: &'a mut [f32],
    /// Σ e^(score - largest) * value, `[n_rows, head_dim rounded up to 16]`.
    pub(super) weighted: &'a mut [f32],
}

/// Query rows that share a head of keys and values: `group` heads of each of some consecutive tokens.
pub(super) struct BlockAttention<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) kv: KvView<'a>,
    pub(super) kv_head: usize,
    /// Query rows `[n_rows, head_dim]` already scaled; row `r` belongs to token `r / group`.
    pub(super) queries: &'a [f32],
    /// Position of the first token.
    pub(super) first_position: usize,
    /// Positions to look at; each row still sees only those that causality and the window allow.
    pub(super) keys: Range<usize>,
    /// Scratch `[n_rows, BLOCK]`.
    pub(super) scores: &'a mut [f32],
    pub(super) partial: Partial<'a>,
}

impl Kernel for BlockAttention<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        match self.kv.pages[0].ty() {
            KvType::F16 => self.over_blocks::<S, u16>(simd),
            KvType::F32 => self.over_blocks::<S, f32>(simd),
        }
    }
}

impl BlockAttention<'_> {
    #[inline(always)]
    fn over_blocks<S: Simd, T: KvElement>(&mut self, simd: S) {
        self.partial.largest.fill(f32::NEG_INFINITY);
        self.partial.sum.fill(0.0);
        self.partial.weighted.fill(0.0);
        let mut start = self.keys.start / BLOCK * BLOCK;
        while start < self.keys.end {
            let n_keys = BLOCK.min(self.keys.end - start);
            let offset = start - self.kv.start;
            let page = &self.kv.pages[offset / KvPage::LEN];
            let slot = offset % KvPage::LEN;
            self.score::<S, T>(simd, page, slot, n_keys);
            for row in 0..self.partial.sum.len() {
                self.mask(row, start, n_keys);
                self.weigh(simd, row);
            }
            self.gather::<S, T>(simd, page, slot, n_keys);
            start += BLOCK;
        }
    }

    /// Rows that one pass takes: as many as leave their sums in registers, and enough to hide the latency of adding.
    const fn rows_at_once<S: Simd>() -> usize {
        if S::TOKENS < 8 { 4 } else { 8 }
    }

    /// `scores = queries · keysᵀ`, with the soft cap.
    #[inline(always)]
    fn score<S: Simd, T: KvElement>(&mut self, simd: S, page: &KvPage, slot: usize, n_keys: usize) {
        let head_dim = self.shape.head_dim;
        let keys = page.keys::<T>(self.kv_head);
        for tile in 0..n_keys.div_ceil(LANES) {
            let keys = &keys[(slot / LANES + tile) * head_dim..][..head_dim];
            let mut row = 0;
            while row < self.partial.sum.len() {
                let queries = Rows { data: &self.queries[row * head_dim..], stride: head_dim };
                let scores = &mut self.scores[row * BLOCK + tile * LANES..];
                let cap = self.shape.softcap;
                let rest = self.partial.sum.len() - row;
                row += match rest.min(const { Self::rows_at_once::<S>() }) {
                    8 => score_tile::<S, T, 8>(simd, queries, keys, cap, scores),
                    4.. => score_tile::<S, T, 4>(simd, queries, keys, cap, scores),
                    3 => score_tile::<S, T, 3>(simd, queries, keys, cap, scores),
                    2 => score_tile::<S, T, 2>(simd, queries, keys, cap, scores),
                    _ => score_tile::<S, T, 1>(simd, queries, keys, cap, scores),
                };
            }
        }
    }

    /// Sets scores that the row must not see to -∞.
    #[inline(always)]
    fn mask(&mut self, row: usize, start: usize, n_keys: usize) {
        let position = self.first_position + row / self.shape.group();
        let seen = self.shape.seen_from(position);
        let first = seen.start.max(self.keys.start).saturating_sub(start).min(BLOCK);
        let end = seen.end.saturating_sub(start).min(n_keys).max(first);
        let scores = &mut self.scores[row * BLOCK..][..BLOCK];
        scores[..first].fill(f32::NEG_INFINITY);
        scores[end..].fill(f32::NEG_INFINITY);
    }

    /// Turns the scores of a row into weights relative to the new largest score.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, simd: S, row: usize) {
        let (scores, _) = self.scores[row * BLOCK..][..BLOCK].as_chunks_mut::<LANES>();
        let mut largest = simd.load(&scores[0]);
        for v in &scores[1..] {
            largest = simd.max(largest, simd.load(v));
        }
        let before = self.partial.largest[row];
        let largest = simd.reduce_max(largest).max(before);
        // A row that has seen nothing yet must not compute ∞ - ∞.
        let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        let mut sum = simd.splat(0.0);
        for v in scores {
            let weight = exp(simd, simd.sub(simd.load(v), simd.splat(shift)));
            sum = simd.add(sum, weight);
            simd.store(weight, v);
        }
        let sum = simd.reduce_sum(sum);
        self.partial.largest[row] = largest;
        if largest == before {
            self.partial.sum[row] += sum;
            return;
        }
        let shrink = (before - shift).exp();
        self.partial.sum[row] = self.partial.sum[row] * shrink + sum;
        let row_len = self.shape.head_dim.next_multiple_of(LANES);
        let (weighted, _) = self.partial.weighted[row * row_len..][..row_len].as_chunks_mut::<LANES>();
        for v in weighted {
            simd.store(simd.mul(simd.load(v), simd.splat(shrink)), v);
        }
    }

    /// `weighted += weights · values`
    #[inline(always)]
    fn gather<S: Simd, T: KvElement>(&mut self, simd: S, page: &KvPage, slot: usize, n_keys: usize) {
        let row_len = self.shape.head_dim.next_multiple_of(LANES);
        let step = row_len / LANES;
        let values = &page.values::<T>(self.kv_head)[slot * step..][..n_keys * step];
        let n_rows = self.partial.sum.len();
        for column in 0..step {
            let values = &values[column..];
            let mut row = 0;
            while row < n_rows {
                let weights = Rows { data: &self.scores[row * BLOCK..], stride: BLOCK };
                let out = &mut self.partial.weighted[row * row_len + column * LANES..];
                row += match (n_rows - row).min(const { Self::rows_at_once::<S>() }) {
                    8 => gather_column::<S, T, 8>(simd, weights, values, step, n_keys, out, row_len),
                    4.. => gather_column::<S, T, 4>(simd, weights, values, step, n_keys, out, row_len),
                    3 => gather_column::<S, T, 3>(simd, weights, values, step, n_keys, out, row_len),
                    2 => gather_column::<S, T, 2>(simd, weights, values, step, n_keys, out, row_len),
                    _ => gather_column::<S, T, 1>(simd, weights, values, step, n_keys, out, row_len),
                };
            }
        }
    }
}

/// Scores of `R` rows, `BLOCK` apart in `scores`, at one tile of keys. Returns `R`.
#[inline(always)]
fn score_tile<S: Simd, T: KvElement, const R: usize>(
    simd: S,
    queries: Rows<'_>,
    keys: &[[T; LANES]],
    cap: Option<f32>,
    scores: &mut [f32],
) -> usize {
    let sums = panel_product(simd, queries, keys, 1, keys.len(), [simd.splat(0.0); R]);
    for (r, mut sum) in sums.into_iter().enumerate() {
        if let Some(cap) = cap {
            let cap = simd.splat(cap);
            sum = simd.mul(cap, tanh(simd, simd.div(sum, cap)));
        }
        if let Some(to) = scores[r * BLOCK..].first_chunk_mut() {
            simd.store(sum, to);
        }
    }
    R
}

/// Adds the weighted values of one column of sixteen to `R` rows, `stride` apart in `out`. Returns `R`.
#[inline(always)]
fn gather_column<S: Simd, T: KvElement, const R: usize>(
    simd: S,
    weights: Rows<'_>,
    values: &[[T; LANES]],
    step: usize,
    n_keys: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    let sums = panel_product(simd, weights, values, step, n_keys, [simd.splat(0.0); R]);
    for (r, sum) in sums.into_iter().enumerate() {
        if let Some(to) = out[r * stride..].first_chunk_mut() {
            simd.store(simd.add(simd.load(to), sum), to);
        }
    }
    R
}
