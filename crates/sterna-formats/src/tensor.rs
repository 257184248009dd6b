//! A named tensor of some file: shape, type, and a slice of the mapped bytes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sterna_tensor::{DType, DenseMatrix, Matrix, PackedFormat, PackedMatrix, Pool, ShapeError};

use crate::error::{FormatError, Result};
use crate::ggml::{self, GgmlType};
use crate::hf::quantized::{QuantizedMatrix, QuantizedType};
use crate::mapped;

/// A tensor as its file holds it.
///
/// [`Tensor::new`] checks that the bytes are exactly as many as shape and type ask for.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The name in the file.
    pub name: String,
    /// Dimensions, outermost first: `[rows, cols]`, `[n_experts, rows, cols]`, `[n]`.
    pub shape: Vec<usize>,
    /// Type of the elements.
    pub ty: TensorType,
    /// The elements, row after row; usually a slice of a mapped file. For [`TensorType::Quantized`] the codes, of which
    /// the tensor may be some rows.
    pub data: Bytes,
    /// Path of the file, for messages.
    pub file: Arc<str>,
    /// The rows of a tensor of [`TensorType::Quantized`]; of no other.
    pub quantized: Option<Box<QuantizedRows>>,
}

/// Some rows of a matrix that is several tensors in its file.
#[derive(Debug, Clone)]
pub struct QuantizedRows {
    matrix: Arc<QuantizedMatrix>,
    rows: Range<usize>,
}

impl QuantizedRows {
    /// The weights of row `row`, into `out`: exactly what the file means.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows.len(), "row {row} of {}", self.rows.len());
        self.matrix.row(self.rows.start + row, out);
    }

    /// The format in which [`Tensor::matrix`] packs them; `None` where they become floats.
    pub fn packed_format(&self) -> Option<PackedFormat> {
        self.matrix.format(self.rows.clone())
    }

    /// Bytes in the file.
    fn n_bytes(&self) -> usize {
        (self.matrix.n_bytes() as u128 * self.rows.len() as u128 / self.matrix.rows().max(1) as u128) as usize
    }
}

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// Floats that are computed with as they are.
    Dense(DType),
    /// Blocks of quantized weights.
    Ggml(GgmlType),
    /// A matrix of weights -1, 0 and 1 with one scale: data for a reader that knows them ([`ggml::i2_s`]), or floats.
    I2S,
    /// A matrix of quantized weights in the layout of the kernels, as native files hold them.
    Packed(PackedFormat),
    /// The same of weights -1, 0 and 1 that were trained to be these (BitNet): what they are multiplied with is rounded to
    /// 8 bits, one scale for each token.
    Ternary(PackedFormat),
    /// A matrix that another tool has quantized and stored as several tensors.
    Quantized(QuantizedType),
    /// Everything else: tensors of these types are data for a reader that knows them, not weights.
    Other(OtherType),
}

/// Element types that are stored but not computed with directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum OtherType {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F64,
    F8E4M3,
    F8E5M2,
}

impl OtherType {
    /// Bytes of an element.
    pub const fn size_of(self) -> usize {
        use OtherType::*;
        match self {
            Bool | U8 | I8 | F8E4M3 | F8E5M2 => 1,
            U16 | I16 => 2,
            U32 | I32 => 4,
            U64 | I64 | F64 => 8,
        }
    }
}

impl TensorType {
    /// Elements that are stored together: rows are a multiple of this. 1 for plain types.
    pub fn block_len(self) -> usize {
        match self {
            TensorType::Ggml(ty) => ty.block_len(),
            TensorType::Packed(format) | TensorType::Ternary(format) => format.block_len(),
            TensorType::Dense(_) | TensorType::I2S | TensorType::Quantized(_) | TensorType::Other(_) => 1,
        }
    }

    /// Bytes of a tensor of `shape`; `None` when its innermost dimension is no multiple of the block length, when
    /// a packed one is no matrix, when the product does not fit, or when they are in several tensors.
    pub fn n_bytes(self, shape: &[usize]) -> Option<usize> {
        let block_bytes = match self {
            TensorType::Dense(dtype) => dtype.size_of(),
            TensorType::Ggml(ty) => ty.block_bytes(),
            TensorType::Other(ty) => ty.size_of(),
            TensorType::Packed(format) | TensorType::Ternary(format) => match *shape {
                [rows, cols] if rows > 0 && cols > 0 => return format.n_bytes(rows, cols),
                _ => return None,
            },
            TensorType::I2S => match *shape {
                [rows, cols] => return ggml::i2_s::n_bytes(rows.checked_mul(cols)?),
                _ => return None,
            },
            TensorType::Quantized(_) => return None,
        };
        let (&cols, outer) = shape.split_last().unwrap_or((&1, &[]));
        let blocks = cols.is_multiple_of(self.block_len()).then(|| cols / self.block_len())?;
        let row_bytes = blocks.checked_mul(block_bytes)?;
        outer.iter().try_fold(row_bytes, |bytes, &n| bytes.checked_mul(n))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorType::Dense(dtype) => f.pad(&dtype.to_string()),
            TensorType::Ggml(ty) => f.pad(ty.name()),
            TensorType::I2S => f.pad("I2_S"),
            TensorType::Packed(format) => format.fmt(f),
            TensorType::Ternary(format) => f.pad(&format!("{format}a8")),
            TensorType::Quantized(ty) => ty.fmt(f),
            TensorType::Other(ty) => f.pad(&format!("{ty:?}")),
        }
    }
}

/// Where in the file the rows of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Row `r` is row `r` of the file.
    AsStored,
    /// Query or key rows that a GGUF converter has permuted for interleaved rotary embedding: among the first `n_dims`
    /// rows of each head, the file holds row `i` and row `i + n_dims / 2` of the original side by side. Reading in this
    /// order restores the original, for the half-rotated embedding that Sterna computes.
    HalfRotated {
        /// Heads in the matrix: `n_heads * head_dim` rows.
        n_heads: usize,
        /// Rows of a head.
        head_dim: usize,
        /// Those of them that rotate; even.
        n_dims: usize,
    },
    /// Some rows of every group of rows, the others being those of other matrices.
    Strided {
        /// Rows of a group in the file.
        group_rows: usize,
        /// The first of them that is in the matrix.
        first: usize,
        /// How many are, one after the other.
        len: usize,
    },
}

impl RowOrder {
    /// The row of the file that holds row `row` of the matrix.
    #[inline]
    pub fn stored_row(self, row: usize) -> usize {
        match self {
            RowOrder::AsStored => row,
            RowOrder::HalfRotated { head_dim, n_dims, .. } => {
                let in_head = row % head_dim;
                if in_head >= n_dims {
                    return row;
                }
                let (half, pair) = (in_head / (n_dims / 2), in_head % (n_dims / 2));
                row - in_head + 2 * pair + half
            }
            RowOrder::Strided { group_rows, first, len } => row / len * group_rows + first + row % len,
        }
    }

    /// Whether the order fits a tensor of `rows` rows.
    fn fits(self, rows: usize) -> bool {
        match self {
            RowOrder::AsStored => true,
            RowOrder::HalfRotated { n_heads, head_dim, n_dims } => {
                let rotates = (2..=head_dim).contains(&n_dims) && n_dims.is_multiple_of(2);
                rotates && n_heads.checked_mul(head_dim) == Some(rows)
            }
            RowOrder::Strided { group_rows, first, len } => {
                len > 0 && rows.is_multiple_of(group_rows) && first.saturating_add(len) <= group_rows
            }
        }
    }
}

impl Tensor {
    /// A tensor over `data`.
    ///
    /// # Errors
    /// When `data` is not exactly as long as `shape` and `ty` ask for.
    pub fn new(
        file: impl Into<Arc<str>>,
        name: impl Into<String>,
        shape: Vec<usize>,
        ty: TensorType,
        data: Bytes,
    ) -> Result<Tensor> {
        let (name, file) = (name.into(), file.into());
        let tensor = Tensor { name, shape, ty, data, file, quantized: None };
        match ty.n_bytes(&tensor.shape) {
            Some(n_bytes) if n_bytes == tensor.data.len() => Ok(tensor),
            Some(n_bytes) => {
                Err(tensor.invalid(format!("{n_bytes} bytes for {ty} {:?}", tensor.shape), tensor.data_len()))
            }
            None => Err(tensor.invalid(
                format!("a shape of whole {ty} blocks whose size can be counted"),
                format!("{:?}", tensor.shape),
            )),
        }
    }

    /// The matrix that several tensors of `file` are.
    pub(crate) fn of_parts(file: Arc<str>, name: String, matrix: QuantizedMatrix) -> Tensor {
        let (ty, shape) = (TensorType::Quantized(matrix.ty()), vec![matrix.rows(), matrix.cols()]);
        let (data, rows) = (matrix.codes().clone(), 0..matrix.rows());
        let quantized = Some(Box::new(QuantizedRows { matrix: Arc::new(matrix), rows }));
        Tensor { name, shape, ty, data, file, quantized }
    }

    /// Bytes in the file, scales and all.
    pub fn n_bytes(&self) -> usize {
        self.quantized.as_ref().map_or(self.data.len(), |rows| rows.n_bytes())
    }

    /// How many elements there are.
    pub fn n_elements(&self) -> usize {
        // Beside a zero the other dimensions may be of any size.
        self.shape.iter().fold(1, |n, &dim| n.saturating_mul(dim))
    }

    /// All elements as f32: exactly the values that the file means.
    ///
    /// # Errors
    /// When the type is not one of weights.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.n_elements()];
        if let Some(quantized) = &self.quantized {
            let rows = out.chunks_exact_mut(quantized.matrix.cols()).enumerate();
            rows.for_each(|(row, out)| quantized.row(row, out));
            return Ok(out);
        }
        match self.ty {
            TensorType::Dense(dtype) => dtype.widen(&self.data, &mut out),
            TensorType::Ggml(ty) => ggml::dequantize(ty, &self.data, &mut out),
            TensorType::I2S => {
                let (codes, scale) = (ggml::i2_s::codes(&self.data), ggml::i2_s::scale(&self.data));
                out.iter_mut().zip(codes).for_each(|(out, code)| *out = (f32::from(code) - 1.0) * scale);
            }
            TensorType::Packed(format) | TensorType::Ternary(format) => {
                let matrix = self.packed(format)?;
                let rows = out.chunks_exact_mut(matrix.cols()).enumerate();
                rows.for_each(|(row, out)| matrix.row(row, out));
            }
            TensorType::Quantized(_) | TensorType::Other(_) => {
                return Err(self.invalid("a type of weights", self.ty.to_string()));
            }
        }
        Ok(out)
    }

    /// The slice `range` of the outermost dimension: some rows of a matrix, some experts of a stack. Nothing is
    /// copied.
    ///
    /// # Errors
    /// When the range is not inside the tensor, or the tensor has no rows because it has one dimension and is made
    /// of blocks, or it is packed and the range is not whole tiles of sixteen rows.
    pub fn rows(&self, range: Range<usize>) -> Result<Tensor> {
        let (&n_rows, inner) = self.shape.split_first().unwrap_or((&0, &[]));
        if range.start > range.end || range.end > n_rows {
            return Err(self.invalid(format!("at least {} rows", range.end), format!("{n_rows} rows")));
        }
        if let TensorType::Packed(format) | TensorType::Ternary(format) = self.ty {
            return self.tiles(format, range);
        }
        if let Some(QuantizedRows { matrix, rows }) = self.quantized.as_deref() {
            let shape = [&[range.len()], inner].concat();
            let rows = rows.start + range.start..rows.start + range.end;
            let quantized = Some(Box::new(QuantizedRows { matrix: matrix.clone(), rows }));
            return Ok(Tensor { shape, quantized, ..self.clone() });
        }
        let row_bytes = self.ty.n_bytes(inner);
        let row_bytes =
            row_bytes.ok_or_else(|| self.invalid("rows of whole blocks", format!("{:?}", self.shape)))?;
        let data = match (range.start.checked_mul(row_bytes), range.end.checked_mul(row_bytes)) {
            (Some(from), Some(to)) if to <= self.data.len() => self.data.slice(from..to),
            _ => return Err(self.invalid(format!("{n_rows} rows of data"), self.data_len())),
        };
        let shape = [&[range.len()], inner].concat();
        Tensor::new(self.file.clone(), self.name.clone(), shape, self.ty, data)
    }

    /// Entry `index` of the outermost dimension, which goes away: the `[rows, cols]` of one expert out of
    /// `[n_experts, rows, cols]`. Nothing is copied.
    ///
    /// # Errors
    /// As [`Tensor::rows`].
    pub fn at(&self, index: usize) -> Result<Tensor> {
        let mut tensor = self.rows(index..index.saturating_add(1))?;
        tensor.shape.remove(0);
        Ok(tensor)
    }

    /// The tensor as a weight matrix. Quantized types that compute packed are repacked (the integers and scales of
    /// the file, so nothing is lost) and the pages of the file given back; floats stay where they are mapped; the rest
    /// becomes an exact float matrix.
    ///
    /// # Errors
    /// When the tensor is not two-dimensional, its type is not one of weights, or `order` does not fit; and when scales that
    /// another tool has stored are not finite.
    pub fn matrix(&self, order: RowOrder, pool: &Pool) -> Result<Matrix> {
        let &[rows, cols] = self.shape.as_slice() else {
            return Err(self.invalid("two dimensions", format!("shape {:?}", self.shape)));
        };
        if !order.fits(rows) {
            return Err(self.invalid(format!("rows in the order {order:?}"), format!("{rows} rows")));
        }
        if let RowOrder::Strided { group_rows, len, .. } = order {
            return self.gathered(rows / group_rows * len, order)?.matrix(RowOrder::AsStored, pool);
        }
        match (self.ty, order) {
            (TensorType::Dense(dtype), RowOrder::AsStored) => {
                let matrix = DenseMatrix::new(rows, cols, dtype, self.data.clone());
                return matrix.map(Matrix::Dense).map_err(|error| self.no_matrix(&error));
            }
            (TensorType::Packed(format) | TensorType::Ternary(format), RowOrder::AsStored) => {
                return self.packed(format).map(Matrix::Packed);
            }
            (TensorType::Packed(_) | TensorType::Ternary(_), _) => {
                return Err(self.invalid("rows in the order they are computed in", format!("{order:?}")));
            }
            _ => {}
        }
        mapped::prefetch(&self.data);
        if let Some(QuantizedRows { matrix, rows }) = self.quantized.as_deref() {
            if let Some(found) = matrix.not_finite(rows.clone()) {
                return Err(self.invalid("scales of finite weights", found));
            }
            return matrix.matrix(rows.clone(), order, pool).map_err(|error| self.no_matrix(&error));
        }
        let matrix = match self.ty {
            TensorType::Dense(dtype) => {
                DenseMatrix::new(rows, cols, dtype, self.reordered(rows, order)).map(Matrix::Dense)
            }
            TensorType::Ggml(ty) => ggml::matrix(ty, rows, cols, &self.data, order, pool),
            TensorType::I2S
            | TensorType::Packed(_)
            | TensorType::Ternary(_)
            | TensorType::Quantized(_)
            | TensorType::Other(_) => {
                return Err(self.invalid("a type of weights with rows of their own", self.ty.to_string()));
            }
        };
        mapped::release(&self.data);
        matrix.map_err(|error| self.no_matrix(&error))
    }

    /// The matrix of `format` that the bytes are.
    fn packed(&self, format: PackedFormat) -> Result<PackedMatrix> {
        let &[rows, cols] = self.shape.as_slice() else {
            return Err(self.invalid("two dimensions", format!("shape {:?}", self.shape)));
        };
        let matrix = PackedMatrix::from_bytes(format, rows, cols, self.data.clone());
        matrix.map_err(|error| self.no_matrix(&error))
    }

    /// The rows `range` of a packed tensor: whole tiles.
    fn tiles(&self, format: PackedFormat, range: Range<usize>) -> Result<Tensor> {
        let &[rows, cols] = self.shape.as_slice() else {
            return Err(self.invalid("two dimensions", format!("shape {:?}", self.shape)));
        };
        let is_whole = |row: usize| row.is_multiple_of(PackedMatrix::TILE_ROWS) || row == rows;
        if !is_whole(range.start) || !is_whole(range.end) {
            let expected = format!("whole tiles of {} rows", PackedMatrix::TILE_ROWS);
            return Err(self.invalid(expected, format!("rows {range:?}")));
        }
        let bytes = |rows| format.n_bytes(rows, cols).unwrap_or(usize::MAX).min(self.data.len());
        let data = self.data.slice(bytes(range.start)..bytes(range.end));
        Tensor::new(self.file.clone(), self.name.clone(), vec![range.len(), cols], self.ty, data)
    }

    fn no_matrix(&self, error: &ShapeError) -> FormatError {
        self.invalid("a matrix", error.to_string())
    }

    /// The tensor of so many `rows`, which are where `order` says.
    fn gathered(&self, rows: usize, order: RowOrder) -> Result<Tensor> {
        let has_no_rows = matches!(self.ty, TensorType::I2S | TensorType::Packed(_) | TensorType::Ternary(_));
        if self.quantized.is_some() || has_no_rows {
            return Err(self.invalid("rows in the order they are computed in", format!("{order:?}")));
        }
        let shape = [&[rows], &self.shape[1..]].concat();
        let data = self.reordered(rows, order);
        Tensor::new(self.file.clone(), self.name.clone(), shape, self.ty, data)
    }

    /// The bytes of `rows` rows, which are where `order` says.
    fn reordered(&self, rows: usize, order: RowOrder) -> Bytes {
        let row_bytes = self.data.len() / self.shape.first().copied().unwrap_or(1).max(1);
        let mut out = Vec::with_capacity(rows * row_bytes);
        for row in 0..rows {
            let from = order.stored_row(row) * row_bytes;
            out.extend_from_slice(&self.data[from..from + row_bytes]);
        }
        out.into()
    }

    fn data_len(&self) -> String {
        format!("{} bytes", self.data.len())
    }

    fn invalid(&self, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        FormatError::invalid(&*self.file, format!("tensor {}", self.name), expected, found)
    }
}

#[cfg(test)]
mod tests {
    use sterna_tensor::GroupedCodes;

    use super::*;

    fn f16_tensor(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        let data: Vec<u8> = (0..n).flat_map(|i| half::f16::from_f32(i as f32).to_le_bytes()).collect();
        Tensor::new("file", "w", shape.to_vec(), TensorType::Dense(DType::F16), data.into()).unwrap()
    }

    fn rows_of(matrix: &Matrix) -> Vec<Vec<f32>> {
        let row = |r| {
            let mut out = vec![0.0; matrix.cols()];
            matrix.row(r, &mut out);
            out
        };
        (0..matrix.rows()).map(row).collect()
    }

    #[test]
    fn float_matrices_keep_their_bytes_or_reorder_their_rows() {
        let pool = Pool::new(1);
        let tensor = f16_tensor(&[4, 1]);
        let stored = tensor.matrix(RowOrder::AsStored, &pool).unwrap();
        assert_eq!(rows_of(&stored), [[0.0], [1.0], [2.0], [3.0]]);
        let order = RowOrder::HalfRotated { n_heads: 1, head_dim: 4, n_dims: 4 };
        assert_eq!(rows_of(&tensor.matrix(order, &pool).unwrap()), [[0.0], [2.0], [1.0], [3.0]]);
        let order = RowOrder::Strided { group_rows: 2, first: 1, len: 1 };
        assert_eq!(rows_of(&tensor.matrix(order, &pool).unwrap()), [[1.0], [3.0]]);
        for (group_rows, first, len) in [(3, 0, 1), (2, 1, 2), (2, 0, 0), (0, 0, 1), (4, usize::MAX, 2)] {
            assert!(tensor.matrix(RowOrder::Strided { group_rows, first, len }, &pool).is_err());
        }
    }

    #[test]
    fn errors_name_file_and_tensor() {
        let pool = Pool::new(1);
        let matrix = |tensor: &Tensor, order| tensor.matrix(order, &pool).unwrap_err().to_string();
        let vector = f16_tensor(&[4]);
        let message = matrix(&vector, RowOrder::AsStored);
        assert_eq!(message, "file: tensor w: expected two dimensions, found shape [4]");
        for (n_heads, head_dim) in [(1, 2), (0, 4), (4, 1), (usize::MAX, 2), (1, 0)] {
            let order = RowOrder::HalfRotated { n_heads, head_dim, n_dims: head_dim };
            assert!(
                matrix(&f16_tensor(&[4, 2]), order)
                    .contains("tensor w: expected rows in the order HalfRotated")
            );
        }
        let short =
            Tensor::new("file", "w", vec![3], TensorType::Dense(DType::F32), Bytes::from_static(&[0; 8]));
        assert_eq!(
            short.unwrap_err().to_string(),
            "file: tensor w: expected 12 bytes for F32 [3], found 8 bytes"
        );
        let huge = Tensor::new("file", "w", vec![1 << 40; 4], TensorType::Dense(DType::F32), Bytes::new());
        assert!(huge.unwrap_err().to_string().contains("whose size can be counted"));
        let bytes =
            Tensor::new("file", "w", vec![2], TensorType::Other(OtherType::U8), Bytes::from_static(&[1, 2]));
        let message = bytes.unwrap().to_f32().unwrap_err().to_string();
        assert_eq!(message, "file: tensor w: expected a type of weights, found U8");
    }

    #[test]
    fn packed_matrices_are_used_where_they_lie() {
        let pool = Pool::new(1);
        let (rows, cols) = (33, 64);
        let format = PackedFormat::symmetric(8, 32).unwrap();
        let codes: Vec<u8> = (0..rows * cols).map(|i| i as u8).collect();
        let scales = vec![half::f16::from_f32(0.5); rows * cols / 32];
        let codes = GroupedCodes { rows, cols, codes: &codes, scales: &scales, zero_points: &[] };
        let packed = PackedMatrix::from_codes(format, codes, &pool).unwrap();
        let of = |shape: &[usize]| {
            let data = Bytes::copy_from_slice(packed.as_bytes());
            Tensor::new("file", "w", shape.to_vec(), TensorType::Packed(format), data)
        };
        let tensor = of(&[rows, cols]).unwrap();
        let expected: Vec<f32> = (0..rows * cols).map(|i| (f32::from(i as u8) - 128.0) * 0.5).collect();
        assert_eq!(tensor.to_f32().unwrap(), expected);
        assert_eq!(rows_of(&tensor.matrix(RowOrder::AsStored, &pool).unwrap()).concat(), expected);
        assert_eq!(tensor.rows(16..33).unwrap().to_f32().unwrap(), expected[16 * cols..]);
        assert_eq!(tensor.rows(16..32).unwrap().to_f32().unwrap(), expected[16 * cols..32 * cols]);
        assert!(tensor.rows(1..33).is_err() && tensor.rows(0..31).is_err() && tensor.at(0).is_err());
        assert!(
            tensor.matrix(RowOrder::HalfRotated { n_heads: 1, head_dim: 33, n_dims: 33 }, &pool).is_err()
        );
        let order = RowOrder::HalfRotated { n_heads: 11, head_dim: 3, n_dims: 3 };
        assert!(tensor.matrix(order, &pool).is_err());
        for shape in [&[rows * cols][..], &[49, 64], &[33, 65], &[1, 33, 64], &[]] {
            assert!(of(shape).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn slices_stay_inside() {
        let tensor = f16_tensor(&[3, 2]);
        assert_eq!(tensor.rows(1..2).unwrap().to_f32().unwrap(), [2.0, 3.0]);
        assert_eq!(tensor.rows(3..3).unwrap().n_elements(), 0);
        assert_eq!(tensor.at(2).unwrap().shape, [2]);
        #[expect(clippy::reversed_empty_ranges)]
        let refused = [2..4, 2..1, 0..usize::MAX];
        for range in refused {
            assert!(tensor.rows(range).is_err());
        }
        assert!(tensor.at(usize::MAX).is_err());
        let scalar = f16_tensor(&[]);
        assert_eq!(scalar.to_f32().unwrap(), [0.0]);
        assert!(scalar.rows(0..1).is_err());
        assert!(scalar.rows(0..0).is_ok_and(|empty| empty.n_elements() == 0));
    }
}
