//! The recorded side: `expected.safetensors`, `hidden.safetensors`, `passage.safetensors`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sterna_formats::hf::read_safetensors;
use sterna_formats::{OtherType, Tensor, TensorType, mapped};

/// What the reference implementation computed for one checkpoint.
pub(crate) struct Expected {
    /// The prompt.
    pub(crate) input_ids: Vec<u32>,
    /// `[n_input_ids, vocab]`: of the whole prompt in one pass.
    pub(crate) logits: Vec<f32>,
    /// The greedy continuation of the prompt.
    pub(crate) greedy_ids: Vec<u32>,
    /// `[n_greedy_ids, vocab]`: the logits that each greedy id is the largest of.
    pub(crate) greedy_logits: Vec<f32>,
    /// Width of the logits.
    pub(crate) vocab_size: usize,
}

impl Expected {
    /// Reads `expected.safetensors` in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Expected> {
        let path = dir.join("expected.safetensors");
        let tensors = Recorded::open(&path)?;
        let expected = Expected {
            input_ids: tensors.ids("input_ids")?,
            logits: tensors.floats("logits")?,
            greedy_ids: tensors.ids("greedy_ids")?,
            greedy_logits: tensors.floats("greedy_logits")?,
            vocab_size: tensors.get("logits")?.shape.last().copied().unwrap_or(0),
        };
        let (vocab, path) = (expected.vocab_size, path.display());
        ensure!(vocab > 0 && !expected.input_ids.is_empty(), "{path}: empty prompt or vocabulary");
        ensure!(
            expected.logits.len() == expected.input_ids.len() * vocab,
            "{path}: logits are not [prompt, vocab]"
        );
        ensure!(
            expected.greedy_logits.len() == expected.greedy_ids.len() * vocab,
            "{path}: greedy_logits are not [greedy_ids, vocab]"
        );
        Ok(expected)
    }
}

/// The tensors of a file of recorded numbers, by name.
pub(crate) struct Recorded {
    file: String,
    tensors: HashMap<String, Tensor>,
}

impl Recorded {
    /// Opens the safetensors file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Recorded> {
        let tensors = read_safetensors(path, &mapped::open(path)?)?;
        let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Ok(Recorded { file: path.display().to_string(), tensors })
    }

    /// The tensor `name`.
    pub(crate) fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).with_context(|| format!("{}: tensor {name} is missing", self.file))
    }

    /// The values of the float tensor `name`.
    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.get(name)?.to_f32()?)
    }

    /// The values of the integer tensor `name`, which are token ids.
    pub(crate) fn ids(&self, name: &str) -> Result<Vec<u32>> {
        let tensor = self.get(name)?;
        let ids: Vec<i64> = match tensor.ty {
            TensorType::Other(OtherType::I64) => {
                tensor.data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
            }
            TensorType::Other(OtherType::I32) => {
                tensor.data.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()
            }
            other => bail!("{}: tensor {name}: expected integers, found {other}", self.file),
        };
        let id = |id| {
            u32::try_from(id).with_context(|| format!("{}: tensor {name}: {id} is no token id", self.file))
        };
        ids.into_iter().map(id).collect()
    }
}
