//! A network loaded to compute fast: its spec, its weights as matrices, its embedding still in the file.

use sterna_formats::{Checkpoint, QuantizedRows, RowOrder, Tensor, TensorType, ggml, mapped};
use sterna_tensor::{Bytes, Compute, Matrix, Pool};

use crate::arch;
use crate::error::{ModelError, Result};
use crate::linear::Linear;
use crate::rope::Ropes;
use crate::spec::Spec;
use crate::synthetic;
use crate::ternary::TernaryMatrix;
use crate::weights::{self, BlockWeights, CheckOnly, Leaves, LinearTensors, VectorForm, Weights};

/// What a model is loaded for.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Shortens the context to so many tokens; never lengthens it.
    pub context_length: Option<usize>,
}

/// A network ready to compute.
#[derive(Debug)]
pub struct Model {
    pub(crate) spec: Spec,
    pub(crate) embedding: Embedding,
    pub(crate) weights: Weights<Linear, Vec<f32>>,
    pub(crate) ropes: Ropes,
}

impl Model {
    /// Loads the network of `checkpoint`. Every name and shape is checked first; then one tensor at a time is packed
    /// on all threads of `compute`, and its pages of the mapped file are given back. Float weights stay mapped.
    ///
    /// # Errors
    /// Those of [`Spec::of`], and tensors that are missing, of the wrong shape, or hold no weights.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions, compute: &Compute) -> Result<Model> {
        let mut reading = arch::read(checkpoint)?;
        if let Some(context_length) = options.context_length {
            reading.spec.context_length = reading.spec.context_length.min(context_length);
        }
        let embedding = Embedding::new(weights::embedding(checkpoint, &reading)?)?;
        weights::assemble(checkpoint, &reading, &CheckOnly)?;
        let weights = weights::assemble(checkpoint, &reading, &Packing { compute })?;
        Ok(Model { ropes: Ropes::new(&reading.spec), spec: reading.spec, embedding, weights })
    }

    /// The network.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The matrices of all linear layers, head last, each with the name of the tensor it was made of.
    pub fn matrices(&self) -> impl Iterator<Item = (&str, &Matrix)> {
        let linears = self.weights.blocks.iter().flat_map(BlockWeights::linears).chain([&self.weights.head]);
        linears.map(|linear| (linear.name.as_str(), &linear.matrix))
    }
}

/// The embedding, whose rows are read from the file as they are asked for.
#[derive(Debug)]
pub(crate) struct Embedding {
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    /// A slice of the file for each row.
    Stored { ty: TensorType, row_bytes: usize, data: Bytes },
    /// Codes and scales, still in the file.
    Quantized(QuantizedRows),
    /// Tiles, shared with the head where that is the same matrix.
    Packed(Matrix),
    /// Computed as they are asked for.
    MadeUp,
}

impl Embedding {
    /// `tensor` is `[vocab_size, hidden_size]`.
    pub(crate) fn new(tensor: Tensor) -> Result<Embedding> {
        let rows = match tensor.ty {
            TensorType::Quantized(_) if let Some(rows) = tensor.quantized => Rows::Quantized(*rows),
            TensorType::Packed(_) => Rows::Packed(tensor.matrix(RowOrder::AsStored, &Pool::new(1))?),
            TensorType::Dense(_) | TensorType::Ggml(_) => {
                let n_rows = tensor.shape.first().copied().unwrap_or(1);
                Rows::Stored { ty: tensor.ty, row_bytes: tensor.data.len() / n_rows, data: tensor.data }
            }
            TensorType::I2S | TensorType::Quantized(_) | TensorType::Other(_) => {
                return Err(ModelError::TensorValue {
                    file: tensor.file.to_string().into(),
                    tensor: tensor.name,
                    expected: "a type of weights with rows of their own".to_owned(),
                    found: tensor.ty.to_string(),
                });
            }
        };
        Ok(Embedding { rows })
    }

    /// Rows of numbers that mean nothing.
    pub(crate) fn made_up() -> Embedding {
        Embedding { rows: Rows::MadeUp }
    }

    /// Row `token` times `scale`, into `out` `[hidden_size]`.
    pub(crate) fn row(&self, token: u32, scale: f32, out: &mut [f32]) {
        match &self.rows {
            Rows::Packed(matrix) => matrix.row(token as usize, out),
            Rows::MadeUp => synthetic::fill(u64::from(token), out),
            Rows::Quantized(rows) => rows.row(token as usize, out),
            Rows::Stored { ty, row_bytes, data } => {
                let bytes = &data[token as usize * row_bytes..][..*row_bytes];
                match *ty {
                    TensorType::Dense(dtype) => dtype.widen(bytes, out),
                    TensorType::Ggml(ty) => ggml::dequantize(ty, bytes, out),
                    TensorType::I2S
                    | TensorType::Packed(_)
                    | TensorType::Quantized(_)
                    | TensorType::Other(_) => {}
                }
            }
        }
        if scale != 1.0 {
            out.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

/// Makes matrices that compute fast.
struct Packing<'a> {
    compute: &'a Compute,
}

impl Leaves for Packing<'_> {
    type Linear = Linear;
    type Vector = Vec<f32>;

    fn linear(&self, tensors: LinearTensors) -> Result<Linear> {
        let LinearTensors { weight, rows, order, .. } = &tensors;
        let mut scale = 1.0;
        let matrix = match tensors.ternary {
            Some(storage) => {
                let matrix = TernaryMatrix::read(&tensors, storage)?;
                scale = matrix.scale;
                mapped::release(&weight.data);
                matrix.matrix(self.compute).map_err(|error| ModelError::TensorValue {
                    file: weight.file.to_string().into(),
                    tensor: weight.name.clone(),
                    expected: "a matrix".to_owned(),
                    found: error.to_string(),
                })?
            }
            None => {
                if let Some(tensor) = &tensors.scale {
                    scale = weights::single(tensor)?;
                }
                weight.matrix(*order, &self.compute.pool)?
            }
        };
        let bias = tensors.bias.as_ref().map(weights::finite).transpose()?;
        let bias = bias.map(|bias| (0..*rows).map(|row| bias[order.stored_row(row)]).collect());
        let (name, rounds_per_token) = (weight.name.clone(), tensors.rounds_per_token);
        Ok(Linear { name, matrix, scale, bias, rounds_per_token })
    }

    fn vector(&self, tensor: &Tensor, form: VectorForm) -> Result<Vec<f32>> {
        form.read(tensor)
    }
}
