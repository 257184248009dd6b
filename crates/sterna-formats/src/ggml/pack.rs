//! From stored blocks to weight matrices that compute.

use std::ops::Range;

use bytes::Bytes;
use sterna_tensor::{
    Block, BlockSource, DType, DenseMatrix, Matrix, PackedFormat, PackedMatrix, Pool, ShapeError,
};

use super::{GgmlType, each, iq4, k_quants, legacy, mxfp4, ternary};
use crate::mapped;
use crate::tensor::RowOrder;

/// The `[rows, cols]` matrix in `data`, its rows read in `order`: packed where a format holds the same integers and
/// scales, otherwise in floats that hold the same weights.
///
/// # Errors
/// When `data` is not `rows` rows of whole blocks.
pub(crate) fn matrix(
    ty: GgmlType,
    rows: usize,
    cols: usize,
    data: &Bytes,
    order: RowOrder,
    pool: &Pool,
) -> Result<Matrix, ShapeError> {
    let row_bytes = cols / ty.block_len() * ty.block_bytes();
    if !cols.is_multiple_of(ty.block_len()) {
        return Err(ShapeError::Columns { cols, block_len: ty.block_len() });
    }
    match rows.checked_mul(row_bytes) {
        Some(expected) if expected == data.len() => {}
        Some(expected) => {
            return Err(ShapeError::Length { rows, cols, kind: ty.to_string(), expected, found: data.len() });
        }
        None => return Err(ShapeError::TooLarge { rows, cols }),
    }
    let stored = Stored { rows, cols, data, order, pool };
    match ty {
        GgmlType::Q4_0 => stored.pack(PackedFormat::Q4_0, legacy::q4_0),
        GgmlType::Q4_1 => stored.pack(PackedFormat::Q4_1, legacy::q4_1),
        GgmlType::Q5_0 => stored.pack(PackedFormat::Q5_0, legacy::q5_0),
        GgmlType::Q5_1 => stored.pack(PackedFormat::Q5_1, legacy::q5_1),
        GgmlType::Q8_0 => stored.pack(PackedFormat::Q8_0, legacy::q8_0),
        GgmlType::Q3_K => stored.pack(PackedFormat::Q3_K, k_quants::q3_k),
        GgmlType::Q4_K => stored.pack(PackedFormat::Q4_K, k_quants::q4_k),
        GgmlType::Q5_K => stored.pack(PackedFormat::Q5_K, k_quants::q5_k),
        GgmlType::Q6_K => stored.pack(PackedFormat::Q6_K, k_quants::q6_k),
        GgmlType::IQ4_NL => stored.pack(PackedFormat::IQ4_NL, iq4::iq4_nl),
        GgmlType::IQ4_XS => stored.pack(PackedFormat::IQ4_XS, iq4::iq4_xs),
        GgmlType::TQ1_0 => stored.pack_ternary::<_, 8>(ternary::tq1_0),
        GgmlType::TQ2_0 => stored.pack_ternary::<_, 8>(ternary::tq2_0),
        GgmlType::Q2_0 => stored.pack_ternary::<_, 2>(ternary::q2_0),
        GgmlType::Q1_0 => {
            stored.pack_parts::<_, 4>(const { PackedFormat::symmetric(1, 128).unwrap() }, ternary::q1_0)
        }
        GgmlType::Q2_K => stored.floats(DType::F32, |bytes, out: &mut [[u8; 4]; 256]| {
            let mut weights = [0.0; 256];
            k_quants::dequantize_q2_k(bytes, &mut weights);
            *out = weights.map(f32::to_le_bytes);
        }),
        GgmlType::MXFP4 => stored.floats(DType::BF16, mxfp4::to_bf16),
    }
}

/// A matrix of blocks: `data` holds exactly `rows` rows.
struct Stored<'a> {
    rows: usize,
    cols: usize,
    data: &'a Bytes,
    order: RowOrder,
    pool: &'a Pool,
}

impl Stored<'_> {
    /// Packs blocks that the format has too.
    fn pack<const N: usize>(
        self,
        format: PackedFormat,
        decode: impl Fn(&[u8; N], &mut Block) + Sync,
    ) -> Result<Matrix, ShapeError> {
        let whole = |bytes: &[u8; N], _part: usize, out: &mut Block| decode(bytes, out);
        self.pack_parts::<N, 1>(format, whole)
    }

    /// Packs ternary blocks of `PARTS` times 32 columns.
    fn pack_ternary<const N: usize, const PARTS: usize>(
        self,
        decode: impl Fn(&[u8; N], usize, &mut Block) + Sync,
    ) -> Result<Matrix, ShapeError> {
        self.pack_parts::<N, PARTS>(const { PackedFormat::ternary(32 * PARTS).unwrap() }, decode)
    }

    fn pack_parts<const N: usize, const PARTS: usize>(
        self,
        format: PackedFormat,
        decode: impl Fn(&[u8; N], usize, &mut Block) + Sync,
    ) -> Result<Matrix, ShapeError> {
        let blocks = self.data.as_chunks().0;
        let blocks_per_row = blocks.len() / self.rows.max(1);
        let source: Blocks<'_, N, PARTS, _> =
            Blocks { data: self.data, blocks, blocks_per_row, order: self.order, decode };
        PackedMatrix::pack(format, self.rows, self.cols, &source, self.pool).map(Matrix::Packed)
    }

    /// Multiplies blocks out into little-endian floats of `SIZE` bytes.
    fn floats<const N: usize, const LEN: usize, const SIZE: usize>(
        self,
        dtype: DType,
        dequantize: impl Fn(&[u8; N], &mut [[u8; SIZE]; LEN]) + Sync,
    ) -> Result<Matrix, ShapeError> {
        let row_bytes = self.data.len() / self.rows.max(1);
        let mut floats = vec![0; self.data.len() / N * LEN * SIZE];
        self.pool.run_slices(&mut floats, (self.cols * SIZE).max(1), |row, out, _worker| {
            let row = self.order.stored_row(row);
            each(&self.data[row * row_bytes..][..row_bytes], out.as_chunks_mut().0, &dequantize);
        });
        DenseMatrix::new(self.rows, self.cols, dtype, Bytes::from(floats)).map(Matrix::Dense)
    }
}

/// Stored blocks as a source to pack from: a stored block is `PARTS` blocks of the format.
struct Blocks<'a, const N: usize, const PARTS: usize, F> {
    data: &'a Bytes,
    /// The same, block by block.
    blocks: &'a [[u8; N]],
    blocks_per_row: usize,
    order: RowOrder,
    decode: F,
}

impl<const N: usize, const PARTS: usize, F> BlockSource for Blocks<'_, N, PARTS, F>
where
    F: Fn(&[u8; N], usize, &mut Block) + Sync,
{
    #[inline]
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let stored = self.order.stored_row(row) * self.blocks_per_row + block / PARTS;
        (self.decode)(&self.blocks[stored], block % PARTS, out);
    }

    fn done(&self, rows: Range<usize>) {
        // In another order the rows lie all over the tensor, whose memory goes back when all of it is packed.
        if self.order == RowOrder::AsStored {
            let row_bytes = self.blocks_per_row * N;
            mapped::release(&self.data.slice(rows.start * row_bytes..rows.end * row_bytes));
        }
    }
}
