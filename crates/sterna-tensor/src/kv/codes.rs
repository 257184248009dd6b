//! Keys and values as codes of 8 or 4 bits, for products of integers.
//!
//! Every 32 elements of a key or value of one head share an `f16` scale `d`: an element is `d (code - ZERO)`. A strip is
//!
//! ```text
//! keys:    scales [head_dim / 32][64] | codes [tile of 16 positions][head_dim / 32][quad of elements]
//! values:  scales [head_dim / 32][64] | codes [head_dim / 32][quad of positions][half of the 32 elements]
//! ```
//!
//! A quad is what one dot product instruction takes, as in packed weights: sixteen groups of four codes. Of keys, they are four
//! elements of sixteen positions; of values, sixteen elements of four positions. Two neighbouring quads are two registers of
//! bytes, or the low and the high halves of the bytes of one.

use std::marker::PhantomData;

use half::f16;

use super::{CacheLine, KvPage, KvType, STRIP};
use crate::ops::load_partial;
use crate::simd::{CodeRegister, Kernel, LANES, Simd};

/// Elements that share a scale.
pub(crate) const GROUP: usize = 32;

/// Pairs of quads of all keys, or of all values, of a strip and 32 elements.
pub(crate) const PAIRS: usize = STRIP * GROUP / 128;

/// A width of code.
pub(crate) trait CodeWidth: 'static {
    const TYPE: KvType;
    /// The code of zero; codes go from 0 to `2 ZERO - 1`.
    const ZERO: u8;
    /// Registers that hold a pair of quads.
    const PER_PAIR: usize;

    /// Quad `half` (0 or 1) of a pair.
    fn quad<S: Simd>(s: S, pair: &[CodeRegister], half: usize) -> S::U8;

    /// `acc` plus the dot products of a quad with `x`, exactly; each code less [`CodeWidth::offset`].
    fn dot<S: Simd>(s: S, acc: S::I32, quad: S::U8, x: i32) -> S::I32;

    /// What [`CodeWidth::dot`] takes off every code.
    fn offset<S: Simd>() -> i32;

    /// Sets code `i` of quad `half` of a pair.
    fn set(pair: &mut [CodeRegister], half: usize, i: usize, code: u8);
}

pub(crate) struct Int8;
pub(crate) struct Int4;

impl CodeWidth for Int8 {
    const TYPE: KvType = KvType::Int8;
    const ZERO: u8 = 128;
    const PER_PAIR: usize = 2;

    #[inline(always)]
    fn quad<S: Simd>(s: S, pair: &[CodeRegister], half: usize) -> S::U8 {
        s.load_bytes(&pair[half])
    }
    #[inline(always)]
    fn dot<S: Simd>(s: S, acc: S::I32, quad: S::U8, x: i32) -> S::I32 {
        s.dot_u8(acc, quad, x)
    }
    #[inline(always)]
    fn offset<S: Simd>() -> i32 {
        S::U8_OFFSET
    }
    #[inline(always)]
    fn set(pair: &mut [CodeRegister], half: usize, i: usize, code: u8) {
        pair[half][i] = code;
    }
}

impl CodeWidth for Int4 {
    const TYPE: KvType = KvType::Int4;
    const ZERO: u8 = 8;
    const PER_PAIR: usize = 1;

    #[inline(always)]
    fn quad<S: Simd>(s: S, pair: &[CodeRegister], half: usize) -> S::U8 {
        let codes = s.load_bytes(&pair[0]);
        if half == 0 { s.and(codes, 0x0f) } else { s.shr_and(codes, 4, 0x0f) }
    }
    #[inline(always)]
    fn dot<S: Simd>(s: S, acc: S::I32, quad: S::U8, x: i32) -> S::I32 {
        s.dot_u6(acc, quad, x)
    }
    #[inline(always)]
    fn offset<S: Simd>() -> i32 {
        0
    }
    #[inline(always)]
    fn set(pair: &mut [CodeRegister], half: usize, i: usize, code: u8) {
        let byte = &mut pair[0][i];
        *byte = if half == 0 { *byte & 0xf0 | code } else { *byte & 0x0f | code << 4 };
    }
}

/// Lines of the keys, or of the values, of a strip.
pub(super) fn strip_lines<C: CodeWidth>(head_dim: usize) -> usize {
    head_dim.div_ceil(GROUP) * (SCALE_LINES + PAIRS * C::PER_PAIR)
}

/// Lines of a head of a page.
pub(super) fn head_lines<C: CodeWidth>(head_dim: usize) -> usize {
    KvPage::LEN / STRIP * 2 * strip_lines::<C>(head_dim)
}

/// Lines of the scales of a strip and 32 elements.
const SCALE_LINES: usize = STRIP * size_of::<f16>() / size_of::<CacheLine>();

/// The keys, or the values, of a strip.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    /// Bits of the scales, for every 32 elements.
    pub(crate) scales: &'a [[u16; STRIP]],
    pub(crate) codes: &'a [CodeRegister],
}

impl KvPage {
    /// The keys and the values of the positions of `head` from `slot` on, which is a multiple of [`STRIP`].
    pub(crate) fn strip<C: CodeWidth>(&self, head: usize, slot: usize) -> [Strip<'_>; 2] {
        assert!(self.ty == C::TYPE && head < self.n_kv_heads);
        let len = strip_lines::<C>(self.head_dim);
        let first = head * head_lines::<C>(self.head_dim) + slot / STRIP * 2 * len;
        let lines = &self.lines[first..first + 2 * len];
        [&lines[..len], &lines[len..]].map(|lines| {
            let (scales, codes) = lines.split_at(self.head_dim.div_ceil(GROUP) * SCALE_LINES);
            Strip { scales: bytemuck::cast_slice(scales), codes: bytemuck::cast_slice(codes) }
        })
    }
}

/// Rounds one position of all heads of a page.
pub(super) struct WriteCodes<'a, C> {
    pub(super) page: &'a mut [CacheLine],
    pub(super) head_dim: usize,
    pub(super) slot: usize,
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) width: PhantomData<C>,
}

impl<C: CodeWidth> Kernel for WriteCodes<'_, C> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let WriteCodes { page, head_dim, slot, key, value, .. } = self;
        let (n_groups, strip_len) = (head_dim.div_ceil(GROUP), strip_lines::<C>(head_dim));
        let at = slot % STRIP;
        let heads = key.chunks_exact(head_dim).zip(value.chunks_exact(head_dim));
        for (head, (key, value)) in page.chunks_exact_mut(head_lines::<C>(head_dim)).zip(heads) {
            let (strips, _) = head[slot / STRIP * 2 * strip_len..].split_at_mut(2 * strip_len);
            let (keys, values) = strips.split_at_mut(strip_len);
            let tile = at / LANES * n_groups;
            write_groups::<S, C>(s, keys, at, key, |group, element| {
                let pair = (tile + group) * (GROUP / 8) + element / 8;
                (pair, element / 4 % 2, at % LANES * 4 + element % 4)
            });
            write_groups::<S, C>(s, values, at, value, |group, element| {
                (group * PAIRS + at / 4, element / LANES, element % LANES * 4 + at % 4)
            });
        }
    }
}

/// Writes position `at` of the keys, or of the values, of a strip; `place` gives pair, quad and number of a code by its group
/// and element.
#[inline(always)]
fn write_groups<S: Simd, C: CodeWidth>(
    s: S,
    strip: &mut [CacheLine],
    at: usize,
    elements: &[f32],
    place: impl Fn(usize, usize) -> (usize, usize, usize),
) {
    let (scales, codes) = strip.split_at_mut(elements.len().div_ceil(GROUP) * SCALE_LINES);
    let scales: &mut [[u16; STRIP]] = bytemuck::cast_slice_mut(scales);
    let codes: &mut [CodeRegister] = bytemuck::cast_slice_mut(codes);
    for (group, part) in elements.chunks(GROUP).enumerate() {
        let (scale, rounded) = round_group::<S, C>(s, part);
        scales[group][at] = scale.to_bits();
        for (element, code) in rounded.into_iter().enumerate() {
            let (pair, half, i) = place(group, element);
            C::set(&mut codes[pair * C::PER_PAIR..][..C::PER_PAIR], half, i, code);
        }
    }
}

/// The scale and the codes of up to 32 elements. The element furthest from zero gets the code furthest from that of zero,
/// of which there is one more below than above.
#[inline(always)]
fn round_group<S: Simd, C: CodeWidth>(s: S, elements: &[f32]) -> (f16, [u8; GROUP]) {
    let (low, high) = elements.split_at(elements.len().min(LANES));
    let [low, high] = [load_partial(s, low), load_partial(s, high)];
    let largest = s.reduce_max(s.max(low, high));
    let least = -s.reduce_max(s.max(s.sub(s.splat(0.0), low), s.sub(s.splat(0.0), high)));
    let zero = f32::from(C::ZERO);
    let scale = f16::from_f32(if -least >= largest { least / -zero } else { largest / -zero });
    let per_unit = if scale == f16::ZERO { 0.0 } else { 1.0 / scale.to_f32() };
    let mut codes = [[0; LANES]; 2];
    for (v, codes) in [low, high].into_iter().zip(&mut codes) {
        let code = s.mul_add(v, s.splat(per_unit), s.splat(zero));
        let code = s.max(s.splat(0.0), s.min(s.splat(2.0 * zero - 1.0), code));
        s.store_low_bytes(s.to_i32(code), codes);
    }
    (scale, bytemuck::cast(codes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Isa;

    /// The element that code `(pair, half, i)` of a strip with scale `scale` stands for.
    fn element<C: CodeWidth>(strip: Strip<'_>, scale: u16, (pair, half, i): (usize, usize, usize)) -> f32 {
        let code = match C::PER_PAIR {
            2 => strip.codes[2 * pair + half][i],
            _ => strip.codes[pair][i] >> (4 * half) & 0x0f,
        };
        f16::from_bits(scale).to_f32() * (f32::from(code) - f32::from(C::ZERO))
    }

    /// The key and the value of position `slot`, read as the layout is drawn above.
    fn read<C: CodeWidth>(page: &KvPage, head: usize, slot: usize) -> [Vec<f32>; 2] {
        let n_groups = page.head_dim().div_ceil(GROUP);
        let at = slot % STRIP;
        let [keys, values] = page.strip::<C>(head, slot - at);
        let key = |d: usize| {
            let quad = (at / 16 * n_groups + d / 32) * 8 + d % 32 / 4;
            element::<C>(keys, keys.scales[d / 32][at], (quad / 2, quad % 2, at % 16 * 4 + d % 4))
        };
        let value = |d: usize| {
            let place = (d / 32 * 16 + at / 4, d % 32 / 16, d % 16 * 4 + at % 4);
            element::<C>(values, values.scales[d / 32][at], place)
        };
        [(0..page.head_dim()).map(key).collect(), (0..page.head_dim()).map(value).collect()]
    }

    impl KvPage {
        /// The key and the value of position `slot` of a head of codes.
        pub(crate) fn decoded(&self, head: usize, slot: usize) -> [Vec<f32>; 2] {
            match self.ty {
                KvType::Int8 => read::<Int8>(self, head, slot),
                _ => read::<Int4>(self, head, slot),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn codes_are_half_a_step_off_at_most(
            (key, value) in (1usize..80).prop_flat_map(|head_dim| {
                let element = prop_oneof![6 => -3.0f32..3.0, 1 => Just(0.0), 1 => -400.0f32..400.0];
                let elements = || prop::collection::vec(element.clone(), 2 * head_dim);
                (elements(), elements())
            }),
            slot in 0..KvPage::LEN,
        ) {
            let head_dim = key.len() / 2;
            for (ty, steps) in [(KvType::Int8, 128.0), (KvType::Int4, 8.0)] {
                let mut pages = Isa::available().into_iter().map(|isa| {
                    let mut page = KvPage::new(2, head_dim, ty);
                    // What was there before leaves no trace.
                    page.write(isa, slot, &value, &key);
                    page.write(isa, slot, &key, &value);
                    page
                });
                let page = pages.next().unwrap();
                for head in 0..2 {
                    for (wrote, read) in [&key, &value].into_iter().zip(page.decoded(head, slot)) {
                        let wrote = &wrote[head * head_dim..][..head_dim];
                        for (wrote, read) in wrote.chunks(GROUP).zip(read.chunks(GROUP)) {
                            let largest = wrote.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                            for (wrote, read) in wrote.iter().zip(read) {
                                // As large as the largest but of the other sign, it is a whole step off.
                                let steps_off = (wrote - read).abs() / (largest / steps).max(1e-6);
                                prop_assert!(steps_off <= 1.05, "{} became {}", wrote, read);
                            }
                        }
                    }
                }
                for other in pages {
                    prop_assert_eq!(other.as_bytes(), page.as_bytes());
                }
            }
        }
    }
}
