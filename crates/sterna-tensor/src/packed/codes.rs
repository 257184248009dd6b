//! How sixteen rows of 32 columns of codes lie in 64-byte registers, for each width of code.
//!
//! *Quad* `j < 8` of a group is the columns `4 j .. 4 j + 4` of sixteen rows: byte `4 row + column % 4`. Eight
//! quads of whole bytes are one group of 8-bit codes. Narrower codes share registers so that a shift, a mask and
//! (with a second plane) an or give any quad:
//!
//! | codes | registers | quad `j` |
//! |---|---|---|
//! | 1 bit | 1 | bit `j` of the register, which stands for 0 or 2 |
//! | 2 bits | 2 | bits `2 (j % 4)` and up of register `j / 4` |
//! | 3 bits | 2 + 1 | as 2 bits; bit 2 is bit `j` of the third register |
//! | 4 bits | 4 | low (even `j`) or high half of register `j / 2` |
//! | 5 bits | 4 + 1 | as 4 bits; bit 4 is bit `j` of the fifth register |
//! | 6 bits | 4 + 2 | as 4 bits; bits 4 and 5 as 2 bits of the last two registers |
//! | trits | 8 for 5 groups | `trits.rs` |

use crate::activation::GROUP;
use crate::simd::{CodeRegister, LANES, Simd};

/// Quads in a group.
pub(super) const QUADS: usize = 8;

/// The codes of one group of columns of sixteen rows, `[row][column]`.
pub(super) type GroupCodes = [[u8; GROUP]; LANES];

/// One width of code.
pub(super) trait CodeLayout {
    /// What holds the codes of one group.
    type Group<'a, S: Simd>: Copy;
    /// Bits of a code as it is multiplied.
    const BITS: u32;
    /// Whether codes are trits of bytes.
    const TRITS: bool = false;
    /// Registers of a group whose bits each stand for a power of two of one code, so that products can be looked up; else 0.
    const LOOKUP: usize = 0;

    /// The quad that bit `bit` of the bytes of a register belongs to, and the power of two that it stands for.
    fn meaning(register: usize, bit: usize) -> Bit {
        unreachable!("bit {bit} of register {register} of codes that are not looked up")
    }

    /// Registers of the first `n_groups` groups of a tile.
    fn n_registers(n_groups: usize) -> usize;

    /// The groups of a tile.
    fn groups<S: Simd>(s: S, tile: &[CodeRegister]) -> impl Iterator<Item = Self::Group<'_, S>>;

    /// Quad `j` of a group, `j` being a constant after inlining.
    fn quad<S: Simd>(s: S, group: Self::Group<'_, S>, j: usize) -> S::U8;

    /// Lays out group `index` of a tile that was zeros, after those before it; codes are of [`CodeLayout::BITS`] bits, and those of
    /// more are cut or are other codes then.
    fn pack(codes: &GroupCodes, index: usize, tile: &mut [CodeRegister]);

    /// Sums of products with quads, exact: see [`Simd::dot_u6`].
    #[inline(always)]
    fn dot<S: Simd>(s: S, acc: S::I32, quad: S::U8, x: i32) -> S::I32 {
        if Self::BITS > 6 { s.dot_u8(acc, quad, x) } else { s.dot_u6(acc, quad, x) }
    }

    /// What [`CodeLayout::dot`] takes off every code.
    #[inline(always)]
    fn offset<S: Simd>() -> i32 {
        if Self::BITS > 6 { S::U8_OFFSET } else { 0 }
    }
}

/// What a bit of all bytes of a register is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bit {
    pub(super) quad: usize,
    pub(super) power: u32,
}

/// A width of code whose groups have registers of their own.
pub(super) trait Planes {
    /// Registers that a group takes.
    const REGISTERS: usize;
    /// Bits of a code as it is multiplied.
    const BITS: u32;

    /// See [`CodeLayout::meaning`].
    fn meaning(register: usize, bit: usize) -> Bit;

    /// Quad `j` of a group, `j` being a constant after inlining.
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8;

    /// Lays out a group.
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]);
}

impl<P: Planes> CodeLayout for P {
    type Group<'a, S: Simd> = &'a [CodeRegister];
    const BITS: u32 = P::BITS;
    // Sums of codes of more bits do not fit `i16`, and are far from worth looking up.
    const LOOKUP: usize = if P::BITS <= 4 { P::REGISTERS } else { 0 };

    fn meaning(register: usize, bit: usize) -> Bit {
        P::meaning(register, bit)
    }
    fn n_registers(n_groups: usize) -> usize {
        n_groups.saturating_mul(P::REGISTERS)
    }
    #[inline(always)]
    fn groups<S: Simd>(_: S, tile: &[CodeRegister]) -> impl Iterator<Item = &[CodeRegister]> {
        tile.chunks_exact(P::REGISTERS)
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        P::quad(s, group, j)
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, index: usize, tile: &mut [CodeRegister]) {
        P::pack(codes, &mut tile[index * P::REGISTERS..][..P::REGISTERS]);
    }
}

/// The eight quads of row `row`, as words of four codes in memory order.
#[inline(always)]
pub(super) fn words(codes: &GroupCodes, row: usize) -> [u32; QUADS] {
    bytemuck::cast(codes[row])
}

/// Writes word `row` of a register.
#[inline(always)]
fn set_word(register: &mut CodeRegister, row: usize, word: u32) {
    register[4 * row..][..4].copy_from_slice(&word.to_ne_bytes());
}

pub(super) struct U1;
pub(super) struct U2;
pub(super) struct U3;
pub(super) struct U4;
pub(super) struct U5;
pub(super) struct U6;
pub(super) struct U8;

impl Planes for U1 {
    const REGISTERS: usize = 1;
    const BITS: u32 = 2;

    fn meaning(_: usize, bit: usize) -> Bit {
        Bit { quad: bit, power: 1 }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        let plane = s.load_bytes(&group[0]);
        match j {
            0 => s.shl_and(plane, 1, 0x02),
            1 => s.and(plane, 0x02),
            _ => s.shr_and(plane, j as u32 - 1, 0x02),
        }
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        for row in 0..LANES {
            let w = words(codes, row);
            let bit = |j: usize| (w[j] >> 1 & 0x0101_0101) << j;
            set_word(&mut group[0], row, (0..QUADS).fold(0, |plane, j| plane | bit(j)));
        }
    }
}

impl Planes for U2 {
    const REGISTERS: usize = 2;
    const BITS: u32 = 2;

    fn meaning(register: usize, bit: usize) -> Bit {
        Bit { quad: 4 * register + bit / 2, power: bit as u32 % 2 }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        s.shr_and(s.load_bytes(&group[j / 4]), 2 * (j as u32 % 4), 0x03)
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        for row in 0..LANES {
            let w = words(codes, row).map(|w| w & 0x0303_0303);
            for (plane, w) in w.as_chunks::<4>().0.iter().enumerate() {
                set_word(&mut group[plane], row, w[0] | w[1] << 2 | w[2] << 4 | w[3] << 6);
            }
        }
    }
}

impl Planes for U3 {
    const REGISTERS: usize = 3;
    const BITS: u32 = 3;

    fn meaning(register: usize, bit: usize) -> Bit {
        if register < 2 { <U2 as Planes>::meaning(register, bit) } else { Bit { quad: bit, power: 2 } }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        let plane = s.load_bytes(&group[2]);
        let high = match j {
            0..2 => s.shl_and(plane, 2 - j as u32, 0x04),
            _ => s.shr_and(plane, j as u32 - 2, 0x04),
        };
        s.or(<U2 as Planes>::quad(s, group, j), high)
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        <U2 as Planes>::pack(codes, group);
        for row in 0..LANES {
            let w = words(codes, row);
            let bit = |j: usize| (w[j] >> 2 & 0x0101_0101) << j;
            set_word(&mut group[2], row, (0..QUADS).fold(0, |plane, j| plane | bit(j)));
        }
    }
}

impl Planes for U4 {
    const REGISTERS: usize = 4;
    const BITS: u32 = 4;

    fn meaning(register: usize, bit: usize) -> Bit {
        Bit { quad: 2 * register + bit / 4, power: bit as u32 % 4 }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        let register = s.load_bytes(&group[j / 2]);
        if j.is_multiple_of(2) { s.and(register, 0x0f) } else { s.shr_and(register, 4, 0x0f) }
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        for row in 0..LANES {
            let w = words(codes, row);
            for (register, w) in w.as_chunks::<2>().0.iter().enumerate() {
                set_word(&mut group[register], row, (w[0] & 0x0f0f_0f0f) | (w[1] & 0x0f0f_0f0f) << 4);
            }
        }
    }
}

impl Planes for U5 {
    const REGISTERS: usize = 5;
    const BITS: u32 = 5;

    fn meaning(register: usize, bit: usize) -> Bit {
        if register < 4 { <U4 as Planes>::meaning(register, bit) } else { Bit { quad: bit, power: 4 } }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        let plane = s.load_bytes(&group[4]);
        let high = match j {
            0..4 => s.shl_and(plane, 4 - j as u32, 0x10),
            _ => s.shr_and(plane, j as u32 - 4, 0x10),
        };
        s.or(<U4 as Planes>::quad(s, group, j), high)
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        <U4 as Planes>::pack(codes, group);
        for row in 0..LANES {
            let w = words(codes, row);
            let bit = |j: usize| (w[j] >> 4 & 0x0101_0101) << j;
            set_word(&mut group[4], row, (0..QUADS).fold(0, |plane, j| plane | bit(j)));
        }
    }
}

impl Planes for U6 {
    const REGISTERS: usize = 6;
    const BITS: u32 = 6;

    fn meaning(register: usize, bit: usize) -> Bit {
        match register {
            0..4 => <U4 as Planes>::meaning(register, bit),
            _ => Bit { quad: 4 * (register - 4) + bit / 2, power: 4 + bit as u32 % 2 },
        }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        let plane = s.load_bytes(&group[4 + j / 4]);
        let high = match j % 4 {
            0 => s.shl_and(plane, 4, 0x30),
            1 => s.shl_and(plane, 2, 0x30),
            2 => s.and(plane, 0x30),
            _ => s.shr_and(plane, 2, 0x30),
        };
        s.or(<U4 as Planes>::quad(s, group, j), high)
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        <U4 as Planes>::pack(codes, group);
        for row in 0..LANES {
            let w = words(codes, row).map(|w| w >> 4 & 0x0303_0303);
            for (plane, w) in w.as_chunks::<4>().0.iter().enumerate() {
                set_word(&mut group[4 + plane], row, w[0] | w[1] << 2 | w[2] << 4 | w[3] << 6);
            }
        }
    }
}

impl Planes for U8 {
    const REGISTERS: usize = 8;
    const BITS: u32 = 8;

    fn meaning(register: usize, bit: usize) -> Bit {
        Bit { quad: register, power: bit as u32 }
    }
    #[inline(always)]
    fn quad<S: Simd>(s: S, group: &[CodeRegister], j: usize) -> S::U8 {
        s.load_bytes(&group[j])
    }
    #[inline(always)]
    fn pack(codes: &GroupCodes, group: &mut [CodeRegister]) {
        for row in 0..LANES {
            for (register, w) in words(codes, row).into_iter().enumerate() {
                set_word(&mut group[register], row, w);
            }
        }
    }
}
