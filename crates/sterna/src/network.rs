//! A network made ready to compute: opened, checked, and its weights packed for this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_formats::Checkpoint;
use sterna_model::{KvType, LoadOptions, Model, Spec};
use sterna_tensor::{Compute, Isa, Precision, Tuning};

use crate::{Error, Size, physical_cores};

/// How to run a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads to compute with.
    pub threads: usize,
    /// Where other kernels or fewer threads are faster: no result depends on it.
    pub tuning: Tuning,
    /// Most tokens of a sequence; `None` is what the model was trained for.
    pub context: Option<usize>,
    /// Storage type of keys and values.
    pub kv: KvType,
    /// Arithmetic against quantized weights.
    pub precision: Precision,
    /// Whether sessions decode text that repeats itself several tokens at a time where that pays: the same tokens, sooner.
    pub lookup: bool,
    /// A smaller model with the same tokenizer that guesses what this one will say.
    pub draft: Option<PathBuf>,
}

impl Default for EngineOptions {
    /// All physical cores, the model's own context, f16 keys and values, int8 activations, lookup.
    fn default() -> EngineOptions {
        EngineOptions {
            threads: physical_cores(),
            tuning: Tuning::default(),
            context: None,
            kv: KvType::F16,
            precision: Precision::Int8,
            lookup: true,
            draft: None,
        }
    }
}

impl EngineOptions {
    /// Threads, precision, and the best instruction set of this machine or the one that `STERNA_ISA` names.
    ///
    /// # Errors
    /// `STERNA_ISA` names one that this machine has not.
    pub fn compute(&self) -> Result<Compute, Error> {
        let tuning = self.tuning.clone();
        Ok(Compute { isa: Isa::from_env()?, tuning, ..Compute::new(self.threads, self.precision) })
    }

    /// Most tokens of a sequence over `spec`.
    ///
    /// # Errors
    /// More were asked for than the model was trained for.
    pub fn context_of(&self, spec: &Spec) -> Result<usize, Error> {
        let trained = spec.context_length;
        match self.context {
            Some(asked) if asked > trained => Err(Error::ContextTooLong { asked, trained }),
            asked => Ok(asked.unwrap_or(trained)),
        }
    }
}

/// A network without tokenizer: token ids in, logits out.
pub struct Network {
    /// The weights.
    pub model: Arc<Model>,
    /// What they run on.
    pub compute: Arc<Compute>,
    /// Most tokens of a sequence.
    pub context: usize,
    /// Storage type of keys and values.
    pub kv: KvType,
    /// Parameters and bytes of the checkpoint.
    pub size: Size,
    /// Time from opening the file to being ready.
    pub load_time: Duration,
}

impl Network {
    /// Opens the native or GGUF file or Hugging Face directory at `path`.
    ///
    /// # Errors
    /// A file that is missing, malformed or of an unsupported architecture; a context longer than the model's.
    pub fn load(path: &Path, options: &EngineOptions) -> Result<Network, Error> {
        let start = Instant::now();
        let checkpoint = Checkpoint::open(path)?;
        Network::from_checkpoint(&checkpoint, options, start)
    }

    /// `start` is when opening began.
    pub(crate) fn from_checkpoint(
        checkpoint: &Checkpoint,
        options: &EngineOptions,
        start: Instant,
    ) -> Result<Network, Error> {
        let context = options.context_of(&Spec::of(checkpoint)?)?;
        let compute = options.compute()?;
        let model = Model::load(checkpoint, &LoadOptions { context_length: Some(context) }, &compute)?;
        Ok(Network {
            model: Arc::new(model),
            compute: Arc::new(compute),
            context,
            kv: options.kv,
            size: Size::of(checkpoint),
            load_time: start.elapsed(),
        })
    }
}
