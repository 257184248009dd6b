//! [`Simd`] in four NEON registers, with no byte dot product, with FEAT_DotProd's, or with FEAT_I8MM's.
//!
//! FEAT_I8MM also multiplies matrices: `usmmla` takes two rows of eight codes and eight activations of two tokens, and gives
//! four sums, twice as many as `usdot`. Two quads of four rows, zipped, are two such operands, and the sums come out in
//! turns, those of the first token and those of the second.
//!
//! The intrinsics of those two extensions are unstable, so their instructions are written out, in functions that have
//! the target feature, as intrinsics do: the assembler knows the instruction wherever the function ends up, and only
//! an entry point that has the feature too can inline it.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{CodeRegister, Kernel, LANES, NibbleTable, Simd, TABLE_OF_BYTE, TRITS, dot_each};
use crate::Isa;

/// Plain NEON: products are made with 16-bit multiplications.
pub(super) const NONE: u8 = 0;
/// `sdot`, signed times signed.
pub(super) const DOT: u8 = 1;
/// Also `usdot`, unsigned times signed.
pub(super) const I8MM: u8 = 2;

/// Proof that the CPU has the extension that `EXTENSION` names.
#[derive(Clone, Copy)]
pub(super) struct Neon<const EXTENSION: u8>(());

impl Neon<NONE> {
    pub(super) fn new() -> Option<Self> {
        Isa::Neon.is_available().then_some(Neon(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl Neon<DOT> {
    pub(super) fn new() -> Option<Self> {
        Isa::NeonDot.is_available().then_some(Neon(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        if const { K::DOTS } {
            // SAFETY: holding a `Neon<DOT>` proves that the CPU has it.
            unsafe { enter_dot(self, kernel) }
        } else {
            Neon::<NONE>(()).run(kernel)
        }
    }
}

impl Neon<I8MM> {
    pub(super) fn new() -> Option<Self> {
        Isa::NeonI8mm.is_available().then_some(Neon(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        if const { K::DOTS } {
            // SAFETY: holding a `Neon<I8MM>` proves that the CPU has it.
            unsafe { enter_i8mm(self, kernel) }
        } else {
            Neon::<NONE>(()).run(kernel)
        }
    }
}

#[target_feature(enable = "dotprod")]
fn enter_dot<K: Kernel>(simd: Neon<DOT>, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "dotprod,i8mm")]
fn enter_i8mm<K: Kernel>(simd: Neon<I8MM>, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Four registers; lanes 0 to 3 come first.
#[derive(Clone, Copy)]
pub(super) struct Quad<T>(T, T, T, T);

/// Applies an expression to the quarters of one, two or three values.
macro_rules! each {
    (|$a:ident| $f:expr) => {{
        let Quad(a0, a1, a2, a3) = $a;
        // SAFETY: a `Neon` exists only where the CPU has the instructions; pointers are to whole quarters of arrays.
        unsafe { Quad({ let $a = a0; $f }, { let $a = a1; $f }, { let $a = a2; $f }, { let $a = a3; $f }) }
    }};
    (|$a:ident, $b:ident| $f:expr) => {{
        let (Quad(a0, a1, a2, a3), Quad(b0, b1, b2, b3)) = ($a, $b);
        // SAFETY: as above.
        unsafe {
            Quad(
                { let ($a, $b) = (a0, b0); $f },
                { let ($a, $b) = (a1, b1); $f },
                { let ($a, $b) = (a2, b2); $f },
                { let ($a, $b) = (a3, b3); $f },
            )
        }
    }};
    (|$a:ident, $b:ident, $c:ident| $f:expr) => {{
        let (Quad(a0, a1, a2, a3), Quad(b0, b1, b2, b3), Quad(c0, c1, c2, c3)) = ($a, $b, $c);
        // SAFETY: as above.
        unsafe {
            Quad(
                { let ($a, $b, $c) = (a0, b0, c0); $f },
                { let ($a, $b, $c) = (a1, b1, c1); $f },
                { let ($a, $b, $c) = (a2, b2, c2); $f },
                { let ($a, $b, $c) = (a3, b3, c3); $f },
            )
        }
    }};
}

#[inline(always)]
fn same<T: Copy>(v: T) -> Quad<T> {
    Quad(v, v, v, v)
}

/// The quarters of an array.
#[inline(always)]
fn quarters<T, const N: usize>(from: &[T; N]) -> Quad<*const T> {
    Quad(from.as_ptr(), from[N / 4..].as_ptr(), from[N / 2..].as_ptr(), from[3 * N / 4..].as_ptr())
}

/// The quarters of an array to be written.
#[inline(always)]
fn quarters_mut<T, const N: usize>(to: &mut [T; N]) -> Quad<*mut T> {
    let (low, high) = to.split_at_mut(N / 2);
    let ((a, b), (c, d)) = (low.split_at_mut(N / 4), high.split_at_mut(N / 4));
    Quad(a.as_mut_ptr(), b.as_mut_ptr(), c.as_mut_ptr(), d.as_mut_ptr())
}

/// Calls an intrinsic whose count must be a literal; the match goes away because `$n` is a constant where it is used.
macro_rules! shift {
    ($intrinsic:ident, $v:expr, $n:expr, $($count:literal)*) => {
        match $n {
            $($count => $intrinsic::<$count>($v),)*
            _ => $v,
        }
    };
}

// SAFETY (for every block below): a `Neon` exists only where the CPU has the instructions, and loads and stores go
// through pointers to quarters of arrays of the full length.
impl<const EXTENSION: u8> Simd for Neon<EXTENSION> {
    type F32 = Quad<float32x4_t>;
    type I32 = Quad<int32x4_t>;
    type U8 = Quad<uint8x16_t>;
    /// Sums of rows 0 to 7 and 8 to 15 over the first two bytes of each group, then over the last two.
    type LookedUp = [int16x8_t; 4];

    const TOKENS: usize = 4;
    const TILES: usize = 1;
    const U8_OFFSET: i32 = if EXTENSION == I8MM { 0 } else { 128 };

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: see the impl.
        unsafe { same(vdupq_n_f32(x)) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        let p = quarters(from);
        each!(|p| vld1q_f32(p))
    }
    #[inline(always)]
    fn store(self, v: Self::F32, to: &mut [f32; LANES]) {
        let p = quarters_mut(to);
        each!(|p, v| vst1q_f32(p, v));
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F32 {
        let p = quarters(from);
        each!(|p| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))))
    }
    #[inline(always)]
    fn store_f16(self, v: Self::F32, to: &mut [u16; LANES]) {
        let p = quarters_mut(to);
        each!(|p, v| vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))));
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F32 {
        let p = quarters(from);
        each!(|p| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))))
    }
    #[inline(always)]
    fn load_u4(self, from: &[u8; LANES / 2]) -> Self::F32 {
        // SAFETY: see the impl.
        let words = unsafe {
            let bytes = vld1_u8(from.as_ptr());
            let low = vmovl_u8(vand_u8(bytes, vdup_n_u8(0x0f)));
            let high = vmovl_u8(vshr_n_u8::<4>(bytes));
            Quad(
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            )
        };
        each!(|words| vcvtq_f32_u32(words))
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F32 {
        // SAFETY: see the impl.
        let words = unsafe {
            let bytes = vld1q_u8(from.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            Quad(
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            )
        };
        each!(|words| vcvtq_f32_u32(words))
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES]) -> Self::F32 {
        // SAFETY: see the impl.
        let words = unsafe {
            let bytes = vld1q_s8(from.as_ptr().cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            Quad(
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            )
        };
        each!(|words| vcvtq_f32_s32(words))
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(|a, b| vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(|a, b| vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(|a, b| vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(|a, b| vdivq_f32(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        each!(|a, b, c| vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(|a, b| vminnmq_f32(a, b))
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(|a, b| vmaxnmq_f32(a, b))
    }
    #[inline(always)]
    fn abs(self, v: Self::F32) -> Self::F32 {
        each!(|v| vabsq_f32(v))
    }
    #[inline(always)]
    fn round(self, v: Self::F32) -> Self::F32 {
        each!(|v| vrndnq_f32(v))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, x: Self::F32, n: Self::F32) -> Self::F32 {
        each!(|x, n| {
            let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        })
    }
    #[inline(always)]
    fn reduce_sum(self, v: Self::F32) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let v = vaddq_f32(vaddq_f32(v.0, v.2), vaddq_f32(v.1, v.3));
            let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
            vget_lane_f32::<0>(v) + vget_lane_f32::<1>(v)
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: Self::F32) -> f32 {
        // SAFETY: see the impl.
        unsafe { vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(v.0, v.2), vmaxnmq_f32(v.1, v.3))) }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        // SAFETY: see the impl.
        unsafe { same(vdupq_n_s32(x)) }
    }
    #[inline(always)]
    fn to_i32(self, v: Self::F32) -> Self::I32 {
        each!(|v| vcvtnq_s32_f32(v))
    }
    #[inline(always)]
    fn to_f32(self, v: Self::I32) -> Self::F32 {
        each!(|v| vcvtq_f32_s32(v))
    }
    #[inline(always)]
    fn store_low_bytes(self, v: Self::I32, to: &mut [u8; LANES]) {
        // SAFETY: see the impl.
        unsafe {
            let low = vmovn_s16(vcombine_s16(vmovn_s32(v.0), vmovn_s32(v.1)));
            let high = vmovn_s16(vcombine_s16(vmovn_s32(v.2), vmovn_s32(v.3)));
            vst1q_s8(to.as_mut_ptr().cast(), vcombine_s8(low, high))
        }
    }

    #[inline(always)]
    fn load_bytes(self, from: &CodeRegister) -> Self::U8 {
        let p = quarters(from);
        each!(|p| vld1q_u8(p))
    }
    #[inline(always)]
    fn store_bytes(self, v: Self::U8, to: &mut CodeRegister) {
        let p = quarters_mut(to);
        each!(|p, v| vst1q_u8(p, v));
    }
    #[inline(always)]
    fn and(self, a: Self::U8, mask: u8) -> Self::U8 {
        each!(|a| vandq_u8(a, vdupq_n_u8(mask)))
    }
    #[inline(always)]
    fn or(self, a: Self::U8, b: Self::U8) -> Self::U8 {
        each!(|a, b| vorrq_u8(a, b))
    }
    #[inline(always)]
    fn shr_and(self, a: Self::U8, n: u32, mask: u8) -> Self::U8 {
        let shifted = each!(|a| shift!(vshrq_n_u8, a, n, 1 2 3 4 5 6 7));
        if mask == 0xff >> n { shifted } else { self.and(shifted, mask) }
    }
    #[inline(always)]
    fn shl_and(self, a: Self::U8, n: u32, mask: u8) -> Self::U8 {
        self.and(each!(|a| shift!(vshlq_n_u8, a, n, 1 2 3 4 5 6 7)), mask)
    }
    #[inline(always)]
    fn trits(self, a: Self::U8) -> [Self::U8; TRITS] {
        // The upper two bits of the mean of a byte and its half, both rounded down.
        let top = |rest: Self::U8| each!(|rest| vshrq_n_u8::<6>(vhaddq_u8(rest, vshrq_n_u8::<1>(rest))));
        let times = |power: u8| each!(|a| vmulq_u8(a, vdupq_n_u8(power)));
        [top(a), top(times(3)), top(times(9)), top(times(27)), top(times(81))]
    }
    #[inline(always)]
    fn nothing_looked_up(self) -> [int16x8_t; 4] {
        // SAFETY: see the impl.
        unsafe { [vdupq_n_s16(0); 4] }
    }
    #[inline(always)]
    fn look_up(
        self,
        [a, b, c, d]: [int16x8_t; 4],
        codes: &CodeRegister,
        tables: &[NibbleTable; 2],
    ) -> [int16x8_t; 4] {
        // SAFETY: see the impl.
        unsafe {
            let bytes = vld4q_u8(codes.as_ptr());
            let (a, b) = add_entries(a, b, bytes.0, tables, 0);
            let (a, b) = add_entries(a, b, bytes.1, tables, 1);
            let (c, d) = add_entries(c, d, bytes.2, tables, 2);
            let (c, d) = add_entries(c, d, bytes.3, tables, 3);
            [a, b, c, d]
        }
    }
    #[inline(always)]
    fn looked_up(self, [a, b, c, d]: [int16x8_t; 4]) -> Self::I32 {
        // SAFETY: see the impl.
        unsafe {
            let first = (vget_low_s16(a), vget_low_s16(c), vget_low_s16(b), vget_low_s16(d));
            Quad(
                vaddl_s16(first.0, first.1),
                vaddl_high_s16(a, c),
                vaddl_s16(first.2, first.3),
                vaddl_high_s16(b, d),
            )
        }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        each!(|a, b| vaddq_s32(a, b))
    }
    #[inline(always)]
    fn byte_to_f32(self, a: Self::U8, i: u32) -> Self::F32 {
        each!(|a| {
            let words = vreinterpretq_u32_u8(a);
            let low = shift!(vshrq_n_u32, words, 8 * i, 8 16 24);
            vcvtq_f32_u32(vandq_u32(low, vdupq_n_u32(0xff)))
        })
    }
    #[inline(always)]
    fn dot_u6(self, acc: Self::I32, codes: Self::U8, x: i32) -> Self::I32 {
        // SAFETY: see the impl.
        let x = same(unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x)) });
        each!(|acc, codes, x| {
            let codes = vreinterpretq_s8_u8(codes);
            if EXTENSION == NONE {
                // Two products of at most 63 * 128 fit in 16 bits.
                let (low, high) = (vmull_s8(vget_low_s8(codes), vget_low_s8(x)), vmull_high_s8(codes, x));
                vpadalq_s16(acc, vpaddq_s16(low, high))
            } else {
                sdot(acc, codes, x)
            }
        })
    }
    #[inline(always)]
    fn dot_u8(self, acc: Self::I32, codes: Self::U8, x: i32) -> Self::I32 {
        // SAFETY: see the impl.
        let x = same(unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x)) });
        each!(|acc, codes, x| {
            if EXTENSION == I8MM {
                usdot(acc, codes, x)
            } else {
                // Flipping the top bit takes off 128.
                let codes = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)));
                if EXTENSION == DOT {
                    sdot(acc, codes, x)
                } else {
                    let low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(x)));
                    let high = vpaddlq_s16(vmull_high_s8(codes, x));
                    vaddq_s32(acc, vpaddq_s32(low, high))
                }
            }
        })
    }

    const PAIRS: bool = EXTENSION == I8MM;
    #[inline(always)]
    fn pair(self, [a, b]: [Self::U8; 2]) -> [Self::U8; 2] {
        if const { !Self::PAIRS } {
            return [a, b];
        }
        let (a, b) = (each!(|a| vreinterpretq_u32_u8(a)), each!(|b| vreinterpretq_u32_u8(b)));
        let first = each!(|a, b| vreinterpretq_u8_u32(vzip1q_u32(a, b)));
        let last = each!(|a, b| vreinterpretq_u8_u32(vzip2q_u32(a, b)));
        [Quad(first.0, last.0, first.1, last.1), Quad(first.2, last.2, first.3, last.3)]
    }
    #[inline(always)]
    fn splat_pair(self, [a, b]: [i32; 2]) -> [Self::I32; 2] {
        let [a, b] = [self.splat_i32(a), self.splat_i32(b)];
        if const { !Self::PAIRS } {
            return [a, b];
        }
        let by_turns = each!(|a, b| vzip1q_s32(a, b));
        [by_turns; 2]
    }
    #[inline(always)]
    fn dot_pair(self, sums: [Self::I32; 2], codes: [Self::U8; 2], x: [&[i32; 2]; 2]) -> [Self::I32; 2] {
        if const { !Self::PAIRS } {
            return dot_each(self, sums, codes, x);
        }
        let ([a, b], [first, last]) = (sums, codes);
        // SAFETY: see the impl.
        let x =
            unsafe { vreinterpretq_s8_s32(vcombine_s32(vld1_s32(x[0].as_ptr()), vld1_s32(x[1].as_ptr()))) };
        let x = same(x);
        [each!(|a, first, x| usmmla(a, first, x)), each!(|b, last, x| usmmla(b, last, x))]
    }
    #[inline(always)]
    fn unpair(self, [a, b]: [Self::I32; 2]) -> [Self::I32; 2] {
        if const { !Self::PAIRS } {
            return [a, b];
        }
        let (low, high) = (Quad(a.0, a.2, b.0, b.2), Quad(a.1, a.3, b.1, b.3));
        [each!(|low, high| vuzp1q_s32(low, high)), each!(|low, high| vuzp2q_s32(low, high))]
    }
}

/// Adds the entries for byte `i` of all groups.
#[inline(always)]
fn add_entries(
    first: int16x8_t,
    last: int16x8_t,
    bytes: uint8x16_t,
    tables: &[NibbleTable; 2],
    i: usize,
) -> (int16x8_t, int16x8_t) {
    let at = 16 * TABLE_OF_BYTE[i];
    let add = |(first, last): (int16x8_t, int16x8_t), entries, table: &NibbleTable| {
        let (low, high) = (&table.low[at..at + 16], &table.high[at..at + 16]);
        // SAFETY: every 64-bit Arm CPU has NEON, and the slices are a register long.
        unsafe {
            let low = vqtbl1q_u8(vld1q_u8(low.as_ptr()), entries);
            let high = vqtbl1q_u8(vld1q_u8(high.as_ptr()), entries);
            let rows = |v| vreinterpretq_s16_u8(v);
            (vaddq_s16(first, rows(vzip1q_u8(low, high))), vaddq_s16(last, rows(vzip2q_u8(low, high))))
        }
    };
    // SAFETY: as above.
    let (low, high) = unsafe { (vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)) };
    add(add((first, last), low, &tables[0]), high, &tables[1])
}

/// An instruction that adds products of the bytes of `a` and `b` to `acc`.
macro_rules! products {
    ($(#[$doc:meta])* $name:ident, $feature:literal, $a:ty) => {
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = $feature)]
        fn $name(mut acc: int32x4_t, a: $a, b: int8x16_t) -> int32x4_t {
            // SAFETY: the instruction only reads and writes the named registers.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {acc:v}.4s, {a:v}.16b, {b:v}.16b"),
                    acc = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            acc
        }
    };
}

products! {
    /// `acc[i] + sum over j < 4 of a[4 i + j] * b[4 i + j]`
    sdot, "dotprod", int8x16_t
}
products! {
    /// As [`sdot`] with an unsigned `a`.
    usdot, "i8mm", uint8x16_t
}
products! {
    /// As [`usdot`] over eight columns, of two rows of `a` with two of `b`: `acc[2 i + j]` of row `i` and row `j`.
    usmmla, "i8mm", uint8x16_t
}
