//! Products with keys and values that are codes, in integers: queries and weights are rounded to two int8 terms, of which the
//! second rounds what the first left over, so that what is lost is what the cache has lost.
//!
//! Loops, not closures: a closure that is not inlined is compiled without the instruction set, and was, ten times slower.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use super::block::{BLOCK, BlockAttention, Stored, for_rows, put_scores, rows_at_once};
use crate::kv::KvPage;
use crate::kv::codes::{CodeWidth, GROUP, PAIRS, Strip};
use crate::ops::load_partial;
use crate::simd::{LANES, Simd};

/// Keys and values as codes.
pub(super) struct Codes<C>(PhantomData<C>);

/// Pairs of quads in a tile of keys and 32 elements.
const KEY_PAIRS: usize = GROUP / 8;

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
                let values = [load_partial(s, low), load_partial(s, high)];
                let rounded = Rounded::of(s, values);
                group.terms = bytemuck::cast(rounded.terms);
                group.scale = rounded.scale;
                group.starts = starts::<S, C, 2>(&rounded.terms);
            }
        }
    }

    #[inline(always)]
    fn score<S: Simd>(s: S, it: &mut BlockAttention<'_>, page: &KvPage, slot: usize, n_keys: usize) {
        let (n_rows, n_groups) = (it.partial.sum.len(), it.shape.head_dim.div_ceil(GROUP));
        let [keys, _] = page.strip::<C>(it.kv_head, slot);
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
        for group in 0..row_len / GROUP {
            let mut row = 0;
            while row < n_rows {
                let n = rows_at_once::<S>(n_rows - row);
                let weights = &it.scores[row * BLOCK..];
                let out = &mut it.partial.weighted[row * row_len + group * GROUP..];
                for_rows!(n, gather_group::<S, C>(s, weights, values, group, out, row_len));
                row += n;
            }
        }
    }
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
            let QueryGroup { terms: of_row, starts: [high, low], .. } = &queries[r * n_groups + g];
            (terms[r], sums[r]) = (of_row, [s.splat_i32(*high), s.splat_i32(*low)]);
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

/// Adds weighted values of group `group` to `R` rows, `stride` apart in `out`.
#[inline(always)]
fn gather_group<S: Simd, C: CodeWidth, const R: usize>(
    s: S,
    weights: &[f32],
    values: Strip<'_>,
    group: usize,
    out: &mut [f32],
    stride: usize,
) {
    let (scales, _) = values.scales[group].as_chunks();
    let codes = &values.codes[group * PAIRS * C::PER_PAIR..][..PAIRS * C::PER_PAIR];
    let mut words = [[[0; BLOCK / 4]; 2]; R];
    let mut row_scales = [0.0; R];
    let mut row_starts = [[0; 2]; R];
    for r in 0..R {
        let (weights, _) = weights[r * BLOCK..][..BLOCK].as_chunks();
        let mut products = [s.splat(0.0); BLOCK / LANES];
        for i in 0..BLOCK / LANES {
            products[i] = s.mul(s.load(&weights[i]), s.load_f16(&scales[i]));
        }
        let rounded = Rounded::of(s, products);
        (row_scales[r], row_starts[r]) = (rounded.scale, starts::<S, C, { BLOCK / LANES }>(&rounded.terms));
        words[r] = bytemuck::cast(rounded.terms);
    }
    for half in 0..2 {
        let mut sums = [[s.splat_i32(0); 2]; R];
        for r in 0..R {
            sums[r] = [s.splat_i32(row_starts[r][0]), s.splat_i32(row_starts[r][1])];
        }
        for (i, pair) in codes.chunks_exact(C::PER_PAIR).enumerate() {
            let quad = C::quad(s, pair, half);
            for r in 0..R {
                for term in 0..2 {
                    sums[r][term] = C::dot(s, sums[r][term], quad, words[r][term][i]);
                }
            }
        }
        for r in 0..R {
            let to = &mut out[r * stride + half * LANES..].as_chunks_mut().0[0];
            s.store(s.mul_add(of_terms(s, sums[r]), s.splat(row_scales[r]), s.load(to)), to);
        }
    }
}

/// What sums of products with `terms` start at, so that they are those with codes less their zero point. As integers, for these
/// are exact whatever an instruction set takes off the codes itself.
#[inline(always)]
fn starts<S: Simd, C: CodeWidth, const N: usize>(terms: &[[[u8; LANES]; N]; 2]) -> [i32; 2] {
    let zero = i32::from(C::ZERO) - C::offset::<S>();
    let mut starts = [0; 2];
    for (term, start) in terms.iter().zip(&mut starts) {
        for &code in term.as_flattened() {
            *start -= i32::from(code as i8);
        }
        *start *= zero;
    }
    starts
}

/// `high + low / 254`
#[inline(always)]
fn of_terms<S: Simd>(s: S, [high, low]: [S::I32; 2]) -> S::F32 {
    s.mul_add(s.to_f32(low), s.splat(1.0 / PARTS), s.to_f32(high))
}

/// Values as `scale (high + low / 254)`.
struct Rounded<const N: usize> {
    /// The terms, in -127..=127.
    terms: [[[u8; LANES]; N]; 2],
    scale: f32,
}

impl<const N: usize> Rounded<N> {
    #[inline(always)]
    fn of<S: Simd>(s: S, values: [S::F32; N]) -> Rounded<N> {
        let mut largest = s.splat(0.0);
        for v in values {
            largest = s.max(largest, s.abs(v));
        }
        let largest = s.reduce_max(largest);
        // Below this, 127 / largest is no finite number.
        let (scale, per_unit) = if largest < 1e-36 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        let mut terms = [[[0; LANES]; N]; 2];
        for (i, v) in values.into_iter().enumerate() {
            let v = s.mul(v, s.splat(per_unit));
            let high = s.to_i32(v);
            let low = s.to_i32(s.mul(s.sub(v, s.to_f32(high)), s.splat(PARTS)));
            s.store_low_bytes(high, &mut terms[0][i]);
            s.store_low_bytes(low, &mut terms[1][i]);
        }
        Rounded { terms, scale }
    }
}
