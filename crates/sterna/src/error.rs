//! What can go wrong, from the file to the last token.

use std::path::PathBuf;

use sterna_formats::FormatError;
use sterna_model::ModelError;
use sterna_model::generate::GenerateError;
use sterna_model::sampling::SamplingError;
use sterna_tensor::IsaError;

/// An error of the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A network that cannot be built or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A generation that cannot be done.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Sampling options out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// `STERNA_ISA` names what this machine has not.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// A context longer than the model can use.
    #[error("a context of {asked} tokens was asked for, but the model was trained for {trained}")]
    ContextTooLong {
        /// Tokens asked for.
        asked: usize,
        /// Tokens the model was trained for.
        trained: usize,
    },
    /// A draft model whose token ids mean something else.
    #[error("draft model {}: its tokenizer is not the model's: {why}", draft.display())]
    OtherTokenizer {
        /// The draft model.
        draft: PathBuf,
        /// What differs.
        why: String,
    },
    /// A model that continues text and does not know conversations, or whose template cannot be read.
    #[error("no conversation without a chat template: {why}")]
    NoChatTemplate {
        /// What is missing or wrong.
        why: String,
    },
}
