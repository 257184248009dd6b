//! The tensors of a checkpoint as Hugging Face files name and cut them.

use sterna_formats::Checkpoint;

use crate::arch::Architecture;
use crate::arch::names::{Names, Place, Role};
use crate::error::Result;
use crate::native::{self, CanonicalTensor, TensorKind};

/// A tensor of the output.
#[derive(Debug)]
pub(super) struct HfTensor {
    /// The module that it is in: `model.layers.0.self_attn.q_proj`.
    pub(super) module: String,
    /// Its name there, `weight` or `bias`.
    pub(super) leaf: &'static str,
    pub(super) kind: TensorKind,
    /// What it is made of, one below the other.
    pub(super) parts: Vec<CanonicalTensor>,
    /// Whether each part is a matrix of its own in a stack of experts.
    pub(super) is_stack: bool,
    /// Subtracted from all values.
    pub(super) offset: f32,
}

/// How runtimes want experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Experts {
    /// A matrix each: transformers.
    Separate,
    /// All of a kind in one: mlx-lm.
    Stacked,
}

/// The tensors of `checkpoint`, which is one of `row`, in the order in which they are computed with.
pub(super) fn tensors(
    checkpoint: &Checkpoint,
    row: &Architecture,
    experts: Experts,
) -> Result<Vec<HfTensor>> {
    let names = row.hf_names();
    let mut tensors: Vec<HfTensor> = Vec::new();
    for part in native::tensors(checkpoint)? {
        // Divisors of rotary frequencies are said in config.json.
        let Some(place) = Place::of_native(&part.name) else { continue };
        let is_norm = part.kind == TensorKind::Vector && !place.is_bias;
        let is_expert = matches!(place.role, Role::ExpertGate | Role::ExpertUp | Role::ExpertDown);
        let is_stack = is_expert && experts == Experts::Stacked;
        let module = module(&names, row, place, is_stack);
        let leaf = if place.is_bias { "bias" } else { "weight" };
        // Parts of one tensor may be apart: experts are listed one after the other.
        match tensors.iter_mut().rfind(|tensor| tensor.module == module && tensor.leaf == leaf) {
            Some(tensor) => tensor.parts.push(part),
            None => tensors.push(HfTensor {
                module,
                leaf,
                kind: part.kind,
                parts: vec![part],
                is_stack,
                offset: if is_norm && row.norms_less_one { 1.0 } else { 0.0 },
            }),
        }
    }
    Ok(tensors)
}

/// The module that the tensor with this place is in.
fn module(names: &Names, row: &Architecture, place: Place, is_stack: bool) -> String {
    let role = match place.role {
        Role::Q | Role::K | Role::V if row.fused_in_hf => Role::Qkv,
        Role::Gate | Role::Up if row.fused_in_hf => Role::GateUp,
        role => role,
    };
    let (name, _) = names.of_expert(role, place.block, place.expert);
    let name = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
    match is_stack {
        true => name.replace(&format!(".experts.{}.", place.expert), ".switch_mlp."),
        false => name,
    }
}

impl HfTensor {
    /// Its full name.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.module, self.leaf)
    }

    /// Rows of all parts.
    pub(super) fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Inputs; the length of a vector.
    pub(super) fn cols(&self) -> usize {
        match self.kind {
            TensorKind::Vector => self.parts.iter().map(|part| part.cols).sum(),
            _ => self.parts.first().map_or(0, |part| part.cols),
        }
    }

    /// Its shape, where a row has `row_len` elements.
    pub(super) fn shape(&self, row_len: usize) -> Vec<usize> {
        match (self.kind, self.is_stack) {
            (TensorKind::Vector, _) => vec![row_len],
            (_, true) => vec![self.parts.len(), self.rows() / self.parts.len(), row_len],
            (_, false) => vec![self.rows(), row_len],
        }
    }
}
