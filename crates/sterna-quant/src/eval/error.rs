//! What can go wrong in an evaluation.

use std::io;
use std::path::{Path, PathBuf};

use sterna_formats::FormatError;
use sterna_model::ModelError;
use sterna_model::generate::GenerateError;
use sterna_model::sampling::SamplingError;

/// An error of an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file or program.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line of a task file that is not what the task needs.
    #[error("{}: line {line}: {problem}", file.display())]
    Line {
        /// The task file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was expected and what is there.
        problem: String,
    },
    /// A task file without a single item.
    #[error("{}: expected one JSON object per line, found none", file.display())]
    NoItems {
        /// The task file.
        file: PathBuf,
    },
    /// A text shorter than one window.
    #[error("the text has {found} tokens, but one window takes {window}")]
    TextTooShort {
        /// Tokens of a window.
        window: usize,
        /// Tokens of the text.
        found: usize,
    },
    /// A window that leaves nothing to score.
    #[error(
        "a window of {found} tokens leaves nothing to score: the least is {}",
        super::windows::MIN_LENGTH
    )]
    WindowTooShort {
        /// Tokens asked for.
        found: usize,
    },
    /// A window, or the tokens of an item, that the model cannot see at once.
    #[error("{found} tokens at once are more than the {context_length} of the model's context")]
    ContextTooShort {
        /// Tokens needed.
        found: usize,
        /// Tokens the model can see at once.
        context_length: usize,
    },
    /// Two models whose logits do not stand for the same tokens.
    #[error("the model has {found} tokens and its reference {expected}: their logits cannot be compared")]
    Vocabulary {
        /// Tokens of the reference.
        expected: usize,
        /// Tokens of the model.
        found: usize,
    },
    /// A model that computes no numbers.
    #[error("the logits at position {position} of the sequence are not numbers: the weights are broken")]
    NotFinite {
        /// Counted from 0.
        position: usize,
    },
    /// Generated code would have to be run, and nobody allowed that.
    #[error("{}: this task runs code that the model writes, which has to be allowed", file.display())]
    CodeNotAllowed {
        /// The task file.
        file: PathBuf,
    },
    /// The reference model could not be loaded.
    #[error("the reference: {0}")]
    Reference(Box<dyn std::error::Error + Send + Sync>),
    /// Ended from outside.
    #[error("interrupted")]
    Cancelled,
    /// A forward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer failed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A generation failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Sampling options out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

impl EvalError {
    /// An [`EvalError::Io`]; meant for `map_err`.
    pub(crate) fn io(file: &Path) -> impl FnOnce(io::Error) -> EvalError + '_ {
        move |source| EvalError::Io { file: file.to_owned(), source }
    }
}

/// `Result` with the error of an evaluation.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;
