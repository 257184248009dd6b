//! Attention of a few queries to a range of cached positions, block by block, with the online softmax of
//! arXiv:2205.14135: sums are relative to the largest score so far and scaled down whenever that grows.

use std::ops::Range;

use super::panel::{COLUMNS, Panel, Rows, panel_product};
use super::{AttentionShape, exp, tanh};
use crate::kv::{KvElement, KvPage, KvType, KvView};
use crate::simd::{Kernel, LANES, Simd};

/// Positions whose scores are computed before their values are summed: scores, keys and values stay in L1.
pub(super) const BLOCK: usize = 64;

/// Calls `f::<S, T, R>` with `R` rows, at most 3 or, where registers are many, 6.
macro_rules! for_rows {
    ($rows:expr, $f:ident::<$S:ty, $T:ty>($($argument:expr),*)) => {
        match $rows {
            1 => $f::<$S, $T, 1>($($argument),*),
            2 => $f::<$S, $T, 2>($($argument),*),
            4 if <$S>::TOKENS >= 8 => $f::<$S, $T, 4>($($argument),*),
            5 if <$S>::TOKENS >= 8 => $f::<$S, $T, 5>($($argument),*),
            6 if <$S>::TOKENS >= 8 => $f::<$S, $T, 6>($($argument),*),
            _ => $f::<$S, $T, 3>($($argument),*),
        }
    };
}

/// The running state of some query rows; all buffers belong to the scratch of a worker.
pub(super) struct Partial<'a> {
    /// Largest score so far, `[n_rows]`.
    pub(super) largest: &'a mut [f32],
    /// Σ e^(score - largest), `[n_rows]`.
    pub(super) sum: &'a mut [f32],
    /// Σ e^(score - largest) * value, `[n_rows, value_row_len(head_dim)]`.
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
    const DOTS: bool = false;

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

    /// `scores = queries · keysᵀ`, with the soft cap.
    #[inline(always)]
    fn score<S: Simd, T: KvElement>(&mut self, simd: S, page: &KvPage, slot: usize, n_keys: usize) {
        let (n_rows, head_dim, cap) = (self.partial.sum.len(), self.shape.head_dim, self.shape.softcap);
        let keys = page.keys::<T>(self.kv_head);
        // The last tiles may reach beyond `n_keys`: into zeros, or into keys that the mask hides.
        for tile in (0..n_keys.div_ceil(LANES)).step_by(COLUMNS) {
            let data = &keys[(slot / LANES + tile) * head_dim..];
            let keys = Panel { data, step: 1, column: head_dim, n: head_dim };
            let mut row = 0;
            while row < n_rows {
                let n = rows_at_once::<S>(n_rows - row);
                let queries = Rows { data: &self.queries[row * head_dim..], stride: head_dim };
                let scores = &mut self.scores[row * BLOCK + tile * LANES..];
                for_rows!(n, score_tiles::<S, T>(simd, queries, keys, cap, scores));
                row += n;
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
        let row_len = self.shape.row_len();
        let (weighted, _) = self.partial.weighted[row * row_len..][..row_len].as_chunks_mut::<LANES>();
        for v in weighted {
            simd.store(simd.mul(simd.load(v), simd.splat(shrink)), v);
        }
    }

    /// `weighted += weights · values`
    #[inline(always)]
    fn gather<S: Simd, T: KvElement>(&mut self, simd: S, page: &KvPage, slot: usize, n_keys: usize) {
        let (n_rows, row_len) = (self.partial.sum.len(), self.shape.row_len());
        let step = row_len / LANES;
        let values = &page.values::<T>(self.kv_head)[slot * step..];
        for first in (0..step).step_by(COLUMNS) {
            let values = Panel { data: &values[first..], step, column: 1, n: n_keys };
            let mut row = 0;
            while row < n_rows {
                let n = rows_at_once::<S>(n_rows - row);
                let weights = Rows { data: &self.scores[row * BLOCK..], stride: BLOCK };
                let out = &mut self.partial.weighted[row * row_len + first * LANES..];
                for_rows!(n, gather_columns::<S, T>(simd, weights, values, out, row_len));
                row += n;
            }
        }
    }
}

/// How many of `rest` rows one product takes: no more than leave their sums in registers, and evenly shared out.
#[inline(always)]
fn rows_at_once<S: Simd>(rest: usize) -> usize {
    let most = if S::TOKENS < 8 { 3 } else { 6 };
    rest.div_ceil(rest.div_ceil(most))
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
        for (mut sum, to) in sums.into_iter().zip(scores[r * BLOCK..].as_chunks_mut().0) {
            if let Some(cap) = cap {
                let cap = simd.splat(cap);
                sum = simd.mul(cap, tanh(simd, simd.div(sum, cap)));
            }
            simd.store(sum, to);
        }
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
