//! A model made ready to run: weights, tokenizer, chat template and recommended sampling, opened from one path.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use sterna_formats::{
    ChatTemplate, Checkpoint, FormatError, Message, ModelIdentity, RenderOptions, Special, Tokenizer,
};
use sterna_model::generate::{Completion, DraftModel, Event, Request, Session, SessionOptions};
use sterna_model::sampling::{Sampler, SamplingOptions};

use crate::{EngineOptions, Error, Network, draft, recommended_sampling};

/// A model made ready to run.
pub struct Engine {
    path: PathBuf,
    /// Mapped: what [`Engine::identity`] is taken of.
    checkpoint: Checkpoint,
    network: Network,
    tokenizer: Tokenizer,
    /// A model that was not trained to chat has none, and can still continue text.
    template: Result<ChatTemplate, FormatError>,
    sampling: SamplingOptions,
    lookup: bool,
    draft: Option<DraftModel>,
}

impl Engine {
    /// Opens the native or GGUF file or Hugging Face directory at `path`, and the draft model if there is one.
    ///
    /// # Errors
    /// A file that is missing, malformed or of an unsupported architecture; a context longer than the model's; a draft model
    /// that does not suit.
    pub fn load(path: impl AsRef<Path>, options: &EngineOptions) -> Result<Engine, Error> {
        let start = Instant::now();
        let path = path.as_ref();
        let checkpoint = Checkpoint::open(path)?;
        let tokenizer = Tokenizer::from_checkpoint(&checkpoint)?;
        let template = ChatTemplate::from_checkpoint(&checkpoint, &tokenizer);
        let network = Network::from_checkpoint(&checkpoint, options, start)?;
        let draft = options.draft.as_deref().map(|path| draft::load(path, &network, &tokenizer));
        Ok(Engine {
            path: path.to_owned(),
            tokenizer,
            template,
            sampling: recommended_sampling(&checkpoint)?,
            draft: draft.transpose()?,
            lookup: options.lookup,
            network,
            checkpoint,
        })
    }

    /// An empty sequence over this model.
    pub fn session(&self) -> Session {
        let Network { model, compute, context, kv, .. } = &self.network;
        let options =
            SessionOptions { kv: *kv, lookup: self.lookup, ..SessionOptions::with_context(*context) };
        let mut session = Session::new(model, compute, options);
        if let Some(draft) = &self.draft {
            session.set_draft(draft);
        }
        session
    }

    /// The tokens of a plain text to continue. Special tokens written out in it count as such.
    ///
    /// # Errors
    /// The tokenizer cannot express the text.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.tokenizer.encode_with_bos(text)?)
    }

    /// The tokens of a conversation, up to where the assistant's answer begins.
    ///
    /// # Errors
    /// The model has no usable chat template, or its template refuses these messages.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let text = match &self.template {
            Ok(template) => template.render(messages, &RenderOptions::reply())?,
            Err(error) => return Err(Error::NoChatTemplate { why: error.to_string() }),
        };
        Ok(self.tokenizer.encode(&text, Special::Parse)?)
    }

    /// Answers one user message, all at once. For streaming, several turns, or another end: [`Engine::session`].
    ///
    /// # Errors
    /// As [`Engine::chat_prompt`] and [`Session::generate`].
    pub fn answer(&self, message: &str, sampling: SamplingOptions) -> Result<Completion, Error> {
        let prompt = self.chat_prompt(&[Message::new("user", message)])?;
        let never = AtomicBool::new(false);
        let request = Request { prompt: &prompt, max_tokens: None, stop: &[], cancel: &never };
        let mut sampler = Sampler::new(sampling)?;
        Ok(self.session().generate(&self.tokenizer, &mut sampler, request, |_: Event<'_>| {})?)
    }

    /// Where the model was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which model this is, for files of its state.
    pub fn identity(&self) -> ModelIdentity {
        ModelIdentity::of(&self.checkpoint)
    }

    /// The network and what it runs on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the model was trained to chat: its files say how a conversation is written, well or badly.
    pub fn has_chat_template(&self) -> bool {
        !matches!(self.template, Err(FormatError::Missing { .. }))
    }

    /// What the model's files recommend, and Sterna's defaults where they say nothing.
    pub fn recommended_sampling(&self) -> &SamplingOptions {
        &self.sampling
    }
}
