//! [`Simd`] in two AVX2 registers, with or without the byte dot product of AVX-VNNI.

use std::arch::x86_64::*;

use super::{CodeRegister, Kernel, LANES, NibbleTable, Simd, TRITS};
use crate::Isa;

/// Proof that the CPU has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const VNNI: bool>(());

impl Avx2<false> {
    pub(super) fn new() -> Option<Self> {
        Isa::Avx2.is_available().then_some(Avx2(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: holding an `Avx2` proves that the CPU has these.
        unsafe { enter(self, kernel) }
    }
}

impl Avx2<true> {
    pub(super) fn new() -> Option<Self> {
        Isa::AvxVnni.is_available().then_some(Avx2(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        if const { K::DOTS } {
            // SAFETY: holding an `Avx2<true>` proves that the CPU has these.
            unsafe { enter_vnni(self, kernel) }
        } else {
            Avx2::<false>(()).run(kernel)
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn enter<K: Kernel>(simd: Avx2<false>, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn enter_vnni<K: Kernel>(simd: Avx2<true>, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Two registers; lanes 0 to 7 come first.
#[derive(Clone, Copy)]
pub(super) struct Pair<T>(T, T);

/// Applies an expression to the halves of one, two or three pairs.
macro_rules! each {
    (|$a:ident| $f:expr) => {{
        let Pair(low, high) = $a;
        // SAFETY: an `Avx2` exists only where the CPU has the instructions.
        unsafe {
            Pair(
                {
                    let $a = low;
                    $f
                },
                {
                    let $a = high;
                    $f
                },
            )
        }
    }};
    (|$a:ident, $b:ident| $f:expr) => {{
        let (Pair(a0, a1), Pair(b0, b1)) = ($a, $b);
        // SAFETY: as above.
        unsafe {
            Pair(
                {
                    let ($a, $b) = (a0, b0);
                    $f
                },
                {
                    let ($a, $b) = (a1, b1);
                    $f
                },
            )
        }
    }};
    (|$a:ident, $b:ident, $c:ident| $f:expr) => {{
        let (Pair(a0, a1), Pair(b0, b1), Pair(c0, c1)) = ($a, $b, $c);
        // SAFETY: as above.
        unsafe {
            Pair(
                {
                    let ($a, $b, $c) = (a0, b0, c0);
                    $f
                },
                {
                    let ($a, $b, $c) = (a1, b1, c1);
                    $f
                },
            )
        }
    }};
}

/// The halves of sixteen elements.
#[inline(always)]
fn halves<T>(from: &[T; LANES]) -> Pair<*const T> {
    Pair(from[..8].as_ptr(), from[8..].as_ptr())
}

// SAFETY (for every block below): an `Avx2` exists only where the CPU has the instructions, and loads and stores stay
// within arrays of the full length.
impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type F32 = Pair<__m256>;
    type I32 = Pair<__m256i>;
    type U8 = Pair<__m256i>;
    /// `i16` sums of rows 0 to 7, and of rows 8 to 15; those of bytes 0 and 1 of a group in the first half.
    type LookedUp = Pair<__m256i>;

    const TOKENS: usize = 4;
    const TILES: usize = 1;
    const U8_OFFSET: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair<__m256> {
        // SAFETY: see the impl.
        unsafe { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Pair<__m256> {
        let p = halves(from);
        each!(|p| _mm256_loadu_ps(p))
    }
    #[inline(always)]
    fn store(self, v: Pair<__m256>, to: &mut [f32; LANES]) {
        // SAFETY: see the impl.
        unsafe {
            _mm256_storeu_ps(to[..8].as_mut_ptr(), v.0);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), v.1);
        }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Pair<__m256> {
        let p = halves(from);
        each!(|p| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: Pair<__m256>, to: &mut [u16; LANES]) {
        let bits = each!(|v| _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
        // SAFETY: see the impl.
        unsafe {
            _mm_storeu_si128(to[..8].as_mut_ptr().cast(), bits.0);
            _mm_storeu_si128(to[8..].as_mut_ptr().cast(), bits.1);
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Pair<__m256> {
        let p = halves(from);
        each!(|p| {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }
    #[inline(always)]
    fn load_u4(self, from: &[u8; LANES / 2]) -> Pair<__m256> {
        // SAFETY: see the impl.
        let bytes = unsafe { _mm_loadl_epi64(from.as_ptr().cast()) };
        // SAFETY: see the impl.
        let halves = unsafe { Pair(bytes, _mm_srli_epi16::<4>(bytes)) };
        each!(|halves| {
            let numbers = _mm_and_si128(halves, _mm_set1_epi8(0x0f));
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(numbers))
        })
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Pair<__m256> {
        let p = halves(from);
        each!(|p| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))))
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES]) -> Pair<__m256> {
        let p = halves(from);
        each!(|p| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))))
    }

    #[inline(always)]
    fn add(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b| _mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b| _mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b| _mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b| _mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Pair<__m256>, b: Pair<__m256>, c: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b, c| _mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b| _mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: Pair<__m256>, b: Pair<__m256>) -> Pair<__m256> {
        each!(|a, b| _mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, v: Pair<__m256>) -> Pair<__m256> {
        each!(|v| _mm256_andnot_ps(_mm256_set1_ps(-0.0), v))
    }
    #[inline(always)]
    fn round(self, v: Pair<__m256>) -> Pair<__m256> {
        each!(|v| _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, x: Pair<__m256>, n: Pair<__m256>) -> Pair<__m256> {
        each!(|x, n| {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        })
    }
    #[inline(always)]
    fn reduce_sum(self, v: Pair<__m256>) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let v = _mm256_add_ps(v.0, v.1);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }
    #[inline(always)]
    fn reduce_sums(self, [a, b, c, d]: [Pair<__m256>; 4]) -> [f32; 4] {
        // SAFETY: see the impl.
        unsafe {
            let quarters = |a: Pair<__m256>, b: Pair<__m256>| {
                let (a, b) = (_mm256_add_ps(a.0, a.1), _mm256_add_ps(b.0, b.1));
                _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
            };
            let (ab, cd) = (quarters(a, b), quarters(c, d));
            let v = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xee>(ab, cd));
            let v = _mm256_add_ps(v, _mm256_permute_ps::<0xb1>(v));
            let (ac, bd) = (_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), _mm_blend_ps::<0b1010>(ac, bd));
            sums
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: Pair<__m256>) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let v = _mm256_max_ps(v.0, v.1);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Pair<__m256i> {
        // SAFETY: see the impl.
        unsafe { Pair(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }
    #[inline(always)]
    fn to_i32(self, v: Pair<__m256>) -> Pair<__m256i> {
        each!(|v| _mm256_cvtps_epi32(v))
    }
    #[inline(always)]
    fn to_f32(self, v: Pair<__m256i>) -> Pair<__m256> {
        each!(|v| _mm256_cvtepi32_ps(v))
    }
    #[inline(always)]
    fn store_low_bytes(self, v: Pair<__m256i>, to: &mut [u8; LANES]) {
        // SAFETY: see the impl.
        unsafe {
            // Bytes 0, 4, 8 and 12 of each lane of 128 bits come to its first dword; then the four dwords together.
            let pick = _mm256_set1_epi32(0x0c08_0400);
            let low = _mm256_shuffle_epi8(v.0, pick);
            let high = _mm256_shuffle_epi8(v.1, pick);
            let both = _mm256_blend_epi32::<0b1010_1010>(low, high);
            let ordered = _mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(ordered));
        }
    }

    #[inline(always)]
    fn load_bytes(self, from: &CodeRegister) -> Pair<__m256i> {
        let p = Pair(from[..32].as_ptr(), from[32..].as_ptr());
        each!(|p| _mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    fn store_bytes(self, v: Pair<__m256i>, to: &mut CodeRegister) {
        let (low, high) = to.split_at_mut(32);
        let p = Pair(low.as_mut_ptr(), high.as_mut_ptr());
        each!(|p, v| _mm256_storeu_si256(p.cast(), v));
    }
    #[inline(always)]
    fn and(self, a: Pair<__m256i>, mask: u8) -> Pair<__m256i> {
        each!(|a| _mm256_and_si256(a, _mm256_set1_epi8(mask as i8)))
    }
    #[inline(always)]
    fn or(self, a: Pair<__m256i>, b: Pair<__m256i>) -> Pair<__m256i> {
        each!(|a, b| _mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn shr_and(self, a: Pair<__m256i>, n: u32, mask: u8) -> Pair<__m256i> {
        // Bits that come in from the neighbouring byte are masked off. The constant count becomes an immediate.
        self.and(each!(|a| _mm256_srl_epi16(a, _mm_cvtsi32_si128(n as i32))), mask)
    }
    #[inline(always)]
    fn shl_and(self, a: Pair<__m256i>, n: u32, mask: u8) -> Pair<__m256i> {
        self.and(each!(|a| _mm256_sll_epi16(a, _mm_cvtsi32_si128(n as i32))), mask)
    }
    #[inline(always)]
    fn trits(self, a: Pair<__m256i>) -> [Pair<__m256i>; TRITS] {
        let b = each!(|a| times_3(a));
        let c = each!(|b| times_3(b));
        let d = each!(|c| times_3(c));
        let e = each!(|d| times_3(d));
        [
            each!(|a| top_trit(a)),
            each!(|b| top_trit(b)),
            each!(|c| top_trit(c)),
            each!(|d| top_trit(d)),
            each!(|e| top_trit(e)),
        ]
    }
    #[inline(always)]
    fn nothing_looked_up(self) -> Pair<__m256i> {
        // SAFETY: see the impl.
        unsafe { Pair(_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }
    #[inline(always)]
    fn look_up(
        self,
        sums: Pair<__m256i>,
        codes: &CodeRegister,
        [low, high]: &[NibbleTable; 2],
    ) -> Pair<__m256i> {
        // SAFETY: see the impl; the pointers are to whole registers, tables of 64 bytes being two.
        unsafe {
            let Pair(even, odd) = by_byte_of_group(self.load_bytes(codes));
            let sums = add_entries(sums, even, low.low.as_ptr(), low.high.as_ptr());
            let sums = add_entries(sums, odd, low.low.as_ptr().add(32), low.high.as_ptr().add(32));
            let (even, odd) = (_mm256_srli_epi16::<4>(even), _mm256_srli_epi16::<4>(odd));
            let sums = add_entries(sums, even, high.low.as_ptr(), high.high.as_ptr());
            add_entries(sums, odd, high.low.as_ptr().add(32), high.high.as_ptr().add(32))
        }
    }
    #[inline(always)]
    fn looked_up(self, sums: Pair<__m256i>) -> Pair<__m256i> {
        each!(|sums| {
            let first = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums));
            _mm256_add_epi32(first, _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sums)))
        })
    }
    #[inline(always)]
    fn add_i32(self, a: Pair<__m256i>, b: Pair<__m256i>) -> Pair<__m256i> {
        each!(|a, b| _mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn byte_to_f32(self, a: Pair<__m256i>, i: u32) -> Pair<__m256> {
        each!(|a| {
            let low = _mm256_srl_epi32(a, _mm_cvtsi32_si128(8 * i as i32));
            _mm256_cvtepi32_ps(_mm256_and_si256(low, _mm256_set1_epi32(0xff)))
        })
    }
    #[inline(always)]
    fn dot_u6(self, acc: Pair<__m256i>, codes: Pair<__m256i>, x: i32) -> Pair<__m256i> {
        if VNNI {
            return self.dot_u8(acc, codes, x);
        }
        each!(|acc, codes| {
            // Two products of at most 63 * 128 fit in 16 bits.
            let pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi32(x));
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn dot_u8(self, acc: Pair<__m256i>, codes: Pair<__m256i>, x: i32) -> Pair<__m256i> {
        if VNNI {
            return each!(|acc, codes| _mm256_dpbusd_avx_epi32(acc, codes, _mm256_set1_epi32(x)));
        }
        each!(|acc, codes| {
            // `maddubs` saturates at 16 bits, so the top bit goes apart: 2 * 127 * 128 fits, and so do
            // 2 * 128 * 127 and 2 * 128 * -128.
            let x = _mm256_set1_epi32(x);
            let top = _mm256_set1_epi8(-128);
            let low = _mm256_maddubs_epi16(_mm256_andnot_si256(top, codes), x);
            let high = _mm256_maddubs_epi16(_mm256_and_si256(top, codes), x);
            let one = _mm256_set1_epi16(1);
            let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(low, one));
            _mm256_add_epi32(acc, _mm256_madd_epi16(high, one))
        })
    }
}

/// `bytes * 3`, bytewise.
#[inline]
#[target_feature(enable = "avx2")]
fn times_3(bytes: __m256i) -> __m256i {
    _mm256_add_epi8(bytes, _mm256_add_epi8(bytes, bytes))
}

/// `3 * byte / 256`: the upper two bits of the mean of a byte and its half, all rounded down; instructions round means up, so
/// they are taken of complements.
#[inline]
#[target_feature(enable = "avx2")]
fn top_trit(bytes: __m256i) -> __m256i {
    let ones = _mm256_set1_epi8(-1);
    let complement = _mm256_xor_si256(bytes, ones);
    let mean = _mm256_avg_epu8(complement, _mm256_avg_epu8(complement, ones));
    _mm256_andnot_si256(_mm256_srli_epi16::<6>(mean), _mm256_set1_epi8(3))
}

/// Bytes 0 and 2 of all groups, sixteen each, and then bytes 1 and 3.
#[inline]
#[target_feature(enable = "avx2")]
fn by_byte_of_group(Pair(low, high): Pair<__m256i>) -> Pair<__m256i> {
    let words = _mm256_set_epi64x(
        0x0f0b_0703_0e0a_0602,
        0x0d09_0501_0c08_0400,
        0x0f0b_0703_0e0a_0602,
        0x0d09_0501_0c08_0400,
    );
    let halves = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let low = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(low, words), halves);
    let high = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(high, words), halves);
    Pair(_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high))
}

/// Adds the entries that the low halves of `codes` have in tables of low and of high bytes, sixteen for each half of the register.
///
/// # Safety
/// 32 bytes must be readable at each pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_entries(
    Pair(first, last): Pair<__m256i>,
    codes: __m256i,
    low: *const u8,
    high: *const u8,
) -> Pair<__m256i> {
    let entries = _mm256_and_si256(codes, _mm256_set1_epi8(15));
    // SAFETY: passed on from the caller.
    let (low, high) = unsafe { (_mm256_loadu_si256(low.cast()), _mm256_loadu_si256(high.cast())) };
    let (low, high) = (_mm256_shuffle_epi8(low, entries), _mm256_shuffle_epi8(high, entries));
    Pair(
        _mm256_add_epi16(first, _mm256_unpacklo_epi8(low, high)),
        _mm256_add_epi16(last, _mm256_unpackhi_epi8(low, high)),
    )
}
