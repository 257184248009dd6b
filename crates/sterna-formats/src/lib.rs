//! Files for Sterna: GGUF, Hugging Face directories, its own native files, tokenizers and chat templates.
//!
//! Everything that comes from outside is checked here, so that the layers above work with tensors whose shape,
//! type and bytes agree. Files are mapped, not read; a malformed one gives a [`FormatError`] and never a panic,
//! a hang, or an allocation whose size it dictates.

#![deny(unsafe_code)]

mod atomic_file;
pub mod chat_template;
pub mod checkpoint;
pub mod error;
pub mod ggml;
pub mod gguf;
pub mod hf;
mod identity;
pub mod mapped;
pub mod native;
pub mod state_file;
pub mod tensor;
pub mod tokenizer;
pub mod tuning_profile;

pub use chat_template::{ChatTemplate, Message, RenderOptions};
pub use checkpoint::{Checkpoint, Config};
pub use error::{FormatError, Result};
pub use ggml::GgmlType;
pub use identity::ModelIdentity;
pub use tensor::{OtherType, QuantizedRows, RowOrder, Tensor, TensorType};
pub use tokenizer::{Special, TokenStream, Tokenizer};
