//! Attention of a few queries to a range of cached positions, block by block, with the online softmax of
//! arXiv:2205.14135: sums are relative to the largest score so far and scaled down whenever that grows.

use std::marker::PhantomData;
use std::ops::Range;

use super::codes::{Codes, QueryGroup};
use super::floats::Floats;
use super::{AttentionShape, exp, tanh};
use crate::Isa;
use crate::kv::codes::{Int4, Int8};
use crate::kv::{KvPage, KvType, KvView, STRIP};
use crate::ops::elementwise::{load, store_partial};
use crate::simd::{Kernel, LANES, Simd};

/// Positions whose scores are computed before their values are summed: scores, keys and values stay in L1.
pub(super) const BLOCK: usize = STRIP;

/// Calls `f::<…, R>` with `R` rows, at most 3 or, where registers are many, 6.
macro_rules! for_rows {
    ($rows:expr, $f:ident::<$S:ty, $($T:ident),*>($($argument:expr),*)) => {
        match $rows {
            1 => $f::<$S, $($T,)* 1>($($argument),*),
            2 => $f::<$S, $($T,)* 2>($($argument),*),
            4 if <$S>::TOKENS >= 8 => $f::<$S, $($T,)* 4>($($argument),*),
            5 if <$S>::TOKENS >= 8 => $f::<$S, $($T,)* 5>($($argument),*),
            6 if <$S>::TOKENS >= 8 => $f::<$S, $($T,)* 6>($($argument),*),
            _ => $f::<$S, $($T,)* 3>($($argument),*),
        }
    };
}

pub(super) use for_rows;

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
    /// Scratch for the queries in integers, `[n_rows, head_dim / 32]`.
    pub(super) codes: &'a mut [QueryGroup],
    /// Scratch `[n_rows, BLOCK]`.
    pub(super) scores: &'a mut [f32],
    pub(super) partial: Partial<'a>,
}

/// How keys and values are stored, and multiplied with.
pub(super) trait Stored {
    /// As [`Kernel::DOTS`].
    const DOTS: bool;

    /// Called once, before the first block.
    fn prepare<S: Simd>(simd: S, it: &mut BlockAttention<'_>);

    /// `scores = queries · keysᵀ` with the soft cap, of `n_keys` positions from `slot` of `page` on.
    fn score<S: Simd>(simd: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize);

    /// `weighted += scores · values`, the scores having become weights. Those beyond `n_keys` are zero.
    fn gather<S: Simd>(simd: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize);
}

impl BlockAttention<'_> {
    pub(super) fn run(self, isa: Isa) {
        match self.kv.pages[0].ty() {
            KvType::F16 => isa.run(Over(self, PhantomData::<Floats<u16>>)),
            KvType::F32 => isa.run(Over(self, PhantomData::<Floats<f32>>)),
            KvType::Int8 => isa.run(Over(self, PhantomData::<Codes<Int8>>)),
            KvType::Int4 => isa.run(Over(self, PhantomData::<Codes<Int4>>)),
        }
    }
}

struct Over<'a, P>(BlockAttention<'a>, PhantomData<P>);

impl<P: Stored> Kernel for Over<'_, P> {
    type Output = ();
    const DOTS: bool = P::DOTS;

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        self.0.over_blocks::<S, P>(simd);
    }
}

impl BlockAttention<'_> {
    #[inline(always)]
    fn over_blocks<S: Simd, P: Stored>(&mut self, simd: S) {
        P::prepare(simd, self);
        self.partial.largest.fill(f32::NEG_INFINITY);
        self.partial.sum.fill(0.0);
        self.partial.weighted.fill(0.0);
        let mut start = self.keys.start / BLOCK * BLOCK;
        while start < self.keys.end {
            let n_keys = BLOCK.min(self.keys.end - start);
            let offset = start - self.kv.start;
            let page = &self.kv.pages[offset / KvPage::LEN];
            let slot = offset % KvPage::LEN;
            P::score(simd, self, page, slot, n_keys);
            if !self.all_seen(start) {
                (0..self.partial.sum.len()).for_each(|row| self.mask(row, start, n_keys));
            }
            self.weigh(simd);
            P::gather(simd, self, page, slot, n_keys);
            start += BLOCK;
        }
    }

    /// Sets scores that the row must not see to -∞.
    fn mask(&mut self, row: usize, start: usize, n_keys: usize) {
        let position = self.first_position + row / self.shape.group();
        let seen = self.shape.seen_from(position);
        let first = seen.start.max(self.keys.start).saturating_sub(start).min(BLOCK);
        let end = seen.end.saturating_sub(start).min(n_keys).max(first);
        let scores = &mut self.scores[row * BLOCK..][..BLOCK];
        scores[..first].fill(f32::NEG_INFINITY);
        scores[end..].fill(f32::NEG_INFINITY);
    }

    /// Whether every row sees every position of the block from `start` on.
    fn all_seen(&self, start: usize) -> bool {
        let first = self.shape.seen_from(self.first_position);
        let last =
            self.shape.seen_from(self.first_position + (self.partial.sum.len() - 1) / self.shape.group());
        let end = start + BLOCK;
        last.start.max(self.keys.start) <= start && end <= first.end.min(self.keys.end)
    }

    /// Turns scores into weights relative to the new largest score of each row, sixteen rows at a time. In steps, each for all of
    /// those rows, because the steps of one row wait for each other.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, simd: S) {
        let row_len = self.shape.row_len();
        let rows =
            self.scores.chunks_mut(LANES * BLOCK).zip(self.partial.weighted.chunks_mut(LANES * row_len));
        let state = self.partial.largest.chunks_mut(LANES).zip(self.partial.sum.chunks_mut(LANES));
        for ((scores, weighted), (largest, sum)) in rows.zip(state) {
            let scores = scores.as_chunks_mut::<LANES>().0.as_chunks_mut::<VECTORS>().0;
            let mut found = [f32::NEG_INFINITY; LANES];
            for (scores, found) in scores.iter().zip(&mut found) {
                *found = largest_score(simd, scores);
            }
            let before = load(simd, largest);
            let now = simd.max(before, simd.load(&found));
            store_partial(simd, now, largest);
            // A row that has seen nothing yet must not compute ∞ - ∞.
            let now = simd.max(now, simd.splat(f32::MIN));
            let shrink = exp(simd, simd.sub(before, now));
            let (mut shifts, mut shrinks, mut sums) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            simd.store(now, &mut shifts);
            simd.store(shrink, &mut shrinks);
            for ((scores, shift), sum) in scores.iter_mut().zip(shifts).zip(&mut sums) {
                *sum = weights(simd, scores, shift);
            }
            let total = simd.mul_add(load(simd, sum), shrink, simd.load(&sums));
            store_partial(simd, total, sum);
            for (row, shrink) in weighted.chunks_exact_mut(row_len).zip(shrinks) {
                for v in row.as_chunks_mut().0 {
                    simd.store(simd.mul(simd.load(v), simd.splat(shrink)), v);
                }
            }
        }
    }
}

/// Vectors of scores of a row.
pub(super) const VECTORS: usize = BLOCK / LANES;

#[inline(always)]
fn largest_score<S: Simd>(simd: S, scores: &[[f32; LANES]; VECTORS]) -> f32 {
    let mut largest = simd.load(&scores[0]);
    for v in &scores[1..] {
        largest = simd.max(largest, simd.load(v));
    }
    simd.reduce_max(largest)
}

/// Scores become `e^(score - shift)`. Returns their sum.
#[inline(always)]
fn weights<S: Simd>(simd: S, scores: &mut [[f32; LANES]; VECTORS], shift: f32) -> f32 {
    let mut sum = simd.splat(0.0);
    for v in scores {
        let weight = exp(simd, simd.sub(simd.load(v), simd.splat(shift)));
        sum = simd.add(sum, weight);
        simd.store(weight, v);
    }
    simd.reduce_sum(sum)
}

/// How many of `rest` rows one product takes: no more than leave their sums in registers, and evenly shared out.
#[inline(always)]
pub(super) fn rows_at_once<S: Simd>(rest: usize) -> usize {
    let most = if S::TOKENS < 8 { 3 } else { 6 };
    rest.div_ceil(rest.div_ceil(most))
}

/// Stores the scores of neighbouring tiles of keys, with the soft cap.
#[inline(always)]
pub(super) fn put_scores<S: Simd, const N: usize>(
    simd: S,
    sums: [S::F32; N],
    cap: Option<f32>,
    scores: &mut [f32],
) {
    let to = &mut scores.as_chunks_mut().0[..N];
    for i in 0..N {
        let mut sum = sums[i];
        if let Some(cap) = cap {
            let cap = simd.splat(cap);
            sum = simd.mul(cap, tanh(simd, simd.div(sum, cap)));
        }
        simd.store(sum, &mut to[i]);
    }
}
