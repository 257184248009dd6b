//! Sixteen lanes of arithmetic, the same on every instruction set.
//!
//! An algorithm is written once, as a [`Kernel`], over the [`Simd`] trait; [`Isa::run`] compiles it once per
//! instruction set and calls the wanted one. Sixteen lanes are one AVX-512 register, two AVX2 registers or
//! four NEON registers, so lane `i` means the same everywhere, and because `mul_add` always rounds once and
//! reductions add in one fixed order, a kernel gives the same bits on every machine.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;
mod vectorized;

use crate::Isa;

pub use vectorized::Vectorized;

/// Lanes in every vector of [`Simd`].
pub(crate) const LANES: usize = 16;

/// Codes in one register: four neighbouring columns of sixteen rows.
pub(crate) type CodeRegister = [u8; 64];

/// Trits in a byte: 3^5 is 243.
pub(crate) const TRITS: usize = 5;

/// What the sixteen values of four bits stand for, for each byte of every group of four: low and high bytes of `i16`. The tables of
/// the four bytes lie in the order of [`TABLE_OF_BYTE`].
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct NibbleTable {
    pub(crate) low: [u8; 64],
    pub(crate) high: [u8; 64],
}

impl NibbleTable {
    pub(crate) const ZERO: NibbleTable = NibbleTable { low: [0; 64], high: [0; 64] };
}

/// Which sixteen entries of a [`NibbleTable`] are those of byte `i` of a group: in this order a half of the table is what AVX2 wants in
/// the halves of a register.
pub(crate) const TABLE_OF_BYTE: [usize; 4] = [0, 2, 1, 3];

/// Asks for a line of memory that will be read soon. A hint, so any address will do.
#[inline(always)]
pub(crate) fn prefetch(line: *const CodeRegister) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, which never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction never faults and changes nothing that the program can see.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = line;
}

/// Repeats a block for those `$i` of the listed numbers that are below `$n`. Unlike a loop it is sure to leave no index
/// that is not a constant, without which arrays of vectors would live in memory instead of registers; and as the
/// conditions are constant blocks, the compiler drops the repetitions that are too many before it translates them.
/// Every repetition is type-checked, so nested ones belong in functions of their own.
macro_rules! unroll {
    ($i:ident < $n:expr, of $($k:literal)* => $body:block) => {
        $(if const { $k < $n } {
            let $i = $k;
            $body
        })*
    };
}
pub(crate) use unroll;

/// [`Simd::dot_pair`] where there is no better way.
#[inline(always)]
fn dot_each<S: Simd>(s: S, [a, b]: [S::I32; 2], codes: [S::U8; 2], x: [&[i32; 2]; 2]) -> [S::I32; 2] {
    let dot = |sum, x: &[i32; 2]| s.dot_u8(s.dot_u8(sum, codes[0], x[0]), codes[1], x[1]);
    [dot(a, x[0]), dot(b, x[1])]
}

/// A computation that is compiled once for every instruction set; see [`Isa::run`].
///
/// Mark `run`, and every function that it hands `simd` to, `#[inline(always)]`: only what ends up inside the
/// per-ISA entry point is compiled with that instruction set.
pub(crate) trait Kernel {
    /// What the computation returns.
    type Output;
    /// Whether it takes dot products of bytes; if not, instruction sets that differ only in those share its code.
    const DOTS: bool = true;
    /// Whether it looks bytes up; if not, instruction sets that differ only in tables of bytes share its code.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "others have tables in all of theirs"))]
    const TABLES: bool = false;
    /// The computation.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    /// Runs `kernel` with this instruction set, or with portable code where the CPU lacks it.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vbmi if let Some(simd) = avx512::Avx512::<true>::new() => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if let Some(simd) = avx512::Avx512::<false>::new() => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni if let Some(simd) = avx2::Avx2::<true>::new() => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if let Some(simd) = avx2::Avx2::<false>::new() => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm if let Some(simd) = neon::Neon::<{ neon::I8MM }>::new() => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot if let Some(simd) = neon::Neon::<{ neon::DOT }>::new() => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if let Some(simd) = neon::Neon::<{ neon::NONE }>::new() => simd.run(kernel),
            _ => kernel.run(scalar::Scalar),
        }
    }
}

/// Vector operations of one instruction set.
///
/// A value of an implementing type can only be had where the CPU has the instructions: it is the proof that
/// makes the methods safe.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32`.
    type F32: Copy;
    /// Sixteen `i32`.
    type I32: Copy;
    /// Sixty-four `u8`: sixteen groups of four.
    type U8: Copy;
    /// Sixteen sums of what was looked up.
    type LookedUp: Copy;

    /// How many tokens a product with int8 activations takes at once, at most: 1, 4 or 8.
    const TOKENS: usize;
    /// How many tiles of sixteen rows it takes at once when there are so many tokens, so that the sums fill the registers.
    const TILES: usize;
    /// What [`Simd::dot_u8`] takes off every code: 128 where the instructions only multiply signed bytes.
    const U8_OFFSET: i32;

    /// Every lane `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// Loads from memory of any alignment.
    fn load(self, from: &[f32; LANES]) -> Self::F32;
    /// Stores to memory of any alignment.
    fn store(self, v: Self::F32, to: &mut [f32; LANES]);
    /// Sixteen half floats (their bits), converted exactly.
    fn load_f16(self, from: &[u16; LANES]) -> Self::F32;
    /// Rounds to half floats (their bits), ties to even.
    fn store_f16(self, v: Self::F32, to: &mut [u16; LANES]);
    /// Sixteen bfloat16 (their bits), converted exactly.
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F32;
    /// Sixteen unsigned numbers of four bits: the low halves of the bytes, then the high halves.
    fn load_u4(self, from: &[u8; LANES / 2]) -> Self::F32;
    /// Sixteen unsigned bytes as numbers.
    fn load_u8(self, from: &[u8; LANES]) -> Self::F32;
    /// Sixteen signed bytes (their bits) as numbers.
    fn load_i8(self, from: &[u8; LANES]) -> Self::F32;

    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The smaller of each pair; either one where a lane holds NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger of each pair; either one where a lane holds NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Without the sign.
    fn abs(self, v: Self::F32) -> Self::F32;
    /// To the nearest whole number, ties to even.
    fn round(self, v: Self::F32) -> Self::F32;
    /// `x * 2^n` for whole `n` in -126..=127.
    fn scale_by_power_of_two(self, x: Self::F32, n: Self::F32) -> Self::F32;
    /// `x * 2^n`, rounded once, for `x` in 0.5..=2 and whole `n` in -252..=254: in two halves, of which the first is exact.
    #[inline(always)]
    fn ldexp(self, x: Self::F32, n: Self::F32) -> Self::F32 {
        let half = self.round(self.mul(n, self.splat(0.5)));
        self.scale_by_power_of_two(self.scale_by_power_of_two(x, half), self.sub(n, half))
    }
    /// Sum of the lanes: lane `i` with `i + 8`, then 4, 2 and 1 apart.
    fn reduce_sum(self, v: Self::F32) -> f32;
    /// The [`Simd::reduce_sum`] of each.
    #[inline(always)]
    fn reduce_sums(self, v: [Self::F32; 4]) -> [f32; 4] {
        let [a, b, c, d] = v;
        [self.reduce_sum(a), self.reduce_sum(b), self.reduce_sum(c), self.reduce_sum(d)]
    }
    /// Largest lane, NaN lanes apart.
    fn reduce_max(self, v: Self::F32) -> f32;

    /// Every lane `x`.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// Rounds to the nearest, ties to even; lanes outside `i32` (and NaN) give an unspecified number.
    fn to_i32(self, v: Self::F32) -> Self::I32;
    /// Rounded to the nearest `f32`.
    fn to_f32(self, v: Self::I32) -> Self::F32;
    /// The low byte of each lane.
    fn store_low_bytes(self, v: Self::I32, to: &mut [u8; LANES]);

    /// Loads sixty-four bytes.
    fn load_bytes(self, from: &CodeRegister) -> Self::U8;
    /// Stores sixty-four bytes.
    fn store_bytes(self, v: Self::U8, to: &mut CodeRegister);
    /// Bytewise `a & mask`.
    fn and(self, a: Self::U8, mask: u8) -> Self::U8;
    /// Bytewise `a | b`.
    fn or(self, a: Self::U8, b: Self::U8) -> Self::U8;
    /// Bytewise `(a >> n) & mask`, for constant `n < 8` and `mask <= 0xff >> n`.
    fn shr_and(self, a: Self::U8, n: u32, mask: u8) -> Self::U8;
    /// Bytewise `(a << n) & mask`, for constant `n < 8` and `mask` with `n` zeros at the low end.
    fn shl_and(self, a: Self::U8, n: u32, mask: u8) -> Self::U8;
    /// The trits of every byte, the highest first: with the byte as a fraction of 256, what comes before the point when it is multiplied
    /// by 3 again and again, each time without what came before the point.
    fn trits(self, a: Self::U8) -> [Self::U8; TRITS];
    /// Sums of nothing.
    fn nothing_looked_up(self) -> Self::LookedUp;
    /// Adds what `tables` say of the low and of the high half of each byte to the sum of its group of four; exact as long as the sum over
    /// two bytes of a group fits `i16`.
    fn look_up(self, sums: Self::LookedUp, codes: &CodeRegister, tables: &[NibbleTable; 2])
    -> Self::LookedUp;
    /// The sums as numbers.
    fn looked_up(self, sums: Self::LookedUp) -> Self::I32;
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Byte `i < 4` (a constant) of every group of four, as a number.
    fn byte_to_f32(self, a: Self::U8, i: u32) -> Self::F32;
    /// `acc[i] + sum over j < 4 of codes[4 i + j] * x[j]`, exactly, for codes of at most 63; `x` holds
    /// four `i8` in memory order.
    fn dot_u6(self, acc: Self::I32, codes: Self::U8, x: i32) -> Self::I32;
    /// As [`Simd::dot_u6`] for codes up to 255, each less [`Simd::U8_OFFSET`].
    fn dot_u8(self, acc: Self::I32, codes: Self::U8, x: i32) -> Self::I32;

    /// Whether two quads times two tokens, with the four operations below, take fewer instructions than four dot products.
    const PAIRS: bool = false;
    /// Two quads of neighbouring columns as [`Simd::dot_pair`] takes them.
    #[inline(always)]
    fn pair(self, quads: [Self::U8; 2]) -> [Self::U8; 2] {
        quads
    }
    /// Sums of two tokens as [`Simd::dot_pair`] adds to them: in every lane what is given for each token.
    #[inline(always)]
    fn splat_pair(self, [a, b]: [i32; 2]) -> [Self::I32; 2] {
        [self.splat_i32(a), self.splat_i32(b)]
    }
    /// Adds the products of a [`Simd::pair`] of quads with eight `i8` of each of two tokens, as [`Simd::dot_u8`] would.
    #[inline(always)]
    fn dot_pair(self, sums: [Self::I32; 2], codes: [Self::U8; 2], x: [&[i32; 2]; 2]) -> [Self::I32; 2] {
        dot_each(self, sums, codes, x)
    }
    /// The sums of each of two tokens.
    #[inline(always)]
    fn unpair(self, sums: [Self::I32; 2]) -> [Self::I32; 2] {
        sums
    }
}
