//! What goes into a GGUF file: which tensors, of which type, made of which tensors of the checkpoint.

use std::collections::HashMap;

use sterna_formats::gguf::TensorInfo;
use sterna_formats::{Checkpoint, GgmlType, Tensor, TensorType};
use sterna_tensor::{DType, PackedFormat};

use super::Options;
use crate::arch::to_gguf::Divisors;
use crate::arch::{GgufForm, Reading};
use crate::error::Result;
use crate::native::{self, CanonicalTensor, TensorKind};
use crate::spec::Spec;

/// A tensor of the file.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) info: TensorInfo,
    pub(super) parts: Vec<Part>,
}

/// Some rows of a tensor of the file, or some matrices of a stack.
#[derive(Debug)]
pub(super) enum Part {
    /// The data of a tensor of a GGUF checkpoint, as they are.
    Stored(Tensor),
    /// A tensor of the checkpoint, its rows in the order of the file.
    Canonical {
        tensor: Box<CanonicalTensor>,
        /// Rows of a head, within which the file has rows `i` and `i + head_dim / 2` side by side.
        interleaved: Option<usize>,
    },
    /// What the checkpoint says in its configuration.
    Values(Vec<f32>),
}

impl From<Divisors> for Planned {
    fn from(Divisors { name, values }: Divisors) -> Planned {
        let shape = vec![values.len()];
        let info = TensorInfo { name: name.to_owned(), shape, ty: TensorType::Dense(DType::F32) };
        Planned { info, parts: vec![Part::Values(values)] }
    }
}

/// All tensors of a GGUF checkpoint.
pub(super) fn copy(checkpoint: &Checkpoint) -> Vec<Planned> {
    let planned = |tensor: &Tensor| Planned {
        info: TensorInfo { name: tensor.name.clone(), shape: tensor.shape.clone(), ty: tensor.ty },
        parts: vec![Part::Stored(tensor.clone())],
    };
    checkpoint.tensors().map(planned).collect()
}

/// The tensors of a checkpoint as llama.cpp names, orders and stacks them.
pub(super) fn tensors(checkpoint: &Checkpoint, reading: &Reading, options: Options) -> Result<Vec<Planned>> {
    let mut planned: Vec<Planned> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for tensor in native::tensors(checkpoint)? {
        let (name, is_stacked) = name(&tensor.name, reading.gguf);
        let interleaved = interleaved(&tensor.name, &reading.spec).filter(|_| reading.gguf.permuted_qk);
        let ty = stored_type(&tensor, options);
        let (rows, cols, is_vector) = (tensor.rows, tensor.cols, tensor.kind == TensorKind::Vector);
        let part = Part::Canonical { tensor: Box::new(tensor), interleaved };
        match by_name.get(&name) {
            Some(&index) => planned[index].add(part, if is_vector { cols } else { rows }, ty, is_stacked),
            None => {
                let shape = match (is_stacked, is_vector) {
                    (true, _) => vec![1, rows, cols],
                    (false, true) => vec![cols],
                    (false, false) => vec![rows, cols],
                };
                by_name.insert(name.clone(), planned.len());
                planned.push(Planned { info: TensorInfo { name, shape, ty }, parts: vec![part] });
            }
        }
    }
    Ok(planned)
}

/// `general.file_type`: llama.cpp's number for the type that most weights have.
pub(super) fn file_type(tensors: &[Planned]) -> u32 {
    let mut counts: Vec<(TensorType, usize)> = Vec::new();
    for TensorInfo { ty, shape, .. } in tensors.iter().map(|tensor| &tensor.info) {
        let n = shape.iter().product::<usize>();
        match counts.iter_mut().find(|(counted, _)| counted == ty) {
            Some((_, count)) => *count += n,
            None => counts.push((*ty, n)),
        }
    }
    match counts.iter().max_by_key(|(_, count)| *count).map(|(ty, _)| *ty) {
        Some(TensorType::Dense(DType::F16)) => 1,
        Some(TensorType::Dense(DType::BF16)) => 32,
        Some(TensorType::Ggml(GgmlType::Q4_0)) => 2,
        Some(TensorType::Ggml(GgmlType::Q4_1)) => 3,
        Some(TensorType::Ggml(GgmlType::Q8_0)) => 7,
        Some(TensorType::Ggml(GgmlType::Q5_0)) => 8,
        Some(TensorType::Ggml(GgmlType::Q5_1)) => 9,
        _ => 0,
    }
}

impl Planned {
    /// Appends rows, or a matrix of the stack.
    fn add(&mut self, part: Part, n_rows: usize, ty: TensorType, is_stacked: bool) {
        self.info.shape[0] += if is_stacked { 1 } else { n_rows };
        self.info.ty = common_type(self.info.ty, ty);
        self.parts.push(part);
    }

    /// Type of the parts in the checkpoint; of the first, where they differ.
    pub(super) fn original_type(&self) -> String {
        match self.parts.first() {
            Some(Part::Stored(tensor)) => tensor.ty.to_string(),
            Some(Part::Canonical { tensor, .. }) => tensor.ty.to_string(),
            Some(Part::Values(_)) | None => "configuration".to_owned(),
        }
    }
}

/// The name of a native file's tensor in a GGUF file, and whether that is a stack of experts' matrices.
fn name(native: &str, form: GgufForm) -> (String, bool) {
    if let Some((stem, rest)) = native.split_once("_exps.")
        && let Some((_, leaf)) = rest.split_once('.')
    {
        return (format!("{stem}_exps.{leaf}"), true);
    }
    if !form.is_phi3 {
        return (native.to_owned(), false);
    }
    let fused = [".attn_q.", ".attn_k.", ".attn_v."].iter().find(|part| native.contains(**part));
    let name = match fused {
        Some(part) => native.replace(part, ".attn_qkv."),
        None => native.replace(".ffn_gate.", ".ffn_up."),
    };
    (name, false)
}

/// Rows of a head of a query or key projection (weight or bias); `None` for other tensors.
fn interleaved(name: &str, spec: &Spec) -> Option<usize> {
    let (block, leaf) = name.strip_prefix("blk.")?.split_once('.')?;
    if !["attn_q.weight", "attn_q.bias", "attn_k.weight", "attn_k.bias"].contains(&leaf) {
        return None;
    }
    let block = spec.blocks.get(block.parse::<usize>().ok()?)?;
    Some(block.mixer.attention()?.head_dim)
}

/// The type that holds a tensor: exactly wherever there is one that is not much larger.
fn stored_type(tensor: &CanonicalTensor, options: Options) -> TensorType {
    if tensor.kind == TensorKind::Vector {
        return TensorType::Dense(DType::F32);
    }
    match (tensor.unchanged_type(), tensor.packed_format().and_then(|format| block_type(format, options))) {
        (Some(TensorType::Dense(dtype)), _) => TensorType::Dense(dtype),
        (_, Some(ty)) => TensorType::Ggml(ty),
        _ if options.exact => TensorType::Dense(DType::F32),
        _ => TensorType::Dense(DType::F16),
    }
}

/// The smallest block type that has room for a format's codes, less its zero point if it has one.
fn block_type(format: PackedFormat, options: Options) -> Option<GgmlType> {
    format.scale_group()?;
    let largest = i16::from(format.largest_code());
    if format.has_minima() {
        return match largest {
            ..=15 => Some(GgmlType::Q4_1),
            16..=31 => Some(GgmlType::Q5_1),
            _ => None,
        };
    }
    let zero = i16::from(format.zero());
    let (least, most) = if format.is_affine() { (-largest, largest) } else { (-zero, largest - zero) };
    Some(match (least, most) {
        (-8.., ..=7) => GgmlType::Q4_0,
        _ if format.is_affine() && !options.exact => GgmlType::Q4_1,
        (-16.., ..=15) => GgmlType::Q5_0,
        _ => GgmlType::Q8_0,
    })
}

/// A type for the rows of one tensor that would have `a` and `b` alone.
fn common_type(a: TensorType, b: TensorType) -> TensorType {
    use GgmlType::{Q4_0, Q5_0, Q8_0};
    let is_symmetric = |ty| matches!(ty, TensorType::Ggml(Q4_0 | Q5_0 | Q8_0));
    match () {
        () if a == b => a,
        () if is_symmetric(a) && is_symmetric(b) => TensorType::Ggml(Q8_0),
        () => TensorType::Dense(DType::F32),
    }
}
