//! The error of matrices whose sizes do not fit together.

use crate::PackedFormat;

/// A matrix cannot have this shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The bytes are too few or too many.
    #[error("a {rows} x {cols} matrix of {kind} takes {expected} bytes, found {found}")]
    Length {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Element type, for example `F16`.
        kind: String,
        /// Bytes that such a matrix takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// There must be something to compute with.
    #[error("a {rows} x {cols} matrix has no elements")]
    Empty {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// Rows must be whole blocks.
    #[error("{cols} columns, expected a multiple of {block_len}")]
    Columns {
        /// Columns asked for.
        cols: usize,
        /// Columns in a block of the format.
        block_len: usize,
    },
    /// Codes and zero points must fit the bits of the format.
    #[error("codes and zero points are at most {largest}, found {found}")]
    Code {
        /// The largest that the format has room for.
        largest: u8,
        /// The first that is larger.
        found: u8,
    },
    /// Scales of one byte have three bits of mantissa, and are normal and finite.
    #[error("{format} cannot hold the scale {found}")]
    Scale {
        /// The format asked for.
        format: PackedFormat,
        /// The first scale that does not fit.
        found: String,
    },
    /// The format cannot hold what was given.
    #[error("expected {expected}, found {found}")]
    Format {
        /// What kind of format could.
        expected: &'static str,
        /// The format given.
        found: PackedFormat,
    },
    /// The size does not fit in memory.
    #[error("a matrix of {rows} x {cols} is too large for this machine")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
}
