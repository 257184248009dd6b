//! What can go wrong between a checkpoint and its logits. Every message names the file, the field or tensor, what was
//! expected and what was found.

use std::fmt;
use std::path::PathBuf;

use sterna_formats::FormatError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The checkpoint is of a family that this version has no table row for.
    #[error("{}: architecture {found:?} is not supported; supported: {supported}", file.display())]
    NotSupported {
        /// The checkpoint.
        file: PathBuf,
        /// The architecture that it names.
        found: String,
        /// The architectures there are, separated by commas.
        supported: String,
    },
    /// A field of the configuration has a value that no network can have, or that this one cannot do.
    #[error("{}: {field}: expected {expected}, found {found}", file.display())]
    Field {
        /// The checkpoint or its configuration file.
        file: PathBuf,
        /// The field, by its name in the file where one field is to blame.
        field: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor that the network needs is not in the checkpoint.
    #[error("{}: tensor {tensor:?} is missing (expected shape {expected:?})", file.display())]
    MissingTensor {
        /// The checkpoint.
        file: PathBuf,
        /// The name that was looked for.
        tensor: String,
        /// The shape it should have, outermost first.
        expected: Vec<usize>,
    },
    /// A tensor has not the shape that the configuration promises.
    #[error("{}: tensor {tensor:?}: expected shape {expected:?}, found {found:?}", file.display())]
    TensorShape {
        /// The checkpoint.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape it should have, outermost first.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor holds values that cannot be weights.
    #[error("{}: tensor {tensor:?}: expected {expected}, found {found}", file.display())]
    TensorValue {
        /// The checkpoint.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The sequence would become longer than the model's context.
    #[error(
        "the sequence would be {needed} tokens long, but the context of this model is {context_length} tokens"
    )]
    ContextOverflow {
        /// Length that the sequence would have.
        needed: usize,
        /// Tokens that the model can see at once.
        context_length: usize,
    },
    /// No logit is a number.
    #[error(
        "token {position} of the sequence: expected numbers for what follows it, found none that is finite: the weights or \
         the saved state are not those of a network that works"
    )]
    NotFinite {
        /// Tokens before it.
        position: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("token id {token} is outside the vocabulary of {vocab_size} tokens")]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Number of ids there are, from zero.
        vocab_size: usize,
    },
    /// A forward pass was asked for no token at all.
    #[error("a forward pass needs at least one token")]
    NoTokens,
    /// A state or workspace made for one model was handed to another.
    #[error("this {what} was made for another model")]
    Mismatch {
        /// `state` or `workspace`.
        what: &'static str,
    },
    /// Reading the checkpoint failed.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl ModelError {
    /// A [`ModelError::Field`].
    pub(crate) fn field(
        file: impl Into<PathBuf>,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl fmt::Display,
    ) -> ModelError {
        ModelError::Field {
            file: file.into(),
            field: field.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}

/// `Result` with this crate's error.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
