//! The configuration of a checkpoint, read by one set of names from either kind of file.

use std::path::PathBuf;

use sterna_formats::gguf::{Metadata, Value};
use sterna_formats::hf::ConfigView;
use sterna_formats::{Checkpoint, Config};

use super::parts::MAX_LAYERS;
use crate::error::{ModelError, Result};

/// A field by its names in `config.json` and in GGUF metadata (there after `<architecture>.`). An empty name: that
/// kind of file does not have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) hf: &'static str,
    pub(crate) gguf: &'static str,
}

macro_rules! keys {
    ($($name:ident = $hf:literal, $gguf:literal;)*) => {
        /// The fields that several families share.
        pub(crate) mod keys {
            $(pub(crate) const $name: super::Key = super::Key { hf: $hf, gguf: $gguf };)*
        }
    };
}

keys! {
    VOCAB_SIZE = "vocab_size", "vocab_size";
    HIDDEN_SIZE = "hidden_size", "embedding_length";
    N_LAYERS = "num_hidden_layers", "block_count";
    CONTEXT_LENGTH = "max_position_embeddings", "context_length";
    NORM_EPS = "rms_norm_eps", "attention.layer_norm_rms_epsilon";
    INTERMEDIATE_SIZE = "intermediate_size", "feed_forward_length";
    N_HEADS = "num_attention_heads", "attention.head_count";
    N_KV_HEADS = "num_key_value_heads", "attention.head_count_kv";
    HEAD_DIM = "head_dim", "attention.key_length";
    VALUE_HEAD_DIM = "", "attention.value_length";
    SLIDING_WINDOW = "sliding_window", "attention.sliding_window";
    SLIDING_WINDOW_PATTERN = "sliding_window_pattern", "attention.sliding_window_pattern";
    LOGIT_SOFTCAP = "final_logit_softcapping", "final_logit_softcapping";
    MOE_INTERMEDIATE_SIZE = "moe_intermediate_size", "expert_feed_forward_length";
    N_EXPERTS = "num_experts", "expert_count";
    N_EXPERTS_BY_OLD_NAME = "num_local_experts", "expert_count";
    N_ACTIVE_EXPERTS = "num_experts_per_tok", "expert_used_count";
    SHARED_INTERMEDIATE_SIZE = "shared_intermediate_size", "expert_shared_feed_forward_length";
}

/// Where the fields come from.
#[derive(Clone)]
pub(crate) enum Source<'a> {
    /// `config.json`, or the `text_config` in it.
    Hf(ConfigView<'a>),
    /// Metadata keys that begin with this prefix.
    Gguf(&'a Metadata, String),
}

/// Values that a family leaves out of `config.json` because its class has them as defaults.
pub(crate) type Defaults = &'static [(&'static str, f64)];

/// The configuration of one checkpoint.
pub(crate) struct Fields<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) defaults: Defaults,
}

impl<'a> Fields<'a> {
    /// The file that errors name.
    pub(crate) fn file(&self) -> PathBuf {
        match &self.source {
            Source::Hf(view) => view.file().to_path_buf(),
            Source::Gguf(..) => self.checkpoint.path().to_path_buf(),
        }
    }

    /// The name of `key` in this kind of file.
    pub(crate) fn name(&self, key: Key) -> String {
        match &self.source {
            Source::Hf(_) => key.hf.to_owned(),
            Source::Gguf(_, prefix) => format!("{prefix}{}", key.gguf),
        }
    }

    /// An error about the value of `key`.
    pub(crate) fn wrong(
        &self,
        key: Key,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> ModelError {
        ModelError::field(self.file(), self.name(key), expected, found)
    }

    /// A whole number, if the field is there.
    pub(crate) fn opt_usize(&self, key: Key) -> Result<Option<usize>> {
        Ok(match &self.source {
            Source::Hf(view) => view.opt_usize(key.hf)?.or(self.default(key).map(|value| value as usize)),
            Source::Gguf(_, _) if key.gguf.is_empty() => None,
            Source::Gguf(metadata, _) => metadata.get(&self.name(key))?,
        })
    }

    /// A number, if the field is there.
    pub(crate) fn opt_f64(&self, key: Key) -> Result<Option<f64>> {
        Ok(match &self.source {
            Source::Hf(view) => view.opt_f64(key.hf)?.or(self.default(key)),
            Source::Gguf(_, _) if key.gguf.is_empty() => None,
            Source::Gguf(metadata, _) => metadata.get::<f32>(&self.name(key))?.map(f64::from),
        })
    }

    /// A whole number in `1..=max`, if the field is there.
    pub(crate) fn opt_size(&self, key: Key, max: usize) -> Result<Option<usize>> {
        self.opt_usize(key)?.map(|size| self.in_range(key, size, max)).transpose()
    }

    /// A whole number in `1..=max`.
    pub(crate) fn size(&self, key: Key, max: usize) -> Result<usize> {
        self.opt_size(key, max)?.ok_or_else(|| self.wrong(key, size_range(max), "nothing"))
    }

    /// A whole number in `1..=max` that GGUF files may give as one number for all blocks or as a list with one for
    /// each.
    pub(crate) fn opt_size_of_block(&self, key: Key, block: usize, max: usize) -> Result<Option<usize>> {
        self.opt_usize_of_block(key, block)?.map(|size| self.in_range(key, size, max)).transpose()
    }

    /// As [`Self::opt_size_of_block`], but may be 0.
    pub(crate) fn opt_usize_of_block(&self, key: Key, block: usize) -> Result<Option<usize>> {
        if let Source::Gguf(metadata, _) = &self.source
            && let name = self.name(key)
            && matches!(metadata.value(&name), Some(Value::Array(_)))
        {
            let list: Vec<usize> = metadata.require(&name)?;
            return Ok(Some(self.of_block(key, &list, block)?));
        }
        self.opt_usize(key)
    }

    /// The item of block `block` in the list that a GGUF file has for `key`.
    pub(crate) fn of_block<T: Copy>(&self, key: Key, list: &[T], block: usize) -> Result<T> {
        let n_blocks = self.size(keys::N_LAYERS, MAX_LAYERS)?;
        match list.get(block) {
            Some(&item) if list.len() == n_blocks => Ok(item),
            _ => {
                let expected = format!("a list of {n_blocks} items, one for each block");
                Err(self.wrong(key, expected, format!("a list of {} items", list.len())))
            }
        }
    }

    /// As [`Self::opt_size_of_block`], for a field that must be there.
    pub(crate) fn size_of_block(&self, key: Key, block: usize, max: usize) -> Result<usize> {
        let size = self.opt_size_of_block(key, block, max)?;
        size.ok_or_else(|| self.wrong(key, size_range(max), "nothing"))
    }

    /// A finite number above zero, if the field is there.
    pub(crate) fn opt_positive(&self, key: Key) -> Result<Option<f64>> {
        match self.opt_f64(key)? {
            Some(value) if !(value > 0.0 && value.is_finite()) => {
                Err(self.wrong(key, "a finite number above zero", value))
            }
            value => Ok(value),
        }
    }

    /// A factor on what flows through the network, if the field is there: one that leaves 32 bits room for what it is
    /// multiplied with.
    pub(crate) fn opt_factor(&self, key: Key) -> Result<Option<f64>> {
        match self.opt_f64(key)? {
            Some(value) if !(1e-6..=1e6).contains(&value) => {
                Err(self.wrong(key, "a number from 1e-6 to 1e6", value))
            }
            value => Ok(value),
        }
    }

    /// What norms add to the mean of squares, if the field is there: enough for 32 bits to know it from nothing, too little to
    /// be all there is.
    pub(crate) fn opt_norm_eps(&self, key: Key) -> Result<Option<f32>> {
        match self.opt_f64(key)? {
            Some(eps) if !(1e-30..=1.0).contains(&eps) => Err(self.wrong(key, NORM_EPS_RANGE, eps)),
            eps => Ok(eps.map(|eps| eps as f32)),
        }
    }

    /// As [`Self::opt_norm_eps`], for a field that must be there.
    pub(crate) fn norm_eps(&self, key: Key) -> Result<f32> {
        self.opt_norm_eps(key)?.ok_or_else(|| self.wrong(key, NORM_EPS_RANGE, "nothing"))
    }

    /// `true` or `false` of `config.json`; `absent` where there is no such field, as in all GGUF files.
    pub(crate) fn flag(&self, name: &str, absent: bool) -> Result<bool> {
        Ok(self.hf().map_or(Ok(None), |view| view.opt_bool(name))?.unwrap_or(absent))
    }

    /// `true` or `false` of either kind of file.
    pub(crate) fn flag_of(&self, key: Key, absent: bool) -> Result<bool> {
        Ok(match &self.source {
            Source::Hf(view) => view.opt_bool(key.hf)?,
            Source::Gguf(_, _) if key.gguf.is_empty() => None,
            Source::Gguf(metadata, _) => metadata.get(&self.name(key))?,
        }
        .unwrap_or(absent))
    }

    /// The fields of `config.json`, when that is what they come from.
    pub(crate) fn hf(&self) -> Option<&ConfigView<'a>> {
        match &self.source {
            Source::Hf(view) => Some(view),
            Source::Gguf(..) => None,
        }
    }

    /// Whether the tensors are those of a native file, whatever kind of file they come from.
    pub(crate) fn is_native(&self) -> bool {
        self.checkpoint.native().is_some()
    }

    /// Whether the checkpoint holds a tensor of this name.
    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.checkpoint.get(name).is_some()
    }

    fn default(&self, key: Key) -> Option<f64> {
        self.defaults.iter().find(|(name, _)| *name == key.hf).map(|&(_, value)| value)
    }

    /// `size`, if it is in `1..=max`.
    pub(crate) fn in_range(&self, key: Key, size: usize, max: usize) -> Result<usize> {
        if (1..=max).contains(&size) { Ok(size) } else { Err(self.wrong(key, size_range(max), size)) }
    }
}

const NORM_EPS_RANGE: &str = "a number from 1e-30 to 1";

fn size_range(max: usize) -> String {
    format!("a whole number from 1 to {max}")
}

/// The names by which a checkpoint's architecture may be found, most specific first, and where its fields are.
pub(crate) fn identify(checkpoint: &Checkpoint) -> Result<(Kind, String, Source<'_>)> {
    match checkpoint.config() {
        Config::Gguf(metadata) => {
            let name = metadata.require::<&str>("general.architecture")?.to_owned();
            let prefix = format!("{name}.");
            Ok((Kind::Gguf, name, Source::Gguf(metadata, prefix)))
        }
        Config::Hf(file) => {
            let root = file.view();
            // Multimodal checkpoints keep the configuration of their language model in a field of its own.
            let view = root.opt_sub("text_config")?.unwrap_or(root);
            Ok((Kind::Hf, view.str("model_type")?.to_owned(), Source::Hf(view)))
        }
    }
}

/// The two kinds of checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hf,
    Gguf,
}
