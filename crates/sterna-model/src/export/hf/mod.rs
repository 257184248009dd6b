//! A checkpoint as a folder in the layout of the Hugging Face hub: with dense weights, or in the formats of AutoAWQ, GPTQ
//! or MLX.
//!
//! `tensors` gives the model's tensors their names there, `documents` the files beside them; a target says which form
//! each tensor takes (`dense`, `awq`, `gptq`, `mlx`), and `codes` takes quantized matrices apart for them. Codes and
//! scales are never rounded again: a model is in a target's format already, but for the order of its bits, or refused.

mod awq;
mod codes;
mod dense;
mod documents;
mod gptq;
mod mlx;
mod tensors;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sterna_formats::hf::{FolderWriter, PlannedTensor};
use sterna_formats::{Checkpoint, TensorType};
use sterna_tensor::DType;

use super::{Export, RoundingError, Written};
use crate::arch::{self, hf_config};
use crate::error::{ModelError, Result};
use crate::native::TensorKind;
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

/// How a tensor is stored.
#[derive(Debug, Clone, Copy)]
enum Form {
    Dense(DType),
    Awq { group_size: usize },
    Gptq { bits: usize, group_size: usize, version: gptq::Version },
    Mlx(mlx::Grid),
}

impl HfExport {
    /// Begins to write `checkpoint` to the folder `dir`, which must be new or empty.
    ///
    /// # Errors
    /// Those of loading; when the family has no class in the `transformers` library; when the weights are not quantized
    /// as the target stores them; and when the folder cannot be written.
    pub fn create(checkpoint: &Checkpoint, dir: &Path, target: Target) -> Result<HfExport> {
        let reading = arch::read(checkpoint)?;
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

impl Target {
    /// How each of `tensors` is stored, and what `config.json` says about it.
    fn forms(
        self,
        checkpoint: &Checkpoint,
        tensors: &[HfTensor],
    ) -> Result<(Vec<Form>, Option<(&'static str, Value)>)> {
        let dense = || vec![Form::Dense(DType::F16); tensors.len()];
        let (forms, quantization) = match self {
            Target::Dense => return Ok((vec![Form::Dense(float_type(tensors)); tensors.len()], None)),
            Target::Awq => awq_forms(tensors, dense()),
            Target::Gptq => gptq_forms(tensors, dense()),
            Target::Mlx => mlx_forms(tensors, dense()),
        };
        let is_quantized = |(tensor, form): (&HfTensor, &Form)| {
            tensor.kind == TensorKind::Projection && !matches!(form, Form::Dense(_))
        };
        match tensors.iter().zip(&forms).any(is_quantized) {
            true => Ok((forms, Some(quantization))),
            false => Err(self.refusal(checkpoint, tensors)),
        }
    }

    /// No projection is stored in a way that this target knows.
    fn refusal(self, checkpoint: &Checkpoint, tensors: &[HfTensor]) -> ModelError {
        let bits = match self {
            Target::Dense => "any",
            Target::Awq => "4",
            Target::Gptq => "2, 3, 4 or 8",
            Target::Mlx => "2, 3, 4, 5, 6 or 8",
        };
        let path = checkpoint.path().display();
        let expected = format!(
            "codes of {bits} bits with a scale per group; `sterna quantize {path} --bits 4 -o NAME.sterna` makes them"
        );
        let projection = tensors.iter().find(|tensor| tensor.kind == TensorKind::Projection);
        let found = projection.and_then(|tensor| tensor.parts.first());
        let found = found.map_or_else(|| "none".to_owned(), |part| part.ty.to_string());
        ModelError::field(checkpoint.path(), "weights", expected, found)
    }
}

type Forms = (Vec<Form>, (&'static str, Value));

fn awq_forms(tensors: &[HfTensor], mut forms: Vec<Form>) -> Forms {
    let group_size = codes::group_size(tensors.iter().filter(|tensor| awq::fits(tensor)));
    for (tensor, form) in tensors.iter().zip(&mut forms) {
        if awq::fits(tensor) {
            *form = Form::Awq { group_size };
        }
    }
    let config = awq::config(group_size, &dense_modules(tensors, &forms));
    (forms, ("quantization_config", config))
}

fn gptq_forms(tensors: &[HfTensor], mut forms: Vec<Form>) -> Forms {
    let fitting = || tensors.iter().filter(|tensor| gptq::bits(tensor).is_some());
    let (group_size, version) = (codes::group_size(fitting()), gptq::Version::of(fitting()));
    let mut all_bits = BTreeMap::new();
    for (tensor, form) in tensors.iter().zip(&mut forms) {
        if let Some(bits) = gptq::bits(tensor) {
            *form = Form::Gptq { bits, group_size, version };
            all_bits.insert(tensor.module.clone(), bits);
        }
    }
    let config = gptq::config(version, group_size, &all_bits, &dense_modules(tensors, &forms));
    (forms, ("quantization_config", config))
}

fn mlx_forms(tensors: &[HfTensor], mut forms: Vec<Form>) -> Forms {
    let mut grids = Vec::new();
    for (tensor, form) in tensors.iter().zip(&mut forms) {
        if let Some(grid) = mlx::Grid::of(tensor) {
            *form = Form::Mlx(grid);
            grids.push((tensor.module.clone(), grid));
        }
    }
    (forms, ("quantization", mlx::config(&grids)))
}

/// The modules with a matrix that is stored as floats, the embedding aside: no runtime expects that in codes.
fn dense_modules(tensors: &[HfTensor], forms: &[Form]) -> Vec<String> {
    let is_dense = |(tensor, form): &(&HfTensor, &Form)| {
        !matches!(tensor.kind, TensorKind::Vector | TensorKind::Embedding) && matches!(form, Form::Dense(_))
    };
    let dense = tensors.iter().zip(forms).filter(is_dense).map(|(tensor, _)| tensor.module.clone());
    let mut modules: Vec<String> = dense.collect();
    // Also where it is the embedding.
    if !modules.iter().any(|module| module == HEAD) {
        modules.push(HEAD.to_owned());
    }
    modules
}

const HEAD: &str = "lm_head";

/// The float type of a dense folder: that of the checkpoint's embedding, if it has 16 bits.
fn float_type(tensors: &[HfTensor]) -> DType {
    let embedding = tensors.iter().find(|tensor| tensor.kind == TensorKind::Embedding);
    match embedding.and_then(|tensor| tensor.parts.first()).map(|part| part.ty) {
        Some(TensorType::Dense(DType::BF16)) => DType::BF16,
        _ => DType::F16,
    }
}

impl Form {
    fn name(self) -> String {
        match self {
            Form::Dense(dtype) => dtype.to_string(),
            Form::Awq { group_size } => format!("AWQ 4 bits, groups of {group_size}"),
            Form::Gptq { bits, group_size, .. } => format!("GPTQ {bits} bits, groups of {group_size}"),
            Form::Mlx(mlx::Grid { bits, group_size }) => format!("MLX {bits} bits, groups of {group_size}"),
        }
    }

    /// The tensors that `tensor` becomes.
    fn plan(self, tensor: &HfTensor) -> Vec<PlannedTensor> {
        match self {
            Form::Dense(dtype) => dense::plan(tensor, dtype),
            Form::Awq { group_size } => awq::plan(tensor, group_size),
            Form::Gptq { bits, group_size, .. } => gptq::plan(tensor, bits, group_size),
            Form::Mlx(grid) => mlx::plan(tensor, grid),
        }
    }

    fn write(self, tensor: &HfTensor, writer: &mut FolderWriter) -> Result<RoundingError> {
        match self {
            Form::Dense(dtype) => return dense::write(tensor, dtype, writer),
            Form::Awq { group_size } => awq::write(tensor, group_size, writer)?,
            Form::Gptq { bits, group_size, version } => {
                gptq::write(tensor, (bits, group_size, version), writer)?;
            }
            Form::Mlx(grid) => return mlx::write(tensor, grid, writer),
        }
        Ok(RoundingError::default())
    }
}
