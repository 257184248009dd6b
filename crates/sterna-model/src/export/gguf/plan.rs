//! What goes into a GGUF file: which tensors, of which type, made of which tensors of the checkpoint.

use std::collections::HashMap;
use std::rc::Rc;

use sterna_formats::gguf::TensorInfo;
use sterna_formats::{Checkpoint, GgmlType, Tensor, TensorType};
use sterna_tensor::{DType, PackedFormat};

use super::Options;
use super::layout::{self, Destination, Piece};
use crate::arch::to_gguf::Divisors;
use crate::arch::{FactorsInGguf, Reading};
use crate::error::Result;
use crate::native::{self, CanonicalTensor, TensorKind};

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
    /// Some rows of a tensor of the checkpoint.
    Canonical { tensor: Rc<CanonicalTensor>, piece: Piece },
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
    for tensor in native_tensors(checkpoint, reading)? {
        let Destination { name, is_stacked, shape, pieces } = Destination::of(&tensor, reading);
        let (rows, cols, is_vector) = (tensor.rows, tensor.cols, tensor.kind == TensorKind::Vector);
        let tensor = Rc::new(tensor);
        let parts = pieces.into_iter().map(|piece| Part::Canonical { tensor: Rc::clone(&tensor), piece });
        match by_name.get(&name) {
            Some(&index) => planned[index].add(parts, if is_vector { cols } else { rows }, is_stacked),
            None => {
                let shape = shape.unwrap_or(match (is_stacked, is_vector) {
                    (true, _) => vec![1, rows, cols],
                    (false, true) => vec![cols],
                    (false, false) => vec![rows, cols],
                });
                by_name.insert(name.clone(), planned.len());
                let info = TensorInfo { name, shape, ty: TensorType::Dense(DType::F32) };
                planned.push(Planned { info, parts: parts.collect() });
            }
        }
    }
    for tensor in &mut planned {
        tensor.parts.sort_by_key(Part::place);
        tensor.info.ty = tensor.stored_type(options);
    }
    Ok(planned)
}

/// The tensors of the checkpoint, and a head of its own where that is no longer the embedding.
fn native_tensors(checkpoint: &Checkpoint, reading: &Reading) -> Result<Vec<CanonicalTensor>> {
    let mut tensors = native::tensors(checkpoint)?;
    if reading.gguf.factors == FactorsInGguf::InWeights && layout::must_untie(&reading.spec) {
        let embedding = tensors.iter().find(|tensor| tensor.kind == TensorKind::Embedding);
        tensors.extend(embedding.map(CanonicalTensor::as_head));
    }
    Ok(tensors)
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

impl Part {
    /// Parts of a tensor lie by this number.
    fn place(&self) -> usize {
        match self {
            Part::Canonical { piece, .. } => piece.place,
            Part::Stored(_) | Part::Values(_) => 0,
        }
    }

    fn factor(&self) -> f32 {
        match self {
            Part::Canonical { piece, .. } => piece.factor,
            Part::Stored(_) | Part::Values(_) => 1.0,
        }
    }
}

impl Planned {
    /// Appends rows, or a matrix of the stack.
    fn add(&mut self, parts: impl Iterator<Item = Part>, n_rows: usize, is_stacked: bool) {
        self.info.shape[0] += if is_stacked { 1 } else { n_rows };
        self.parts.extend(parts);
    }

    /// The type that holds all parts: exactly wherever there is one that is not much larger.
    fn stored_type(&self, options: Options) -> TensorType {
        let canonical = self.parts.iter().filter_map(|part| match part {
            Part::Canonical { tensor, .. } => Some(&**tensor),
            Part::Stored(_) | Part::Values(_) => None,
        });
        let is_scaled = self.parts.iter().any(|part| part.factor() != 1.0);
        let unchanged = |tensor: &CanonicalTensor| tensor.unchanged_type().filter(|_| !is_scaled);
        let types: Option<Vec<TensorType>> = canonical.clone().map(unchanged).collect();
        let is_dense = |ty: &TensorType| matches!(ty, TensorType::Dense(_));
        match types.as_deref() {
            _ if canonical.clone().any(|tensor| tensor.kind == TensorKind::Vector) => {
                return TensorType::Dense(DType::F32);
            }
            Some([first, rest @ ..]) if is_dense(first) && rest.iter().all(|ty| ty == first) => {
                return *first;
            }
            Some(types) if types.iter().all(is_dense) => return TensorType::Dense(DType::F32),
            _ => {}
        }
        let formats: Option<Vec<PackedFormat>> = canonical.map(CanonicalTensor::packed_format).collect();
        let formats = formats.filter(|_| !(is_scaled && options.exact));
        match formats.and_then(|formats| block_type(&formats, options)) {
            Some(ty) => TensorType::Ggml(ty),
            None if options.exact => TensorType::Dense(DType::F32),
            None => TensorType::Dense(DType::F16),
        }
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

/// The smallest block type that has room for the codes of all `formats`, less their zero points if it has no minima.
fn block_type(formats: &[PackedFormat], options: Options) -> Option<GgmlType> {
    let any = |is: fn(PackedFormat) -> bool| formats.iter().any(|&format| is(format));
    if any(|format| format.scale_group().is_none()) || (options.exact && any(PackedFormat::is_wide)) {
        return None;
    }
    let largest = formats.iter().map(|format| i16::from(format.largest_code())).max()?;
    if any(PackedFormat::has_minima) {
        return match largest {
            // Zero points become minima, which are rounded.
            _ if options.exact && any(PackedFormat::is_affine) => None,
            ..=15 => Some(GgmlType::Q4_1),
            16..=31 => Some(GgmlType::Q5_1),
            _ => None,
        };
    }
    let range = |format: &PackedFormat| {
        let (largest, zero) = (i16::from(format.largest_code()), i16::from(format.zero()));
        if format.is_affine() { (-largest, largest) } else { (-zero, largest - zero) }
    };
    let least = formats.iter().map(|format| range(format).0).min()?;
    let most = formats.iter().map(|format| range(format).1).max()?;
    Some(match (least, most) {
        (-8.., ..=7) => GgmlType::Q4_0,
        _ if largest <= 15 && !options.exact => GgmlType::Q4_1,
        (-16.., ..=15) => GgmlType::Q5_0,
        _ => GgmlType::Q8_0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_share_the_smallest_type_that_has_room_for_all() {
        use GgmlType::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
        for (formats, usual, exact) in [
            (&["s4g32"][..], Some(Q4_0), Some(Q4_0)),
            (&["s2g64", "a3g128"], Some(Q4_0), Some(Q4_0)),
            (&["a4g128"], Some(Q4_1), Some(Q5_0)),
            (&["s4g32", "a4g64"], Some(Q4_1), Some(Q5_0)),
            (&["a4g32", "s5g32"], Some(Q5_0), Some(Q5_0)),
            (&["a4g32", "s6g32"], Some(Q8_0), Some(Q8_0)),
            (&["m4g64"], Some(Q4_1), Some(Q4_1)),
            (&["s4g32", "m4g64"], Some(Q4_1), Some(Q4_1)),
            (&["s5g32", "m4g64"], Some(Q5_1), Some(Q5_1)),
            (&["a4g32", "m4g64"], Some(Q4_1), None),
            (&["w4g64"], Some(Q4_1), None),
            (&["w5g64", "s4g32"], Some(Q5_1), None),
            (&["m6g64"], None, None),
            (&["w8g32"], None, None),
            (&["Q4_K"], None, None),
        ] {
            let parsed: Vec<PackedFormat> = formats.iter().map(|format| format.parse().unwrap()).collect();
            assert_eq!(block_type(&parsed, Options { exact: false }), usual, "{formats:?}");
            assert_eq!(block_type(&parsed, Options { exact: true }), exact, "{formats:?}");
        }
    }
}
