//! What stands beside the codes of sixteen rows: for each kind of scales, one plain struct per block of columns.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::format::byte_scale;
use super::source::Block;
use crate::simd::{LANES, Simd};

/// The scales of one block of columns of sixteen rows. Several blocks may share them.
pub(super) trait ScaleBlock: Pod {
    /// Groups of 32 columns in a block.
    const GROUPS: usize;
    /// Whether several blocks may share these scales.
    const SHARED: bool;
    /// Scales in a group: 1, or 2 of sixteen columns each.
    const PARTS: usize;
    /// Whether a minimum is added.
    const HAS_MIN: bool;

    /// Gathers the scales of sixteen rows.
    fn pack(rows: &[Block; LANES]) -> Self;
    /// The float scale and minimum of the block.
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32);
    /// The scale of part `part` of group `group`: that of the block, in formats with one level of scales.
    #[inline(always)]
    fn scale<S: Simd>(&self, _: S, head: (S::F32, S::F32), group: usize, part: usize) -> S::F32 {
        let _ = (group, part);
        head.0
    }
    /// What is added to the weights of group `group`; only if [`ScaleBlock::HAS_MIN`].
    #[inline(always)]
    fn min<S: Simd>(&self, _: S, head: (S::F32, S::F32), group: usize) -> S::F32 {
        let _ = group;
        head.1
    }
    /// What there is for row `lane`, in formats with one level of scales.
    fn group(&self, lane: usize) -> Option<RowGroup> {
        let _ = lane;
        None
    }
}

/// The scale of one group of one row, and its zero point or minimum in formats that have one.
pub(super) struct RowGroup {
    pub(super) d: f32,
    pub(super) zero_point: Option<u8>,
    pub(super) minimum: Option<f32>,
}

/// `d` of each row.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Group {
    d: [u16; LANES],
}

/// `d` of each row in a byte.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ByteGroup {
    d: [u8; LANES],
}

/// `d` and `m` of each row.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Min {
    d: [u16; LANES],
    m: [u16; LANES],
}

/// `d` and `m` of each row in full.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct WideMin {
    d: [f32; LANES],
    m: [f32; LANES],
}

/// `d` of each row, and its zero point in four bits: that of row `i < 8` in the low half of byte `i`, that of row `i + 8`
/// in the high half.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Affine {
    d: [u16; LANES],
    zeros: [u8; LANES / 2],
}

/// The same with `d` in a byte.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ByteAffine {
    d: [u8; LANES],
    zeros: [u8; LANES / 2],
}

/// `d`, the negated `m`, and for every group of 32 columns a scale and a minimum of each row.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SuperMin {
    d: [u16; LANES],
    m: [u16; LANES],
    scales: [[u8; LANES]; 8],
    mins: [[u8; LANES]; 8],
}

/// `d`, and for every sixteen columns a signed scale of each row.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SuperSigned {
    d: [u16; LANES],
    scales: [[u8; LANES]; 16],
}

impl ScaleBlock for Group {
    const GROUPS: usize = 1;
    const SHARED: bool = true;
    const PARTS: usize = 1;
    const HAS_MIN: bool = false;

    fn pack(rows: &[Block; LANES]) -> Self {
        Group { d: rows.each_ref().map(|block| block.d.to_bits()) }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        (s.load_f16(&self.d), s.splat(0.0))
    }
    fn group(&self, lane: usize) -> Option<RowGroup> {
        Some(RowGroup { d: f16::from_bits(self.d[lane]).to_f32(), zero_point: None, minimum: None })
    }
}

impl ScaleBlock for Min {
    const GROUPS: usize = 1;
    const SHARED: bool = true;
    const PARTS: usize = 1;
    const HAS_MIN: bool = true;

    fn pack(rows: &[Block; LANES]) -> Self {
        Min {
            d: rows.each_ref().map(|block| block.d.to_bits()),
            m: rows.each_ref().map(|block| block.m.to_bits()),
        }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        (s.load_f16(&self.d), s.load_f16(&self.m))
    }
    fn group(&self, lane: usize) -> Option<RowGroup> {
        let [d, m] = [self.d[lane], self.m[lane]].map(|bits| f16::from_bits(bits).to_f32());
        Some(RowGroup { d, zero_point: None, minimum: Some(m) })
    }
}

impl ScaleBlock for WideMin {
    const GROUPS: usize = 1;
    const SHARED: bool = true;
    const PARTS: usize = 1;
    const HAS_MIN: bool = true;

    fn pack(rows: &[Block; LANES]) -> Self {
        WideMin { d: rows.each_ref().map(|block| block.wide_d), m: rows.each_ref().map(|block| block.wide_m) }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        (s.load(&self.d), s.load(&self.m))
    }
    fn group(&self, lane: usize) -> Option<RowGroup> {
        Some(RowGroup { d: self.d[lane], zero_point: None, minimum: Some(self.m[lane]) })
    }
}

impl ScaleBlock for ByteGroup {
    const GROUPS: usize = 1;
    const SHARED: bool = true;
    const PARTS: usize = 1;
    const HAS_MIN: bool = false;

    fn pack(rows: &[Block; LANES]) -> Self {
        ByteGroup { d: rows.each_ref().map(|block| to_byte(block.d)) }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        (s.load_f16(&widen(&self.d)), s.splat(0.0))
    }
    fn group(&self, lane: usize) -> Option<RowGroup> {
        let d = f16::from_bits(byte_scale(self.d[lane])).to_f32();
        Some(RowGroup { d, zero_point: None, minimum: None })
    }
}

impl ScaleBlock for Affine {
    const GROUPS: usize = 1;
    const SHARED: bool = true;
    const PARTS: usize = 1;
    const HAS_MIN: bool = true;

    fn pack(rows: &[Block; LANES]) -> Self {
        Affine { d: rows.each_ref().map(|block| block.d.to_bits()), zeros: pack_zeros(rows) }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        affine_head(s, &self.d, &self.zeros)
    }
    fn group(&self, lane: usize) -> Option<RowGroup> {
        let zero_point = Some(zero_of(&self.zeros, lane));
        Some(RowGroup { d: f16::from_bits(self.d[lane]).to_f32(), zero_point, minimum: None })
    }
}

impl ScaleBlock for ByteAffine {
    const GROUPS: usize = 1;
    const SHARED: bool = true;
    const PARTS: usize = 1;
    const HAS_MIN: bool = true;

    fn pack(rows: &[Block; LANES]) -> Self {
        ByteAffine { d: rows.each_ref().map(|block| to_byte(block.d)), zeros: pack_zeros(rows) }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        affine_head(s, &widen(&self.d), &self.zeros)
    }
    fn group(&self, lane: usize) -> Option<RowGroup> {
        let d = f16::from_bits(byte_scale(self.d[lane])).to_f32();
        Some(RowGroup { d, zero_point: Some(zero_of(&self.zeros, lane)), minimum: None })
    }
}

/// The byte of a scale, which loses nothing if it is one of [`byte_scale`].
fn to_byte(d: f16) -> u8 {
    (d.to_bits() >> 7) as u8
}

/// The bits of the scales as `f16`.
#[inline(always)]
fn widen(d: &[u8; LANES]) -> [u16; LANES] {
    let mut wide = [0; LANES];
    for (wide, &byte) in wide.iter_mut().zip(d) {
        *wide = byte_scale(byte);
    }
    wide
}

fn pack_zeros(rows: &[Block; LANES]) -> [u8; LANES / 2] {
    let zero = |row: usize| rows[row].zero & 0x0f;
    std::array::from_fn(|i| zero(i) | zero(i + LANES / 2) << 4)
}

fn zero_of(zeros: &[u8; LANES / 2], lane: usize) -> u8 {
    let pair = zeros[lane % (LANES / 2)];
    if lane < LANES / 2 { pair & 0x0f } else { pair >> 4 }
}

#[inline(always)]
fn affine_head<S: Simd>(s: S, d: &[u16; LANES], zeros: &[u8; LANES / 2]) -> (S::F32, S::F32) {
    let d = s.load_f16(d);
    // Exact: 11 bits times 4.
    (d, s.sub(s.splat(0.0), s.mul(d, s.load_u4(zeros))))
}

impl ScaleBlock for SuperMin {
    const GROUPS: usize = 8;
    const SHARED: bool = false;
    const PARTS: usize = 1;
    const HAS_MIN: bool = true;

    fn pack(rows: &[Block; LANES]) -> Self {
        SuperMin {
            d: rows.each_ref().map(|block| block.d.to_bits()),
            m: rows.each_ref().map(|block| (-block.m).to_bits()),
            scales: std::array::from_fn(|g| rows.each_ref().map(|block| block.scales[g])),
            mins: std::array::from_fn(|g| rows.each_ref().map(|block| block.mins[g])),
        }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        (s.load_f16(&self.d), s.load_f16(&self.m))
    }
    #[inline(always)]
    fn scale<S: Simd>(&self, s: S, head: (S::F32, S::F32), group: usize, _: usize) -> S::F32 {
        s.mul(head.0, s.load_u8(&self.scales[group]))
    }
    #[inline(always)]
    fn min<S: Simd>(&self, s: S, head: (S::F32, S::F32), group: usize) -> S::F32 {
        s.mul(head.1, s.load_u8(&self.mins[group]))
    }
}

impl ScaleBlock for SuperSigned {
    const GROUPS: usize = 8;
    const SHARED: bool = false;
    const PARTS: usize = 2;
    const HAS_MIN: bool = false;

    fn pack(rows: &[Block; LANES]) -> Self {
        SuperSigned {
            d: rows.each_ref().map(|block| block.d.to_bits()),
            scales: std::array::from_fn(|h| rows.each_ref().map(|block| block.scales[h])),
        }
    }
    #[inline(always)]
    fn head<S: Simd>(&self, s: S) -> (S::F32, S::F32) {
        (s.load_f16(&self.d), s.splat(0.0))
    }
    #[inline(always)]
    fn scale<S: Simd>(&self, s: S, head: (S::F32, S::F32), group: usize, part: usize) -> S::F32 {
        s.mul(head.0, s.load_i8(&self.scales[2 * group + part]))
    }
}
