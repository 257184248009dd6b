//! How a long pull tells its caller what it is doing.

use std::fmt;

use crate::StoreError;

/// What a pull is doing now. `Display` gives a short line for a terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stage<'a> {
    /// Another process is pulling the same model; its result will be used.
    Waiting,
    /// Asking a source what it has.
    Asking {
        /// The source.
        source: &'a str,
    },
    /// Bytes are coming in.
    Downloading {
        /// The source.
        source: &'a str,
        /// The file, or the package that carries it.
        item: &'a str,
        /// Which item this is, from 1.
        index: usize,
        /// How many items there are.
        count: usize,
    },
    /// Copying from a path on this machine.
    Copying {
        /// The file.
        item: &'a str,
    },
    /// Reading everything back to compare checksums.
    Verifying {
        /// The file.
        item: &'a str,
    },
    /// A source failed; the next one is tried.
    SourceFailed {
        /// The source.
        source: &'a str,
        /// Why.
        error: &'a StoreError,
    },
}

impl fmt::Display for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Waiting => f.write_str("waiting for another process that pulls this model"),
            Stage::Asking { source } => write!(f, "asking {source}"),
            Stage::Downloading { source, item, count: 1, .. } => {
                write!(f, "downloading {item} from {source}")
            }
            Stage::Downloading { source, item, index, count } => {
                write!(f, "downloading {item} ({index} of {count}) from {source}")
            }
            Stage::Copying { item } => write!(f, "copying {item}"),
            Stage::Verifying { item } => write!(f, "verifying {item}"),
            Stage::SourceFailed { source, error } => write!(f, "{source} failed: {error}"),
        }
    }
}

/// Listens to a pull. `()` listens to nothing.
pub trait Progress {
    /// A new stage began.
    fn stage(&mut self, stage: &Stage<'_>);
    /// `done` of `total` bytes of the current stage; `total` is `None` when nobody says.
    fn bytes(&mut self, done: u64, total: Option<u64>);
}

impl Progress for () {
    fn stage(&mut self, _stage: &Stage<'_>) {}
    fn bytes(&mut self, _done: u64, _total: Option<u64>) {}
}
