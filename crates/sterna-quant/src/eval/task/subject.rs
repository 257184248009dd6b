//! The model that is asked.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sterna_formats::{Special, Tokenizer};
use sterna_model::generate::{Request, Session, SessionOptions};
use sterna_model::sampling::{Sampler, SamplingOptions};
use sterna_model::{KvType, Model};
use sterna_tensor::Compute;

use crate::eval::source::Runner;
use crate::eval::{Result, leading_bos};

/// A model that can be asked: its predictions, and texts that it writes.
pub struct Subject<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) runner: Runner,
    session: Session,
    cancel: &'a AtomicBool,
}

impl<'a> Subject<'a> {
    /// A model, what it runs on, its tokenizer, its context in tokens, and how keys and values are stored. A generation
    /// ends early once `cancel` is set.
    pub fn new(
        model: &Arc<Model>,
        compute: &Arc<Compute>,
        tokenizer: &'a Tokenizer,
        context: usize,
        kv: KvType,
        cancel: &'a AtomicBool,
    ) -> Subject<'a> {
        let options = SessionOptions { kv, ..SessionOptions::with_context(context) };
        let session = Session::new(model, compute, options);
        Subject { tokenizer, runner: Runner::new(model, compute, kv), session, cancel }
    }

    /// The tokens of a text, with BOS where the model's texts begin with it. Special tokens written out are plain text.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens: Vec<u32> = leading_bos(self.tokenizer)?.into_iter().collect();
        tokens.extend(self.tokenizer.encode(text, Special::Text)?);
        Ok(tokens)
    }

    /// What the model finds likeliest after `prompt`, up to `max_tokens` tokens, a text in `stop`, or its own end.
    pub(super) fn complete(&mut self, prompt: &str, max_tokens: usize, stop: &[String]) -> Result<String> {
        let prompt = self.tokens(prompt)?;
        let request = Request { prompt: &prompt, max_tokens: Some(max_tokens), stop, cancel: self.cancel };
        let mut sampler = Sampler::new(SamplingOptions::greedy())?;
        Ok(self.session.generate(self.tokenizer, &mut sampler, request, |_| {})?.text)
    }
}
