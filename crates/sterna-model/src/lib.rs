//! Networks for Sterna: one [`Spec`] for every architecture, and forward passes that know only specs.
//!
//! A checkpoint's configuration becomes a [`Spec`] by its family's row in [`arch`]; its tensors become a [`Model`];
//! a [`forward`](forward()) pass runs tokens through it against the [`State`] of one sequence. [`mod@reference`] is
//! the same network once more, written to be read: the oracle that the fast path is tested against.

#![forbid(unsafe_code)]

pub mod arch;
mod block;
mod embedding;
mod error;
pub mod export;
mod feed_forward;
mod forward;
pub mod generate;
mod head;
mod kv_cache;
pub mod layerwise;
mod linear;
mod mixer;
mod model;
pub mod native;
pub mod reference;
pub mod rope;
mod rows;
pub mod sampling;
pub mod spec;
mod state;
pub mod synthetic;
mod tap;
mod ternary;
pub mod weights;
mod workspace;

pub use error::{ModelError, Result};
pub use forward::{Logits, MAX_CHUNK, forward, forward_tapped};
pub use layerwise::Layerwise;
pub use model::{LoadOptions, Model};
pub use reference::Reference;
pub use spec::Spec;
pub use state::State;
pub use sterna_tensor::KvType;
pub use tap::{Site, Tap};
pub use workspace::Workspace;
