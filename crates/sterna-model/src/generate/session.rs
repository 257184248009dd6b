//! One sequence over a model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sterna_formats::state_file::{SectionKind, StateFile, StateWriter};
use sterna_formats::{ModelIdentity, Tokenizer};
use sterna_tensor::Compute;

use super::answer::Answer;
use super::speculate::{DraftModel, MAX_VERIFIED, Speculator};
use super::{Completion, Event, FinishReason, GenerateError, Request, Speculation, Timings};
use crate::sampling::Sampler;
use crate::{KvType, Logits, Model, ModelError, State, Workspace, forward};

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
    /// Whether text that repeats itself is decoded several tokens at a time where that pays
    /// ([`speculate`](super::speculate)): the same tokens, sooner.
    pub lookup: bool,
}

impl SessionOptions {
    /// `context` tokens, f16 keys and values, 512 tokens per prefill pass, lookup.
    pub fn with_context(context: usize) -> SessionOptions {
        SessionOptions { context, kv: KvType::F16, prefill_chunk: 512, lookup: true }
    }
}

/// A model and the state of one sequence.
pub struct Session {
    model: Arc<Model>,
    compute: Arc<Compute>,
    options: SessionOptions,
    state: State,
    workspace: Workspace,
    speculator: Speculator,
    /// Of the generation that is going on.
    speculation: Speculation,
    /// The newest token and its guesses.
    pass_tokens: Vec<u32>,
}

impl Session {
    /// An empty sequence.
    pub fn new(model: &Arc<Model>, compute: &Arc<Compute>, options: SessionOptions) -> Session {
        Session {
            state: State::new(model, options.kv),
            workspace: Workspace::new(),
            speculator: Speculator::new(options.lookup),
            speculation: Speculation::default(),
            pass_tokens: Vec::with_capacity(MAX_VERIFIED),
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

    /// Writes all that was computed to the file `path`, for the model that `identity` is of, with what the caller adds
    /// ([`StateFile`] gives it back as its `Application` section).
    ///
    /// # Errors
    /// The file cannot be written; then what was there before still is.
    pub fn save(
        &self,
        path: &Path,
        identity: ModelIdentity,
        application: &[u8],
    ) -> Result<(), GenerateError> {
        let mut writer = StateWriter::create(path, identity).map_err(ModelError::from)?;
        self.state.save(&mut writer)?;
        let added = writer.add(SectionKind::Application, [application]);
        added.and_then(|()| writer.finish()).map_err(ModelError::from)?;
        Ok(())
    }

    /// Goes on from the state in `file`, in place of its own: keys and values are stored as they are there.
    ///
    /// # Errors
    /// Those of [`State::load`], and a sequence that leaves no room in the context. The session is then as it was.
    pub fn load(&mut self, file: &StateFile) -> Result<(), GenerateError> {
        let state = State::load(&self.model, &self.compute, file)?;
        let (found, context) = (state.len(), self.options.context);
        if found >= context {
            let expected = format!("less than {context} tokens, the context");
            let error = file.invalid("sequence", expected, found.to_string());
            return Err(ModelError::from(error).into());
        }
        self.options.kv = state.kv_type();
        self.state = state;
        Ok(())
    }

    /// Lets `draft` guess what this session's model will say, where the text itself does not tell. The tokens stay the same.
    pub fn set_draft(&mut self, draft: &DraftModel) {
        self.speculator.set_draft(draft, &self.compute, self.options.kv);
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
        let first = self.prefill(request, sampler, &mut on_event)?;
        let n_computed = request.prompt.len() - cached_tokens;
        self.speculator.start(request.prompt, n_computed, start.elapsed())?;
        self.speculation = Speculation::default();
        let time_to_first_token = start.elapsed();

        let mut answer = Answer::new(tokenizer, &request, self.options.context, &mut on_event);
        let finish_reason = match first {
            None => FinishReason::Cancelled,
            Some(first) => self.decode(first, request, sampler, &mut answer)?,
        };
        let timings = Timings { time_to_first_token, decode: start.elapsed() - time_to_first_token };
        let (text, tokens) = answer.finish();
        Ok(Completion {
            text,
            tokens,
            finish_reason,
            prompt_tokens: request.prompt.len(),
            cached_tokens,
            speculation: self.speculation,
            timings,
        })
    }

    /// Goes on after the first token, pass by pass, until there is a reason to stop.
    fn decode(
        &mut self,
        first: u32,
        request: Request<'_>,
        sampler: &mut Sampler,
        answer: &mut Answer<'_>,
    ) -> Result<FinishReason, GenerateError> {
        let mut finish_reason = answer.push(first);
        self.speculator.push(first);
        let mut newest = first;
        while finish_reason.is_none() {
            if request.cancel.load(Ordering::Relaxed) {
                return Ok(FinishReason::Cancelled);
            }
            (newest, finish_reason) = self.pass(newest, sampler, answer)?;
        }
        Ok(finish_reason.unwrap_or(FinishReason::Length))
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
        draw(logits, state.tokens(), sampler)
    }

    /// Computes `newest` together with guesses of what follows it, and draws until a guess turns out wrong. Returns the last
    /// token drawn, which is not in the state, and a reason to stop after it.
    fn pass(
        &mut self,
        newest: u32,
        sampler: &mut Sampler,
        answer: &mut Answer<'_>,
    ) -> Result<(u32, Option<FinishReason>), GenerateError> {
        let before = self.state.len();
        let most = self.most_guesses(answer.room());
        let guesses = self.speculator.guess(self.state.tokens(), newest, most, sampler)?;
        let n_guesses = guesses.len();
        self.pass_tokens.clear();
        self.pass_tokens.push(newest);
        self.pass_tokens.extend_from_slice(guesses);

        let start = Instant::now();
        let (state, workspace) = (&mut self.state, &mut self.workspace);
        let logits = forward(&self.model, &self.compute, state, workspace, &self.pass_tokens, Logits::All)?;
        let mut drawn = (newest, None);
        let mut n_drawn = 0;
        for logits in logits.chunks_exact(self.model.spec().vocab_size) {
            // The tokens of the pass up to here are what was drawn.
            n_drawn += 1;
            let token = draw(logits, &state.tokens()[..before + n_drawn], sampler)?;
            drawn = (token, answer.push(token));
            self.speculator.push(token);
            if drawn.1.is_some() || self.pass_tokens.get(n_drawn) != Some(&token) {
                break;
            }
        }
        self.state.truncate(before + n_drawn);
        self.speculator.observe(start.elapsed(), n_drawn);
        self.speculation.passes += 1;
        self.speculation.guessed += n_guesses;
        self.speculation.accepted += n_drawn - 1;
        Ok(drawn)
    }

    /// How many guesses can be checked when `room` tokens more may be drawn.
    fn most_guesses(&self, room: usize) -> usize {
        if !self.state.can_rewind() {
            return 0;
        }
        // Wrong guesses must not move the sequence into another rotary regime.
        let regime = |length| self.model.spec().regime(self.state.final_length(length));
        let length = self.state.len() + 1;
        let most = room.saturating_sub(1).min(MAX_VERIFIED - 1);
        if regime(length) == regime(length + most) { most } else { 0 }
    }
}

/// The token after `tokens`, by `logits`.
fn draw(logits: &[f32], tokens: &[u32], sampler: &mut Sampler) -> Result<u32, GenerateError> {
    match logits.iter().any(|logit| logit.is_finite()) {
        true => Ok(sampler.sample(logits, tokens)),
        false => Err(ModelError::NotFinite { position: tokens.len().saturating_sub(1) }.into()),
    }
}
