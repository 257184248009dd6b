//! What can go wrong while a model is quantized.

use sterna_model::ModelError;
use sterna_tensor::ShapeError;
use thiserror::Error;

use crate::rounding::RoundingError;

/// `Result` with [`QuantError`].
pub type Result<T, E = QuantError> = std::result::Result<T, E>;

/// An error while quantizing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The checkpoint.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A matrix that is not as large as it should be.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Weights that cannot be rounded.
    #[error("{layer}: {source}")]
    Rounding {
        /// The linear layer.
        layer: String,
        /// Why not.
        source: RoundingError,
    },
    /// Values that should be finite.
    #[error("{layer}: expected finite {what}, found others")]
    NotFinite {
        /// The linear layer.
        layer: String,
        /// Which values.
        what: &'static str,
    },
    /// Too little text.
    #[error("calibration text: expected at least {expected} tokens, found {found}")]
    TooLittleText {
        /// Tokens wanted.
        expected: usize,
        /// Tokens given.
        found: usize,
    },
    /// A tensor that an earlier run should have made.
    #[error("{name}: not in the unfinished file, or of another shape")]
    Missing {
        /// Its name.
        name: String,
    },
    /// What was written so far.
    #[error("reading back the result: {0}")]
    Written(String),
    /// Where the result goes.
    #[error("writing the result: {0}")]
    Output(String),
}
