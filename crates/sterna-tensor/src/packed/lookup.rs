//! Packed weights times int8 activations by looking sums up, of few tokens.
//!
//! In codes of up to four bits every bit of a register stands for a power of two of one code ([`CodeLayout::meaning`]), so four bits of a
//! byte are worth one of sixteen sums of activations, whatever the width of the codes: two codes of two bits, four of one bit, one of
//! four. The sums are put in tables once for all rows:
//!
//! ```text
//! for each group of 32 columns, register, half of its bytes, byte of a group of four, and value of four bits:
//!     table[value] = sum over the bits that are set:  power * activation code of the bit's column
//! for each sixteen rows:
//!     for each group:
//!         sum = -zero * (sum of the activation codes)
//!         for each register, and both halves of its bytes:  sum += table[value]
//!         scales and minima as with dot products
//! ```
//!
//! The weights are the bytes that dot products read, the sums are the same integers, and so are the bits of the result. What T-MAC rounds
//! to fit eight bits is kept here in two bytes, which are looked up apart.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::Tile;
use super::ahead::Ahead;
use super::codes::{Bit, CodeLayout};
use super::int8::{Dot, Sink};
use super::scales::ScaleBlock;
use crate::Fetch;
use crate::activation::{Activations, Group};
use crate::simd::{CodeRegister, Kernel, NibbleTable, Simd, TABLE_OF_BYTE, unroll};

/// Tables of both halves of the bytes of a register.
type Tables = [NibbleTable; 2];

/// The tables of a thread for the last activations that it looked up in.
#[derive(Default)]
struct Prepared {
    /// Which activations, and the registers of a group, which say what the bits mean.
    of: Option<(u64, usize)>,
    /// `[blocks of tokens, groups, rows of the block, registers]`, in the order of the groups of activations.
    tables: Vec<Tables>,
}

thread_local! {
    static PREPARED: RefCell<Prepared> = RefCell::default();
}

impl Dot<'_> {
    /// The products of all tiles by looking up.
    pub(super) fn look_up<C: CodeLayout, B: ScaleBlock>(&self) {
        let Dot { matrix, kernels, x, .. } = *self;
        let isa = kernels.few;
        PREPARED.with_borrow_mut(|prepared| {
            let of = Some((x.generation(), C::LOOKUP));
            if prepared.of != of {
                prepared.of = of;
                isa.run(Prepare::<C> { x, tables: &mut prepared.tables, layout: PhantomData });
            }
            for tile in self.tiles.clone() {
                let mut tables = &prepared.tables[..];
                for (block, tokens) in x.blocks() {
                    let (of_block, rest) = tables.split_at(tokens.groups.len() * C::LOOKUP);
                    tables = rest;
                    for row in 0..tokens.n_rows {
                        isa.run(LookUpTile::<C, B> {
                            tile: matrix.tile(tile),
                            zero: i32::from(matrix.format.zero),
                            fetch: kernels.fetch,
                            groups: tokens.groups,
                            tables: of_block,
                            n_rows: tokens.n_rows,
                            one_scale: tokens.one_scale,
                            row,
                            sink: self.sink(tile, block),
                        });
                    }
                }
            }
        });
    }
}

/// Makes the tables of all activations.
struct Prepare<'a, C> {
    x: &'a Activations,
    tables: &'a mut Vec<Tables>,
    layout: PhantomData<C>,
}

impl<C: CodeLayout> Kernel for Prepare<'_, C> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.tables.clear();
        for (_, tokens) in self.x.blocks() {
            for group in tokens.groups {
                for register in 0..C::LOOKUP {
                    let table = |half: usize| nibble_table(group, |bit| C::meaning(register, 4 * half + bit));
                    self.tables.push([table(0), table(1)]);
                }
            }
        }
    }
}

/// The sums that four bits of each of the four bytes can stand for.
#[inline(always)]
fn nibble_table(group: &Group, meaning: impl Fn(usize) -> Bit) -> NibbleTable {
    let mut out = NibbleTable::ZERO;
    let bits: [_; 4] = std::array::from_fn(meaning);
    let quads = bits.map(|bit| group.codes[bit.quad].to_ne_bytes());
    for (byte, table) in TABLE_OF_BYTE.into_iter().enumerate() {
        let mut worth = [0i16; 4];
        for ((worth, quad), bit) in worth.iter_mut().zip(&quads).zip(&bits) {
            *worth = i16::from(quad[byte] as i8) << bit.power;
        }
        let mut sums = [0i16; 16];
        for (value, sum) in sums.iter_mut().enumerate() {
            for (bit, worth) in worth.iter().enumerate() {
                *sum += if value >> bit & 1 == 1 { *worth } else { 0 };
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            [out.low[16 * table + i], out.high[16 * table + i]] = sum.to_le_bytes();
        }
    }
    out
}

/// One tile times one row of activations.
struct LookUpTile<'a, C, B> {
    tile: Tile<'a, C, B>,
    zero: i32,
    fetch: Fetch,
    /// `[groups, n_rows]`
    groups: &'a [Group],
    /// `[groups, n_rows, registers]`
    tables: &'a [Tables],
    n_rows: usize,
    one_scale: bool,
    row: usize,
    sink: Sink,
}

impl<C: CodeLayout, B: ScaleBlock> Kernel for LookUpTile<'_, C, B> {
    type Output = ();
    const TABLES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let y = match self.tile.in_runs() {
            true if const { Tile::<C, B>::INTEGER_RUNS } && self.one_scale => self.integer_runs(s),
            true => self.runs(s),
            false => self.groups(s),
        };
        // SAFETY: `row` is one of the block, and the rows are those of the tile.
        unsafe { self.sink.store(s, self.row, y) };
    }
}

impl<C: CodeLayout, B: ScaleBlock> LookUpTile<'_, C, B> {
    /// Groups with scales of their own.
    #[inline(always)]
    fn groups<S: Simd>(&self, s: S) -> S::F32 {
        let mut y = s.splat(0.0);
        let mut ahead = Ahead::of(&self.tile, self.fetch, self.row == 0);
        let mut groups = self.codes_and_activations();
        for scales in self.tile.blocks() {
            if const { B::GROUPS > 1 } {
                ahead.section();
            }
            let head = scales.head(s);
            for g in 0..B::GROUPS {
                ahead.group();
                let Some((codes, x, tables)) = groups.next() else { return y };
                let sum = s.to_f32(self.sum(s, codes, x, tables));
                y = s.mul_add(sum, s.mul(scales.scale(s, head, g, 0), s.splat(x.scale)), y);
                if const { B::HAS_MIN } {
                    y = s.mul_add(scales.min(s, head, g), s.splat(x.scaled_sum), y);
                }
            }
        }
        y
    }

    /// Runs of groups that share a scale.
    #[inline(always)]
    fn runs<S: Simd>(&self, s: S) -> S::F32 {
        let mut y = s.splat(0.0);
        let mut ahead = Ahead::of(&self.tile, self.fetch, self.row == 0);
        let mut groups = self.codes_and_activations();
        for (n_groups, scales) in self.tile.runs() {
            let (scale, min) = scales.head(s);
            let (mut z, mut sum_of_x) = (s.splat(0.0), 0.0);
            for _ in 0..n_groups {
                ahead.group();
                let Some((codes, x, tables)) = groups.next() else { return y };
                z = s.mul_add(s.to_f32(self.sum(s, codes, x, tables)), s.splat(x.scale), z);
                sum_of_x += x.scaled_sum;
            }
            y = s.mul_add(z, scale, y);
            if const { B::HAS_MIN } {
                y = s.mul_add(min, s.splat(sum_of_x), y);
            }
        }
        y
    }

    /// Runs of groups that share a scale, and activations that have the same in all groups.
    #[inline(always)]
    fn integer_runs<S: Simd>(&self, s: S) -> S::F32 {
        let mut y = s.splat(0.0);
        let mut ahead = Ahead::of(&self.tile, self.fetch, self.row == 0);
        let mut groups = self.codes_and_activations();
        for (n_groups, scales) in self.tile.runs() {
            let (scale, _) = scales.head(s);
            let (mut sum, mut scale_of_x) = (s.splat_i32(0), 0.0);
            for _ in 0..n_groups {
                ahead.group();
                let Some((codes, x, tables)) = groups.next() else { return y };
                sum = s.add_i32(sum, self.sum(s, codes, x, tables));
                scale_of_x = x.scale;
            }
            y = s.mul_add(s.mul(s.to_f32(sum), s.splat(scale_of_x)), scale, y);
        }
        y
    }

    /// Each group's codes, activations and their tables.
    #[inline(always)]
    fn codes_and_activations(&self) -> impl Iterator<Item = (&[CodeRegister], &Group, &[Tables])> {
        let codes = self.tile.codes().flat_map(|section| section.chunks_exact(C::LOOKUP));
        let x = self.groups.chunks_exact(self.n_rows).map(|x| &x[self.row]);
        let tables = self.tables.chunks_exact(self.n_rows * C::LOOKUP);
        let tables = tables.map(|tables| &tables[self.row * C::LOOKUP..][..C::LOOKUP]);
        codes.zip(x).zip(tables).map(|((codes, x), tables)| (codes, x, tables))
    }

    /// The exact sum of products of a group, less those with the zero point.
    #[inline(always)]
    fn sum<S: Simd>(&self, s: S, codes: &[CodeRegister], x: &Group, tables: &[Tables]) -> S::I32 {
        let mut sums = s.nothing_looked_up();
        unroll!(i < C::LOOKUP, of 0 1 2 3 => { sums = s.look_up(sums, &codes[i], &tables[i]) });
        let sum = s.looked_up(sums);
        if B::HAS_MIN { sum } else { s.add_i32(sum, s.splat_i32(x.sum().wrapping_mul(-self.zero))) }
    }
}
