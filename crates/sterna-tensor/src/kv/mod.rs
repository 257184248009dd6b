//! Cached keys and values of one layer, laid out for [`attention`](crate::ops::attention).
//!
//! A page holds [`KvPage::LEN`] positions. Where elements are floats, it has the keys and then the values of every head:
//!
//! * keys in tiles of 16 positions, `[LEN / 16, head_dim, 16]`: the scores of 16 positions are sums over `head_dim` of
//!   one broadcast query element times one vector, without a horizontal sum;
//! * values position by position, `[LEN, head_dim rounded up to 32]`: the output is a sum over positions of one
//!   broadcast probability times a row.
//!
//! Both are read from front to back, once, by a decode step. Unwritten elements are zero. `codes.rs` draws pages of codes.

pub(crate) mod codes;

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use crate::ops::load_partial;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Isa, ShapeError};
use codes::{CodeWidth, Int4, Int8, WriteCodes};

/// How cached keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KvType {
    /// Half precision: half the memory, and half the time of attention over a long context.
    #[default]
    F16,
    /// Single precision: exactly what was computed.
    F32,
    /// Codes of 8 bits, and a scale for every 32 elements of a head: 8.5 bits an element.
    Int8,
    /// The same with codes of 4 bits: 4.5 bits an element.
    Int4,
}

/// The keys and values of [`KvPage::LEN`] positions of one layer.
#[derive(Debug, Clone)]
pub struct KvPage {
    n_kv_heads: usize,
    head_dim: usize,
    ty: KvType,
    lines: Box<[CacheLine]>,
}

/// The pages of a layer that attention reads.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// Consecutive pages. With a sliding window, pages that no query sees any more need not be there.
    pub pages: &'a [KvPage],
    /// The position in the sequence of the first slot of the first page, a multiple of [`KvPage::LEN`].
    pub start: usize,
}

#[derive(Debug, Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl KvPage {
    /// Positions per page.
    pub const LEN: usize = 256;

    /// An empty page.
    #[must_use]
    pub fn new(n_kv_heads: usize, head_dim: usize, ty: KvType) -> KvPage {
        let n_lines = ty.page_bytes(n_kv_heads, head_dim) / size_of::<CacheLine>();
        KvPage { n_kv_heads, head_dim, ty, lines: vec![CacheLine([0; 64]); n_lines].into() }
    }

    /// Heads that it holds.
    #[must_use]
    pub fn n_kv_heads(&self) -> usize {
        self.n_kv_heads
    }

    /// Elements per key, and per value.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// How elements are stored.
    #[must_use]
    pub fn ty(&self) -> KvType {
        self.ty
    }

    /// Bytes of memory.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// All of it as it lies in memory, for a file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    /// The page whose [`KvPage::as_bytes`] are `bytes`. Any bytes of the right length are a page of some keys and values.
    ///
    /// # Errors
    /// [`ShapeError::Length`] when there are more or fewer.
    pub fn from_bytes(
        n_kv_heads: usize,
        head_dim: usize,
        ty: KvType,
        bytes: &[u8],
    ) -> Result<KvPage, ShapeError> {
        let mut page = KvPage::new(n_kv_heads, head_dim, ty);
        let (expected, found) = (page.n_bytes(), bytes.len());
        if found != expected {
            let kind = format!("{ty} page");
            return Err(ShapeError::Length { rows: n_kv_heads, cols: head_dim, kind, expected, found });
        }
        bytemuck::cast_slice_mut(&mut page.lines).copy_from_slice(bytes);
        Ok(page)
    }

    /// Stores the key and value `[n_kv_heads * head_dim]` of one position in `slot`, which is the position modulo
    /// [`KvPage::LEN`]. Types that do not hold them exactly round to nearest, ties to even.
    ///
    /// # Panics
    /// When `slot` is not in the page or a length is wrong.
    pub fn write(&mut self, isa: Isa, slot: usize, key: &[f32], value: &[f32]) {
        assert!(slot < KvPage::LEN, "slot {slot} of {}", KvPage::LEN);
        assert_eq!(key.len(), self.n_kv_heads * self.head_dim, "elements of a key");
        assert_eq!(value.len(), key.len(), "elements of a value");
        if key.is_empty() {
            return;
        }
        let head_dim = self.head_dim;
        match self.ty {
            KvType::F16 => {
                let page: &mut [u16] = bytemuck::cast_slice_mut(&mut self.lines);
                isa.run(Write { page, head_dim, slot, key, value });
            }
            KvType::F32 => {
                let page: &mut [f32] = bytemuck::cast_slice_mut(&mut self.lines);
                isa.run(Write { page, head_dim, slot, key, value });
            }
            KvType::Int8 => self.write_codes::<Int8>(isa, slot, key, value),
            KvType::Int4 => self.write_codes::<Int4>(isa, slot, key, value),
        }
    }

    fn write_codes<C: CodeWidth>(&mut self, isa: Isa, slot: usize, key: &[f32], value: &[f32]) {
        let (page, head_dim, width) = (&mut *self.lines, self.head_dim, PhantomData::<C>);
        isa.run(WriteCodes { page, head_dim, slot, key, value, width });
    }

    /// Keys `[LEN / 16, head_dim, 16]` of a head.
    pub(crate) fn keys<T: KvElement>(&self, head: usize) -> &[[T; LANES]] {
        let (tiles, _) = self.head(head).split_at(KvPage::LEN / LANES * self.head_dim * LANES);
        tiles.as_chunks().0
    }

    /// Values `[LEN, value_row_len(head_dim)]` of a head.
    pub(crate) fn values<T: KvElement>(&self, head: usize) -> &[[T; LANES]] {
        let (_, rows) = self.head(head).split_at(KvPage::LEN * self.head_dim);
        rows.as_chunks().0
    }

    fn head<T: KvElement>(&self, head: usize) -> &[T] {
        assert!(self.ty == T::TYPE && head < self.n_kv_heads);
        let n = head_len(self.head_dim);
        &bytemuck::cast_slice(&self.lines)[head * n..][..n]
    }
}

impl KvView<'_> {
    /// The position after the last slot.
    pub(crate) fn end(&self) -> usize {
        self.start + self.pages.len() * KvPage::LEN
    }
}

impl KvType {
    /// All there are, the most exact first.
    pub const ALL: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Int8, KvType::Int4];

    /// Whether keys are worth a [rotation](crate::ops::hadamard) before they are rounded, and queries with them.
    #[must_use]
    pub fn rotates_keys(self) -> bool {
        self == KvType::Int4
    }

    /// Bytes of a [`KvPage`]: of [`KvPage::LEN`] positions of a layer.
    #[must_use]
    pub fn page_bytes(self, n_kv_heads: usize, head_dim: usize) -> usize {
        let head_bytes = match self {
            KvType::F16 => 2 * head_len(head_dim),
            KvType::F32 => 4 * head_len(head_dim),
            KvType::Int8 => codes::head_lines::<Int8>(head_dim) * size_of::<CacheLine>(),
            KvType::Int4 => codes::head_lines::<Int4>(head_dim) * size_of::<CacheLine>(),
        };
        n_kv_heads * head_bytes
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
            KvType::Int8 => "int8",
            KvType::Int4 => "int4",
        })
    }
}

/// Elements of one head of a page, keys and values.
fn head_len(head_dim: usize) -> usize {
    KvPage::LEN * (head_dim + value_row_len(head_dim))
}

/// Elements from one value to the next: whole pairs of vectors.
pub(crate) fn value_row_len(head_dim: usize) -> usize {
    head_dim.next_multiple_of(2 * LANES)
}

/// What a page may be made of: `f32`, or the bits of an `f16`.
pub(crate) trait KvElement: Pod {
    const TYPE: KvType;
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F32;
    fn store<S: Simd>(simd: S, v: S::F32, to: &mut [Self; LANES]);
}

impl KvElement for u16 {
    const TYPE: KvType = KvType::F16;
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[u16; LANES]) -> S::F32 {
        simd.load_f16(from)
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, v: S::F32, to: &mut [u16; LANES]) {
        simd.store_f16(v, to);
    }
}

impl KvElement for f32 {
    const TYPE: KvType = KvType::F32;
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f32; LANES]) -> S::F32 {
        simd.load(from)
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, v: S::F32, to: &mut [f32; LANES]) {
        simd.store(v, to);
    }
}

struct Write<'a, T> {
    page: &'a mut [T],
    head_dim: usize,
    slot: usize,
    key: &'a [f32],
    value: &'a [f32],
}

impl<T: KvElement> Kernel for Write<'_, T> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Write { page, head_dim, slot, key, value } = self;
        let heads = key.chunks_exact(head_dim).zip(value.chunks_exact(head_dim));
        for (head, (key, value)) in page.chunks_exact_mut(head_len(head_dim)).zip(heads) {
            let (keys, values) = head.split_at_mut(KvPage::LEN * head_dim);
            let tile = &mut keys[slot / LANES * head_dim * LANES..][..head_dim * LANES];
            let row_len = value_row_len(head_dim);
            let row = &mut values[slot * row_len..][..row_len];
            for (i, part) in key.chunks(LANES).enumerate() {
                let mut rounded = [T::zeroed(); LANES];
                T::store(simd, load_partial(simd, part), &mut rounded);
                for (d, element) in rounded.into_iter().take(part.len()).enumerate() {
                    tile[(i * LANES + d) * LANES + slot % LANES] = element;
                }
            }
            for (part, out) in value.chunks(LANES).zip(row.as_chunks_mut().0) {
                T::store(simd, load_partial(simd, part), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_lies_where_the_layout_says() {
        let (n_kv_heads, head_dim) = (2, 20);
        let key: Vec<f32> = (0..40).map(|i| i as f32 + 0.5).collect();
        let value: Vec<f32> = key.iter().map(|k| -k).collect();
        for isa in Isa::available() {
            for slot in [0, 17, 255] {
                let mut page = KvPage::new(n_kv_heads, head_dim, KvType::F16);
                page.write(isa, slot, &key, &value);
                let half = |x: f32| half::f16::from_f32(x).to_bits();
                for head in 0..n_kv_heads {
                    for d in 0..head_dim {
                        let i = head * head_dim + d;
                        assert_eq!(page.keys::<u16>(head)[slot / 16 * head_dim + d][slot % 16], half(key[i]));
                        assert_eq!(page.values::<u16>(head).as_flattened()[slot * 32 + d], half(value[i]));
                    }
                }
                let written =
                    bytemuck::cast_slice::<_, u16>(&page.lines).iter().filter(|&&bits| bits != 0).count();
                assert_eq!(written, 2 * key.len());
            }
        }
    }

    #[test]
    fn a_page_is_its_bytes() {
        let mut page = KvPage::new(2, 5, KvType::F16);
        page.write(Isa::best(), 200, &[0.5; 10], &[-2.0; 10]);
        let bytes = page.as_bytes();
        let again = KvPage::from_bytes(2, 5, KvType::F16, bytes).unwrap();
        assert_eq!(again.as_bytes(), bytes);
        for wrong in [&bytes[1..], &[bytes, &[0]].concat()] {
            assert!(KvPage::from_bytes(2, 5, KvType::F16, wrong).is_err());
        }
    }

    #[test]
    fn single_precision_keeps_every_bit() {
        let mut page = KvPage::new(1, 3, KvType::F32);
        page.write(Isa::best(), 5, &[0.1, 0.2, 0.3], &[1e-30, 2.0, 3.0]);
        assert_eq!(page.keys::<f32>(0)[2][5], 0.3);
        assert_eq!(page.values::<f32>(0)[2 * 5][..3], [1e-30, 2.0, 3.0]);
        assert_eq!(page.n_bytes(), 256 * (3 + 32) * 4);
    }
}
