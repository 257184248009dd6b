//! The judge: what a model's answers are worth, and what they lost beside those of its original.
//!
//! [`Windows`] cut a text as llama-perplexity does, so that figures compare. [`perplexity`] scores them with one model;
//! [`divergence`] compares each prediction with that of a [`Reference`], whose logits are computed once and kept in a
//! [`cache`] on disk. [`task`]s are questions that have right answers. [`statistics`] turns the numbers of single
//! predictions into figures with errors.
//!
//! Nothing here knows files of models or a terminal: logits come from a [`LogitSource`], and a [`Progress`] hears how
//! far things are and may end them.

pub mod cache;
pub mod divergence;
mod error;
pub mod perplexity;
mod progress;
mod record;
mod reference;
pub(crate) mod row;
mod source;
pub mod statistics;
pub mod task;
mod windows;

pub use error::{EvalError, Result};
pub use progress::Progress;
pub use record::LOG_PROB_ERROR;
pub use reference::{LoadReference, Reference};
pub use source::{LogitSource, Runner, Visit};
pub use windows::{Windows, leading_bos};
