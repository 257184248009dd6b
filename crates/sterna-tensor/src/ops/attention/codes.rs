//! Products with keys and values that are codes, in integers: queries and weights are rounded to two int8 terms, of which the
//! second rounds what the first left over, so that what is lost is what the cache has lost.
//!
//! Every line of a strip is read in the order in which it lies, once: CPUs fetch ahead of such reads by themselves, and cease to
//! at the first line that is left out, or asked for early. Each line then waits for memory.
//!
//! Loops, not closures: a closure that is not inlined is compiled without the instruction set, and was, ten times slower.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use super::block::{BLOCK, BlockAttention, Stored, VECTORS, for_rows, put_scores, rows_at_once};
use crate::kv::KvPage;
use crate::kv::codes::{CodeWidth, GROUP, PAIRS, Strip};
use crate::ops::load_partial;
use crate::simd::{CodeRegister, LANES, Simd, prefetch};

/// Keys and values as codes.
pub(super) struct Codes<C>(PhantomData<C>);

/// Pairs of quads in a tile of keys and 32 elements.
const KEY_PAIRS: usize = GROUP / 8;

/// The largest term.
const LARGEST: f32 = 127.0;

/// The second term counts in parts of the first: what is left over is at most half a step of the first.
const PARTS: f32 = 254.0;

/// Thirty-two elements of a query: `scale (high + low / 254)`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct QueryGroup {
    /// The terms, four codes to a word.
    terms: [[i32; GROUP / 4]; 2],
    /// What the sums of products start at, for the zero point of the keys.
    starts: [i32; 2],
    scale: f32,
}

impl QueryGroup {
    /// Floats of scratch that a query takes.
    pub(super) fn floats(head_dim: usize) -> usize {
        head_dim.div_ceil(GROUP) * size_of::<QueryGroup>() / size_of::<f32>()
    }
}

impl<C: CodeWidth> Stored for Codes<C> {
    const DOTS: bool = true;

    #[inline(always)]
    fn prepare<S: Simd>(s: S, it: &mut BlockAttention<'_>) {
        let head_dim = it.shape.head_dim;
        let rows = it.queries.chunks_exact(head_dim).zip(it.codes.chunks_exact_mut(head_dim.div_ceil(GROUP)));
        for (row, groups) in rows {
            for (part, group) in row.chunks(GROUP).zip(groups) {
                let (low, high) = part.split_at(part.len().min(LANES));
                let (values, largest) =
                    up_to::<S, 2>(s, LARGEST, [load_partial(s, low), load_partial(s, high)]);
                let rounded = Rounded::of::<S>(s, values);
                group.terms = bytemuck::cast(rounded.terms);
                group.starts = rounded.starts::<S, C>();
                group.scale = largest / LARGEST;
            }
        }
    }

    #[inline(always)]
    fn score<S: Simd>(s: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize) {
        let (n_rows, n_groups) = (it.partial.sum.len(), it.shape.head_dim.div_ceil(GROUP));
        let [keys, _] = page.strip::<C>(it.kv_head, slot);
        ask_for_scales(keys);
        for tile in 0..n_keys.div_ceil(LANES) {
            let mut row = 0;
            while row < n_rows {
                let n = rows_at_once::<S>(n_rows - row);
                let queries = &it.codes[row * n_groups..];
                let scores = &mut it.scores[row * BLOCK + tile * LANES..];
                for_rows!(n, score_tile::<S, C>(s, queries, keys, tile, it.shape.softcap, scores));
                row += n;
            }
        }
    }

    #[inline(always)]
    fn gather<S: Simd>(s: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, _: usize) {
        let (n_rows, row_len) = (it.partial.sum.len(), it.shape.row_len());
        let [_, values] = page.strip::<C>(it.kv_head, slot);
        ask_for_scales(values);
        let mut row = 0;
        while row < n_rows {
            let n = rows_at_once::<S>(n_rows - row);
            let weights = &mut it.scores[row * BLOCK..];
            let out = &mut it.partial.weighted[row * row_len..];
            for_rows!(n, gather_rows::<S, C>(s, weights, values, out, row_len));
            row += n;
        }
    }
}

/// The scales lie before the codes and are read between them.
#[inline(always)]
fn ask_for_scales(strip: Strip<'_>) {
    let lines: &[CodeRegister] = bytemuck::cast_slice(strip.scales);
    lines.iter().for_each(|line| prefetch(line));
}

/// Scores of `R` rows, `BLOCK` apart in `scores`, at tile `tile` of keys.
#[inline(always)]
fn score_tile<S: Simd, C: CodeWidth, const R: usize>(
    s: S,
    queries: &[QueryGroup],
    keys: Strip<'_>,
    tile: usize,
    cap: Option<f32>,
    scores: &mut [f32],
) {
    let n_groups = keys.scales.len();
    let tile_len = n_groups * KEY_PAIRS * C::PER_PAIR;
    let codes = keys.codes[tile * tile_len..][..tile_len].chunks_exact(KEY_PAIRS * C::PER_PAIR);
    let queries = &queries[..R * n_groups];
    let mut totals = [s.splat(0.0); R];
    for (g, (codes, scales)) in codes.zip(keys.scales).enumerate() {
        let mut sums = [[s.splat_i32(0); 2]; R];
        let mut terms = [&[[0; GROUP / 4]; 2]; R];
        for r in 0..R {
            let query = &queries[r * n_groups + g];
            terms[r] = &query.terms;
            let [high, low] = query.starts;
            sums[r] = [s.splat_i32(high), s.splat_i32(low)];
        }
        for (i, pair) in codes.chunks_exact(C::PER_PAIR).enumerate() {
            for half in 0..2 {
                let quad = C::quad(s, pair, half);
                for r in 0..R {
                    for term in 0..2 {
                        sums[r][term] = C::dot(s, sums[r][term], quad, terms[r][term][2 * i + half]);
                    }
                }
            }
        }
        let scales = s.load_f16(&scales.as_chunks().0[tile]);
        for r in 0..R {
            let scale = s.mul(scales, s.splat(queries[r * n_groups + g].scale));
            totals[r] = s.mul_add(of_terms(s, sums[r]), scale, totals[r]);
        }
    }
    for r in 0..R {
        put_scores(s, [totals[r]], cap, &mut scores[r * BLOCK..]);
    }
}

/// Adds values weighted with `R` rows of weights, which it uses up, to rows `stride` apart in `out`.
#[inline(always)]
fn gather_rows<S: Simd, C: CodeWidth, const R: usize>(
    s: S,
    weights: &mut [f32],
    values: Strip<'_>,
    out: &mut [f32],
    stride: usize,
) {
    let (mut largest_weights, mut all_count) = ([0.0; R], [true; R]);
    for r in 0..R {
        let (weights, _) = weights[r * BLOCK..][..BLOCK].as_chunks_mut();
        let (scaled, largest) = up_to::<S, VECTORS>(s, LARGEST, load_vectors::<S, VECTORS>(s, weights));
        let mut least = scaled[0];
        for i in 0..VECTORS {
            least = s.min(least, scaled[i]);
            s.store(scaled[i], &mut weights[i]);
        }
        all_count[r] = -s.reduce_max(s.sub(s.splat(0.0), least)) > 0.0;
        largest_weights[r] = largest;
    }
    let groups = values.scales.iter().zip(values.codes.chunks_exact(PAIRS * C::PER_PAIR));
    for (group, (scales, codes)) in groups.enumerate() {
        let (scales, _) = scales.as_chunks();
        let mut stored = [s.splat(0.0); VECTORS];
        for i in 0..VECTORS {
            stored[i] = s.load_f16(&scales[i]);
        }
        // So no product is above the largest term. Few may come near it; the second term has precision to spare.
        let (relative, largest_scale) = up_to::<S, VECTORS>(s, 1.0, stored);
        let mut rounded =
            GroupWeights { words: [[[0; BLOCK / 4]; 2]; R], starts: [[0; 2]; R], scales: [0.0; R] };
        for r in 0..R {
            let mut products = load_vectors::<S, VECTORS>(s, weights[r * BLOCK..][..BLOCK].as_chunks().0);
            let scales = if all_count[r] { &relative } else { &stored };
            for i in 0..VECTORS {
                products[i] = s.mul(products[i], scales[i]);
            }
            let mut largest = largest_scale;
            if !all_count[r] {
                // Scales of positions that a row must not see must not touch it.
                let (scaled, largest_product) = up_to::<S, VECTORS>(s, LARGEST, products);
                (products, largest) = (scaled, largest_product / LARGEST);
            }
            let terms = Rounded::of::<S>(s, products);
            rounded.starts[r] = terms.starts::<S, C>();
            rounded.words[r] = bytemuck::cast(terms.terms);
            rounded.scales[r] = largest_weights[r] * (largest / LARGEST);
        }
        let out = &mut out[group * GROUP..];
        // Both halves at once read every line in turn, but their sums need many registers.
        if S::TOKENS < 8 {
            rounded.add::<S, C, 1>(s, 0, codes, out, stride);
            rounded.add::<S, C, 1>(s, 1, codes, out, stride);
        } else {
            rounded.add::<S, C, 2>(s, 0, codes, out, stride);
        }
    }
}

/// `R` rows of weights times the scales of 64 values and 32 elements: `scales (high + low / 254)`.
struct GroupWeights<const R: usize> {
    /// The terms, those of four positions to a word.
    words: [[[i32; BLOCK / 4]; 2]; R],
    /// As [`QueryGroup::starts`].
    starts: [[i32; 2]; R],
    scales: [f32; R],
}

impl<const R: usize> GroupWeights<R> {
    /// Adds products with `H` halves of the elements, `first` and on, to rows `stride` apart in `out`.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "an iterator over an array of vectors keeps it in memory")]
    fn add<S: Simd, C: CodeWidth, const H: usize>(
        &self,
        s: S,
        first: usize,
        codes: &[CodeRegister],
        out: &mut [f32],
        stride: usize,
    ) {
        let GroupWeights { words, starts, scales } = self;
        let mut sums = [[[s.splat_i32(0); 2]; H]; R];
        for r in 0..R {
            let [high, low] = starts[r];
            sums[r] = [[s.splat_i32(high), s.splat_i32(low)]; H];
        }
        for (i, pair) in codes.chunks_exact(C::PER_PAIR).enumerate() {
            for half in 0..H {
                let quad = C::quad(s, pair, first + half);
                for r in 0..R {
                    for term in 0..2 {
                        sums[r][half][term] = C::dot(s, sums[r][half][term], quad, words[r][term][i]);
                    }
                }
            }
        }
        for r in 0..R {
            for half in 0..H {
                let to = &mut out[r * stride + (first + half) * LANES..].as_chunks_mut().0[0];
                s.store(s.mul_add(of_terms(s, sums[r][half]), s.splat(scales[r]), s.load(to)), to);
            }
        }
    }
}

/// `high + low / 254`
#[inline(always)]
fn of_terms<S: Simd>(s: S, [high, low]: [S::I32; 2]) -> S::F32 {
    s.mul_add(s.to_f32(low), s.splat(1.0 / PARTS), s.to_f32(high))
}

#[inline(always)]
fn load_vectors<S: Simd, const N: usize>(s: S, from: &[[f32; LANES]]) -> [S::F32; N] {
    let mut values = [s.splat(0.0); N];
    for i in 0..N {
        values[i] = s.load(&from[i]);
    }
    values
}

/// Values scaled to `-limit..=limit`, and the largest size among them before.
#[inline(always)]
fn up_to<S: Simd, const N: usize>(s: S, limit: f32, mut values: [S::F32; N]) -> ([S::F32; N], f32) {
    let mut largest = s.splat(0.0);
    for v in values {
        largest = s.max(largest, s.abs(v));
    }
    let largest = s.reduce_max(largest);
    // Below this, 127 / largest is no finite number.
    let (factor, largest) = if largest < 1e-36 { (0.0, 0.0) } else { (limit / largest, largest) };
    for v in &mut values {
        *v = s.mul(*v, s.splat(factor));
    }
    (values, largest)
}

/// Values in -127..=127 as `high + low / 254`.
struct Rounded<const N: usize> {
    /// The terms, in -127..=127.
    terms: [[[u8; LANES]; N]; 2],
    /// Of each term, over all values.
    sums: [i32; 2],
}

impl<const N: usize> Rounded<N> {
    #[inline(always)]
    fn of<S: Simd>(s: S, values: [S::F32; N]) -> Rounded<N> {
        let mut terms = [[[0; LANES]; N]; 2];
        let mut sums = [s.splat(0.0); 2];
        for i in 0..N {
            let high = s.round(values[i]);
            let low = s.round(s.mul(s.sub(values[i], high), s.splat(PARTS)));
            s.store_low_bytes(s.to_i32(high), &mut terms[0][i]);
            s.store_low_bytes(s.to_i32(low), &mut terms[1][i]);
            sums = [s.add(sums[0], high), s.add(sums[1], low)];
        }
        // Sums of so small integers are exact in any order.
        Rounded { terms, sums: [s.reduce_sum(sums[0]) as i32, s.reduce_sum(sums[1]) as i32] }
    }

    /// What the sums of products with codes start at, so that they are those with codes less their zero point. As integers, for
    /// these are exact whatever an instruction set takes off the codes itself.
    #[inline(always)]
    fn starts<S: Simd, C: CodeWidth>(&self) -> [i32; 2] {
        let zero = i32::from(C::ZERO) - C::offset::<S>();
        [-zero * self.sums[0], -zero * self.sums[1]]
    }
}
