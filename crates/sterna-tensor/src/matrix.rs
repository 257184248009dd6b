//! The weights of a linear layer or an embedding, however they are held.

use crate::tuning::Kernels;
use crate::{Compute, DenseMatrix, PackedMatrix, Precision};

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
        match (self, c.precision) {
            (Matrix::Dense(m), _) => format!("{} dot, {}", m.dtype(), c.isa),
            (Matrix::Packed(m), Precision::Int8) => {
                let Kernels { few, many, .. } = c.tuning.kernels(m.format(), c.isa);
                let family = m.family(few, 1);
                let prompts = if few == many { String::new() } else { format!(", prompts by {many}") };
                format!("{}-bit x int8 {family}, {few}, 16x4 tiles{prompts}", m.format().code_bits())
            }
            (Matrix::Packed(m), Precision::Float) => {
                format!("{}-bit x f32, {}, 16x4 tiles", m.format().code_bits(), c.isa)
            }
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
