//! Sterna runs language models on the CPU. This is the library behind the `sterna` command: a small, stable face over the
//! crates below it.
//!
//! ```no_run
//! use sterna::{Engine, EngineOptions};
//!
//! fn main() -> Result<(), sterna::Error> {
//!     let engine = Engine::load("SmolLM2-135M-Instruct.Q4_1.gguf", &EngineOptions::default())?;
//!     let answer = engine.answer("Why is the sky blue?", engine.recommended_sampling().clone())?;
//!     println!("{}", answer.text);
//!     Ok(())
//! }
//! ```
//!
//! A [`Session`] streams text as it comes and keeps what it computed, so that a chat pays only for each new turn.

#![forbid(unsafe_code)]

mod cores;
mod device;
mod draft;
mod engine;
mod error;
mod network;
mod recommended;
mod size;
pub mod synthetic;

pub use cores::physical_cores;
pub use device::{Tuned, TuningSource, profile_path, this_device};
pub use engine::Engine;
pub use error::Error;
pub use network::{EngineOptions, Network};
pub use recommended::recommended_sampling;
pub use size::Size;

pub use sterna_formats::{
    ChatTemplate, Checkpoint, GgmlType, Message, ModelIdentity, RowOrder, Special, Tensor, TensorType,
    Tokenizer,
};
pub use sterna_formats::{native, state_file, tuning_profile};
pub use sterna_model::generate::{
    Completion, Event, FinishReason, GenerateError, Request, Session, SessionOptions, Speculation, Timings,
};
pub use sterna_model::sampling::{Sampler, SamplingOptions};
pub use sterna_model::{
    KvType, LoadOptions, Logits, MAX_CHUNK, Model, Spec, State, Workspace, forward, spec,
};
pub use sterna_tensor::{Compute, Isa, Matrix, Pool, Precision, Tuning};
