//! A network loaded to compute fast: its spec, its weights as matrices, an embedding of its own still in the file.

use sterna_formats::{Checkpoint, Tensor, mapped};
use sterna_tensor::{Compute, Matrix, ops};

use crate::arch;
use crate::embedding::Embedding;
use crate::error::Result;
use crate::linear::{self, Linear};
use crate::rope::Ropes;
use crate::spec::Spec;
use crate::weights::{self, BlockWeights, Leaves, LinearTensors, VectorForm, Weights};

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
    /// Where it is not the head.
    pub(crate) embedding: Option<Embedding>,
    pub(crate) weights: Weights<Linear, Vec<f32>>,
    pub(crate) ropes: Ropes,
}

impl Model {
    /// Loads the network of `checkpoint`. Every name and shape is checked first; then one tensor at a time is packed
    /// on all threads of `compute`, and its pages of the mapped file are given back, at the end those of headers too. Float and native
    /// weights stay mapped.
    ///
    /// # Errors
    /// Those of [`Spec::of`], and tensors that are missing, of the wrong shape, or hold no weights.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions, compute: &Compute) -> Result<Model> {
        let mut reading = arch::read(checkpoint)?;
        if let Some(context_length) = options.context_length {
            reading.spec.context_length = reading.spec.context_length.min(context_length);
        }
        weights::check(checkpoint, &reading)?;
        let embedding = match reading.spec.tied_embeddings {
            true => None,
            false => Some(Embedding::new(weights::embedding(checkpoint, &reading)?)?),
        };
        let weights = weights::assemble(checkpoint, &reading, &Packing { compute })?;
        checkpoint.tensors().for_each(|tensor| mapped::release_file(&tensor.data));
        Ok(Model { ropes: Ropes::new(&reading.spec), spec: reading.spec, embedding, weights })
    }

    /// The network.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The embedding of `token`, as the first block reads it, into `out` `[hidden_size]`.
    pub(crate) fn embed(&self, token: u32, out: &mut [f32]) {
        match &self.embedding {
            Some(embedding) => embedding.row(token, out),
            None => self.weights.head.matrix.row(token as usize, out),
        }
        if self.spec.embedding_scale != 1.0 {
            ops::scale(out, self.spec.embedding_scale);
        }
    }

    /// The matrices of all linear layers, head last, each with the name of the tensor it was made of.
    pub fn matrices(&self) -> impl Iterator<Item = (&str, &Matrix)> {
        let linears = self.weights.blocks.iter().flat_map(BlockWeights::linears).chain([&self.weights.head]);
        linears.map(|linear| (linear.name.as_str(), &linear.matrix))
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
        mapped::prefer_huge_pages(&weight.data);
        let (matrix, scale) = linear::pack(&tensors, &self.compute.pool)?;
        let bias = tensors.bias.as_ref().map(weights::finite).transpose()?;
        let bias = bias.map(|bias| (0..*rows).map(|row| bias[order.stored_row(row)]).collect());
        let (name, rounds_per_token) = (weight.name.clone(), tensors.rounds_per_token);
        Ok(Linear { name, matrix, scale, bias, rounds_per_token })
    }

    fn vector(&self, tensor: &Tensor, form: VectorForm) -> Result<Vec<f32>> {
        form.read(tensor)
    }
}
