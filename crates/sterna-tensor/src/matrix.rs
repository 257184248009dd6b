//! The weights of a linear layer or an embedding, however they are held.

use crate::{Compute, DenseMatrix, PackedMatrix};

/// Weights `[rows, cols]`: rows are outputs, columns inputs.
#[derive(Debug)]
pub enum Matrix {
    /// Float weights as they lie in the file.
    Dense(DenseMatrix),
    /// Quantized weights in the layout of the kernels.
    Packed(PackedMatrix),
}

impl Matrix {
    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.rows(),
            Matrix::Packed(m) => m.rows(),
        }
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.cols(),
            Matrix::Packed(m) => m.cols(),
        }
    }

    /// Bytes that one pass over the weights streams.
    pub fn n_bytes(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.n_bytes(),
            Matrix::Packed(m) => m.n_bytes(),
        }
    }

    /// The exact weights of row `r`, into `out` `[cols]`: an embedding look-up.
    ///
    /// # Panics
    /// When there is no row `r`, or `out` is not `cols` long.
    pub fn row(&self, r: usize, out: &mut [f32]) {
        match self {
            Matrix::Dense(m) => m.row(r, out),
            Matrix::Packed(m) => m.row(r, out),
        }
    }

    /// Which kernel multiplies with these weights, in a few words for people.
    pub fn kernel(&self, c: &Compute) -> String {
        match self {
            Matrix::Dense(m) => format!("{} dot, {}", m.dtype(), c.isa),
            Matrix::Packed(m) => c.kernel(m.format()),
        }
    }
}

impl From<DenseMatrix> for Matrix {
    fn from(m: DenseMatrix) -> Matrix {
        Matrix::Dense(m)
    }
}

impl From<PackedMatrix> for Matrix {
    fn from(m: PackedMatrix) -> Matrix {
        Matrix::Packed(m)
    }
}
