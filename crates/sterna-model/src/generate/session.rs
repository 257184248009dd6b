//! One sequence over a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sterna_formats::{TokenStream, Tokenizer};
use sterna_tensor::Compute;

use super::{Completion, Event, FinishReason, GenerateError, Request, StopStrings, Timings};
use crate::sampling::Sampler;
use crate::{KvType, Logits, Model, State, Workspace, forward};

/// How a session keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Most tokens the sequence can hold.
    pub context: usize,
    /// Storage type of keys and values.
    pub kv: KvType,
    /// Prompt tokens per forward pass: more is faster until the activations leave the cache, fewer can be cancelled
    /// sooner.
    pub prefill_chunk: usize,
}

impl SessionOptions {
    /// `context` tokens, f16 keys and values, 512 tokens per prefill pass.
    pub fn with_context(context: usize) -> SessionOptions {
        SessionOptions { context, kv: KvType::F16, prefill_chunk: 512 }
    }
}

/// A model, the state of one sequence, and the tokens that the state has seen.
pub struct Session {
    model: Arc<Model>,
    compute: Arc<Compute>,
    options: SessionOptions,
    state: State,
    workspace: Workspace,
    /// The tokens in `state`, in order.
    tokens: Vec<u32>,
}

impl Session {
    /// An empty sequence.
    pub fn new(model: &Arc<Model>, compute: &Arc<Compute>, options: SessionOptions) -> Session {
        Session {
            state: State::new(model, options.kv),
            workspace: Workspace::new(),
            model: Arc::clone(model),
            compute: Arc::clone(compute),
            options,
            tokens: Vec::new(),
        }
    }

    /// How the session keeps its state.
    pub fn options(&self) -> SessionOptions {
        self.options
    }

    /// The tokens computed so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.rewind(0);
    }

    /// Generates until a stop condition holds, calling `on_event` as things happen.
    ///
    /// # Errors
    /// [`GenerateError`]; a full context while generating is no error but [`FinishReason::Context`].
    pub fn generate(
        &mut self,
        tokenizer: &Tokenizer,
        sampler: &mut Sampler,
        request: Request<'_>,
        mut on_event: impl FnMut(Event<'_>),
    ) -> Result<Completion, GenerateError> {
        let start = Instant::now();
        self.check(request.prompt)?;
        let cached_tokens = self.reuse(request.prompt);
        let mut output = Output::new(tokenizer, request.stop, &mut on_event);
        let mut tokens = Vec::new();
        let mut timings = Timings::default();
        let max_tokens = request.max_tokens.unwrap_or(usize::MAX);

        let prefilled = self.prefill(request, &mut output)?;
        timings.prompt = start.elapsed();
        timings.time_to_first_token = timings.prompt;
        let finish_reason = loop {
            if !prefilled || request.cancel.load(Ordering::Relaxed) {
                break FinishReason::Cancelled;
            }
            if tokens.len() >= max_tokens {
                break FinishReason::Length;
            }
            if let Some(&last) = tokens.last() {
                if self.tokens.len() >= self.options.context {
                    break FinishReason::Context;
                }
                self.advance(&[last])?;
            }
            let token = sampler.sample(self.workspace.logits(), &self.tokens);
            if tokens.is_empty() {
                timings.time_to_first_token = start.elapsed();
            }
            tokens.push(token);
            if tokenizer.is_end(token) || output.push(token) {
                break FinishReason::Stop;
            }
        };
        timings.decode = start.elapsed() - timings.time_to_first_token;
        Ok(Completion {
            text: output.finish(),
            tokens,
            finish_reason,
            prompt_tokens: request.prompt.len(),
            cached_tokens,
            timings,
        })
    }

    fn check(&self, prompt: &[u32]) -> Result<(), GenerateError> {
        let vocab_size = self.model.spec().vocab_size;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        if prompt.len() >= self.options.context {
            return Err(GenerateError::ContextOverflow { found: prompt.len(), context: self.options.context });
        }
        match prompt.iter().find(|token| **token as usize >= vocab_size) {
            Some(&found) => Err(GenerateError::UnknownToken { found, vocab_size }),
            None => Ok(()),
        }
    }

    /// Rewinds the state to what it shares with `prompt`; the last prompt token is always computed, for its logits.
    /// Returns how many tokens stay.
    fn reuse(&mut self, prompt: &[u32]) -> usize {
        let shared = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        self.rewind(shared.min(prompt.len() - 1));
        self.tokens.len()
    }

    fn rewind(&mut self, n_tokens: usize) {
        self.state.truncate(n_tokens);
        self.tokens.truncate(n_tokens);
    }

    /// Computes what the state lacks of the prompt; false if cancelled on the way.
    fn prefill(&mut self, request: Request<'_>, output: &mut Output<'_>) -> Result<bool, GenerateError> {
        let total = request.prompt.len();
        (output.on_event)(Event::Prefill { done: self.tokens.len(), total });
        while self.tokens.len() < total {
            if request.cancel.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let end = total.min(self.tokens.len() + self.options.prefill_chunk.max(1));
            self.advance(&request.prompt[self.tokens.len()..end])?;
            (output.on_event)(Event::Prefill { done: end, total });
        }
        Ok(true)
    }

    /// Computes the next tokens, leaving the logits of the last one in the workspace.
    fn advance(&mut self, tokens: &[u32]) -> Result<(), GenerateError> {
        let done = forward(&self.model, &self.compute, &mut self.state, &mut self.workspace, tokens, Logits::Last);
        if let Err(error) = done {
            // Some blocks may have seen the tokens and others not.
            self.clear();
            return Err(error.into());
        }
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }
}

/// The text of the generated tokens on its way out.
struct Output<'a> {
    stream: TokenStream<'a>,
    stop: StopStrings,
    text: String,
    stopped: bool,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

impl<'a> Output<'a> {
    fn new(tokenizer: &'a Tokenizer, stop: &[String], on_event: &'a mut dyn FnMut(Event<'_>)) -> Output<'a> {
        let stop = StopStrings::new(stop);
        Output { stream: tokenizer.stream(), stop, text: String::new(), stopped: false, on_event }
    }

    /// Takes a token; true if it completed a stop string.
    fn push(&mut self, token: u32) -> bool {
        if let Some(piece) = self.stream.push(token) {
            self.take(&piece);
        }
        self.stopped
    }

    fn take(&mut self, piece: &str) {
        let released = self.stop.push(piece);
        self.stopped = released.stopped;
        self.emit(&released.text);
    }

    fn emit(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(text);
            (self.on_event)(Event::Text(text));
        }
    }

    /// Lets out the bytes of an unfinished character and what might have become a stop string.
    fn finish(mut self) -> String {
        if !self.stopped {
            let rest = self.stream.finish();
            self.take(&rest);
        }
        let held = self.stop.finish();
        self.emit(&held);
        self.text
    }
}
