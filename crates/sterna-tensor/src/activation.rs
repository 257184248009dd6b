//! The input of linear layers: kept as `f32`, and rounded to int8 once for all matrices that read it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::{Pod, Zeroable};

use crate::simd::{Kernel, LANES, Simd};
use crate::{Compute, Disjoint, Precision};

/// Columns that share one int8 scale.
pub(crate) const GROUP: usize = 32;

/// Int8 rows whose groups lie side by side, so that a kernel that takes several tokens reads one stream. Even, so that
/// the two terms of a token stay together.
pub(crate) const TOKEN_BLOCK: usize = 16;

/// The next [`Activations::generation`]; 0 is that of no contents.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// Thirty-two activations of one token: `x ≈ scale * code`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Group {
    /// The codes, four to a word in memory order, as the dot product takes them.
    pub(crate) codes: [i32; 8],
    pub(crate) scale: f32,
    /// `scale * sum`: what a minimum of the weights is multiplied by.
    pub(crate) scaled_sum: f32,
    /// Sums of the first and of the last sixteen codes: what a zero point of the weights is multiplied by.
    pub(crate) half_sums: [i32; 2],
}

impl Group {
    /// Sum of the codes.
    #[inline(always)]
    pub(crate) fn sum(&self) -> i32 {
        self.half_sums[0] + self.half_sums[1]
    }
}

/// Sixteen values in one cache line: a vector that straddled two would be loaded twice.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Inputs `[n_tokens, cols]` of linear layers. Reuse one to keep its memory.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    /// `[n_tokens, cols]`, and what the last line has left.
    lines: Vec<Line>,
    groups: Vec<Group>,
    n_tokens: usize,
    cols: usize,
    /// Int8 rows for each token: 1, or 2 of which the second rounds what the first left over.
    terms: usize,
    /// Whether all groups of a row have the same scale.
    one_scale: bool,
    /// Of all activations of the process, only copies have the same.
    generation: u64,
}

/// How a group of activations is rounded.
#[derive(Clone, Copy)]
enum Rounding {
    /// Each group to its own largest magnitude.
    PerGroup,
    /// By a factor given for each token.
    By { codes_per_unit: f32 },
}

impl Activations {
    /// Empty: no tokens.
    pub fn new() -> Activations {
        Activations::default()
    }

    /// Takes `x` `[n_tokens, cols]`. When `c.precision` is [`Precision::Int8`] and `cols` is a multiple of 32,
    /// also rounds it to int8 in groups of 32: scale = largest magnitude / 127, ties to even.
    ///
    /// # Panics
    /// When `x` is not whole rows of `cols`.
    pub fn set(&mut self, x: &[f32], cols: usize, c: &Compute) {
        self.take(x, cols, c, 1, |_| Rounding::PerGroup);
    }

    /// As [`Activations::set`], but rounded to the sum of two int8 terms, which is nearly exact: the second rounds
    /// what the first left over. Doubles the arithmetic and reads the weights as often.
    ///
    /// # Panics
    /// When `x` is not whole rows of `cols`.
    pub fn set_refined(&mut self, x: &[f32], cols: usize, c: &Compute) {
        self.take(x, cols, c, 2, |_| Rounding::PerGroup);
    }

    /// As [`Activations::set`] with one scale per token, as BitNet b1.58 models are trained: codes are
    /// `round(x s)` in -128..=127 with `s = 127 / max(|x|, 1e-5)`, ties to even. With [`Precision::Float`] the
    /// kept values are the rounded ones, for such a model is defined with them.
    ///
    /// # Panics
    /// When `x` is not whole rows of `cols`.
    pub fn set_per_token(&mut self, x: &[f32], cols: usize, c: &Compute) {
        self.take(x, cols, c, 1, |row| Rounding::By { codes_per_unit: codes_per_unit(row) });
        self.one_scale = true;
        if c.precision == Precision::Float {
            for row in bytemuck::cast_slice_mut(&mut self.lines)[..x.len()].chunks_exact_mut(cols) {
                let s = codes_per_unit(row);
                row.iter_mut()
                    .for_each(|x: &mut f32| *x = (*x * s).round_ties_even().clamp(-128.0, 127.0) / s);
            }
        }
    }

    /// Rows of the input.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Columns of the input.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The values as given, `[n_tokens, cols]`.
    pub fn values(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.n_tokens * self.cols]
    }

    /// Int8 rows for each token; the product with a token is the sum of those with its rows.
    pub(crate) fn terms(&self) -> usize {
        self.terms
    }

    /// Int8 rows of all tokens.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_tokens * self.terms
    }

    /// Whether all groups of a row have the same scale.
    pub(crate) fn has_one_scale(&self) -> bool {
        self.one_scale
    }

    /// Changes whenever the contents do; no two different contents have the same.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// All blocks of int8 rows, and their numbers.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, TokenBlock<'_>)> {
        (0..self.n_rows().div_ceil(TOKEN_BLOCK)).filter_map(|block| Some((block, self.block(block)?)))
    }

    /// The groups of the int8 rows from `block * TOKEN_BLOCK` on: `[cols / 32, rows in this block]`.
    /// `None` when they were not made.
    pub(crate) fn block(&self, block: usize) -> Option<TokenBlock<'_>> {
        let n_groups = self.cols / GROUP;
        let first = block * TOKEN_BLOCK;
        let n_rows = (self.n_rows() - first).min(TOKEN_BLOCK);
        let groups = self.groups.get(first * n_groups..(first + n_rows) * n_groups)?;
        Some(TokenBlock { groups, n_rows, one_scale: self.one_scale })
    }

    /// Keeps `x`, and rounds it to `terms` int8 rows for each token where that is wanted and possible.
    fn take(
        &mut self,
        x: &[f32],
        cols: usize,
        c: &Compute,
        terms: usize,
        rounding: impl Fn(&[f32]) -> Rounding + Sync,
    ) {
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} activations in rows of {cols}", x.len());
        let rounds = c.precision == Precision::Int8 && cols.is_multiple_of(GROUP);
        (self.n_tokens, self.cols, self.terms, self.one_scale) = (x.len() / cols, cols, terms, false);
        let (n_rows, n_groups) = (self.n_rows(), if rounds { cols / GROUP } else { 0 });
        self.generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        self.lines.resize(x.len().div_ceil(LANES), Line::default());
        // What is there already is written over.
        self.groups.resize(n_rows * n_groups, Group::default());
        let kept = Disjoint::new(&mut bytemuck::cast_slice_mut(&mut self.lines)[..x.len()]);
        let groups = Disjoint::new(&mut self.groups);
        c.pool.run(n_rows.div_ceil(TOKEN_BLOCK), |block, _| {
            let first = block * TOKEN_BLOCK;
            let n_rows = (n_rows - first).min(TOKEN_BLOCK);
            for at in (0..n_rows).step_by(terms) {
                let token = (first + at) / terms * cols..((first + at) / terms + 1) * cols;
                let row = &x[token.clone()];
                // SAFETY: each token is in one block, which is run once.
                unsafe { kept.slice(token) }.copy_from_slice(row);
                if rounds {
                    let rounding = rounding(row);
                    let place = |g: usize| first * n_groups + g * n_rows + at;
                    c.isa.run(QuantizeRow { row, rounding, terms, groups: &groups, place });
                }
            }
        });
    }
}

/// The groups of up to [`TOKEN_BLOCK`] int8 rows.
#[derive(Clone, Copy)]
pub(crate) struct TokenBlock<'a> {
    /// `[n_groups, n_rows]`
    pub(crate) groups: &'a [Group],
    pub(crate) n_rows: usize,
    /// Whether all groups of a row have the same scale.
    pub(crate) one_scale: bool,
}

/// BitNet's quantization factor of one token.
fn codes_per_unit(row: &[f32]) -> f32 {
    127.0 / row.iter().fold(1e-5, |max: f32, x| max.max(x.abs()))
}

/// Rounds one token's activations, group by group, to the places that `place` names: its terms lie side by side.
struct QuantizeRow<'a, P> {
    row: &'a [f32],
    rounding: Rounding,
    terms: usize,
    groups: &'a Disjoint<'a, Group>,
    place: P,
}

impl<P: Fn(usize) -> usize> Kernel for QuantizeRow<'_, P> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (groups, _) = self.row.as_chunks::<GROUP>();
        for (g, values) in groups.iter().enumerate() {
            let at = (self.place)(g);
            // SAFETY: every (token, group) has its own places, and each token is rounded by one thread.
            let out = unsafe { self.groups.slice(at..at + self.terms) };
            out[0] = quantize_group(s, values, self.rounding);
            for term in 1..self.terms {
                let rest = rest_of(values, &out[term - 1]);
                out[term] = quantize_group(s, &rest, Rounding::PerGroup);
            }
        }
    }
}

#[inline(always)]
fn quantize_group<S: Simd>(s: S, values: &[f32; GROUP], rounding: Rounding) -> Group {
    let (halves, _) = values.as_chunks::<LANES>();
    let [a, b] = [s.load(&halves[0]), s.load(&halves[1])];
    let (scale, per_unit) = match rounding {
        Rounding::PerGroup => {
            let largest = s.reduce_max(s.max(s.abs(a), s.abs(b)));
            // Below this, 127 / largest is no finite number.
            if largest < 1e-36 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) }
        }
        Rounding::By { codes_per_unit } => (1.0 / codes_per_unit, codes_per_unit),
    };
    let mut codes = [[0; LANES]; 2];
    let [low, high] = &mut codes;
    let (a, b) = (quantize_half(s, a, per_unit, low), quantize_half(s, b, per_unit, high));
    let [a, b, ..] = s.reduce_sums([a, b, s.splat(0.0), s.splat(0.0)]);
    // Codes of NaN can be anything, but their sums shall not overflow.
    let half_sums = [a.clamp(-2048.0, 2048.0) as i32, b.clamp(-2048.0, 2048.0) as i32];
    let sum = half_sums[0] + half_sums[1];
    Group { codes: bytemuck::cast(codes), scale, scaled_sum: scale * sum as f32, half_sums }
}

/// What rounding `values` to `group` left over.
#[inline(always)]
fn rest_of(values: &[f32; GROUP], group: &Group) -> [f32; GROUP] {
    let codes: [i8; GROUP] = bytemuck::cast(group.codes);
    std::array::from_fn(|i| values[i] - group.scale * f32::from(codes[i]))
}

/// Returns the codes as numbers.
#[inline(always)]
fn quantize_half<S: Simd>(s: S, values: S::F32, per_unit: f32, codes: &mut [u8; LANES]) -> S::F32 {
    let scaled = s.mul(values, s.splat(per_unit));
    let clamped = s.max(s.splat(-128.0), s.min(s.splat(127.0), scaled));
    let rounded = s.to_i32(clamped);
    s.store_low_bytes(rounded, codes);
    s.to_f32(rounded)
}
