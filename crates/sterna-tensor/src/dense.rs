//! Row-major float weights as they lie in a checkpoint, usually borrowed from a mapped file.

use bytes::Bytes;

use crate::{DType, ShapeError};

mod kernel;

pub use kernel::OutputTile;

/// A float matrix `[rows, cols]`, row-major, little-endian, at any alignment.
#[derive(Debug, Clone)]
pub struct DenseMatrix {
    rows: usize,
    cols: usize,
    dtype: DType,
    data: Bytes,
}

impl DenseMatrix {
    /// Takes `rows * cols` elements as they are; nothing is copied or converted.
    ///
    /// # Errors
    /// When `rows` or `cols` is 0, the size overflows, or `data` has another length.
    pub fn new(rows: usize, cols: usize, dtype: DType, data: Bytes) -> Result<Self, ShapeError> {
        if rows == 0 || cols == 0 {
            return Err(ShapeError::Empty { rows, cols });
        }
        let expected = rows
            .checked_mul(cols)
            .and_then(|n| n.checked_mul(dtype.size_of()))
            .ok_or(ShapeError::TooLarge { rows, cols })?;
        if data.len() != expected {
            return Err(ShapeError::Length {
                rows,
                cols,
                kind: dtype.to_string(),
                expected,
                found: data.len(),
            });
        }
        Ok(DenseMatrix { rows, cols, dtype, data })
    }

    /// Takes ownership of computed values.
    ///
    /// # Errors
    /// As [`DenseMatrix::new`].
    pub fn from_f32(rows: usize, cols: usize, values: Vec<f32>) -> Result<Self, ShapeError> {
        DenseMatrix::new(rows, cols, DType::F32, Bytes::from_owner(OwnedFloats(values)))
    }

    /// Output features.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes that one pass over the matrix streams.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.data.len()
    }

    /// Widens row `r` into `out` `[cols]`.
    ///
    /// # Panics
    /// When `r` is not a row or `out` is not `cols` long.
    pub fn row(&self, r: usize, out: &mut [f32]) {
        self.dtype.widen(self.row_bytes(r), out);
    }

    /// The bytes of row `r`.
    fn row_bytes(&self, r: usize) -> &[u8] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        let n = self.cols * self.dtype.size_of();
        &self.data[r * n..][..n]
    }
}

/// Lets `Bytes` own a float vector without copying it.
struct OwnedFloats(Vec<f32>);

impl AsRef<[u8]> for OwnedFloats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        let bytes = |n| Bytes::from(vec![0; n]);
        assert!(DenseMatrix::new(2, 3, DType::F16, bytes(12)).is_ok());
        assert_eq!(
            DenseMatrix::new(2, 3, DType::F32, bytes(23)).unwrap_err().to_string(),
            "a 2 x 3 matrix of F32 takes 24 bytes, found 23"
        );
        let huge = DenseMatrix::new(1 << 60, 1 << 60, DType::F32, bytes(0)).unwrap_err();
        assert_eq!(huge, ShapeError::TooLarge { rows: 1 << 60, cols: 1 << 60 });
        let empty = DenseMatrix::new(1 << 60, 0, DType::F32, bytes(0)).unwrap_err();
        assert_eq!(empty, ShapeError::Empty { rows: 1 << 60, cols: 0 });
    }

    #[test]
    fn rows_widen() {
        let m = DenseMatrix::from_f32(2, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let mut out = [0.0; 2];
        m.row(1, &mut out);
        assert_eq!(out, [3.0, 4.0]);
    }
}
