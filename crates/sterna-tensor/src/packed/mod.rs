//! Quantized weights in the layout that the kernels read: tiles of sixteen rows, each contiguous over the columns,
//! first its scales and then its codes. `docs/kernels.md` draws it.

mod ahead;
mod batch;
mod codes;
mod float;
mod format;
mod int8;
mod layout;
mod lookup;
mod memory;
mod pack;
mod scales;
mod source;
mod trits;
mod unpack;

use std::marker::PhantomData;

pub(crate) use batch::MOST_TILES;
use codes::CodeLayout;
pub(crate) use format::Codes;
use format::Scales;
use layout::TileLayout;
use memory::Memory;
use scales::ScaleBlock;

use bytes::Bytes;

pub use format::{PackedFormat, UnknownFormat};
pub use source::{Block, BlockSource, GroupedCodes};
pub use unpack::UnpackedRows;

use crate::ShapeError;
use crate::simd::{CodeRegister, LANES, Simd};

/// A quantized matrix `[rows, cols]` with exactly the integers and scales that it was given.
#[derive(Debug)]
pub struct PackedMatrix {
    format: PackedFormat,
    rows: usize,
    cols: usize,
    layout: TileLayout,
    memory: Memory,
}

/// One tile of sixteen rows.
struct Tile<'a, C, B> {
    lines: &'a [CodeRegister],
    layout: TileLayout,
    format: PhantomData<(C, B)>,
}

impl<'a, C: CodeLayout, B: ScaleBlock> Tile<'a, C, B> {
    /// Whether sums over a run stay integers where activations have one scale a token: in the formats that ternary networks have,
    /// the only ones with such activations.
    const INTEGER_RUNS: bool = C::BITS == 2 && B::SHARED && !B::HAS_MIN;

    /// The blocks of columns in runs, those of a run under the same scales: how many of them, and these scales.
    #[inline(always)]
    fn runs(&self) -> impl Iterator<Item = (usize, &'a B)> {
        self.in_steps_of(if B::SHARED { self.layout.columns.per_run } else { 1 })
    }

    /// Whether [`Tile::runs`] may be of several blocks.
    #[inline(always)]
    fn in_runs(&self) -> bool {
        B::SHARED && self.layout.columns.per_run > 1
    }

    /// The scales of each block of columns.
    #[inline(always)]
    fn blocks(&self) -> impl Iterator<Item = &'a B> {
        self.in_steps_of(1).map(|(_, scales)| scales)
    }

    #[inline(always)]
    fn in_steps_of(&self, step: usize) -> impl Iterator<Item = (usize, &'a B)> {
        let columns = self.layout.columns;
        let mut scales = self.scales();
        let (mut current, mut under_scale, mut left) = (scales.next(), columns.per_scale, columns.n_blocks);
        std::iter::from_fn(move || {
            let n_blocks = step.min(left);
            let of_these = current.filter(|_| n_blocks > 0)?;
            left -= n_blocks;
            under_scale -= step;
            if under_scale == 0 {
                (current, under_scale) = (scales.next(), columns.per_scale);
            }
            Some((n_blocks, of_these))
        })
    }

    /// All scales, each once.
    #[inline(always)]
    fn scales(&self) -> impl Iterator<Item = &'a B> {
        let scale_lines = self.layout.scale_lines;
        let n_scales = self.layout.columns.n_scales / self.layout.n_sections.max(1);
        let of_section = move |section: &'a [CodeRegister]| -> std::slice::Iter<'a, B> {
            let bytes = &section[..scale_lines].as_flattened()[..n_scales * size_of::<B>()];
            bytemuck::cast_slice(bytes).iter()
        };
        let mut sections = self.sections();
        let mut scales: std::slice::Iter<'a, B> = [].iter();
        // No `flat_map`, which would not be inlined.
        std::iter::from_fn(move || {
            if scales.len() == 0 {
                scales = of_section(sections.next()?);
            }
            scales.next()
        })
    }

    /// The codes of each group of columns.
    #[inline(always)]
    fn groups<S: Simd>(&self, s: S) -> impl Iterator<Item = C::Group<'a, S>> {
        let mut sections = self.codes();
        let mut groups = C::groups(s, sections.next().unwrap_or_default());
        std::iter::from_fn(move || {
            if let Some(group) = groups.next() {
                return Some(group);
            }
            groups = C::groups(s, sections.next()?);
            groups.next()
        })
    }

    /// The codes of each section.
    #[inline(always)]
    fn codes(&self) -> impl Iterator<Item = &'a [CodeRegister]> {
        let scale_lines = self.layout.scale_lines;
        self.sections().map(move |section| &section[scale_lines..])
    }

    #[inline(always)]
    fn sections(&self) -> impl Iterator<Item = &'a [CodeRegister]> {
        self.lines.chunks_exact(self.layout.section_lines().max(1))
    }
}

impl<C, B> Clone for Tile<'_, C, B> {
    fn clone(&self) -> Self {
        Tile { ..*self }
    }
}

impl PackedMatrix {
    /// Rows of a tile: a matrix of whole tiles is a slice of the bytes of a larger one.
    pub const TILE_ROWS: usize = LANES;

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

    /// Bytes that the weights take, scales and padding included.
    pub fn n_bytes(&self) -> usize {
        size_of_val(self.memory.lines())
    }

    /// A matrix over `bytes` that [`PackedMatrix::as_bytes`] gave. They are shared where they are aligned to 64 bytes,
    /// as in a mapped file, and copied where they are not.
    ///
    /// Any bytes of the right length are a matrix of some weights, so nothing but the length is checked.
    ///
    /// # Errors
    /// When there are no rows or columns, a row is not whole blocks, or `bytes` is not
    /// [`PackedFormat::n_bytes`] long.
    pub fn from_bytes(
        format: PackedFormat,
        rows: usize,
        cols: usize,
        bytes: Bytes,
    ) -> Result<PackedMatrix, ShapeError> {
        if rows == 0 || cols == 0 {
            return Err(ShapeError::Empty { rows, cols });
        }
        let layout = TileLayout::new(format, cols)?;
        let too_large = || ShapeError::TooLarge { rows, cols };
        let expected = format.n_bytes(rows, cols).ok_or_else(too_large)?;
        if bytes.len() != expected {
            let (kind, found) = (format.to_string(), bytes.len());
            return Err(ShapeError::Length { rows, cols, kind, expected, found });
        }
        let memory = Memory::from_bytes(bytes).map_err(|_| too_large())?;
        Ok(PackedMatrix { format, rows, cols, layout, memory })
    }

    /// The weights as they lie in memory, tile after tile; `docs/kernels.md` says how.
    pub fn as_bytes(&self) -> &[u8] {
        self.memory.lines().as_flattened()
    }

    fn zero(&self) -> f32 {
        f32::from(self.format.zero)
    }

    fn tile<C: CodeLayout, B: ScaleBlock>(&self, index: usize) -> Tile<'_, C, B> {
        let n_lines = self.layout.lines();
        let lines = &self.memory.lines()[index * n_lines..][..n_lines];
        Tile { lines, layout: self.layout, format: PhantomData }
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
        use codes::{U1, U2, U3, U4, U5, U6, U8};
        use scales::{Affine, ByteAffine, ByteGroup, Group, Min, SuperMin, SuperSigned, WideMin};
        use trits::Trits;
        match (self.codes, self.scales) {
            (Codes::U1, Scales::Group { .. }) => visitor.visit::<U1, Group>(),
            (Codes::Trits, Scales::Group { .. }) => visitor.visit::<Trits, Group>(),
            (Codes::U2, Scales::Group { .. }) => visitor.visit::<U2, Group>(),
            (Codes::U2, Scales::Affine { .. }) => visitor.visit::<U2, Affine>(),
            (Codes::U2, Scales::ByteAffine { .. }) => visitor.visit::<U2, ByteAffine>(),
            (Codes::U2, Scales::Min { .. }) => visitor.visit::<U2, Min>(),
            (Codes::U2, Scales::WideMin { .. }) => visitor.visit::<U2, WideMin>(),
            (Codes::U3, Scales::Group { .. }) => visitor.visit::<U3, Group>(),
            (Codes::U3, Scales::Affine { .. }) => visitor.visit::<U3, Affine>(),
            (Codes::U3, Scales::ByteAffine { .. }) => visitor.visit::<U3, ByteAffine>(),
            (Codes::U3, Scales::Min { .. }) => visitor.visit::<U3, Min>(),
            (Codes::U3, Scales::WideMin { .. }) => visitor.visit::<U3, WideMin>(),
            (Codes::U4, Scales::Group { .. }) => visitor.visit::<U4, Group>(),
            (Codes::U4, Scales::ByteGroup { .. }) => visitor.visit::<U4, ByteGroup>(),
            (Codes::U4, Scales::Affine { .. }) => visitor.visit::<U4, Affine>(),
            (Codes::U4, Scales::ByteAffine { .. }) => visitor.visit::<U4, ByteAffine>(),
            (Codes::U4, Scales::Min { .. }) => visitor.visit::<U4, Min>(),
            (Codes::U4, Scales::WideMin { .. }) => visitor.visit::<U4, WideMin>(),
            (Codes::U4, Scales::SuperMin) => visitor.visit::<U4, SuperMin>(),
            (Codes::U4, Scales::SuperSigned) => visitor.visit::<U4, SuperSigned>(),
            (Codes::U5, Scales::Group { .. }) => visitor.visit::<U5, Group>(),
            (Codes::U5, Scales::ByteGroup { .. }) => visitor.visit::<U5, ByteGroup>(),
            (Codes::U5, Scales::Min { .. }) => visitor.visit::<U5, Min>(),
            (Codes::U5, Scales::WideMin { .. }) => visitor.visit::<U5, WideMin>(),
            (Codes::U5, Scales::SuperMin) => visitor.visit::<U5, SuperMin>(),
            (Codes::U6, Scales::Group { .. }) => visitor.visit::<U6, Group>(),
            (Codes::U6, Scales::ByteGroup { .. }) => visitor.visit::<U6, ByteGroup>(),
            (Codes::U6, Scales::Min { .. }) => visitor.visit::<U6, Min>(),
            (Codes::U6, Scales::WideMin { .. }) => visitor.visit::<U6, WideMin>(),
            (Codes::U6, Scales::SuperSigned) => visitor.visit::<U6, SuperSigned>(),
            (Codes::U8, Scales::Group { .. }) => visitor.visit::<U8, Group>(),
            (Codes::U8, Scales::Min { .. }) => visitor.visit::<U8, Min>(),
            (Codes::U8, Scales::WideMin { .. }) => visitor.visit::<U8, WideMin>(),
            (Codes::U8, Scales::SuperSigned) => visitor.visit::<U8, SuperSigned>(),
            (codes, scales) => unreachable!("no format has {codes:?} codes with {scales:?} scales"),
        }
    }
}
