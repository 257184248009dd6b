//! How far an evaluation is, and whether it is still wanted.

use super::{EvalError, Result};

/// Hears of every step.
pub trait Progress {
    /// `done` of `total` windows or items are done.
    fn advance(&mut self, done: usize, total: usize);

    /// Something worth a line: a damaged cache file, a cache without room.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// Whether to end now; asked before each step.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody is listening.
impl Progress for () {
    fn advance(&mut self, _: usize, _: usize) {}
}

/// Says that `done` of `total` are done.
///
/// # Errors
/// [`EvalError::Cancelled`].
pub(crate) fn step(progress: &mut dyn Progress, done: usize, total: usize) -> Result<()> {
    if progress.cancelled() {
        return Err(EvalError::Cancelled);
    }
    progress.advance(done, total);
    Ok(())
}
