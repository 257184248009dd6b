//! Cached keys and values of one layer, laid out for [`attention`](crate::ops::attention).
//!
//! A page holds [`KvPage::LEN`] positions of all heads, head by head. A head is [strips](STRIP) of 64 positions, each the keys and
//! then the values, so that a decode step reads it from front to back, once. `floats.rs` and `codes.rs` draw strips of their
//! elements. Unwritten elements are zero.

pub(crate) mod codes;
pub(crate) mod floats;

use std::fmt;
use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use crate::simd::LANES;
use crate::{Isa, ShapeError};
use codes::{CodeWidth, Int4, Int8, WriteCodes};
use floats::WriteFloats;

/// Positions whose keys, and whose values, lie together.
pub(crate) const STRIP: usize = 64;

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
                isa.run(WriteFloats { page, head_dim, slot, key, value });
            }
            KvType::F32 => {
                let page: &mut [f32] = bytemuck::cast_slice_mut(&mut self.lines);
                isa.run(WriteFloats { page, head_dim, slot, key, value });
            }
            KvType::Int8 => self.write_codes::<Int8>(isa, slot, key, value),
            KvType::Int4 => self.write_codes::<Int4>(isa, slot, key, value),
        }
    }

    fn write_codes<C: CodeWidth>(&mut self, isa: Isa, slot: usize, key: &[f32], value: &[f32]) {
        let (page, head_dim, width) = (&mut *self.lines, self.head_dim, PhantomData::<C>);
        isa.run(WriteCodes { page, head_dim, slot, key, value, width });
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
            KvType::F16 => 2 * floats::head_len(head_dim),
            KvType::F32 => 4 * floats::head_len(head_dim),
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

/// Elements of a row of weighted values: whole pairs of vectors.
pub(crate) fn value_row_len(head_dim: usize) -> usize {
    head_dim.next_multiple_of(2 * LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
