//! A quantized weight matrix that is several tensors in its file: codes, scales, and zero points or minima.

use std::ops::Range;

use bytes::Bytes;
use half::f16;
use sterna_tensor::{
    Block, BlockSource, DType, DenseMatrix, Matrix, PackedFormat, PackedMatrix, Pool, ShapeError,
};

use super::integers::Integers;
use super::tables::Floats;
use super::{QuantizedType, Tool};
use crate::mapped;
use crate::tensor::RowOrder;

/// Columns that are decoded at a time: a block of the packed formats.
const BLOCK: usize = super::integers::RUN;

/// Weights `[rows, cols]` as codes with scales: one for each row and *group* of columns.
#[derive(Debug)]
pub(crate) struct QuantizedMatrix {
    pub(super) tool: Tool,
    pub(super) bits: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) codes: Integers,
    pub(super) scales: Floats,
    pub(super) zeros: Zeros,
    pub(super) groups: Groups,
}

/// What a code of zero means: with `d` the scale, a weight is
#[derive(Debug)]
pub(super) enum Zeros {
    /// `d (code - 2^(bits - 1))`
    Middle,
    /// `d (code - z)`, with `z` the stored integer plus `plus`, as many bits as a code.
    Points { stored: Integers, plus: u8 },
    /// `d code + m`
    Minima(Floats),
}

/// Which columns share a scale.
#[derive(Debug)]
pub(super) enum Groups {
    /// So many neighbours; the last group may be shorter.
    Of(usize),
    /// The group of each column.
    Listed(Vec<u32>),
}

impl Groups {
    fn of(&self, col: usize) -> usize {
        match self {
            Groups::Of(size) => col / size,
            Groups::Listed(groups) => groups[col] as usize,
        }
    }
}

/// What the codes of one group of one row mean: `d (code - zero) + m`.
#[derive(Debug, Clone, Copy)]
struct Level {
    d: f32,
    zero: u8,
    m: f32,
}

impl Level {
    /// With minima the product has its only rounding after the sum; without, `m` is zero.
    fn weight(self, code: u8) -> f32 {
        let code = f32::from(code) - f32::from(self.zero);
        if self.m == 0.0 { self.d * code } else { self.d.mul_add(code, self.m) }
    }
}

impl QuantizedMatrix {
    pub(crate) fn ty(&self) -> QuantizedType {
        let group_size = match self.groups {
            Groups::Of(size) => u32::try_from(size.min(self.cols)).ok(),
            Groups::Listed(_) => None,
        };
        QuantizedType { tool: self.tool, bits: self.bits as u8, group_size }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes of the codes.
    pub(crate) fn codes(&self) -> &Bytes {
        self.codes.bytes()
    }

    /// Bytes of all parts in the file.
    pub(crate) fn n_bytes(&self) -> usize {
        let zeros = match &self.zeros {
            Zeros::Middle => 0,
            Zeros::Points { stored, .. } => stored.bytes().len(),
            Zeros::Minima(minima) => minima.n_bytes(),
        };
        self.codes.bytes().len() + self.scales.n_bytes() + zeros
    }

    /// The weights of row `row`, into `out` `[cols]`.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let mut codes = [0; BLOCK];
        let (mut group, mut level) = (usize::MAX, Level { d: 0.0, zero: 0, m: 0.0 });
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let first = block * BLOCK;
            self.codes.read(row, first, &mut codes[..out.len()]);
            for ((out, code), col) in out.iter_mut().zip(codes).zip(first..) {
                if self.groups.of(col) != group {
                    group = self.groups.of(col);
                    level = self.level(row, group);
                }
                *out = level.weight(code);
            }
        }
    }

    fn level(&self, row: usize, group: usize) -> Level {
        let (zero, m) = match &self.zeros {
            Zeros::Middle => (self.middle(), 0.0),
            Zeros::Points { stored, plus } => (self.point(stored, *plus, row, group), 0.0),
            Zeros::Minima(minima) => (0, minima.get(row, group)),
        };
        Level { d: self.scales.get(row, group), zero, m }
    }

    /// The zero point; the sum of stored number and `plus` wraps around.
    fn point(&self, stored: &Integers, plus: u8, row: usize, group: usize) -> u8 {
        stored.get(row, group).wrapping_add(plus) & self.largest_code()
    }

    fn middle(&self) -> u8 {
        1 << (self.bits - 1)
    }

    fn largest_code(&self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }

    /// The rows `rows`, read in `order`, as a matrix to compute with: packed where a format holds the same codes and
    /// scales, otherwise in f32.
    pub(crate) fn matrix(
        &self,
        rows: Range<usize>,
        order: RowOrder,
        pool: &Pool,
    ) -> Result<Matrix, ShapeError> {
        // Twice the codes in memory for a moment, of this matrix alone.
        let turned = self.codes.is_column_wise().then(|| self.codes.turned(pool));
        let codes = turned.as_ref().unwrap_or(&self.codes);
        let source = Rows { matrix: self, codes, first: rows.start, order };
        let matrix = match self.format(rows.clone()) {
            Some(format) => {
                PackedMatrix::pack(format, rows.len(), self.cols, &source, pool).map(Matrix::Packed)
            }
            None => {
                let mut floats = vec![0.0; rows.len() * self.cols];
                pool.run_slices(&mut floats, self.cols, |row, out, _| self.row(source.stored_row(row), out));
                DenseMatrix::from_f32(rows.len(), self.cols, floats).map(Matrix::Dense)
            }
        };
        mapped::release(self.codes.bytes());
        matrix
    }

    /// The packed format that holds the rows `rows` exactly, if there is one.
    pub(crate) fn format(&self, rows: Range<usize>) -> Option<PackedFormat> {
        let Groups::Of(size) = self.groups else { return None };
        if !self.cols.is_multiple_of(BLOCK) {
            return None;
        }
        let n_groups = self.cols.div_ceil(size);
        let size = if n_groups == 1 { self.cols } else { size };
        let cells = || rows.clone().flat_map(|row| (0..n_groups).map(move |group| (row, group)));
        let all_half = |floats: &Floats| {
            floats.dtype() == DType::F16
                || cells().all(|(row, group)| {
                    let x = floats.get(row, group);
                    f16::from_f32(x).to_f32() == x
                })
        };
        let is_half = all_half(&self.scales);
        // Beyond f16 and bf16, zero points have no exact product with a scale.
        let is_short = self.scales.dtype() != DType::F32;
        match &self.zeros {
            Zeros::Middle if is_half => PackedFormat::symmetric(self.bits, size),
            Zeros::Middle => PackedFormat::wide(self.bits, size),
            Zeros::Points { stored, plus } => {
                let is_middle = |(row, group)| self.point(stored, *plus, row, group) == self.middle();
                let symmetric =
                    || PackedFormat::symmetric(self.bits, size).filter(|_| cells().all(is_middle));
                let affine = || PackedFormat::affine(self.bits, size);
                let half = if is_half { symmetric().or_else(affine) } else { None };
                half.or_else(|| PackedFormat::wide(self.bits, size).filter(|_| is_half || is_short))
            }
            Zeros::Minima(minima) if is_half && all_half(minima) => PackedFormat::minimum(self.bits, size),
            Zeros::Minima(_) => PackedFormat::wide(self.bits, size),
        }
    }

    /// The first scale or minimum of the rows `rows` with which weights may not be finite, and where it is.
    pub(crate) fn not_finite(&self, rows: Range<usize>) -> Option<String> {
        let n_groups = match &self.groups {
            Groups::Of(size) => self.cols.div_ceil(*size),
            Groups::Listed(groups) => groups.iter().max().map_or(0, |&group| group as usize + 1),
        };
        let mut cells = rows.flat_map(|row| (0..n_groups).map(move |group| (row, group)));
        cells.find_map(|(row, group)| {
            let Level { d, m, .. } = self.level(row, group);
            let largest = d.abs() * f32::from(self.largest_code()) + m.abs();
            let value = if m.is_finite() { d } else { m };
            (!largest.is_finite()).then(|| format!("{value} in row {row}, group {group}"))
        })
    }
}

/// Rows of a matrix, to pack from.
struct Rows<'a> {
    matrix: &'a QuantizedMatrix,
    codes: &'a Integers,
    first: usize,
    order: RowOrder,
}

impl Rows<'_> {
    fn stored_row(&self, row: usize) -> usize {
        self.first + self.order.stored_row(row)
    }
}

impl BlockSource for Rows<'_> {
    #[inline]
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let (row, first) = (self.stored_row(row), block * BLOCK);
        self.codes.read(row, first, &mut out.codes[..BLOCK]);
        if let Groups::Of(size) = self.matrix.groups
            && first.is_multiple_of(size)
        {
            let Level { d, zero, m } = self.matrix.level(row, first / size);
            (out.d, out.m, out.zero) = (f16::from_f32(d), f16::from_f32(m), zero);
            // Exact where the scale is a half float or shorter, or the zero point a power of two.
            (out.wide_d, out.wide_m) = (d, m - d * f32::from(zero));
        }
    }

    fn done(&self, rows: Range<usize>) {
        // In another order the rows lie all over the tensor, whose memory goes back when all of it is packed.
        if self.order == RowOrder::AsStored
            && let Some(bytes) = self.codes.bytes_of_rows(rows.start + self.first..rows.end + self.first)
        {
            mapped::release(&bytes);
        }
    }
}
