//! The tensors of any checkpoint under the names, and in the order of rows, that native files have: separate
//! projections and experts, no permuted rows, norms as they are multiplied with.
//!
//! What a quantizer writes into a native file is this list, each matrix in a format of its own choice.

mod ternary;

use std::ops::Range;

use sterna_formats::{Checkpoint, Config, RowOrder, Tensor, TensorType, mapped};
use sterna_tensor::{Matrix, PackedFormat, PackedMatrix, Pool};

use crate::arch;
use crate::arch::names::{Names, Role};
use crate::error::Result;
use crate::weights::{self, BlockWeights, Leaves, LinearTensors, Part, VectorForm};

pub use ternary::{TernaryFormat, TernaryWeights};

/// Divisors of rotary frequencies, which GGUF files keep as tensors.
pub(crate) const ROPE_TENSORS: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

/// A tensor of a checkpoint, still in its file.
#[derive(Debug, Clone)]
pub struct CanonicalTensor {
    /// Its name in native files: `blk.3.attn_q.weight`.
    pub name: String,
    /// What it is for.
    pub kind: TensorKind,
    /// Outputs; 1 for a vector.
    pub rows: usize,
    /// Inputs; the length of a vector.
    pub cols: usize,
    /// Type in the checkpoint.
    pub ty: TensorType,
    source: Source,
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorKind {
    /// The matrix whose rows are looked up; where there is no [`TensorKind::Head`], it is that too.
    Embedding,
    /// A matrix of a mixer or a feed-forward network.
    Projection,
    /// The matrix that picks experts: small, and decisive.
    Router,
    /// The matrix that makes logits.
    Head,
    /// A norm, a bias, divisors: f32 in native files.
    Vector,
}

#[derive(Debug, Clone)]
enum Source {
    Matrix {
        weight: Tensor,
        order: RowOrder,
        /// A factor on all weights.
        scale: Option<Tensor>,
    },
    /// Weights -1, 0 and 1 in any form.
    Ternary(LinearTensors),
    Vector {
        values: Tensor,
        order: RowOrder,
        form: VectorForm,
    },
}

/// The tensors of `checkpoint`, in the order in which they are computed with.
///
/// # Errors
/// Those of [`crate::Spec::of`]; tensors that are missing or of the wrong shape; ternary weights whose rows are not whole blocks.
pub fn tensors(checkpoint: &Checkpoint) -> Result<Vec<CanonicalTensor>> {
    let reading = arch::read(checkpoint)?;
    let weights = weights::assemble(checkpoint, &reading, &InFile)?;
    let embedding = weights::embedding(checkpoint, &reading)?;
    let name = Names::Native.of(Role::Embedding, 0);
    let embedding = CanonicalTensor::matrix(name, TensorKind::Embedding, embedding, RowOrder::AsStored, None);
    let mut list = List { tensors: vec![embedding] };
    for (index, block) in weights.blocks.into_iter().enumerate() {
        list.block(index, block);
    }
    list.vector(Names::Native.of(Role::FinalNorm, 0), weights.final_norm);
    if !reading.spec.tied_embeddings {
        list.linear(Names::Native.of(Role::Head, 0), TensorKind::Head, weights.head);
    }
    if let Config::Gguf(_) = checkpoint.config() {
        for tensor in ROPE_TENSORS.iter().filter_map(|name| checkpoint.get(name)) {
            let (name, tensor) = (tensor.name.clone(), tensor.clone());
            list.tensors.push(CanonicalTensor::vector(name, tensor, RowOrder::AsStored, VectorForm::Plain));
        }
    }
    list.tensors.iter().try_for_each(CanonicalTensor::check_ternary)?;
    Ok(list.tensors)
}

impl CanonicalTensor {
    /// `weight` is `[rows, cols]`.
    fn matrix(
        name: String,
        kind: TensorKind,
        weight: Tensor,
        order: RowOrder,
        scale: Option<Tensor>,
    ) -> CanonicalTensor {
        let [rows, cols] = [0, 1].map(|dim| weight.shape.get(dim).copied().unwrap_or(1));
        let ty = weight.ty;
        CanonicalTensor { name, kind, rows, cols, ty, source: Source::Matrix { weight, order, scale } }
    }

    fn vector(name: String, values: Tensor, order: RowOrder, form: VectorForm) -> CanonicalTensor {
        let (kind, cols, ty) = (TensorKind::Vector, values.n_elements(), values.ty);
        CanonicalTensor { name, kind, rows: 1, cols, ty, source: Source::Vector { values, order, form } }
    }

    /// The same tensor as the matrix that makes logits.
    pub(crate) fn as_head(&self) -> CanonicalTensor {
        CanonicalTensor { name: Names::Native.of(Role::Head, 0), kind: TensorKind::Head, ..self.clone() }
    }

    /// Its shape in native files.
    pub fn shape(&self) -> Vec<usize> {
        match self.kind {
            TensorKind::Vector => vec![self.cols],
            _ => vec![self.rows, self.cols],
        }
    }

    /// The file that it is in, for messages.
    pub fn file(&self) -> &str {
        match &self.source {
            Source::Matrix { weight, .. } | Source::Ternary(LinearTensors { weight, .. }) => &weight.file,
            Source::Vector { values, .. } => &values.file,
        }
    }

    /// Gives back the memory that reading has filled with pages of the file.
    pub fn release(&self) {
        let (Source::Matrix { weight: tensor, .. }
        | Source::Ternary(LinearTensors { weight: tensor, .. })
        | Source::Vector { values: tensor, .. }) = &self.source;
        mapped::release(&tensor.data);
    }

    /// [`CanonicalTensor::ty`], if the values are those in the checkpoint, with no factor and nothing added.
    pub fn unchanged_type(&self) -> Option<TensorType> {
        let is_changed = match &self.source {
            Source::Matrix { scale, .. } => scale.is_some(),
            Source::Ternary(_) => true,
            Source::Vector { form, .. } => !matches!(form, VectorForm::Plain | VectorForm::Negative),
        };
        (!is_changed).then_some(self.ty)
    }

    /// The format that holds its codes and scales as they are in the checkpoint, if there is one.
    pub fn packed_format(&self) -> Option<PackedFormat> {
        match (self.unchanged_type()?, &self.source) {
            (TensorType::Packed(format), _) => Some(format),
            (TensorType::Quantized(_), Source::Matrix { weight, .. }) => {
                weight.quantized.as_ref()?.packed_format()
            }
            _ => None,
        }
    }

    /// The matrix in its [`CanonicalTensor::packed_format`], for whoever wants codes and scales
    /// ([`PackedMatrix::unpack`]).
    ///
    /// # Errors
    /// When the tensor is no matrix, or its scales are not finite.
    pub fn packed(&self) -> Result<Option<PackedMatrix>> {
        let (Some(_), Source::Matrix { weight, order, .. }) = (self.packed_format(), &self.source) else {
            return Ok(None);
        };
        match weight.matrix(*order, &Pool::new(1))? {
            Matrix::Packed(matrix) => Ok(Some(matrix)),
            Matrix::Dense(_) => Ok(None),
        }
    }

    /// All values, `[rows, cols]`.
    ///
    /// # Errors
    /// When the tensor's type is none of weights, or a vector is not finite.
    pub fn load(&self) -> Result<Vec<f32>> {
        self.load_rows(0..self.rows)
    }

    /// The values of the rows `range`, `[range.len(), cols]`.
    ///
    /// # Errors
    /// As [`CanonicalTensor::load`], and when there are no such rows.
    pub fn load_rows(&self, range: Range<usize>) -> Result<Vec<f32>> {
        match &self.source {
            Source::Vector { values, order, form } => {
                let values = form.read(values)?;
                Ok((0..self.cols).map(|i| values[order.stored_row(i)]).collect())
            }
            Source::Ternary(tensors) => ternary::rows(tensors, range),
            Source::Matrix { weight, order, scale } => {
                let mut rows = stored_rows(weight, *order, range)?;
                if let Some(scale) = scale {
                    let scale = weights::single(scale)?;
                    rows.iter_mut().for_each(|weight| *weight *= scale);
                }
                Ok(rows)
            }
        }
    }
}

/// The rows `range`, in `order`, of a matrix.
fn stored_rows(weight: &Tensor, order: RowOrder, range: Range<usize>) -> Result<Vec<f32>> {
    if let TensorType::Packed(_) = weight.ty
        && let Matrix::Packed(matrix) = weight.matrix(order, &Pool::new(1))?
        && range.end <= matrix.rows()
    {
        let mut out = vec![0.0; range.len() * matrix.cols()];
        let rows = out.chunks_exact_mut(matrix.cols());
        range.zip(rows).for_each(|(row, out)| matrix.row(row, out));
        return Ok(out);
    }
    if order == RowOrder::AsStored {
        return Ok(weight.rows(range)?.to_f32()?);
    }
    let mut out = Vec::new();
    for row in range.map(|row| order.stored_row(row)) {
        out.extend(weight.rows(row..row + 1)?.to_f32()?);
    }
    Ok(out)
}

/// Gathers tensors under their canonical names.
struct List {
    tensors: Vec<CanonicalTensor>,
}

impl List {
    fn block(&mut self, index: usize, weights: BlockWeights<LinearTensors, Vector>) {
        for (seat, part) in weights.into_parts() {
            let name = Names::Native.of_seat(seat, index);
            match part {
                Part::Linear(linear) if [Role::Router, Role::SharedExpertGate].contains(&seat.role) => {
                    self.linear(name, TensorKind::Router, linear);
                }
                Part::Linear(linear) => self.linear(name, TensorKind::Projection, linear),
                Part::Vector(vector) => self.vector(name, vector),
            }
        }
    }

    fn linear(&mut self, name: String, kind: TensorKind, mut linear: LinearTensors) {
        let (rows, cols, order) = (linear.rows, linear.cols, linear.order);
        let bias = linear.bias.take().map(|bias| CanonicalTensor {
            cols: rows,
            ..CanonicalTensor::vector(weights::bias_of(&name), bias, order, VectorForm::Plain)
        });
        self.tensors.push(match linear.rounds_per_token {
            true => {
                let ty = linear.weight.ty;
                CanonicalTensor { name, kind, rows, cols, ty, source: Source::Ternary(linear) }
            }
            false => {
                let LinearTensors { weight, scale, .. } = linear;
                CanonicalTensor { rows, ..CanonicalTensor::matrix(name, kind, weight, order, scale) }
            }
        });
        self.tensors.extend(bias);
    }

    fn vector(&mut self, name: String, Vector { values, form }: Vector) {
        self.tensors.push(CanonicalTensor::vector(name, values, RowOrder::AsStored, form));
    }
}

/// A vector as the file has it.
#[derive(Debug)]
struct Vector {
    values: Tensor,
    form: VectorForm,
}

/// Leaves that stay in the file.
struct InFile;

impl Leaves for InFile {
    type Linear = LinearTensors;
    type Vector = Vector;

    fn linear(&self, tensors: LinearTensors) -> Result<LinearTensors> {
        Ok(tensors)
    }

    fn vector(&self, tensor: &Tensor, form: VectorForm) -> Result<Vector> {
        Ok(Vector { values: tensor.clone(), form })
    }
}
