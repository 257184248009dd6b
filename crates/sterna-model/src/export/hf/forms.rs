//! Which tensor is stored how: what each target has a place for.

use std::collections::BTreeMap;

use serde_json::Value;
use sterna_formats::hf::{FolderWriter, PlannedTensor};
use sterna_formats::{Checkpoint, TensorType};
use sterna_tensor::DType;

use super::tensors::HfTensor;
use super::{Target, awq, codes, dense, gptq, mlx};
use crate::error::{ModelError, Result};
use crate::export::RoundingError;
use crate::native::TensorKind;

/// How a tensor is stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Dense(DType),
    Awq { group_size: usize },
    Gptq { bits: usize, group_size: usize, version: gptq::Version },
    Mlx(mlx::Grid),
}

/// A field of `config.json`.
pub(super) type Field = (&'static str, Value);

type Forms = (Vec<Form>, Field);

impl Target {
    /// How each of `tensors` is stored, and what `config.json` says about it.
    pub(super) fn forms(
        self,
        checkpoint: &Checkpoint,
        tensors: &[HfTensor],
    ) -> Result<(Vec<Form>, Option<Field>)> {
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
    pub(super) fn name(self) -> String {
        match self {
            Form::Dense(dtype) => dtype.to_string(),
            Form::Awq { group_size } => format!("AWQ 4 bits, groups of {group_size}"),
            Form::Gptq { bits, group_size, .. } => format!("GPTQ {bits} bits, groups of {group_size}"),
            Form::Mlx(mlx::Grid { bits, group_size }) => format!("MLX {bits} bits, groups of {group_size}"),
        }
    }

    /// The tensors that `tensor` becomes.
    pub(super) fn plan(self, tensor: &HfTensor) -> Vec<PlannedTensor> {
        match self {
            Form::Dense(dtype) => dense::plan(tensor, dtype),
            Form::Awq { group_size } => awq::plan(tensor, group_size),
            Form::Gptq { bits, group_size, .. } => gptq::plan(tensor, bits, group_size),
            Form::Mlx(grid) => mlx::plan(tensor, grid),
        }
    }

    pub(super) fn write(self, tensor: &HfTensor, writer: &mut FolderWriter) -> Result<RoundingError> {
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
