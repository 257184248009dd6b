//! Packed weights times int8 activations: of few tokens here, whose weights are unpacked in registers, and of many with [`super::batch`].
//!
//! For sixteen rows at a time and `T` tokens:
//!
//! ```text
//! for each group of 32 columns (or half of it, where each half has its own scale):
//!     sum[t] = -zero * (sum of the activation codes of token t)       exact, i32, sixteen rows
//!     for each quad of columns:
//!         sum[t] += weight codes . activation codes of token t        one dot product instruction
//!     y[t] += sum[t] * (weight scale * activation scale of token t)   f32, fused
//!     y[t] += weight minimum * (activation scale * sum)               where the format has minima
//! ```
//!
//! Where several groups share a scale, it is applied once for a run of two to four of them:
//!
//! ```text
//!     z[t] += sum[t] * activation scale of token t                    for each group
//!     y[t] += z[t] * weight scale                                     for each run
//! ```
//!
//! Where the activations of a token all have one scale, as BitNet's do, sums stay integers over a run of a ternary format:
//!
//! ```text
//!     y[t] += sum[t] * activation scale of token t * weight scale      for each run
//! ```
//!
//! The zero point costs nothing but the start value of the sum, the codes are unpacked once for `T` tokens, and there
//! are no horizontal additions.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::ahead::Ahead;
use super::batch::{self, Batch, Scratch};
use super::codes::{CodeLayout, QUADS};
use super::scales::ScaleBlock;
use super::{PackedMatrix, Tile, Visitor};
use crate::activation::{Activations, Group, TOKEN_BLOCK, TokenBlock};
use crate::simd::{Kernel, LANES, Simd, unroll};
use crate::tuning::Kernels;
use crate::{Fetch, KernelFamily, OutputTile};

/// [`unroll`] over tokens.
macro_rules! for_tokens {
    ($t:ident < $n:expr => $body:block) => {
        unroll!($t < $n, of 0 1 2 3 => $body)
    };
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl PackedMatrix {
    /// Writes `y[t, r]` for the rows of `tiles` and every token of `x`, from its int8 groups.
    ///
    /// # Safety
    /// For every token `t` of `x` and row `r` of `tiles`, `out.start + t * out.stride + r` must be valid for writes,
    /// and nobody else may touch it during the call.
    ///
    /// # Panics
    /// When `x` has no int8 groups or other columns, or there are no such tiles.
    pub(crate) unsafe fn tiles_dot_int8(
        &self,
        kernels: Kernels,
        tiles: Range<usize>,
        x: &Activations,
        out: OutputTile,
    ) {
        assert_eq!(self.cols, x.cols(), "columns of the weights and of the activations");
        self.format.visit(Dot { matrix: self, kernels, tiles, x, out });
    }
}

/// Finds the types of the format; then [`DotTile`] finds those of the instruction set.
pub(super) struct Dot<'a> {
    pub(super) matrix: &'a PackedMatrix,
    pub(super) kernels: Kernels,
    pub(super) tiles: Range<usize>,
    pub(super) x: &'a Activations,
    out: OutputTile,
}

impl Visitor for Dot<'_> {
    type Output = ();

    fn visit<C: CodeLayout, B: ScaleBlock>(self) {
        let Dot { matrix, kernels, x, .. } = self;
        if const { B::PARTS == 1 && C::LOOKUP > 0 }
            && kernels.family(matrix.format, x.n_rows()) == KernelFamily::Lookup
        {
            return self.look_up::<C, B>();
        }
        let n_blocks = x.n_rows().div_ceil(TOKEN_BLOCK);
        for first in (0..n_blocks).step_by(batch::PANEL_BLOCKS) {
            let blocks = first..(first + batch::PANEL_BLOCKS).min(n_blocks);
            let rest = self.many_tokens::<C, B>(blocks.clone());
            for tile in rest {
                for block in blocks.clone() {
                    self.few_tokens::<C, B>(tile, block, 0);
                }
            }
        }
    }
}

impl Dot<'_> {
    /// As many tiles as can be multiplied several at once with the tokens of `blocks`. Returns those that are left.
    fn many_tokens<C: CodeLayout, B: ScaleBlock>(&self, blocks: Range<usize>) -> Range<usize> {
        let Dot { matrix, kernels: Kernels { many: isa, many_from, .. }, x, .. } = *self;
        let at_once = batch::tiles_at_once(isa);
        let mut tiles = self.tiles.clone();
        if x.n_rows() < many_from || tiles.len() < at_once {
            return tiles;
        }
        let rest = tiles.end - tiles.len() % at_once..tiles.end;
        tiles.end = rest.start;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut batch = Batch::<C, B> { matrix, isa, x, scratch, format: PhantomData };
            batch.start(blocks.clone());
            // SAFETY: the caller of `tiles_dot_int8` vouches for the rows of `self.tiles` and every token.
            let taken = unsafe {
                batch.multiply(tiles.clone(), blocks.clone(), |tile, block| self.sink(tile, block))
            };
            tiles.for_each(|tile| self.few_tokens::<C, B>(tile, blocks.end - 1, taken));
        });
        rest
    }

    /// The tokens of `block` from the `done`-th on.
    fn few_tokens<C: CodeLayout, B: ScaleBlock>(&self, tile: usize, block: usize, done: usize) {
        let Some(tokens) = self.x.block(block) else { panic!("activations without int8 groups") };
        if done == tokens.n_rows {
            return;
        }
        let zero = i32::from(self.matrix.format.zero);
        let sink = self.sink(tile, block);
        let Kernels { few, fetch, .. } = self.kernels;
        few.run(DotTile::<C, B> { tile: self.matrix.tile(tile), zero, fetch, tokens, done, sink });
    }

    pub(super) fn sink(&self, tile: usize, block: usize) -> Sink {
        Sink {
            out: self.out,
            terms: self.x.terms(),
            first_token: block * TOKEN_BLOCK / self.x.terms(),
            first_row: tile * LANES,
            n_rows: (self.matrix.rows - tile * LANES).min(LANES),
        }
    }
}

/// Where the results of a tile and a block of tokens go.
#[derive(Clone, Copy)]
pub(super) struct Sink {
    pub(super) out: OutputTile,
    /// Consecutive results that are added up to that of one token.
    pub(super) terms: usize,
    pub(super) first_token: usize,
    pub(super) first_row: usize,
    pub(super) n_rows: usize,
}

impl Sink {
    /// Writes result `at` of the block; the terms of a token come in order.
    ///
    /// # Safety
    /// The caller of [`PackedMatrix::tiles_dot_int8`] vouches for the rows of the tile and every token of the block.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(&self, s: S, at: usize, v: S::F32) {
        // Most activations have one term, and a division would take longer than all the rest.
        let (token, term) = if self.terms == 1 { (at, 0) } else { (at / self.terms, at % self.terms) };
        // SAFETY: as above; `n_rows <= LANES`.
        unsafe {
            let to = self.out.start.add((self.first_token + token) * self.out.stride + self.first_row);
            if term == 0 && self.n_rows == LANES {
                return s.store(v, &mut *to.cast::<[f32; LANES]>());
            }
            let mut lanes = [0.0; LANES];
            s.store(v, &mut lanes);
            for (row, lane) in lanes.iter().enumerate().take(self.n_rows) {
                let to = to.add(row);
                to.write(if term == 0 { *lane } else { *to + lane });
            }
        }
    }
}

/// One tile times the tokens of a block from the `done`-th on.
struct DotTile<'a, C, B> {
    tile: Tile<'a, C, B>,
    zero: i32,
    fetch: Fetch,
    tokens: TokenBlock<'a>,
    done: usize,
    sink: Sink,
}

impl<C: CodeLayout, B: ScaleBlock> Kernel for DotTile<'_, C, B> {
    type Output = ();
    const TABLES: bool = C::TRITS;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n_tokens = self.tokens.n_rows;
        let mut done = self.done;
        if const { S::TOKENS >= 4 } {
            while n_tokens - done >= 4 {
                self.tokens::<S, 4>(s, done);
                done += 4;
            }
            if n_tokens - done >= 2 {
                self.tokens::<S, 2>(s, done);
                done += 2;
            }
        }
        while done < n_tokens {
            self.tokens::<S, 1>(s, done);
            done += 1;
        }
    }
}

impl<C: CodeLayout, B: ScaleBlock> DotTile<'_, C, B> {
    /// The tokens `first .. first + T` of the block.
    #[inline(always)]
    fn tokens<S: Simd, const T: usize>(&self, s: S, first: usize) {
        let y = match self.tile.in_runs() {
            true if const { Tile::<C, B>::INTEGER_RUNS } && self.tokens.one_scale => {
                self.integer_runs::<S, T>(s, first)
            }
            true => self.runs::<S, T>(s, first),
            false => self.groups::<S, T>(s, first),
        };
        for_tokens!(t < T => {
            // SAFETY: `first + t` is a token of the block, and the rows are those of the tile.
            unsafe { self.sink.store(s, first + t, y[t]) };
        });
    }

    /// Groups with scales of their own.
    #[inline(always)]
    fn groups<S: Simd, const T: usize>(&self, s: S, first: usize) -> [S::F32; T] {
        let offset = self.zero - C::offset::<S>();
        let mut activations = self.tokens.groups.chunks_exact(self.tokens.n_rows);
        let mut y = [s.splat(0.0); T];
        let mut ahead = Ahead::of(&self.tile, self.fetch, first == 0);
        let mut groups = self.tile.groups(s);
        for scales in self.tile.blocks() {
            if const { B::GROUPS > 1 } {
                ahead.section();
            }
            let head = scales.head(s);
            for g in 0..B::GROUPS {
                ahead.group();
                let Some(codes) = groups.next() else { return y };
                let Some(x) = activations.next().and_then(|x| x[first..].first_chunk::<T>()) else {
                    return y;
                };
                unroll!(part < B::PARTS, of 0 1 => {
                    let sums = part_sums::<S, C, B, T>(s, codes, x, offset, part);
                    let scale = scales.scale(s, head, g, part);
                    for_tokens!(t < T => {
                        y[t] = s.mul_add(s.to_f32(sums[t]), s.mul(scale, s.splat(x[t].scale)), y[t]);
                    });
                });
                if const { B::HAS_MIN } {
                    let min = scales.min(s, head, g);
                    for_tokens!(t < T => { y[t] = s.mul_add(min, s.splat(x[t].scaled_sum), y[t]) });
                }
            }
        }
        y
    }

    /// Runs of groups that share a scale.
    #[inline(always)]
    fn runs<S: Simd, const T: usize>(&self, s: S, first: usize) -> [S::F32; T] {
        let offset = self.zero - C::offset::<S>();
        let mut activations = self.tokens.groups.chunks_exact(self.tokens.n_rows);
        let mut y = [s.splat(0.0); T];
        let mut ahead = Ahead::of(&self.tile, self.fetch, first == 0);
        let mut groups = self.tile.groups(s);
        for (n_groups, scales) in self.tile.runs() {
            let (scale, min) = scales.head(s);
            let (mut z, mut sums_of_x) = ([s.splat(0.0); T], [0.0; T]);
            for _ in 0..n_groups {
                ahead.group();
                let Some(codes) = groups.next() else { return y };
                let Some(x) = activations.next().and_then(|x| x[first..].first_chunk::<T>()) else {
                    return y;
                };
                let sums = part_sums::<S, C, B, T>(s, codes, x, offset, 0);
                for_tokens!(t < T => {
                    z[t] = s.mul_add(s.to_f32(sums[t]), s.splat(x[t].scale), z[t]);
                    sums_of_x[t] += x[t].scaled_sum;
                });
            }
            for_tokens!(t < T => { y[t] = s.mul_add(z[t], scale, y[t]) });
            if const { B::HAS_MIN } {
                for_tokens!(t < T => { y[t] = s.mul_add(min, s.splat(sums_of_x[t]), y[t]) });
            }
        }
        y
    }

    /// Runs of groups that share a scale, and activations that have the same in all groups.
    #[inline(always)]
    fn integer_runs<S: Simd, const T: usize>(&self, s: S, first: usize) -> [S::F32; T] {
        let offset = self.zero - C::offset::<S>();
        let mut activations = self.tokens.groups.chunks_exact(self.tokens.n_rows);
        let mut y = [s.splat(0.0); T];
        let mut ahead = Ahead::of(&self.tile, self.fetch, first == 0);
        let mut groups = self.tile.groups(s);
        for (n_groups, scales) in self.tile.runs() {
            let (scale, _) = scales.head(s);
            let mut sums = [s.splat_i32(0); T];
            let (mut scales_of_x, mut sums_of_x) = ([0.0; T], [0; T]);
            for _ in 0..n_groups {
                ahead.group();
                let Some(codes) = groups.next() else { return y };
                let Some(x) = activations.next().and_then(|x| x[first..].first_chunk::<T>()) else {
                    return y;
                };
                unroll!(j < QUADS, of 0 1 2 3 4 5 6 7 => {
                    add_products::<S, C, T>(s, &mut sums, C::quad(s, codes, j), x, j);
                });
                for_tokens!(t < T => {
                    scales_of_x[t] = x[t].scale;
                    sums_of_x[t] += x[t].sum();
                });
            }
            for_tokens!(t < T => {
                let start = s.splat_i32(sums_of_x[t].wrapping_mul(-offset));
                let sum = s.to_f32(s.add_i32(sums[t], start));
                y[t] = s.mul_add(s.mul(sum, s.splat(scales_of_x[t])), scale, y[t]);
            });
        }
        y
    }
}

/// Exact sums of products of part `part` of a group, less those with the zero point.
#[inline(always)]
fn part_sums<S: Simd, C: CodeLayout, B: ScaleBlock, const T: usize>(
    s: S,
    codes: C::Group<'_, S>,
    x: &[Group; T],
    offset: i32,
    part: usize,
) -> [S::I32; T] {
    let mut sums = [s.splat_i32(0); T];
    // Formats with minima have no zero point, but the instructions may take something off every code.
    if !B::HAS_MIN || offset != 0 {
        for_tokens!(t < T => {
            let sum = if B::PARTS == 1 { x[t].sum() } else { x[t].half_sums[part] };
            sums[t] = s.splat_i32(sum.wrapping_mul(-offset));
        });
    }
    unroll!(j < QUADS / B::PARTS, of 0 1 2 3 4 5 6 7 => {
        let j = part * QUADS / B::PARTS + j;
        add_products::<S, C, T>(s, &mut sums, C::quad(s, codes, j), x, j);
    });
    sums
}

/// Adds the products with quad `j`.
#[inline(always)]
fn add_products<S: Simd, C: CodeLayout, const T: usize>(
    s: S,
    sums: &mut [S::I32; T],
    quad: S::U8,
    x: &[Group; T],
    j: usize,
) {
    for_tokens!(t < T => { sums[t] = C::dot(s, sums[t], quad, x[t].codes[j]) });
}
