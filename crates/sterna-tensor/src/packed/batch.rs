//! Packed weights times int8 activations of many tokens.
//!
//! What a format costs to unpack is paid once for all tokens: some tiles are written out as bytes, and their scales as floats. The
//! product of those with the tokens knows no format. It takes a block of `TILES` tiles by `T` tokens whose sums and results fill the
//! registers, so that each register of weights, and each activation that is broadcast to one, is used several times:
//!
//! ```text
//! for some tokens, some tiles, and some groups of 32 columns:       these activations stay in the second-level cache
//!     for each TILES of those tiles:
//!         write these groups of them out                            they stay in the first-level cache
//!         for each T of those tokens:
//!             for each of those groups:
//!                 sum[tile][t] = -zero * (sum of the activation codes of token t)
//!                 for each quad:  TILES loads of weights, T broadcasts, TILES * T dot products
//!                 y[tile][t] += sum[tile][t] * (weight scale * activation scale)
//! ```
//!
//! Scales are what is left beside the dot products: where several groups share one, it is applied once for a run of them.
//! Runs end after four groups, so that as much of the weights as stays in the first-level cache ends with a run, too. In ternary
//! formats whose activations have one scale a token, not even the integer sums end before the run does.
//!
//! The numbers and the order of the operations on them are those of [`super::int8`], and so are the bits of the result.

use std::hint::black_box;
use std::marker::PhantomData;
use std::ops::Range;
use std::slice::Iter;

use super::codes::{CodeLayout, QUADS};
use super::int8::Sink;
use super::scales::ScaleBlock;
use super::{PackedMatrix, Tile};
use crate::activation::{GROUP, Group, TOKEN_BLOCK, TokenBlock};
use crate::simd::{CodeRegister, Kernel, LANES, Simd, unroll};
use crate::{Activations, Isa};

/// The most that [`tiles_at_once`] says: chunks of so many tiles waste none.
pub(crate) const MOST_TILES: usize = 3;

/// Weights that are multiplied with some tokens before the next ones: half of a first-level cache.
const CACHED_BYTES: usize = 24 << 10;

/// Tokens that are gone through with those, in blocks. As many pay for writing weights out; their activations that go with
/// [`CACHED_BYTES`] of weights, and their results with [`TILES_OF_A_STRIP`], take half a mebibyte of the second-level cache.
pub(super) const PANEL_BLOCKS: usize = 256 / TOKEN_BLOCK;

/// Tiles that follow one another before the next columns do: each time, activations come from further away.
const TILES_OF_A_STRIP: usize = 12;

/// Tiles that are multiplied at once.
pub(super) fn tiles_at_once(isa: Isa) -> usize {
    struct Find;
    impl Kernel for Find {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::TILES
        }
    }
    isa.run(Find)
}

/// Memory of a thread for [`Batch`].
#[derive(Default)]
pub(super) struct Scratch {
    unpacked: Unpacked,
    /// `[blocks, groups, rows of the block, parts]`: what the integer sums start from.
    starts: Vec<i32>,
    /// `[tiles, rows, tiles at once]`: results so far of a strip.
    y: Vec<Lanes>,
}

/// Some groups of some tiles, written out.
#[derive(Default)]
struct Unpacked {
    /// `[groups, quads, tiles]`, two quads as [`Simd::pair`] leaves them.
    codes: Vec<Line>,
    /// `[runs, parts, tiles]`
    scales: Vec<Lanes>,
    /// `[runs, tiles]`, where the format has minima.
    minima: Vec<Lanes>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line(CodeRegister);

/// Aligned, because a vector that straddles two lines of the cache is loaded twice.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes([f32; LANES]);

/// A matrix of one format times blocks of tokens, some tiles at once.
pub(super) struct Batch<'a, C, B> {
    pub(super) matrix: &'a PackedMatrix,
    pub(super) isa: Isa,
    pub(super) x: &'a Activations,
    pub(super) scratch: &'a mut Scratch,
    pub(super) format: PhantomData<(C, B)>,
}

impl<C: CodeLayout, B: ScaleBlock> Batch<'_, C, B> {
    /// Prepares for the tokens of `blocks`.
    pub(super) fn start(&mut self, blocks: Range<usize>) {
        let offset = i32::from(self.matrix.format.zero) - self.isa.run(Offset::<C>(PhantomData));
        let starts = &mut self.scratch.starts;
        starts.clear();
        for block in blocks.filter_map(|block| self.x.block(block)) {
            // Iterators of known length: checking room for each number would take a tenth of the product of a few tiles.
            match B::PARTS {
                1 => starts.extend(block.groups.iter().map(|x| x.sum().wrapping_mul(-offset))),
                _ => starts.extend(
                    block.groups.iter().flat_map(|x| x.half_sums.map(|sum| sum.wrapping_mul(-offset))),
                ),
            }
        }
    }

    /// Multiplies `tiles`, a multiple of [`tiles_at_once`], with the tokens of `blocks`; `sink` says where results of a tile and a block
    /// go. Returns how many rows of the last block were taken: the others are fewer than are taken at once.
    ///
    /// # Safety
    /// As [`PackedMatrix::tiles_dot_int8`], for what `sink` returns.
    pub(super) unsafe fn multiply(
        &mut self,
        tiles: Range<usize>,
        blocks: Range<usize>,
        sink: impl Fn(usize, usize) -> Sink,
    ) -> usize {
        let at_once = tiles_at_once(self.isa);
        let (n_groups, n_rows) = (self.matrix.cols / GROUP, blocks.len() * TOKEN_BLOCK);
        let in_whole = B::GROUPS * self.matrix.layout.columns.per_run;
        let mut taken = 0;
        for first_tile in tiles.clone().step_by(TILES_OF_A_STRIP) {
            let strip = first_tile..(first_tile + TILES_OF_A_STRIP).min(tiles.end);
            let mut y = std::mem::take(&mut self.scratch.y);
            y.clear();
            y.resize(strip.len() * n_rows, Lanes([0.0; LANES]));
            for groups in cached_groups(n_groups, at_once, in_whole) {
                for (first, y) in strip.clone().step_by(at_once).zip(y.chunks_exact_mut(at_once * n_rows)) {
                    self.unpack(first, groups.clone());
                    taken = self.add_products(blocks.clone(), groups.clone(), y);
                }
            }
            for (first, y) in strip.step_by(at_once).zip(y.chunks_exact(at_once * n_rows)) {
                let sinks = |i: usize, block| sink(first + i, block);
                self.isa.run(Store {
                    y,
                    first_block: blocks.start,
                    n_rows: n_rows - TOKEN_BLOCK + taken,
                    sinks,
                });
            }
            self.scratch.y = y;
        }
        taken
    }

    /// Writes some groups of the tiles from `first` on out, as many as are taken at once.
    fn unpack(&mut self, first: usize, groups: Range<usize>) {
        let unpacked = &mut self.scratch.unpacked;
        self.isa.run(Unpack::<C, B> { matrix: self.matrix, first, groups, unpacked, format: PhantomData });
    }

    /// Adds the products of what was written out with those groups of the tokens of `blocks` to `y`.
    fn add_products(&mut self, blocks: Range<usize>, groups: Range<usize>, y: &mut [Lanes]) -> usize {
        let Scratch { unpacked, starts, .. } = &*self.scratch;
        let groups_per_run = self.matrix.layout.columns.per_run;
        let it = Multiply { unpacked, starts, y, x: self.x, blocks, groups, groups_per_run };
        let wide = C::BITS > 6;
        match (B::PARTS, B::HAS_MIN, wide, groups_per_run > 1) {
            (1, false, false, true) if Tile::<C, B>::INTEGER_RUNS && self.x.has_one_scale() => {
                self.isa.run(Product::<1, false, false, true, true>(it))
            }
            (1, false, false, false) => self.isa.run(Product::<1, false, false, false, false>(it)),
            (1, false, false, true) => self.isa.run(Product::<1, false, false, true, false>(it)),
            (1, false, true, false) => self.isa.run(Product::<1, false, true, false, false>(it)),
            (1, false, true, true) => self.isa.run(Product::<1, false, true, true, false>(it)),
            (1, true, false, false) => self.isa.run(Product::<1, true, false, false, false>(it)),
            (1, true, false, true) => self.isa.run(Product::<1, true, false, true, false>(it)),
            (1, true, true, false) => self.isa.run(Product::<1, true, true, false, false>(it)),
            (1, true, true, true) => self.isa.run(Product::<1, true, true, true, false>(it)),
            (_, false, false, false) => self.isa.run(Product::<2, false, false, false, false>(it)),
            (_, false, true, false) => self.isa.run(Product::<2, false, true, false, false>(it)),
            _ => unreachable!("no format has minima or runs and two scales a group"),
        }
    }
}

/// Groups whose weights are written out at a time: about as many each time, whole blocks and runs of the format.
fn cached_groups(
    n_groups: usize,
    tiles_at_once: usize,
    in_whole: usize,
) -> impl Iterator<Item = Range<usize>> {
    let most = (CACHED_BYTES / (QUADS * tiles_at_once * size_of::<Line>())).max(1);
    let step = n_groups.div_ceil(n_groups.div_ceil(most).max(1)).max(1).next_multiple_of(in_whole);
    (0..n_groups).step_by(step).map(move |first| first..(first + step).min(n_groups))
}

/// What the dot product takes off every code.
struct Offset<C>(PhantomData<C>);

impl<C: CodeLayout> Kernel for Offset<C> {
    type Output = i32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> i32 {
        C::offset::<S>()
    }
}

struct Unpack<'a, C, B> {
    matrix: &'a PackedMatrix,
    first: usize,
    groups: Range<usize>,
    unpacked: &'a mut Unpacked,
    format: PhantomData<(C, B)>,
}

impl<C: CodeLayout, B: ScaleBlock> Kernel for Unpack<'_, C, B> {
    type Output = ();
    // Not that it takes any: instruction sets that differ in them may differ in how many tiles they take at once.
    const DOTS: bool = true;
    const TABLES: bool = C::TRITS;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Unpacked { codes, scales, minima } = self.unpacked;
        let n_groups = self.groups.len();
        let per_run = self.matrix.layout.columns.per_run;
        let n_runs = n_groups.div_ceil(per_run);
        codes.resize(n_groups * QUADS * S::TILES, Line([0; 64]));
        scales.resize(n_runs * B::PARTS * S::TILES, Lanes([0.0; LANES]));
        minima.resize(if B::HAS_MIN { n_runs * S::TILES } else { 0 }, Lanes([0.0; LANES]));
        // As slices: bytes that are stored might otherwise be those of the vectors themselves.
        let (codes, scales, minima) = (&mut codes[..], &mut scales[..], &mut minima[..]);
        let runs_before = self.groups.start / (B::GROUPS * per_run);
        for i in 0..S::TILES {
            let tile: Tile<'_, C, B> = self.matrix.tile(self.first + i);
            let (mut group, mut run) = (0, 0);
            let mut groups = tile.groups(s);
            // No `skip`, which would call `next` in code without the instruction set.
            for _ in 0..self.groups.start {
                groups.next();
            }
            for (n_blocks, of_run) in tile.runs().skip(runs_before).take(n_runs.div_ceil(B::GROUPS)) {
                let head = of_run.head(s);
                for g in 0..B::GROUPS {
                    for _ in 0..n_blocks {
                        let Some(registers) = groups.next() else { return };
                        for j in (0..QUADS).step_by(2) {
                            let pair = s.pair([C::quad(s, registers, j), C::quad(s, registers, j + 1)]);
                            let at = (group * QUADS + j) * S::TILES + i;
                            s.store_bytes(pair[0], &mut codes[at].0);
                            s.store_bytes(pair[1], &mut codes[at + S::TILES].0);
                        }
                        group += 1;
                    }
                    for part in 0..B::PARTS {
                        let scale = of_run.scale(s, head, g, part);
                        s.store(scale, &mut scales[(run * B::PARTS + part) * S::TILES + i].0);
                    }
                    if const { B::HAS_MIN } {
                        s.store(of_run.min(s, head, g), &mut minima[run * S::TILES + i].0);
                    }
                    run += 1;
                }
            }
        }
    }
}

/// Some groups of some tiles times blocks of tokens.
struct Multiply<'a> {
    unpacked: &'a Unpacked,
    starts: &'a [i32],
    /// `[blocks, TOKEN_BLOCK, tiles]`
    y: &'a mut [Lanes],
    x: &'a Activations,
    blocks: Range<usize>,
    groups: Range<usize>,
    groups_per_run: usize,
}

/// Which returns as [`Batch::multiply`]. `WIDE` codes have more than six bits; without `RUNS`, each group has its own scale; with
/// `INTEGERS`, sums are integers over a run.
struct Product<
    'a,
    const PARTS: usize,
    const HAS_MIN: bool,
    const WIDE: bool,
    const RUNS: bool,
    const INTEGERS: bool,
>(Multiply<'a>);

/// [`unroll`] over tiles.
macro_rules! for_tiles {
    ($i:ident < $n:expr => $body:block) => { unroll!($i < $n, of 0 1 2 => $body) };
}

/// [`unroll`] over tokens.
macro_rules! for_tokens {
    ($t:ident < $n:expr => $body:block) => { unroll!($t < $n, of 0 1 2 3 => $body) };
}

/// [`unroll`] over pairs of tokens.
macro_rules! for_pairs {
    ($a:ident $b:ident < $n:expr => $body:block) => {
        unroll!(pair < $n / 2, of 0 1 => {
            let ($a, $b) = (2 * pair, 2 * pair + 1);
            $body
        })
    };
}

impl<const PARTS: usize, const HAS_MIN: bool, const WIDE: bool, const RUNS: bool, const INTEGERS: bool> Kernel
    for Product<'_, PARTS, HAS_MIN, WIDE, RUNS, INTEGERS>
{
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        if const { S::TILES == MOST_TILES } {
            self.blocks::<S, MOST_TILES, 4>(s)
        } else if const { S::TOKENS >= 4 } {
            self.blocks::<S, 1, 4>(s)
        } else {
            self.blocks::<S, 1, 1>(s)
        }
    }
}

impl<const PARTS: usize, const HAS_MIN: bool, const WIDE: bool, const RUNS: bool, const INTEGERS: bool>
    Product<'_, PARTS, HAS_MIN, WIDE, RUNS, INTEGERS>
{
    #[inline(always)]
    fn blocks<S: Simd, const TILES: usize, const T: usize>(self, s: S) -> usize {
        let Multiply { unpacked, starts, y, x, blocks, groups, groups_per_run } = self.0;
        let groups_per_run = if RUNS { groups_per_run } else { 1 };
        let n_groups = x.cols() / GROUP;
        let weights = Weights::<TILES>::of(unpacked);
        let mut taken = 0;
        for (i, (block, y)) in blocks.zip(y.chunks_exact_mut(TOKEN_BLOCK * TILES)).enumerate() {
            let Some(TokenBlock { groups: x, n_rows, .. }) = x.block(block) else { return 0 };
            let x = &x[groups.start * n_rows..groups.end * n_rows];
            let starts = &starts[i * TOKEN_BLOCK * n_groups * PARTS..][..n_groups * n_rows * PARTS];
            let starts = &starts[groups.start * n_rows * PARTS..groups.end * n_rows * PARTS];
            taken = 0;
            let x = Rows { groups: x, starts, n_rows, groups_per_run };
            for y in y.as_chunks_mut::<TILES>().0[..n_rows].chunks_exact_mut(T) {
                if INTEGERS {
                    integer_tokens::<S, TILES, T>(s, weights, x, taken, y);
                } else {
                    tokens::<S, PARTS, HAS_MIN, WIDE, RUNS, TILES, T>(s, weights, x, taken, y);
                }
                taken += T;
            }
        }
        taken
    }
}

/// Puts results where they belong.
struct Store<'a, F> {
    /// As [`Multiply::y`].
    y: &'a [Lanes],
    first_block: usize,
    /// Rows that were taken, of all blocks.
    n_rows: usize,
    sinks: F,
}

impl<F: Fn(usize, usize) -> Sink> Kernel for Store<'_, F> {
    type Output = ();
    const DOTS: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Store { y, first_block, n_rows, sinks } = self;
        for (i, y) in y[..n_rows * S::TILES].chunks(TOKEN_BLOCK * S::TILES).enumerate() {
            for (row, y) in y.chunks_exact(S::TILES).enumerate() {
                for (tile, y) in y.iter().enumerate() {
                    // SAFETY: `row` is one of the block, and the rows are those of the sink's tile; the caller of
                    // `Batch::multiply` vouches for them.
                    unsafe { sinks(tile, first_block + i).store(s, row, s.load(&y.0)) };
                }
            }
        }
    }
}

/// What was written out.
#[derive(Clone, Copy)]
struct Weights<'a, const TILES: usize> {
    /// `[groups, quads]`
    codes: &'a [[Line; TILES]],
    /// `[runs, parts]`
    scales: &'a [[Lanes; TILES]],
    /// `[runs]`, or none.
    minima: &'a [[Lanes; TILES]],
}

/// The activations of a block that go with what was written out.
#[derive(Clone, Copy)]
struct Rows<'a> {
    /// `[groups, n_rows]`
    groups: &'a [Group],
    /// `[groups, n_rows, parts]`
    starts: &'a [i32],
    n_rows: usize,
    groups_per_run: usize,
}

impl<'a, const TILES: usize> Weights<'a, TILES> {
    #[inline(always)]
    fn of(unpacked: &'a Unpacked) -> Self {
        Weights {
            codes: unpacked.codes.as_chunks().0,
            scales: unpacked.scales.as_chunks().0,
            minima: unpacked.minima.as_chunks().0,
        }
    }
}

/// Adds the products of some groups of weights with `T` tokens, from row `first` of a block on, to `y` `[T, TILES]`.
#[inline(always)]
fn tokens<
    S: Simd,
    const PARTS: usize,
    const HAS_MIN: bool,
    const WIDE: bool,
    const RUNS: bool,
    const TILES: usize,
    const T: usize,
>(
    s: S,
    weights: Weights<'_, TILES>,
    x: Rows<'_>,
    first: usize,
    y: &mut [[Lanes; TILES]],
) {
    let mut results = [[s.splat(0.0); T]; TILES];
    for_tokens!(t < T => {
        for_tiles!(i < TILES => { results[i][t] = s.load(&y[t][i].0) });
    });
    // A number that the compiler does not know: it would unroll the loop, and then compute one sum after the other, each of which
    // waits for its last step.
    let quads = black_box(QUADS / PARTS);
    let mut codes = weights.codes.iter();
    let mut scales = weights.scales.iter();
    let mut minima = weights.minima.iter();
    let Rows { groups, starts, n_rows, groups_per_run } = x;
    let mut x = groups.chunks_exact(n_rows).zip(starts.chunks_exact(n_rows * PARTS));
    let mut left = groups.len() / n_rows;
    while left > 0 {
        let (mut run, mut sums_of_x) = ([[s.splat(0.0); T]; TILES], [0.0; T]);
        let n_groups = if RUNS { groups_per_run.min(left) } else { 1 };
        left -= n_groups;
        for _ in 0..n_groups {
            let Some((x, starts)) = x.next() else { return };
            let Some(x) = x[first..].first_chunk::<T>() else { return };
            let starts = &starts[first * PARTS..][..T * PARTS];
            for part in 0..PARTS {
                let mut first = [0; T];
                // Formats with minima have no zero point, but the instructions may take something off every code.
                if !HAS_MIN || WIDE {
                    for_tokens!(t < T => { first[t] = starts[t * PARTS + part] });
                }
                let mut sums = start::<S, TILES, T>(s, first);
                add_quads::<S, TILES, T, WIDE>(s, &mut sums, &mut codes, x, part * quads..(part + 1) * quads);
                let sums = finish(s, sums);
                if RUNS {
                    add_to_run(s, &mut run, &sums, x);
                } else {
                    let Some(scales) = scales.next() else { return };
                    add_scaled(s, &mut results, &sums, scales, x);
                }
            }
            for_tokens!(t < T => { sums_of_x[t] += x[t].scaled_sum });
        }
        if RUNS {
            let Some(scales) = scales.next() else { return };
            add_run(s, &mut results, &run, scales);
        }
        if const { HAS_MIN } {
            let Some(minima) = minima.next() else { return };
            add_minima(s, &mut results, minima, sums_of_x);
        }
    }
    for_tokens!(t < T => {
        for_tiles!(i < TILES => { s.store(results[i][t], &mut y[t][i].0) });
    });
}

/// As [`tokens`], where the activations of a row have one scale and sums are integers over a run.
#[inline(always)]
fn integer_tokens<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    weights: Weights<'_, TILES>,
    x: Rows<'_>,
    first: usize,
    y: &mut [[Lanes; TILES]],
) {
    let mut results = [[s.splat(0.0); T]; TILES];
    for_tokens!(t < T => {
        for_tiles!(i < TILES => { results[i][t] = s.load(&y[t][i].0) });
    });
    // As in `tokens`.
    let quads = black_box(QUADS);
    let mut codes = weights.codes.iter();
    let Rows { groups, starts, n_rows, groups_per_run } = x;
    let runs = groups.chunks(n_rows * groups_per_run).zip(starts.chunks(n_rows * groups_per_run));
    for ((groups, starts), scales) in runs.zip(weights.scales) {
        let mut start_of_run = [0i32; T];
        for starts in starts.chunks_exact(n_rows) {
            for_tokens!(t < T => { start_of_run[t] = start_of_run[t].wrapping_add(starts[first + t]) });
        }
        let mut sums = start::<S, TILES, T>(s, start_of_run);
        for x in groups.chunks_exact(n_rows) {
            let Some(x) = x[first..].first_chunk::<T>() else { return };
            add_quads::<S, TILES, T, false>(s, &mut sums, &mut codes, x, 0..quads);
        }
        let sums = finish(s, sums);
        for_tokens!(t < T => {
            let scale_of_x = s.splat(groups[first + t].scale);
            for_tiles!(i < TILES => {
                let sum = s.mul(s.to_f32(sums[i][t]), scale_of_x);
                results[i][t] = s.mul_add(sum, s.load(&scales[i].0), results[i][t]);
            });
        });
    }
    for_tokens!(t < T => {
        for_tiles!(i < TILES => { s.store(results[i][t], &mut y[t][i].0) });
    });
}

/// Integer sums that begin with `first` of each token, as [`add_quads`] adds to them.
#[inline(always)]
fn start<S: Simd, const TILES: usize, const T: usize>(s: S, first: [i32; T]) -> [[S::I32; T]; TILES] {
    let mut sums = [[s.splat_i32(0); T]; TILES];
    if const { S::PAIRS } {
        for_pairs!(a b < T => {
            let first = s.splat_pair([first[a], first[b]]);
            for_tiles!(i < TILES => { [sums[i][a], sums[i][b]] = first });
        });
    } else {
        for_tokens!(t < T => {
            let first = s.splat_i32(first[t]);
            for_tiles!(i < TILES => { sums[i][t] = first });
        });
    }
    sums
}

/// Adds the products with `quads` of every tile: two quads and two tokens at a time, where that is faster.
#[inline(always)]
fn add_quads<S: Simd, const TILES: usize, const T: usize, const WIDE: bool>(
    s: S,
    sums: &mut [[S::I32; T]; TILES],
    codes: &mut Iter<'_, [Line; TILES]>,
    x: &[Group; T],
    quads: Range<usize>,
) {
    if const { S::PAIRS } {
        for j in quads.step_by(2) {
            let (Some(even), Some(odd)) = (codes.next(), codes.next()) else { return };
            add_pair(s, sums, [even, odd], x, j);
        }
    } else {
        for j in quads {
            let Some(codes) = codes.next() else { return };
            add_products::<S, TILES, T, WIDE>(s, sums, codes, x, j);
        }
    }
}

/// The sums of each tile and token.
#[inline(always)]
fn finish<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    mut sums: [[S::I32; T]; TILES],
) -> [[S::I32; T]; TILES] {
    if const { S::PAIRS } {
        for_pairs!(a b < T => {
            for_tiles!(i < TILES => { [sums[i][a], sums[i][b]] = s.unpair([sums[i][a], sums[i][b]]) });
        });
    }
    sums
}

/// Adds the products with quads `j` and `j + 1` of every tile.
#[inline(always)]
fn add_pair<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    sums: &mut [[S::I32; T]; TILES],
    [even, odd]: [&[Line; TILES]; 2],
    x: &[Group; T],
    j: usize,
) {
    for_pairs!(a b < T => {
        let (Some(x_a), Some(x_b)) = (x[a].codes[j..].first_chunk(), x[b].codes[j..].first_chunk()) else { return };
        for_tiles!(i < TILES => {
            let codes = [s.load_bytes(&even[i].0), s.load_bytes(&odd[i].0)];
            [sums[i][a], sums[i][b]] = s.dot_pair([sums[i][a], sums[i][b]], codes, [x_a, x_b]);
        });
    });
}

/// Adds the products with quad `j` of every tile.
#[inline(always)]
fn add_products<S: Simd, const TILES: usize, const T: usize, const WIDE: bool>(
    s: S,
    sums: &mut [[S::I32; T]; TILES],
    codes: &[Line; TILES],
    x: &[Group; T],
    j: usize,
) {
    let weights = codes.each_ref().map(|line| s.load_bytes(&line.0));
    for_tokens!(t < T => {
        let x = x[t].codes[j];
        for_tiles!(i < TILES => {
            sums[i][t] = if WIDE { s.dot_u8(sums[i][t], weights[i], x) } else { s.dot_u6(sums[i][t], weights[i], x) };
        });
    });
}

/// `y += sums * (scale of the weights * scale of the activations)`
#[inline(always)]
fn add_scaled<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    y: &mut [[S::F32; T]; TILES],
    sums: &[[S::I32; T]; TILES],
    scales: &[Lanes; TILES],
    x: &[Group; T],
) {
    for_tiles!(i < TILES => {
        let scale = s.load(&scales[i].0);
        for_tokens!(t < T => {
            let scale = s.mul(scale, s.splat(x[t].scale));
            y[i][t] = s.mul_add(s.to_f32(sums[i][t]), scale, y[i][t]);
        });
    });
}

/// `run += sums * scale of the activations`
#[inline(always)]
fn add_to_run<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    run: &mut [[S::F32; T]; TILES],
    sums: &[[S::I32; T]; TILES],
    x: &[Group; T],
) {
    for_tokens!(t < T => {
        let scale = s.splat(x[t].scale);
        for_tiles!(i < TILES => { run[i][t] = s.mul_add(s.to_f32(sums[i][t]), scale, run[i][t]) });
    });
}

/// `y += run * scale of the weights`
#[inline(always)]
fn add_run<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    y: &mut [[S::F32; T]; TILES],
    run: &[[S::F32; T]; TILES],
    scales: &[Lanes; TILES],
) {
    for_tiles!(i < TILES => {
        let scale = s.load(&scales[i].0);
        for_tokens!(t < T => { y[i][t] = s.mul_add(run[i][t], scale, y[i][t]) });
    });
}

/// `y += minimum of the weights * (scale * sum of the activations)`
#[inline(always)]
fn add_minima<S: Simd, const TILES: usize, const T: usize>(
    s: S,
    y: &mut [[S::F32; T]; TILES],
    minima: &[Lanes; TILES],
    sums_of_x: [f32; T],
) {
    for_tiles!(i < TILES => {
        let minimum = s.load(&minima[i].0);
        for_tokens!(t < T => { y[i][t] = s.mul_add(minimum, s.splat(sums_of_x[t]), y[i][t]) });
    });
}
