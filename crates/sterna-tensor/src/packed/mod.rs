//! Quantized weights in the layout that the kernels read: tiles of sixteen rows, each contiguous over the columns,
//! first its scales and then its codes. `docs/kernels.md` draws it.

mod codes;
mod float;
mod format;
mod int8;
mod memory;
mod pack;
mod scales;

use std::marker::PhantomData;

use codes::CodeLayout;
use format::{Codes, Scales};
use memory::Memory;
use scales::ScaleBlock;

pub use format::{Block, BlockSource, PackedFormat};

use crate::activation::GROUP;
use crate::simd::CodeRegister;

/// A quantized matrix `[rows, cols]` with exactly the integers and scales that it was given.
#[derive(Debug)]
pub struct PackedMatrix {
    format: PackedFormat,
    rows: usize,
    cols: usize,
    layout: TileLayout,
    memory: Memory,
}

/// Sizes of the parts of a tile of sixteen rows, in 64-byte lines.
#[derive(Debug, Clone, Copy)]
struct TileLayout {
    scale_lines: usize,
    code_lines: usize,
}

impl TileLayout {
    fn lines(self) -> usize {
        self.scale_lines + self.code_lines
    }
}

/// One tile of sixteen rows.
struct Tile<'a, C, B> {
    /// One for every block of columns.
    scales: &'a [B],
    /// [`CodeLayout::REGISTERS`] for every group of columns.
    codes: &'a [CodeRegister],
    layout: PhantomData<C>,
}

impl<'a, C: CodeLayout, B: ScaleBlock> Tile<'a, C, B> {
    /// The scales and the codes of each block of columns.
    #[inline(always)]
    fn blocks(&self) -> impl Iterator<Item = (&'a B, &'a [CodeRegister])> {
        self.scales.iter().zip(self.codes.chunks_exact(B::GROUPS * C::REGISTERS))
    }
}

impl<C, B> Clone for Tile<'_, C, B> {
    fn clone(&self) -> Self {
        Tile { scales: self.scales, codes: self.codes, layout: PhantomData }
    }
}

impl PackedMatrix {
    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the weights are held.
    pub fn format(&self) -> PackedFormat {
        self.format
    }

    /// Bytes that the weights take in memory, scales and padding included.
    pub fn n_bytes(&self) -> usize {
        size_of_val(self.memory.lines())
    }

    fn zero(&self) -> f32 {
        f32::from(self.format.zero)
    }

    fn tile<C: CodeLayout, B: ScaleBlock>(&self, index: usize) -> Tile<'_, C, B> {
        let lines = &self.memory.lines()[index * self.layout.lines()..][..self.layout.lines()];
        let (scales, codes) = lines.split_at(self.layout.scale_lines);
        let n_blocks = self.cols / (B::GROUPS * GROUP);
        let scales = &scales.as_flattened()[..n_blocks * size_of::<B>()];
        Tile { scales: bytemuck::cast_slice(scales), codes, layout: PhantomData }
    }
}

/// Something done with the code and scale layouts of a format as types, so that it is compiled for each.
trait Visitor {
    type Output;
    fn visit<C: CodeLayout, B: ScaleBlock>(self) -> Self::Output;
}

impl PackedFormat {
    /// Calls `visitor` with the types of this format.
    fn visit<V: Visitor>(self, visitor: V) -> V::Output {
        use codes::{U2, U4, U5, U6, U8};
        use scales::{Group, GroupMin, SuperMin, SuperSigned};
        match (self.codes, self.scales) {
            (Codes::U2, Scales::Group) => visitor.visit::<U2, Group>(),
            (Codes::U4, Scales::Group) => visitor.visit::<U4, Group>(),
            (Codes::U4, Scales::GroupMin) => visitor.visit::<U4, GroupMin>(),
            (Codes::U4, Scales::SuperMin) => visitor.visit::<U4, SuperMin>(),
            (Codes::U4, Scales::SuperSigned) => visitor.visit::<U4, SuperSigned>(),
            (Codes::U5, Scales::Group) => visitor.visit::<U5, Group>(),
            (Codes::U5, Scales::GroupMin) => visitor.visit::<U5, GroupMin>(),
            (Codes::U5, Scales::SuperMin) => visitor.visit::<U5, SuperMin>(),
            (Codes::U6, Scales::SuperSigned) => visitor.visit::<U6, SuperSigned>(),
            (Codes::U8, Scales::Group) => visitor.visit::<U8, Group>(),
            (Codes::U8, Scales::SuperSigned) => visitor.visit::<U8, SuperSigned>(),
            (codes, scales) => unreachable!("no format has {codes:?} codes with {scales:?} scales"),
        }
    }
}
