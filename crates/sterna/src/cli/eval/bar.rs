//! How far an evaluation is, on stderr.

use std::sync::atomic::{AtomicBool, Ordering};

use sterna_quant::eval::Progress;

use crate::cli::progress::StepBar;
use crate::cli::terminal::note;

/// A bar over windows or items; it goes away when dropped.
pub(super) struct Bar<'a> {
    /// What is done: `model: lambada`.
    what: String,
    bar: Option<StepBar>,
    cancel: &'a AtomicBool,
}

impl<'a> Bar<'a> {
    pub(super) fn new(what: String, cancel: &'a AtomicBool) -> Bar<'a> {
        Bar { what, bar: None, cancel }
    }
}

impl Progress for Bar<'_> {
    fn advance(&mut self, done: usize, total: usize) {
        let bar = self.bar.get_or_insert_with(|| StepBar::new(&self.what, done, total));
        bar.set(done);
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}
