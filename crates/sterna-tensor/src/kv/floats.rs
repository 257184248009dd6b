//! Keys and values as floats. A strip is
//!
//! ```text
//! keys:    [head_dim][64 positions]
//! values:  [panel of 4 vectors, of 2 at the end of some][64 positions][vectors of the panel][16 elements]
//! ```
//!
//! The scores of 16 positions are sums over `head_dim` of one broadcast query element times one vector, without a horizontal
//! sum, and weighted values are sums over positions of one broadcast weight times one. Four such vectors side by side are as
//! many as a product takes at once.

use bytemuck::Pod;

use super::{KvPage, KvType, STRIP, value_row_len};
use crate::ops::load_partial;
use crate::simd::{Kernel, LANES, Simd};

/// Vectors of values that lie together.
const PANEL: usize = 4;

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

/// Some columns of vectors; a row of it is a dimension of keys, or a position of values.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a, T> {
    /// From the first column on.
    pub(crate) data: &'a [[T; LANES]],
    /// Vectors from one row to the next.
    pub(crate) step: usize,
}

/// The keys and the values of a strip.
#[derive(Clone, Copy)]
pub(crate) struct FloatStrip<'a, T> {
    keys: &'a [[T; LANES]],
    values: &'a [[T; LANES]],
}

impl<'a, T> FloatStrip<'a, T> {
    /// Keys of sixteen positions a column, from tile `first` on: `head_dim` rows.
    pub(crate) fn keys(self, first: usize) -> Panel<'a, T> {
        Panel { data: &self.keys[first..], step: STRIP / LANES }
    }

    /// Sixteen elements of the values a column, from column `first` on: 64 rows, of as many columns as end before a fourth.
    pub(crate) fn values(self, first: usize) -> Panel<'a, T> {
        let (panel, column) = (first / PANEL, first % PANEL);
        let n_columns = self.values.len() / STRIP;
        let data = &self.values[panel * PANEL * STRIP + column..];
        Panel { data, step: PANEL.min(n_columns - panel * PANEL) }
    }
}

/// Elements of the keys of a strip, and of the values.
fn strip_len(head_dim: usize) -> [usize; 2] {
    [STRIP * head_dim, STRIP * value_row_len(head_dim)]
}

/// Elements of one head of a page.
pub(super) fn head_len(head_dim: usize) -> usize {
    KvPage::LEN / STRIP * strip_len(head_dim).iter().sum::<usize>()
}

impl KvPage {
    /// The keys and the values of the positions of `head` from `slot` on, which is a multiple of [`STRIP`].
    pub(crate) fn float_strip<T: KvElement>(&self, head: usize, slot: usize) -> FloatStrip<'_, T> {
        assert!(self.ty == T::TYPE && head < self.n_kv_heads);
        let [keys, values] = strip_len(self.head_dim);
        let first = head * head_len(self.head_dim) + slot / STRIP * (keys + values);
        let strip = &bytemuck::cast_slice(&self.lines)[first..first + keys + values];
        let (keys, values) = strip.split_at(keys);
        FloatStrip { keys: keys.as_chunks().0, values: values.as_chunks().0 }
    }
}

/// Stores one position of all heads of a page.
pub(super) struct WriteFloats<'a, T> {
    pub(super) page: &'a mut [T],
    pub(super) head_dim: usize,
    pub(super) slot: usize,
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
}

impl<T: KvElement> Kernel for WriteFloats<'_, T> {
    type Output = ();
    const DOTS: bool = false;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let WriteFloats { page, head_dim, slot, key, value } = self;
        let [keys_len, values_len] = strip_len(head_dim);
        let at = slot % STRIP;
        let heads = key.chunks_exact(head_dim).zip(value.chunks_exact(head_dim));
        for (head, (key, value)) in page.chunks_exact_mut(head_len(head_dim)).zip(heads) {
            let strip = &mut head[slot / STRIP * (keys_len + values_len)..][..keys_len + values_len];
            let (keys, values) = strip.split_at_mut(keys_len);
            for (part, dimensions) in key.chunks(LANES).zip(keys.chunks_mut(LANES * STRIP)) {
                let mut rounded = [T::zeroed(); LANES];
                T::store(simd, load_partial(simd, part), &mut rounded);
                for (element, positions) in rounded.into_iter().zip(dimensions.chunks_exact_mut(STRIP)) {
                    positions[at] = element;
                }
            }
            for (part, panel) in value.chunks(PANEL * LANES).zip(values.chunks_mut(PANEL * LANES * STRIP)) {
                let columns = panel.len() / STRIP / LANES;
                let row = &mut panel.as_chunks_mut().0[at * columns..][..columns];
                for (part, to) in part.chunks(LANES).zip(row) {
                    T::store(simd, load_partial(simd, part), to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn what_is_written_lies_where_the_layout_says() {
        for head_dim in [20, 80, 128] {
            let n_kv_heads = 2;
            let key: Vec<f32> = (0..n_kv_heads * head_dim).map(|i| i as f32 + 0.5).collect();
            let value: Vec<f32> = key.iter().map(|k| -k).collect();
            for isa in Isa::available() {
                for slot in [0, 17, 255] {
                    let mut page = KvPage::new(n_kv_heads, head_dim, KvType::F16);
                    page.write(isa, slot, &key, &value);
                    let half = |x: f32| half::f16::from_f32(x).to_bits();
                    for head in 0..n_kv_heads {
                        let strip = page.float_strip::<u16>(head, slot / 64 * 64);
                        let at = slot % 64;
                        for d in 0..head_dim {
                            let i = head * head_dim + d;
                            assert_eq!(strip.keys.as_flattened()[d * 64 + at], half(key[i]));
                            // Elements to a position of the panel of `d`: 64, or what is left of the padded row.
                            let width = (head_dim.next_multiple_of(32) - d / 64 * 64).min(64);
                            let place = d / 64 * 64 * 64 + at * width + d % 64;
                            assert_eq!(strip.values.as_flattened()[place], half(value[i]));
                        }
                    }
                    let written =
                        bytemuck::cast_slice::<_, u16>(&page.lines).iter().filter(|&&bits| bits != 0).count();
                    assert_eq!(written, 2 * key.len());
                }
            }
        }
    }

    #[test]
    fn single_precision_keeps_every_bit() {
        let mut page = KvPage::new(1, 3, KvType::F32);
        page.write(Isa::best(), 5, &[0.1, 0.2, 0.3], &[1e-30, 2.0, 3.0]);
        let strip = page.float_strip::<f32>(0, 0);
        assert_eq!(strip.keys.as_flattened()[2 * 64 + 5], 0.3);
        assert_eq!(strip.values.as_flattened()[5 * 32..][..3], [1e-30, 2.0, 3.0]);
        assert_eq!(page.n_bytes(), 256 * (3 + 32) * 4);
    }
}
