//! [`Simd`] in portable Rust: what every other implementation must equal bit for bit.
//!
//! Here the compiler may choose what to inline: no entry point is needed, and whole kernels unrolled over arrays of
//! sixteen and sixty-four elements would take it minutes.

use half::{bf16, f16};

use super::{CodeRegister, LANES, NibbleTable, Simd, TABLE_OF_BYTE, TRITS};

/// Needs nothing of the CPU.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

#[inline(always)]
fn map<A: Copy, B>(a: [A; LANES], f: impl Fn(A) -> B) -> [B; LANES] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Lane `i` with `i + 8`, then 4, 2 and 1 apart.
#[inline(always)]
fn reduce(mut v: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            v[i] = f(v[i], v[i + width]);
        }
    }
    v[0]
}

impl Simd for Scalar {
    type F32 = [f32; LANES];
    type I32 = [i32; LANES];
    type U8 = CodeRegister;
    type LookedUp = [i32; LANES];

    const TOKENS: usize = 1;
    const TILES: usize = 1;
    const U8_OFFSET: i32 = 0;

    #[inline]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }
    #[inline]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        *from
    }
    #[inline]
    fn store(self, v: Self::F32, to: &mut [f32; LANES]) {
        *to = v;
    }
    #[inline]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F32 {
        map(*from, |bits| f16::from_bits(bits).to_f32())
    }
    #[inline]
    fn store_f16(self, v: Self::F32, to: &mut [u16; LANES]) {
        *to = map(v, |x| f16::from_f32(x).to_bits());
    }
    #[inline]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F32 {
        map(*from, |bits| bf16::from_bits(bits).to_f32())
    }
    #[inline]
    fn load_u4(self, from: &[u8; LANES / 2]) -> Self::F32 {
        std::array::from_fn(|i| f32::from(from[i % 8] >> (i / 8 * 4) & 0x0f))
    }
    #[inline]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F32 {
        map(*from, f32::from)
    }
    #[inline]
    fn load_i8(self, from: &[u8; LANES]) -> Self::F32 {
        map(*from, |bits| f32::from(bits as i8))
    }

    #[inline]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a + b)
    }
    #[inline]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a - b)
    }
    #[inline]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a * b)
    }
    #[inline]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a / b)
    }
    #[inline]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, f32::min)
    }
    #[inline]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, f32::max)
    }
    #[inline]
    fn abs(self, v: Self::F32) -> Self::F32 {
        map(v, f32::abs)
    }
    #[inline]
    fn round(self, v: Self::F32) -> Self::F32 {
        map(v, f32::round_ties_even)
    }
    #[inline]
    fn scale_by_power_of_two(self, x: Self::F32, n: Self::F32) -> Self::F32 {
        zip(x, n, |x, n| x * f32::from_bits((((n as i32) + 127) << 23) as u32))
    }
    #[inline]
    fn reduce_sum(self, v: Self::F32) -> f32 {
        reduce(v, |a, b| a + b)
    }
    #[inline]
    fn reduce_max(self, v: Self::F32) -> f32 {
        reduce(v, f32::max)
    }

    #[inline]
    fn splat_i32(self, x: i32) -> Self::I32 {
        [x; LANES]
    }
    #[inline]
    fn to_i32(self, v: Self::F32) -> Self::I32 {
        map(v, |x| x.round_ties_even() as i32)
    }
    #[inline]
    fn to_f32(self, v: Self::I32) -> Self::F32 {
        map(v, |x| x as f32)
    }
    #[inline]
    fn store_low_bytes(self, v: Self::I32, to: &mut [u8; LANES]) {
        *to = map(v, |x| x as u8);
    }

    #[inline]
    fn load_bytes(self, from: &CodeRegister) -> Self::U8 {
        *from
    }
    #[inline]
    fn store_bytes(self, v: Self::U8, to: &mut CodeRegister) {
        *to = v;
    }
    #[inline]
    fn and(self, a: Self::U8, mask: u8) -> Self::U8 {
        a.map(|a| a & mask)
    }
    #[inline]
    fn or(self, a: Self::U8, b: Self::U8) -> Self::U8 {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline]
    fn shr_and(self, a: Self::U8, n: u32, mask: u8) -> Self::U8 {
        a.map(|a| (a >> n) & mask)
    }
    #[inline]
    fn shl_and(self, a: Self::U8, n: u32, mask: u8) -> Self::U8 {
        a.map(|a| (a << n) & mask)
    }
    #[inline(never)]
    fn trits(self, a: Self::U8) -> [Self::U8; TRITS] {
        let powers: [u8; TRITS] = [1, 3, 9, 27, 81];
        powers.map(|power| a.map(|a| ((u16::from(a.wrapping_mul(power)) * 3) >> 8) as u8))
    }
    #[inline]
    fn nothing_looked_up(self) -> Self::LookedUp {
        [0; LANES]
    }
    #[inline(never)]
    fn look_up(
        self,
        sums: Self::LookedUp,
        codes: &CodeRegister,
        tables: &[NibbleTable; 2],
    ) -> Self::LookedUp {
        let entry = |half: usize, i: usize, nibble: u8| {
            let at = 16 * TABLE_OF_BYTE[i] + usize::from(nibble);
            i32::from(i16::from_le_bytes([tables[half].low[at], tables[half].high[at]]))
        };
        std::array::from_fn(|lane| {
            let entries = |(i, &byte)| entry(0, i, byte & 15) + entry(1, i, byte >> 4);
            sums[lane] + codes[4 * lane..][..4].iter().enumerate().map(entries).sum::<i32>()
        })
    }
    #[inline]
    fn looked_up(self, sums: Self::LookedUp) -> Self::I32 {
        sums
    }
    #[inline]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline]
    fn byte_to_f32(self, a: Self::U8, i: u32) -> Self::F32 {
        std::array::from_fn(|lane| f32::from(a[4 * lane + i as usize]))
    }
    #[inline]
    fn dot_u6(self, acc: Self::I32, codes: Self::U8, x: i32) -> Self::I32 {
        self.dot_u8(acc, codes, x)
    }
    #[inline(never)]
    fn dot_u8(self, acc: Self::I32, codes: Self::U8, x: i32) -> Self::I32 {
        let x = x.to_ne_bytes().map(|b| i32::from(b as i8));
        std::array::from_fn(|lane| {
            let c: [u8; 4] = std::array::from_fn(|j| codes[4 * lane + j]);
            acc[lane] + (0..4).map(|j| i32::from(c[j]) * x[j]).sum::<i32>()
        })
    }
}
