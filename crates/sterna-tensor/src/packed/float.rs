//! Packed weights as floats, exactly as stored: single rows, and products with `f32` activations.

use std::ops::Range;

use super::codes::{CodeLayout, QUADS};
use super::int8::Sink;
use super::scales::ScaleBlock;
use super::{PackedMatrix, Tile, Visitor};
use crate::activation::{Activations, GROUP};
use crate::simd::{Kernel, LANES, Simd};
use crate::{Isa, OutputTile};

/// Tokens taken at once.
const TOKENS: usize = 4;

impl PackedMatrix {
    /// The exact weights of row `r`, into `out` `[cols]`.
    ///
    /// # Panics
    /// When there is no row `r`, or `out` is not `cols` long.
    pub fn row(&self, r: usize, out: &mut [f32]) {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "columns of a row");
        self.format.visit(Row { matrix: self, r, out });
    }

    /// Writes `y[t, r]` for the rows of `tiles` and every token of `x`, from its `f32` values.
    ///
    /// # Safety
    /// As [`PackedMatrix::tiles_dot_int8`].
    ///
    /// # Panics
    /// When `x` has other columns, or there are no such tiles.
    pub(crate) unsafe fn tiles_dot_f32(
        &self,
        isa: Isa,
        tiles: Range<usize>,
        x: &Activations,
        out: OutputTile,
    ) {
        assert_eq!(self.cols, x.cols(), "columns of the weights and of the activations");
        self.format.visit(Dot { matrix: self, isa, tiles, x, out });
    }
}

struct Row<'a> {
    matrix: &'a PackedMatrix,
    r: usize,
    out: &'a mut [f32],
}

impl Visitor for Row<'_> {
    type Output = ();

    fn visit<C: CodeLayout, B: ScaleBlock>(self) {
        let Row { matrix, r, out } = self;
        Isa::best().run(RowOfTile::<C, B> {
            tile: matrix.tile(r / LANES),
            zero: matrix.zero(),
            lane: r % LANES,
            out,
        });
    }
}

struct Dot<'a> {
    matrix: &'a PackedMatrix,
    isa: Isa,
    tiles: Range<usize>,
    x: &'a Activations,
    out: OutputTile,
}

impl Visitor for Dot<'_> {
    type Output = ();

    fn visit<C: CodeLayout, B: ScaleBlock>(self) {
        let Dot { matrix, x, out, .. } = self;
        for index in self.tiles {
            let tile = matrix.tile::<C, B>(index);
            let first_row = index * LANES;
            let n_rows = (matrix.rows - first_row).min(LANES);
            for first_token in (0..x.n_tokens()).step_by(TOKENS) {
                let n_tokens = (x.n_tokens() - first_token).min(TOKENS);
                let x = &x.values()[first_token * x.cols()..][..n_tokens * x.cols()];
                let sink = Sink { out, terms: 1, first_token, first_row, n_rows };
                self.isa.run(DotTile { tile: tile.clone(), zero: matrix.zero(), x, n_tokens, sink });
            }
        }
    }
}

/// Copies one lane of every column of a tile.
struct RowOfTile<'a, C, B> {
    tile: Tile<'a, C, B>,
    zero: f32,
    lane: usize,
    out: &'a mut [f32],
}

impl<C: CodeLayout, B: ScaleBlock> Kernel for RowOfTile<'_, C, B> {
    type Output = ();
    const DOTS: bool = false;
    const TABLES: bool = C::TRITS;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut out = self.out.as_chunks_mut::<GROUP>().0.iter_mut();
        let mut columns = [[0.0; LANES]; GROUP];
        let mut groups = self.tile.groups(s);
        for scales in self.tile.blocks() {
            let head = scales.head(s);
            for g in 0..B::GROUPS {
                let (Some(codes), Some(out)) = (groups.next(), out.next()) else { return };
                group_weights::<S, C, B>(s, scales, head, g, codes, self.zero, &mut columns);
                for (out, column) in out.iter_mut().zip(&columns) {
                    *out = column[self.lane];
                }
            }
        }
    }
}

/// One tile times up to [`TOKENS`] tokens.
struct DotTile<'a, C, B> {
    tile: Tile<'a, C, B>,
    zero: f32,
    /// `[n_tokens, cols]`
    x: &'a [f32],
    n_tokens: usize,
    sink: Sink,
}

impl<C: CodeLayout, B: ScaleBlock> Kernel for DotTile<'_, C, B> {
    type Output = ();
    const DOTS: bool = false;
    const TABLES: bool = C::TRITS;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.x.len() / self.n_tokens;
        let mut columns = [[0.0; LANES]; GROUP];
        let mut y = [s.splat(0.0); TOKENS];
        let mut first = 0;
        let mut groups = self.tile.groups(s);
        for scales in self.tile.blocks() {
            let head = scales.head(s);
            for g in 0..B::GROUPS {
                let Some(codes) = groups.next() else { return };
                group_weights::<S, C, B>(s, scales, head, g, codes, self.zero, &mut columns);
                for (t, y) in y.iter_mut().enumerate().take(self.n_tokens) {
                    let x = &self.x[t * cols + first..][..GROUP];
                    // Sums of 32, then the sum of those: less rounding than one long chain.
                    let mut sum = s.splat(0.0);
                    for (x, column) in x.iter().zip(&columns) {
                        sum = s.mul_add(s.load(column), s.splat(*x), sum);
                    }
                    *y = s.add(*y, sum);
                }
                first += GROUP;
            }
        }
        for (t, &y) in y.iter().enumerate().take(self.n_tokens) {
            // SAFETY: `first_token + t` is a token of the activations, and the rows are those of the tile.
            unsafe { self.sink.store(s, t, y) };
        }
    }
}

/// The weights of group `g` of a block, `[column][row]`.
#[inline(always)]
fn group_weights<S: Simd, C: CodeLayout, B: ScaleBlock>(
    s: S,
    scales: &B,
    head: (S::F32, S::F32),
    g: usize,
    codes: C::Group<'_, S>,
    zero: f32,
    columns: &mut [[f32; LANES]; GROUP],
) {
    let min = scales.min(s, head, g);
    let zero = s.splat(zero);
    for j in 0..QUADS {
        let scale = scales.scale(s, head, g, j * B::PARTS / QUADS);
        let quad = C::quad(s, codes, j);
        for i in 0..4 {
            let code = s.sub(s.byte_to_f32(quad, i as u32), zero);
            let weight = if B::HAS_MIN { s.mul_add(scale, code, min) } else { s.mul(scale, code) };
            s.store(weight, &mut columns[4 * j + i]);
        }
    }
}
