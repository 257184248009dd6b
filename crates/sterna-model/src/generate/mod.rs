//! Generation: a sequence that grows token by token, from a prompt to a reason to stop.
//!
//! A [`Session`] is one sequence over a model: the tokens so far and their [`State`](crate::State). Give it a whole prompt
//! each time; what it shares with the tokens already computed is not computed again, so a chat pays only for the new turn.

mod answer;
mod output;
mod session;
pub mod speculate;
mod stop;

pub use session::{Session, SessionOptions};
pub use speculate::{DraftModel, MAX_VERIFIED, Speculation};
pub use stop::{Released, StopStrings};

use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What to generate and when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The whole prompt as token ids, with what it shares with earlier requests.
    pub prompt: &'a [u32],
    /// Most tokens to generate, at least one; `None` is up to the end of the context.
    pub max_tokens: Option<usize>,
    /// Strings that end the text and are left out of it.
    pub stop: &'a [String],
    /// Set to true from anywhere, it ends the generation after the current step.
    pub cancel: &'a AtomicBool,
}

/// What is reported while generating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// `done` of `total` prompt tokens are in the state.
    Prefill {
        /// Prompt tokens in the state, those reused among them.
        done: usize,
        /// Prompt tokens.
        total: usize,
    },
    /// A piece of text: whole characters, never part of a stop string.
    Text(&'a str),
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came up.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The request was cancelled.
    Cancelled,
    /// The context is full.
    Context,
}

impl FinishReason {
    /// The name used in JSON: `stop`, `length`, `cancelled` or `context`.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Context => "context",
        }
    }
}

/// What came out, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text, without stop strings and without special tokens.
    pub text: String,
    /// Tokens generated, the end token among them.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were already in the state.
    pub cached_tokens: usize,
    /// Tokens that were guessed, and how many of them rightly.
    pub speculation: Speculation,
    /// Time it took.
    pub timings: Timings,
}

/// Wall-clock times of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// From the request to the first token: computing the prompt tokens that were not cached.
    pub time_to_first_token: Duration,
    /// Computing and drawing all tokens after the first.
    pub decode: Duration,
}

impl Completion {
    /// Prompt tokens computed per second; `None` if that was cancelled.
    pub fn prompt_tokens_per_second(&self) -> Option<f64> {
        let computed = if self.tokens.is_empty() { 0 } else { self.prompt_tokens - self.cached_tokens };
        rate(computed, self.timings.time_to_first_token)
    }

    /// Tokens per second after the first, which belongs to the prompt's time.
    pub fn decode_tokens_per_second(&self) -> Option<f64> {
        rate(self.tokens.len().saturating_sub(1), self.timings.decode)
    }
}

/// `n` per second; `None` where nothing was done or no time passed.
fn rate(n: usize, time: Duration) -> Option<f64> {
    (n > 0 && !time.is_zero()).then(|| n as f64 / time.as_secs_f64())
}

/// Why a generation could not be done.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The prompt leaves no room for one new token.
    #[error("the prompt has {found} tokens but the context holds {context}, of which one is for the answer")]
    ContextOverflow {
        /// Tokens of the prompt.
        found: usize,
        /// Tokens the context holds.
        context: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty: it has no tokens to continue")]
    EmptyPrompt,
    /// A model that guesses are made for or by must be able to take tokens back.
    #[error(
        "the {what} has recurrences, which cannot take back a token: it can neither have nor be a draft model"
    )]
    CannotRewind {
        /// Which model.
        what: &'static str,
    },
    /// The forward pass failed.
    #[error(transparent)]
    Model(#[from] crate::ModelError),
}
