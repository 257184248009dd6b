//! Causal attention of new tokens to a cache of keys and values.
//!
//! Work is cut into items that never depend on the number of threads, so that results do not either: an item is one
//! key/value head and a block of queries (prefill), or one key/value head and one page of positions (decode), whose
//! partial results are merged at the end.

use std::ops::Range;

use super::math::{exp, exp_of, tanh};
use crate::kv::{KvPage, KvView, value_row_len};
use crate::{Compute, Disjoint};

mod block;
mod codes;
mod floats;
mod panel;
#[cfg(test)]
mod tests;

use block::{BLOCK, BlockAttention, Partial};
use codes::QueryGroup;

/// The constants of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Key/value heads; query head `h` uses key/value head `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Factor on the scores, usually `1 / √head_dim`.
    pub scale: f32,
    /// A query at position `i` sees positions `i - window < j <= i`; all up to `i` without a window.
    pub window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
}

/// Memory that [`attention`] works in; grows to what was needed and is kept from call to call.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    /// Per worker: queries, scores, and a partial result.
    workers: Vec<f32>,
    /// Per item of a decode step: a partial result.
    partials: Vec<f32>,
}

/// Query rows of one item; eight tokens of a model with four query heads per key/value head.
const ROWS: usize = 32;

/// As many tokens at most are computed with the arithmetic of a single one, so that they get the same bits together as one
/// by one.
pub const FEW_TOKENS: usize = 16;

/// Writes to `out` `[n_tokens, n_heads * head_dim]` what the queries `q` of the same shape, already rotated, draw from
/// the cache. The tokens are those at `first_position` and after it, and `kv` holds their keys and values too.
///
/// # Panics
/// When a length or the shape of a page is wrong, or `kv` lacks a position that some token sees.
pub fn attention(
    c: &Compute,
    shape: &AttentionShape,
    q: &[f32],
    kv: KvView<'_>,
    first_position: usize,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let token_len = shape.n_heads * shape.head_dim;
    assert!(token_len > 0 && shape.n_heads.is_multiple_of(shape.n_kv_heads), "{shape:?}");
    assert!(q.len().is_multiple_of(token_len) && q.len() == out.len(), "queries and outputs of {token_len}");
    let n_tokens = q.len() / token_len;
    if n_tokens == 0 {
        return;
    }
    let task = Task::new(c, shape, q, kv, first_position);
    let positions = &task.positions;
    assert!(kv.start <= positions.start && positions.end <= kv.end(), "positions {positions:?} of the cache");
    assert!(kv.start.is_multiple_of(KvPage::LEN), "a page starts at {}", kv.start);
    for page in kv.pages {
        assert!(
            (page.n_kv_heads(), page.head_dim()) == (shape.n_kv_heads, shape.head_dim),
            "shape of a page"
        );
        assert!(page.ty() == kv.pages[0].ty(), "one type in all pages");
    }
    let block_len = (ROWS / shape.group()).max(1);
    if n_tokens > FEW_TOKENS.max(block_len) {
        return task.by_queries(scratch, out);
    }
    let blocks = q.chunks(block_len * token_len).zip(out.chunks_mut(block_len * token_len));
    for (first, (q, out)) in (first_position..).step_by(block_len).zip(blocks) {
        Task::new(c, shape, q, kv, first).by_pages(scratch, out);
    }
}

impl AttentionShape {
    /// Query heads per key/value head.
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Positions that a query at `position` sees.
    fn seen_from(&self, position: usize) -> Range<usize> {
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start..position + 1
    }

    /// Elements of a row of weighted values.
    fn row_len(&self) -> usize {
        value_row_len(self.head_dim)
    }

    /// Floats of a [`Partial`] of `n_rows`.
    fn partial_len(&self, n_rows: usize) -> usize {
        n_rows * (2 + self.row_len())
    }

    /// Floats of the scratch of an item of `n_rows`, its partial result apart.
    fn item_len(&self, n_rows: usize) -> usize {
        n_rows * (self.head_dim + BLOCK + QueryGroup::floats(self.head_dim))
    }
}

struct Task<'a> {
    c: &'a Compute,
    shape: &'a AttentionShape,
    q: &'a [f32],
    kv: KvView<'a>,
    first_position: usize,
    n_tokens: usize,
    token_len: usize,
    /// All that any token sees.
    positions: Range<usize>,
}

impl<'a> Task<'a> {
    fn new(
        c: &'a Compute,
        shape: &'a AttentionShape,
        q: &'a [f32],
        kv: KvView<'a>,
        first_position: usize,
    ) -> Task<'a> {
        let token_len = shape.n_heads * shape.head_dim;
        let n_tokens = q.len() / token_len;
        let positions = shape.seen_from(first_position).start..first_position + n_tokens;
        Task { c, shape, q, kv, first_position, n_tokens, token_len, positions }
    }

    /// Many queries: every item looks at all that its queries see, and writes its part of the output.
    fn by_queries(&self, scratch: &mut AttentionScratch, out: &mut [f32]) {
        let shape = self.shape;
        let block_len = (ROWS / shape.group()).max(1);
        let n_blocks = self.n_tokens.div_ceil(block_len);
        let max_rows = block_len * shape.group();
        let (item_len, partial_len) = (shape.item_len(max_rows), shape.partial_len(max_rows));
        grow(&mut scratch.workers, self.c.pool.n_threads() * (item_len + partial_len));
        let workers = Disjoint::new(&mut scratch.workers);
        let out = Disjoint::new(out);
        // The last queries see most: started first, they do not finish last.
        self.c.pool.run(n_blocks * shape.n_kv_heads, |chunk, worker| {
            let kv_head = chunk % shape.n_kv_heads;
            let first = (n_blocks - 1 - chunk / shape.n_kv_heads) * block_len;
            let tokens = first..self.n_tokens.min(first + block_len);
            let start = worker * (item_len + partial_len);
            // SAFETY: a worker number belongs to one thread at a time.
            let item = unsafe { workers.slice(start..start + item_len) };
            // SAFETY: as above; the range is behind that of `item`.
            let partial = unsafe { workers.slice(start + item_len..start + item_len + partial_len) };
            let seen =
                shape.seen_from(self.first_position + tokens.start).start..self.first_position + tokens.end;
            let n_rows = tokens.len() * shape.group();
            let mut partial = Partial::of(shape, n_rows, partial);
            self.item(kv_head, tokens.clone(), seen, item, partial.reborrow());
            for row in 0..n_rows {
                // SAFETY: items differ in the key/value head or in the tokens, so these rows are nobody else's.
                let to = unsafe { out.slice(self.row(kv_head, tokens.start, row)) };
                let weighted = &partial.weighted[row * shape.row_len()..][..shape.head_dim];
                let factor = 1.0 / partial.sum[row];
                to.iter_mut().zip(weighted).for_each(|(to, w)| *to = w * factor);
            }
        });
    }

    /// Few queries: items share the positions, page by page, and their partial results are merged.
    fn by_pages(&self, scratch: &mut AttentionScratch, out: &mut [f32]) {
        let shape = self.shape;
        let n_rows = self.n_tokens * shape.group();
        let (item_len, partial_len) = (shape.item_len(n_rows), shape.partial_len(n_rows));
        let first_page = self.positions.start / KvPage::LEN;
        let n_pages = self.positions.end.div_ceil(KvPage::LEN) - first_page;
        grow(&mut scratch.workers, self.c.pool.n_threads() * item_len);
        grow(&mut scratch.partials, n_pages * shape.n_kv_heads * partial_len);
        let workers = Disjoint::new(&mut scratch.workers);
        let partials = Disjoint::new(&mut scratch.partials);
        self.c.pool.run(n_pages * shape.n_kv_heads, |chunk, worker| {
            let page = (first_page + chunk % n_pages) * KvPage::LEN;
            let keys = self.positions.start.max(page)..self.positions.end.min(page + KvPage::LEN);
            // SAFETY: a worker number belongs to one thread at a time.
            let item = unsafe { workers.slice(worker * item_len..(worker + 1) * item_len) };
            // SAFETY: a chunk is run once.
            let partial = unsafe { partials.slice(chunk * partial_len..(chunk + 1) * partial_len) };
            let partial = Partial::of(shape, n_rows, partial);
            self.item(chunk / n_pages, 0..self.n_tokens, keys, item, partial);
        });
        for (kv_head, pages) in
            scratch.partials.chunks_mut(n_pages * partial_len).take(shape.n_kv_heads).enumerate()
        {
            for row in 0..n_rows {
                self.merge(row, n_rows, pages, &mut out[self.row(kv_head, 0, row)]);
            }
        }
    }

    /// Adds up one row of the partial results of all pages.
    fn merge(&self, row: usize, n_rows: usize, pages: &mut [f32], out: &mut [f32]) {
        let shape = self.shape;
        let partial_len = shape.partial_len(n_rows);
        let largest = pages.chunks(partial_len).map(|page| page[row]).fold(f32::NEG_INFINITY, f32::max);
        out.fill(0.0);
        let mut sum = 0.0;
        for page in pages.chunks_mut(partial_len) {
            let partial = Partial::of(shape, n_rows, page);
            let factor = exp_of(self.c.isa, partial.largest[row] - largest);
            sum += partial.sum[row] * factor;
            let weighted = &partial.weighted[row * shape.row_len()..][..shape.head_dim];
            out.iter_mut().zip(weighted).for_each(|(out, w)| *out += w * factor);
        }
        super::scale(out, 1.0 / sum);
    }

    /// Attention of `tokens` to `keys` with one key/value head.
    fn item(
        &self,
        kv_head: usize,
        tokens: Range<usize>,
        keys: Range<usize>,
        item: &mut [f32],
        partial: Partial<'_>,
    ) {
        let shape = self.shape;
        let n_rows = tokens.len() * shape.group();
        let (queries, rest) = item.split_at_mut(n_rows * shape.head_dim);
        for (row, to) in queries.chunks_exact_mut(shape.head_dim).enumerate() {
            let from = &self.q[self.row(kv_head, tokens.start, row)];
            to.iter_mut().zip(from).for_each(|(to, q)| *to = q * shape.scale);
        }
        let (scores, codes) = rest.split_at_mut(n_rows * BLOCK);
        let attention = BlockAttention {
            shape,
            kv: self.kv,
            kv_head,
            queries,
            first_position: self.first_position + tokens.start,
            keys,
            scores,
            codes: bytemuck::cast_slice_mut(&mut codes[..n_rows * QueryGroup::floats(shape.head_dim)]),
            partial,
        };
        attention.run(self.c.isa);
    }

    /// Where row `row` of an item lies in `q` and in the output.
    fn row(&self, kv_head: usize, first_token: usize, row: usize) -> Range<usize> {
        let group = self.shape.group();
        let (token, head) = (first_token + row / group, kv_head * group + row % group);
        let start = token * self.token_len + head * self.shape.head_dim;
        start..start + self.shape.head_dim
    }
}

impl<'a> Partial<'a> {
    fn of(shape: &AttentionShape, n_rows: usize, buffer: &'a mut [f32]) -> Partial<'a> {
        let (largest, rest) = buffer.split_at_mut(n_rows);
        let (sum, rest) = rest.split_at_mut(n_rows);
        Partial { largest, sum, weighted: &mut rest[..n_rows * shape.row_len()] }
    }

    fn reborrow(&mut self) -> Partial<'_> {
        Partial { largest: self.largest, sum: self.sum, weighted: self.weighted }
    }
}

fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}
