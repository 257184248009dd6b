//! A model made ready to run: weights, tokenizer, chat template and recommended sampling, opened from one path.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sterna_formats::{ChatTemplate, Checkpoint, Message, Special, Tokenizer};
use sterna_model::generate::{Completion, Event, Request, Session, SessionOptions};
use sterna_model::sampling::{Sampler, SamplingOptions};
use sterna_model::{KvType, LoadOptions, Model};
use sterna_tensor::{Compute, Isa, Pool, Precision};

use crate::{Error, Size, physical_cores, recommended_sampling};

/// How to run a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads to compute with.
    pub threads: usize,
    /// Most tokens of a sequence; `None` is what the model was trained for.
    pub context: Option<usize>,
    /// Storage type of keys and values.
    pub kv: KvType,
    /// Arithmetic against quantized weights.
    pub precision: Precision,
}

impl Default for EngineOptions {
    /// All physical cores, the model's own context, f16 keys and values, int8 activations.
    fn default() -> EngineOptions {
        EngineOptions {
            threads: physical_cores(),
            context: None,
            kv: KvType::F16,
            precision: Precision::Int8,
        }
    }
}

/// A model made ready to run.
pub struct Engine {
    path: PathBuf,
    model: Arc<Model>,
    compute: Arc<Compute>,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    sampling: SamplingOptions,
    options: EngineOptions,
    context: usize,
    size: Size,
    load_time: Duration,
}

impl Engine {
    /// Opens the GGUF file or Hugging Face directory at `path`.
    ///
    /// # Errors
    /// A file that is missing, malformed or of an unsupported architecture; a context longer than the model's.
    pub fn load(path: impl AsRef<Path>, options: &EngineOptions) -> Result<Engine, Error> {
        let start = Instant::now();
        let path = path.as_ref();
        let checkpoint = Checkpoint::open(path)?;
        let isa = Isa::from_env()?;
        let compute = Compute { isa, pool: Pool::new(options.threads), precision: options.precision };
        let model = Model::load(&checkpoint, &LoadOptions::default(), &compute)?;
        let trained = model.spec().context_length;
        let context = options.context.unwrap_or(trained);
        if context > trained {
            return Err(Error::ContextTooLong { asked: context, trained });
        }
        Ok(Engine {
            path: path.to_owned(),
            tokenizer: Tokenizer::from_checkpoint(&checkpoint)?,
            template: ChatTemplate::from_checkpoint(&checkpoint)?,
            sampling: recommended_sampling(&checkpoint)?,
            size: Size::of(&checkpoint),
            model: Arc::new(model),
            compute: Arc::new(compute),
            options: options.clone(),
            context,
            load_time: start.elapsed(),
        })
    }

    /// An empty sequence over this model.
    pub fn session(&self) -> Session {
        let options = SessionOptions { kv: self.options.kv, ..SessionOptions::with_context(self.context) };
        Session::new(&self.model, &self.compute, options)
    }

    /// The tokens of a plain text to continue. Special tokens written out in it count as such.
    ///
    /// # Errors
    /// The tokenizer cannot express the text.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.tokenizer.encode_with_bos(text, Special::Parse)?)
    }

    /// The tokens of a conversation, up to where the assistant's answer begins.
    ///
    /// # Errors
    /// The model has no chat template, or its template refuses these messages.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let template =
            self.template.as_ref().ok_or_else(|| Error::NoChatTemplate { path: self.path.clone() })?;
        Ok(self.tokenizer.encode(&template.render(messages, true)?, Special::Parse)?)
    }

    /// Answers one user message, all at once. For streaming, several turns, or another end: [`Engine::session`].
    ///
    /// # Errors
    /// As [`Engine::chat_prompt`] and [`Session::generate`].
    pub fn answer(&self, message: &str, sampling: SamplingOptions) -> Result<Completion, Error> {
        let prompt = self.chat_prompt(&[Message::user(message)])?;
        let never = AtomicBool::new(false);
        let request = Request { prompt: &prompt, max_tokens: None, stop: &[], cancel: &never };
        let mut sampler = Sampler::new(sampling)?;
        Ok(self.session().generate(&self.tokenizer, &mut sampler, request, |_: Event<'_>| {})?)
    }

    /// Where the model was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The network.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What it runs on.
    pub fn compute(&self) -> &Arc<Compute> {
        &self.compute
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the model says how a conversation is written.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// What the model's files recommend, and Sterna's defaults where they say nothing.
    pub fn recommended_sampling(&self) -> &SamplingOptions {
        &self.sampling
    }

    /// As given to [`Engine::load`].
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Most tokens of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Parameters and bytes of the checkpoint.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Time that [`Engine::load`] took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }
}
