//! A checkpoint as a folder in the layout of the Hugging Face hub: with dense weights, or in the formats of AutoAWQ, GPTQ
//! or MLX.
//!
//! `tensors` gives the model's tensors their names there, `documents` the files beside them, `forms` how each
//! tensor is stored for a target (`dense`, `awq`, `gptq`, `mlx`), and `codes` takes quantized matrices apart for them. Codes and
//! scales are never rounded again: a model is in a target's format already, but for the order of its bits, or refused.

mod awq;
mod codes;
mod dense;
mod documents;
mod forms;
mod gptq;
mod mlx;
mod tensors;

use std::path::Path;

use sterna_formats::Checkpoint;
use sterna_formats::hf::FolderWriter;
use sterna_tensor::DType;

use super::{Export, Written, check_projections};
use crate::arch::{self, hf_config};
use crate::error::{ModelError, Result};
use forms::Form;
use tensors::{Experts, HfTensor};

/// What the folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Floats of 16 bits: transformers, and what else reads the hub's models.
    Dense,
    /// 4 bits as AutoAWQ stores them: vLLM, transformers, SGLang.
    Awq,
    /// 2, 3, 4 or 8 bits as GPTQModel and AutoGPTQ store them.
    Gptq,
    /// 2 to 8 bits as MLX stores them.
    Mlx,
}

/// A folder that is being written.
#[derive(Debug)]
pub struct HfExport {
    writer: FolderWriter,
    tensors: Vec<(HfTensor, Form)>,
    /// Tensors written.
    done: usize,
}

impl HfExport {
    /// Begins to write `checkpoint` to the folder `dir`, which must be new or empty.
    ///
    /// # Errors
    /// Those of loading; when the family has no class in the `transformers` library; when the weights are not quantized
    /// as the target stores them; and when the folder cannot be written.
    pub fn create(checkpoint: &Checkpoint, dir: &Path, target: Target) -> Result<HfExport> {
        let reading = arch::read(checkpoint)?;
        check_projections(checkpoint.path(), &reading.spec)?;
        let row = hf_config::hf_row(&reading.spec).ok_or_else(|| {
            let (expected, found) =
                ("one with a class in the transformers library", reading.spec.architecture);
            ModelError::field(checkpoint.path(), "architecture", expected, found)
        })?;
        let experts = if target == Target::Mlx { Experts::Stacked } else { Experts::Separate };
        let tensors = tensors::tensors(checkpoint, row, experts)?;
        let (forms, quantization) = target.forms(checkpoint, &tensors)?;
        let dtype = compute_dtype(row.exceeds_f16, &forms);
        let documents = documents::documents(checkpoint, &reading, dtype, quantization)?;
        let tensors: Vec<(HfTensor, Form)> = tensors.into_iter().zip(forms).collect();
        let planned = tensors.iter().flat_map(|(tensor, form)| form.plan(tensor)).collect();
        let framework = if target == Target::Mlx { "mlx" } else { "pt" };
        let mut writer = FolderWriter::create(dir, framework, planned)?;
        for document in &documents {
            writer.document(&document.name, &document.bytes)?;
        }
        Ok(HfExport { writer, tensors, done: 0 })
    }
}

impl Export for HfExport {
    fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    fn step(&mut self) -> Result<Option<Written>> {
        let Some((tensor, form)) = self.tensors.get(self.done) else { return Ok(None) };
        let error = form.write(tensor, &mut self.writer)?;
        self.done += 1;
        Ok(Some(Written {
            name: tensor.name(),
            shape: tensor.shape(tensor.cols()),
            from: tensor.parts.first().map_or_else(String::new, |part| part.ty.to_string()),
            to: form.name(),
            error: error.relative(),
        }))
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        Ok(self.writer.finish()?)
    }
}

/// What most of the work of a runtime should be done in.
fn compute_dtype(exceeds_f16: bool, forms: &[Form]) -> DType {
    match forms.iter().any(|form| matches!(form, Form::Dense(DType::BF16))) || exceeds_f16 {
        true => DType::BF16,
        false => DType::F16,
    }
}
