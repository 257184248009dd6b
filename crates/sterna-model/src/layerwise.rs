//! A network one block at a time, in f32: for tools that study layers and replace them, and cannot hold all of them.
//!
//! The residual stream of some sequences is kept by the caller and goes through block after block; each block is read
//! from the checkpoint when its turn comes and forgotten after. Weights are as the file means them, rows and norms as
//! they are computed with: no permutation, no offset, no fused tensors.

use std::cell::RefCell;

use sterna_formats::{Checkpoint, RowOrder, Tensor};
use sterna_tensor::{Activations, Compute, DenseMatrix, KvType, PackedMatrix, ShapeError, ops};

use crate::arch;
use crate::arch::names::{Names, Role};
use crate::block::{self, Block, BlockScratch};
use crate::embedding::Embedding;
use crate::error::{ModelError, Result};
use crate::head;
use crate::linear::{Linear, project};
use crate::mixer::{InputTap, Pass};
use crate::rope::{RopeTables, Ropes};
use crate::rows;
use crate::spec::{MixerSpec, Spec};
use crate::state::MixerState;
use crate::ternary::TernaryMatrix;
use crate::weights::{self, BlockWeights, Leaves, LinearTensors, Part, VectorForm, Weights};

/// A checkpoint to be read block by block.
#[derive(Debug)]
pub struct Layerwise {
    spec: Spec,
    embedding: Embedding,
    embedding_tensor: Tensor,
    weights: Weights<LinearTensors, Vec<f32>>,
    ropes: Ropes,
}

/// A linear layer in f32: `y = x · weightᵀ + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatLinear {
    /// What it is called in native files, which know no fused tensors: `blk.3.attn_q.weight`,
    /// `blk.3.ffn_up_exps.7.weight`.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `[rows, cols]`.
    pub weight: Vec<f32>,
    /// `[rows]`.
    pub bias: Option<Vec<f32>>,
    /// Weights are -1, 0 and 1 times a scale as they were trained to be, and inputs are rounded to 8 bits per token (BitNet).
    pub is_ternary: bool,
}

/// The weights of one block in f32.
pub type FloatBlock = BlockWeights<FloatLinear, Vec<f32>>;

/// A block that can be run.
#[derive(Debug)]
pub struct RunnableBlock {
    index: usize,
    weights: BlockWeights<Linear, Vec<f32>>,
    /// The block whose transformer it shares, as the checkpoint has it.
    owner: Option<BlockWeights<Linear, Vec<f32>>>,
}

/// The head, to be run.
#[derive(Debug)]
pub struct RunnableHead(Linear);

/// The residual stream of one whole sequence.
#[derive(Debug, Clone)]
pub struct ResidualStream {
    /// `[n_tokens, hidden_size]`
    pub x: Vec<f32>,
    /// What it began as, in networks that read that again; else nothing.
    embedding: Vec<f32>,
}

/// Memory that blocks run in.
#[derive(Debug, Default)]
pub struct LayerwiseScratch {
    block: BlockScratch,
    ropes: RopeTables,
}

impl Layerwise {
    /// Reads what `checkpoint` says about itself, and finds every tensor.
    ///
    /// # Errors
    /// Those of [`Spec::of`]; tensors that are missing or of the wrong shape.
    pub fn open(checkpoint: &Checkpoint) -> Result<Layerwise> {
        let reading = arch::read(checkpoint)?;
        weights::check(checkpoint, &reading)?;
        let weights = weights::assemble(checkpoint, &reading, &Deferred)?;
        let embedding_tensor = weights::embedding(checkpoint, &reading)?;
        let embedding = Embedding::new(embedding_tensor.clone())?;
        Ok(Layerwise {
            ropes: Ropes::new(&reading.spec),
            spec: reading.spec,
            embedding,
            embedding_tensor,
            weights,
        })
    }

    /// The network.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The residual stream of `tokens` before the first block.
    ///
    /// # Errors
    /// When there is no token, one is outside the vocabulary, or there are more than the context holds.
    pub fn embed(&self, tokens: &[u32]) -> Result<ResidualStream> {
        crate::forward::check_tokens(&self.spec, tokens, tokens.len())?;
        let hidden_size = self.spec.hidden_size;
        let mut x = vec![0.0; tokens.len() * hidden_size];
        for (token, row) in tokens.iter().zip(x.chunks_exact_mut(hidden_size)) {
            self.embedding.row(*token, row);
            ops::scale(row, self.spec.embedding_scale);
        }
        Ok(self.stream(x))
    }

    /// The residual stream before the first block, if the embeddings are `x` `[n_tokens, hidden_size]`.
    pub fn stream(&self, x: Vec<f32>) -> ResidualStream {
        let embedding = if self.spec.reads_embedding() { x.clone() } else { Vec::new() };
        ResidualStream { x, embedding }
    }

    /// Reads the weights of block `index`.
    ///
    /// # Errors
    /// Tensors that hold no weights, or weights that are not finite.
    pub fn block(&self, index: usize) -> Result<FloatBlock> {
        let mut block = self.weights.blocks[index].try_map(&mut |tensors| FloatLinear::read(tensors))?;
        name_canonically(&mut block, index);
        Ok(block)
    }

    /// The embedding `[vocab_size, hidden_size]`.
    ///
    /// # Errors
    /// As [`Layerwise::block`].
    pub fn embedding(&self) -> Result<FloatLinear> {
        let tensor = &self.embedding_tensor;
        let weight = weights::finite(tensor)?;
        let (rows, cols) = (self.spec.vocab_size, self.spec.hidden_size);
        let name = Names::Native.of(Role::Embedding, 0);
        Ok(FloatLinear { name, rows, cols, weight, bias: None, is_ternary: false })
    }

    /// The head `[vocab_size, hidden_size]`: the embedding again where the two are tied.
    ///
    /// # Errors
    /// As [`Layerwise::block`].
    pub fn head(&self) -> Result<FloatLinear> {
        let head = FloatLinear::read(&self.weights.head)?;
        Ok(FloatLinear { name: Names::Native.of(Role::Head, 0), ..head })
    }

    /// The last norm, `[hidden_size]`.
    pub fn final_norm(&self) -> &[f32] {
        &self.weights.final_norm
    }

    /// Makes the weights of block `index`, perhaps changed, ready to run.
    ///
    /// # Errors
    /// When a matrix is not as large as it says, and those of [`Layerwise::block`] where another block has weights that
    /// this one shares.
    pub fn runnable(&self, index: usize, weights: &FloatBlock) -> Result<RunnableBlock> {
        let weights = self.ready(weights)?;
        Ok(RunnableBlock { index, weights, owner: self.owner(index)? })
    }

    /// The block, before block `index`, whose transformer that one shares.
    fn owner(&self, index: usize) -> Result<Option<BlockWeights<Linear, Vec<f32>>>> {
        let MixerSpec::Shared(spec) = &self.spec.blocks[index].mixer else { return Ok(None) };
        if spec.owner == index {
            return Ok(None);
        }
        self.ready(&self.block(spec.owner)?).map(Some)
    }

    fn ready(&self, block: &FloatBlock) -> Result<BlockWeights<Linear, Vec<f32>>> {
        block.try_map(&mut |linear: &FloatLinear| {
            linear.clone().into_linear().map_err(|error| ModelError::TensorValue {
                file: self.embedding_tensor.file.to_string().into(),
                tensor: linear.name.clone(),
                expected: "a matrix".to_owned(),
                found: error.to_string(),
            })
        })
    }

    /// Makes the head, perhaps changed, ready to run.
    ///
    /// # Errors
    /// When it is not as large as it says.
    pub fn runnable_head(&self, head: FloatLinear) -> Result<RunnableHead, ShapeError> {
        head.into_linear().map(RunnableHead)
    }

    /// The same of rounded weights `[vocab_size, hidden_size]`, as small as they are.
    pub fn rounded_head(&self, weight: PackedMatrix, bias: Option<Vec<f32>>) -> RunnableHead {
        let name = "output.weight".to_owned();
        RunnableHead(Linear { name, matrix: weight.into(), scale: 1.0, bias, rounds_per_token: false })
    }

    /// What the last norm makes of the residual stream after all blocks: the head's input `[n_tokens, hidden_size]`.
    pub fn head_input(&self, c: &Compute, stream: &ResidualStream) -> Vec<f32> {
        let mut normed = vec![0.0; stream.x.len()];
        rows::rms_norm(c, &stream.x, &self.weights.final_norm, self.spec.norm_eps, &mut normed);
        normed
    }

    /// Logits `[n_tokens, vocab_size]` of the head's input `[n_tokens, hidden_size]`.
    pub fn logits(&self, c: &Compute, head: &RunnableHead, input: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; input.len() / self.spec.hidden_size * self.spec.vocab_size];
        head::logits(c, &self.spec, &head.0, input, &mut Activations::new(), &mut logits);
        logits
    }

    /// Runs a residual stream through `block`, and shows `inputs` what its linear layers read: the name of the first layer
    /// that reads them, and the values `[n, cols]`.
    pub fn run(
        &self,
        c: &Compute,
        block: &RunnableBlock,
        scratch: &mut LayerwiseScratch,
        stream: &mut ResidualStream,
        inputs: impl FnMut(&str, &[f32]),
    ) {
        let inputs = RefCell::new(inputs);
        let ResidualStream { x, embedding } = stream;
        let (pass, scratch) = self.pass(c, scratch, x.len(), Some(&inputs));
        let pass = Pass { embedding, ..pass };
        self.of(block).run(&pass, &mut self.empty_state(block), scratch, x);
    }

    /// What the mixer of `block` makes of `x` `[n_tokens, hidden_size]`, one whole sequence after the norm.
    pub fn mixer_output(
        &self,
        c: &Compute,
        block: &RunnableBlock,
        scratch: &mut LayerwiseScratch,
        x: &[f32],
    ) -> Vec<f32> {
        let (pass, scratch) = self.pass(c, scratch, x.len(), None);
        self.of(block).mixer_output(&pass, &mut self.empty_state(block), scratch, x)
    }

    /// What the feed-forward network of `block` makes of `x` `[n_tokens, hidden_size]`, after the norm.
    pub fn feed_forward_output(
        &self,
        c: &Compute,
        block: &RunnableBlock,
        scratch: &mut LayerwiseScratch,
        x: &[f32],
    ) -> Vec<f32> {
        let (pass, scratch) = self.pass(c, scratch, x.len(), None);
        self.of(block).feed_forward_output(&pass, scratch, x)
    }

    /// What the linear layer `layer` of `block` makes of `x` `[n_tokens, cols]`; nothing if there is no such layer.
    pub fn layer_output(&self, c: &Compute, block: &RunnableBlock, layer: &str, x: &[f32]) -> Vec<f32> {
        let Some(layer) = block.weights.linears().into_iter().find(|candidate| candidate.name == layer)
        else {
            return Vec::new();
        };
        let mut input = Activations::new();
        input.set(x, layer.matrix.cols(), c);
        let mut y = vec![0.0; input.n_tokens() * layer.matrix.rows()];
        project(c, &input, [(layer, &mut y)]);
        y
    }

    fn pass<'a>(
        &self,
        compute: &'a Compute,
        scratch: &'a mut LayerwiseScratch,
        len: usize,
        inputs: Option<&'a RefCell<InputTap<'a>>>,
    ) -> (Pass<'a>, &'a mut BlockScratch) {
        let n_tokens = len / self.spec.hidden_size;
        let LayerwiseScratch { block, ropes } = scratch;
        ropes.fill(&self.ropes, self.spec.regime(n_tokens), 0, n_tokens);
        (
            Pass { compute, norm_eps: self.spec.norm_eps, first: 0, n_tokens, ropes, embedding: &[], inputs },
            block,
        )
    }

    fn of<'a>(&'a self, block: &'a RunnableBlock) -> Block<'a> {
        let (spec, rope) = (&self.spec.blocks[block.index], self.ropes.of_block[block.index]);
        let transformer = block.owner.as_ref().and_then(block::shared_transformer);
        Block { spec, weights: &block.weights, rope, transformer }
    }

    fn empty_state(&self, block: &RunnableBlock) -> MixerState {
        MixerState::new(&self.spec.blocks[block.index].mixer, KvType::F32)
    }
}

impl RunnableBlock {
    /// Puts other weights `[rows, cols]` into the linear layer `name`.
    ///
    /// # Errors
    /// When they are not as many as the layer has.
    pub fn replace(&mut self, name: &str, weight: Vec<f32>) -> Result<(), ShapeError> {
        let layers = self.weights.linears_mut();
        if let Some(layer) = layers.into_iter().find(|layer| layer.name == name) {
            let (rows, cols) = (layer.matrix.rows(), layer.matrix.cols());
            layer.matrix = DenseMatrix::from_f32(rows, cols, weight)?.into();
        }
        Ok(())
    }
}

impl FloatLinear {
    fn read(tensors: &LinearTensors) -> Result<FloatLinear> {
        let (rows, cols, order) = (tensors.rows, tensors.cols, tensors.order);
        let in_order = |width: usize, stored: Vec<f32>| -> Vec<f32> {
            if order == RowOrder::AsStored {
                return stored;
            }
            (0..rows).flat_map(|row| &stored[order.stored_row(row) * width..][..width]).copied().collect()
        };
        let (mut weight, scale) = match tensors.ternary {
            Some(storage) => {
                let TernaryMatrix { codes, scale, .. } = TernaryMatrix::read(tensors, storage)?;
                (codes.iter().map(|code| f32::from(*code) - 1.0).collect(), scale)
            }
            None => {
                let scale = tensors.scale.as_ref().map_or(Ok(1.0), weights::single)?;
                (in_order(cols, weights::finite(&tensors.weight)?), scale)
            }
        };
        if scale != 1.0 {
            weight.iter_mut().for_each(|weight| *weight *= scale);
        }
        let bias = tensors.bias.as_ref().map(weights::finite).transpose()?;
        let bias = bias.map(|bias| in_order(1, bias));
        let (name, is_ternary) = (tensors.weight.name.clone(), tensors.rounds_per_token);
        Ok(FloatLinear { name, rows, cols, weight, bias, is_ternary })
    }

    fn into_linear(self) -> Result<Linear, ShapeError> {
        let FloatLinear { name, rows, cols, weight, bias, is_ternary } = self;
        let matrix = DenseMatrix::from_f32(rows, cols, weight)?.into();
        Ok(Linear { name, matrix, scale: 1.0, bias, rounds_per_token: is_ternary })
    }
}

/// The norms and biases of a block, `index` in its network, by their names in native files.
pub fn vectors_mut(block: &mut FloatBlock, index: usize) -> Vec<(String, &mut Vec<f32>)> {
    let parts = block.as_mut().into_parts().into_iter();
    let vectors = parts.filter_map(|(seat, part)| match part {
        Part::Linear(linear) => Some((weights::bias_of(&linear.name), linear.bias.as_mut()?)),
        Part::Vector(values) => Some((Names::Native.of_seat(seat, index), values)),
    });
    vectors.collect()
}

/// Gives the layers of a block names that say what they are, whatever tensor they were made of.
fn name_canonically(block: &mut FloatBlock, index: usize) {
    for (seat, part) in block.as_mut().into_parts() {
        if let Part::Linear(layer) = part {
            layer.name = Names::Native.of_seat(seat, index);
        }
    }
}

/// Leaves that stay in the file.
struct Deferred;

impl Leaves for Deferred {
    type Linear = LinearTensors;
    type Vector = Vec<f32>;

    fn linear(&self, tensors: LinearTensors) -> Result<LinearTensors> {
        Ok(tensors)
    }

    fn vector(&self, tensor: &Tensor, form: VectorForm) -> Result<Vec<f32>> {
        form.read(tensor)
    }
}
