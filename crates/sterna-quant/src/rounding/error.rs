//! What can go wrong while weights are rounded.

use sterna_tensor::{PackedFormat, ShapeError};

/// An error of rounding.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RoundingError {
    /// A scale is an `f16`, so weights must be numbers in its range.
    #[error("weight [{row}, {col}] is {value}, expected a number between -65504 and 65504")]
    Weight {
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        col: usize,
        /// The weight.
        value: f32,
    },
    /// Moments of inputs must be numbers.
    #[error("the mean square of input {col} is {value}, expected a finite number")]
    Moment {
        /// Column of the matrix, an input of the layer.
        col: usize,
        /// Its mean square.
        value: f32,
    },
    /// Moments are for a matrix with other columns.
    #[error("moments of {found} inputs for a matrix of {expected} columns")]
    Inputs {
        /// Columns of the matrix.
        expected: usize,
        /// Inputs whose moments were given.
        found: usize,
    },
    /// The moments are not those of any inputs, or too far from it after rounding errors.
    #[error("the moments of the inputs are not positive definite, even with a damping of {damping}")]
    NotPositiveDefinite {
        /// The largest damping tried.
        damping: f32,
    },
    /// Only formats with one scale for a group of columns can be rounded to.
    #[error("expected a symmetric or affine format, found {0}")]
    Format(PackedFormat),
    /// The matrix is not what its format can hold.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl RoundingError {
    /// The error as one of the matrix of which the rows from `first` on were rounded.
    pub(crate) fn of_rows_from(self, first: usize) -> RoundingError {
        match self {
            RoundingError::Weight { row, col, value } => {
                RoundingError::Weight { row: first + row, col, value }
            }
            other => other,
        }
    }
}

/// The result of rounding.
pub type Result<T> = std::result::Result<T, RoundingError>;
