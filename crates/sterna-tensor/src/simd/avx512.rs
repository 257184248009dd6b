//! [`Simd`] in one AVX-512 register, with the byte dot product of AVX-512 VNNI, and with or without the tables of bytes of
//! AVX-512 VBMI and the matrices of bits of GFNI.

use std::arch::x86_64::*;

use super::{CodeRegister, Kernel, LANES, NibbleTable, Simd, TRITS};
use crate::Isa;

/// Proof that the CPU has AVX-512 F, BW, DQ, VL and VNNI, and AVX2, FMA and F16C, and AVX-512 VBMI and GFNI if `VBMI`.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const VBMI: bool>(());

impl Avx512<false> {
    pub(super) fn new() -> Option<Self> {
        Isa::Avx512.is_available().then_some(Avx512(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: holding an `Avx512` proves that the CPU has these.
        unsafe { enter(self, kernel) }
    }
}

impl Avx512<true> {
    pub(super) fn new() -> Option<Self> {
        Isa::Avx512Vbmi.is_available().then_some(Avx512(()))
    }

    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        if const { K::TABLES } {
            // SAFETY: holding an `Avx512<true>` proves that the CPU has these.
            unsafe { enter_vbmi(self, kernel) }
        } else {
            Avx512::<false>(()).run(kernel)
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn enter<K: Kernel>(simd: Avx512<false>, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni,avx2,fma,f16c")]
fn enter_vbmi<K: Kernel>(simd: Avx512<true>, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// A table of a byte for each byte, as the instructions take it: by the lowest six bits in a register of 64 entries.
#[repr(align(64))]
struct Table([[u8; 64]; 4]);

const fn trit_of(byte: usize, place: u32) -> u8 {
    ((byte * 3usize.pow(place) % 256 * 3) >> 8) as u8
}

/// The last four trits, two bits each, the second trit lowest.
const LAST_TRITS: Table = {
    let mut table = Table([[0; 64]; 4]);
    let mut byte = 0;
    while byte < 256 {
        table.0[byte / 64][byte % 64] =
            trit_of(byte, 1) | trit_of(byte, 2) << 2 | trit_of(byte, 3) << 4 | trit_of(byte, 4) << 6;
        byte += 1;
    }
    table
};

/// The entry of `table` for each byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up(table: &Table, bytes: __m512i) -> __m512i {
    let high = _mm512_movepi8_mask(bytes);
    // SAFETY: the pointers are to whole registers, and a table is aligned to them.
    unsafe {
        let part = table.0.as_ptr().cast::<__m512i>();
        // Bytes that the lower half has no entry for stay as they are, for the upper one.
        let low = _mm512_mask2_permutex2var_epi8(*part, bytes, !high, *part.add(1));
        _mm512_mask2_permutex2var_epi8(*part.add(2), low, high, *part.add(3))
    }
}

// SAFETY (for every block below): an `Avx512` exists only where the CPU has the instructions, and loads and stores go
// through references to arrays of the full length.
impl<const VBMI: bool> Simd for Avx512<VBMI> {
    type F32 = __m512;
    type I32 = __m512i;
    type U8 = __m512i;
    /// VBMI: sums of low bytes, and of high bytes. Else `i16` sums of rows 0 to 7, and of rows 8 to 15, those of each byte of a group
    /// in a quarter.
    type LookedUp = [__m512i; 2];

    const TOKENS: usize = 8;
    const TILES: usize = 3;
    const U8_OFFSET: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32; LANES]) {
        // SAFETY: see the impl.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, to: &mut [u16; LANES]) {
        // SAFETY: see the impl.
        unsafe {
            let bits = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), bits);
        }
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> __m512 {
        // SAFETY: see the impl.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn load_u4(self, from: &[u8; LANES / 2]) -> __m512 {
        // SAFETY: see the impl.
        unsafe {
            let bytes = _mm_loadl_epi64(from.as_ptr().cast());
            let halves = _mm_unpacklo_epi64(bytes, _mm_srli_epi16::<4>(bytes));
            let numbers = _mm_and_si128(halves, _mm_set1_epi8(0x0f));
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(numbers))
        }
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; LANES]) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, v: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, x: __m512, n: __m512) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_scalef_ps(x, n) }
    }
    #[inline(always)]
    fn ldexp(self, x: __m512, n: __m512) -> __m512 {
        self.scale_by_power_of_two(x, n)
    }
    #[inline(always)]
    fn reduce_sum(self, v: __m512) -> f32 {
        // SAFETY: see the impl.
        unsafe {
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }
    #[inline(always)]
    fn reduce_sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: see the impl.
        unsafe {
            // Halves of two, then quarters of four side by side.
            let halves =
                |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let (ab, cd) = (halves(a, b), halves(c, d));
            let v = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0x4e>(v));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0xb1>(v));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, v)));
            sums
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: __m512) -> f32 {
        // SAFETY: see the impl.
        unsafe { _mm512_reduce_max_ps(v) }
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn to_i32(self, v: __m512) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtps_epi32(v) }
    }
    #[inline(always)]
    fn to_f32(self, v: __m512i) -> __m512 {
        // SAFETY: see the impl.
        unsafe { _mm512_cvtepi32_ps(v) }
    }
    #[inline(always)]
    fn store_low_bytes(self, v: __m512i, to: &mut [u8; LANES]) {
        // SAFETY: see the impl.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(v)) }
    }

    #[inline(always)]
    fn load_bytes(self, from: &CodeRegister) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_bytes(self, v: __m512i, to: &mut CodeRegister) {
        // SAFETY: see the impl.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) }
    }
    #[inline(always)]
    fn and(self, a: __m512i, mask: u8) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_and_si512(a, _mm512_set1_epi8(mask as i8)) }
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn shr_and(self, a: __m512i, n: u32, mask: u8) -> __m512i {
        // Bits that come in from the neighbouring byte are masked off. The constant count becomes an immediate.
        // SAFETY: see the impl.
        unsafe { self.and(_mm512_srl_epi16(a, _mm_cvtsi32_si128(n as i32)), mask) }
    }
    #[inline(always)]
    fn shl_and(self, a: __m512i, n: u32, mask: u8) -> __m512i {
        // SAFETY: see the impl.
        unsafe { self.and(_mm512_sll_epi16(a, _mm_cvtsi32_si128(n as i32)), mask) }
    }
    #[inline(always)]
    fn trits(self, a: __m512i) -> [__m512i; TRITS] {
        // SAFETY: see the impl.
        unsafe {
            if VBMI {
                let last = look_up(&LAST_TRITS, a);
                return [top_trit(a), field::<0>(last), field::<1>(last), field::<2>(last), field::<3>(last)];
            }
            let b = times_3(a);
            let c = times_3(b);
            let d = times_3(c);
            [top_trit(a), top_trit(b), top_trit(c), top_trit(d), top_trit(times_3(d))]
        }
    }
    #[inline(always)]
    fn nothing_looked_up(self) -> [__m512i; 2] {
        // SAFETY: see the impl.
        unsafe { [_mm512_setzero_si512(); 2] }
    }
    #[inline(always)]
    fn look_up(
        self,
        sums: [__m512i; 2],
        codes: &CodeRegister,
        [low, high]: &[NibbleTable; 2],
    ) -> [__m512i; 2] {
        // SAFETY: see the impl.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            if VBMI {
                let sums = add_entries_of_nibbles(sums, codes, low);
                return add_entries_of_nibbles(sums, _mm512_srli_epi16::<4>(codes), high);
            }
            let codes = by_byte_of_group(codes);
            let sums = add_entries_by_quarter(sums, codes, low);
            add_entries_by_quarter(sums, _mm512_srli_epi16::<4>(codes), high)
        }
    }
    #[inline(always)]
    fn looked_up(self, [a, b]: [__m512i; 2]) -> __m512i {
        // SAFETY: see the impl.
        unsafe {
            if VBMI {
                return _mm512_add_epi32(a, _mm512_slli_epi32::<8>(b));
            }
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(sum_of_quarters(a)), sum_of_quarters(b))
        }
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn byte_to_f32(self, a: __m512i, i: u32) -> __m512 {
        // SAFETY: see the impl.
        unsafe {
            let low = _mm512_srl_epi32(a, _mm_cvtsi32_si128(8 * i as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(low, _mm512_set1_epi32(0xff)))
        }
    }
    #[inline(always)]
    fn dot_u6(self, acc: __m512i, codes: __m512i, x: i32) -> __m512i {
        self.dot_u8(acc, codes, x)
    }
    #[inline(always)]
    fn dot_u8(self, acc: __m512i, codes: __m512i, x: i32) -> __m512i {
        // SAFETY: see the impl.
        unsafe { _mm512_dpbusd_epi32(acc, codes, _mm512_set1_epi32(x)) }
    }
}

/// `bytes * 3`, bytewise.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn times_3(bytes: __m512i) -> __m512i {
    _mm512_add_epi8(bytes, _mm512_add_epi8(bytes, bytes))
}

/// `3 * byte / 256`: the upper two bits of the mean of a byte and its half, all rounded down; instructions round means up, so
/// they are taken of complements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn top_trit(bytes: __m512i) -> __m512i {
    let ones = _mm512_set1_epi8(-1);
    let complement = _mm512_xor_si512(bytes, ones);
    let mean = _mm512_avg_epu8(complement, _mm512_avg_epu8(complement, ones));
    _mm512_andnot_si512(_mm512_srli_epi16::<6>(mean), _mm512_set1_epi8(3))
}

/// Bits `2 I` and `2 I + 1` of every byte, by a product with a matrix of bits: byte `7 - i` of that says which bits make bit `i`.
#[inline]
#[target_feature(enable = "avx512f,gfni")]
fn field<const I: u32>(bytes: __m512i) -> __m512i {
    _mm512_gf2p8affine_epi64_epi8::<0>(bytes, _mm512_set1_epi64(0x0102_0000_0000_0000 << (2 * I)))
}

/// Adds the entries that the low halves of `codes` have in `table`: one register of 64 entries serves all bytes, so what is looked
/// up for the four bytes of a group lies side by side, and a dot product with ones adds it to 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
fn add_entries_of_nibbles([low, high]: [__m512i; 2], codes: __m512i, table: &NibbleTable) -> [__m512i; 2] {
    // Of each byte of a group, 16 times `TABLE_OF_BYTE`.
    let tables = _mm512_set1_epi32(0x3010_2000);
    let entries = _mm512_ternarylogic_epi32::<0xf8>(tables, codes, _mm512_set1_epi8(15));
    let ones = _mm512_set1_epi8(1);
    // SAFETY: the pointers are to whole registers.
    unsafe {
        let low_bytes = _mm512_permutexvar_epi8(entries, _mm512_loadu_si512(table.low.as_ptr().cast()));
        let high_bytes = _mm512_permutexvar_epi8(entries, _mm512_loadu_si512(table.high.as_ptr().cast()));
        [_mm512_dpbusd_epi32(low, low_bytes, ones), _mm512_dpbusd_epi32(high, ones, high_bytes)]
    }
}

/// The first bytes of all groups in the first quarter, the third ones in the second, then the second and the fourth.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn by_byte_of_group(bytes: __m512i) -> __m512i {
    let words = _mm512_set4_epi32(0x0f0b_0703, 0x0d09_0501, 0x0e0a_0602, 0x0c08_0400);
    let quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(quarters, _mm512_shuffle_epi8(bytes, words))
}

/// Adds the entries that the low halves of `codes`, in the order of [`by_byte_of_group`], have in `table`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_entries_by_quarter([first, last]: [__m512i; 2], codes: __m512i, table: &NibbleTable) -> [__m512i; 2] {
    let entries = _mm512_and_si512(codes, _mm512_set1_epi8(15));
    // SAFETY: the pointers are to whole registers.
    unsafe {
        let low = _mm512_shuffle_epi8(_mm512_loadu_si512(table.low.as_ptr().cast()), entries);
        let high = _mm512_shuffle_epi8(_mm512_loadu_si512(table.high.as_ptr().cast()), entries);
        [
            _mm512_add_epi16(first, _mm512_unpacklo_epi8(low, high)),
            _mm512_add_epi16(last, _mm512_unpackhi_epi8(low, high)),
        ]
    }
}

/// Sums over the quarters of `i16`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sum_of_quarters(v: __m512i) -> __m256i {
    let halves = _mm512_add_epi32(
        _mm512_cvtepi16_epi32(_mm512_castsi512_si256(v)),
        _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64::<1>(v)),
    );
    _mm256_add_epi32(_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64::<1>(halves))
}
