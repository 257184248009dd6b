//! One sequence over a model.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sterna_formats::{TokenStream, Tokenizer};
use sterna_tensor::Compute;

use super::{Completion, Event, FinishReason, GenerateError, Request, StopStrings, Timings};
use crate::sampling::Sampler;
use crate::{KvType, Logits, Model, State, Workspace, forward};

/// Tokens of a prompt between the places in it that a state with recurrences can go back to.
const MARK_EVERY: usize = 4096;

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

/// A model and the state of one sequence.
pub struct Session {
    model: Arc<Model>,
    compute: Arc<Compute>,
    options: SessionOptions,
    state: State,
    workspace: Workspace,
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
        }
    }

    /// How the session keeps its state.
    pub fn options(&self) -> SessionOptions {
        self.options
    }

    /// The tokens computed so far.
    pub fn tokens(&self) -> &[u32] {
        self.state.tokens()
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
        let mut next = self.prefill(request, sampler, &mut on_event)?;
        let time_to_first_token = start.elapsed();

        let mut output = Output::new(tokenizer, request.stop, &mut on_event);
        let mut tokens = Vec::new();
        let finish_reason = loop {
            let Some(token) = next else { break FinishReason::Cancelled };
            tokens.push(token);
            if tokenizer.is_end(token) || output.push(token) {
                break FinishReason::Stop;
            }
            if request.max_tokens.is_some_and(|max_tokens| tokens.len() >= max_tokens) {
                break FinishReason::Length;
            }
            if self.state.len() + 1 >= self.options.context {
                break FinishReason::Context;
            }
            next = match request.cancel.load(Ordering::Relaxed) {
                true => None,
                false => Some(self.advance(&[token], sampler)?),
            };
        };
        let timings = Timings { time_to_first_token, decode: start.elapsed() - time_to_first_token };
        let prompt_tokens = request.prompt.len();
        Ok(Completion { text: output.finish(), tokens, finish_reason, prompt_tokens, cached_tokens, timings })
    }

    fn check(&self, prompt: &[u32]) -> Result<(), GenerateError> {
        let context = self.options.context;
        match prompt.len() {
            0 => Err(GenerateError::EmptyPrompt),
            found if found >= context => Err(GenerateError::ContextOverflow { found, context }),
            _ => Ok(()),
        }
    }

    /// Rewinds the state to what it shares with `prompt`; the last prompt token is always computed, for its logits.
    /// Returns how many tokens stay.
    fn reuse(&mut self, prompt: &[u32]) -> usize {
        let shared = self.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let kept = shared.min(prompt.len() - 1);
        if kept == self.state.len() {
            // The end of a turn, where an edited one would begin.
            self.state.mark();
        }
        let kept = self.state.truncate(kept);
        self.state.expect_length(prompt.len());
        kept
    }

    /// Computes what the state lacks of the prompt, and draws the first token; `None` if cancelled on the way.
    fn prefill(
        &mut self,
        request: Request<'_>,
        sampler: &mut Sampler,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<u32>, GenerateError> {
        let total = request.prompt.len();
        let chunk = self.options.prefill_chunk.max(1);
        on_event(Event::Prefill { done: self.state.len(), total });
        while self.state.len() + chunk < total {
            if request.cancel.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let done = self.state.len();
            let tokens = &request.prompt[done..done + chunk];
            forward(&self.model, &self.compute, &mut self.state, &mut self.workspace, tokens, Logits::Last)?;
            on_event(Event::Prefill { done: done + chunk, total });
            if (done + chunk) / MARK_EVERY > done / MARK_EVERY {
                self.state.mark();
            }
        }
        if !self.state.can_rewind() && self.state.len() + 1 < total {
            // Another answer to the same prompt begins before its last token.
            let tokens = &request.prompt[self.state.len()..total - 1];
            forward(&self.model, &self.compute, &mut self.state, &mut self.workspace, tokens, Logits::Last)?;
            self.state.mark();
        }
        let first = self.advance(&request.prompt[self.state.len()..], sampler)?;
        on_event(Event::Prefill { done: total, total });
        Ok(Some(first))
    }

    /// Computes `tokens` and draws the one after them.
    fn advance(&mut self, tokens: &[u32], sampler: &mut Sampler) -> Result<u32, GenerateError> {
        let (state, workspace) = (&mut self.state, &mut self.workspace);
        let logits = forward(&self.model, &self.compute, state, workspace, tokens, Logits::Last)?;
        Ok(sampler.sample(logits, state.tokens()))
    }
}

/// The text of the generated tokens on its way out.
struct Output<'a> {
    stream: TokenStream<'a>,
    sink: Sink<'a>,
}

/// Text on its way past the stop strings.
struct Sink<'a> {
    stop: StopStrings,
    stopped: bool,
    text: String,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

impl<'a> Output<'a> {
    fn new(tokenizer: &'a Tokenizer, stop: &[String], on_event: &'a mut dyn FnMut(Event<'_>)) -> Output<'a> {
        let sink = Sink { stop: StopStrings::new(stop), stopped: false, text: String::new(), on_event };
        Output { stream: tokenizer.stream().skip_special(), sink }
    }

    /// Takes a token; true if it completed a stop string.
    fn push(&mut self, token: u32) -> bool {
        if let Some(piece) = self.stream.push(token) {
            self.sink.push(&piece);
        }
        self.sink.stopped
    }

    /// Lets out the bytes of an unfinished character and what might have become a stop string.
    fn finish(mut self) -> String {
        if !self.sink.stopped
            && let Some(rest) = self.stream.finish()
        {
            self.sink.push(&rest);
        }
        let held = self.sink.stop.finish();
        self.sink.emit(&held);
        self.sink.text
    }
}

impl Sink<'_> {
    fn push(&mut self, piece: &str) {
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
}
