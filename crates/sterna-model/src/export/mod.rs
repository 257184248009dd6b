//! Checkpoints in the formats of other runtimes: any that Sterna loads, written tensor by tensor, so that the model
//! is never in memory as a whole. One module per format; `docs/export.md` says what becomes what.

pub mod gguf;
pub mod hf;

use std::path::Path;

use crate::error::{ModelError, Result};
use crate::spec::{Projections, Spec};

/// A checkpoint that is being written in another format. Dropped before [`Export::finish`], it leaves nothing.
pub trait Export {
    /// How often [`Export::step`] has something to write.
    fn n_tensors(&self) -> usize;

    /// Writes the next tensor; `None` when there are no more.
    ///
    /// # Errors
    /// When the tensor cannot be read, has values that the format cannot hold, or cannot be written.
    fn step(&mut self) -> Result<Option<Written>>;

    /// Completes the output and gives it its name; returns its size in bytes.
    ///
    /// # Errors
    /// When tensors are missing, or the output cannot be written.
    fn finish(self: Box<Self>) -> Result<u64>;
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its name in the output.
    pub name: String,
    /// Its shape in the output, outermost first.
    pub shape: Vec<usize>,
    /// Type in the checkpoint.
    pub from: String,
    /// Type in the output.
    pub to: String,
    /// Root mean square of what rounding changed, over that of the values; 0 where nothing was.
    pub error: f64,
}

/// Refuses ternary weights: no format here holds them and says how their inputs are rounded.
fn check_projections(path: &Path, spec: &Spec) -> Result<()> {
    match spec.projections {
        Projections::Stored => Ok(()),
        Projections::Ternary { .. } => {
            let expected = "weights that are no ternary ones, which stay in their own or a native file";
            Err(ModelError::field(path, "projections", expected, "BitNet's"))
        }
    }
}

/// How far the values written are from those of the checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoundingError {
    /// Summed squares of the differences.
    pub(crate) squared_error: f64,
    /// Summed squares of the values of which some were rounded.
    pub(crate) squares: f64,
}

impl RoundingError {
    /// Root mean square of the differences, over that of the values.
    pub(crate) fn relative(self) -> f64 {
        if self.squared_error == 0.0 { 0.0 } else { (self.squared_error / self.squares).sqrt() }
    }
}
