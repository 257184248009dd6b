//! From a float checkpoint to codes, one block after the other.
//!
//! Calibration text goes through the network as a residual stream that this loop owns. For each block: watch what its
//! linear layers read, scale and round them, hand them to the sink, and run the text through what was made, so that the
//! next block is fitted to inputs as it will really get them. In memory at a time: one block in f32 with its copies,
//! moments of its inputs, and the residual stream.

use sterna_model::Layerwise;
use sterna_model::layerwise::{FloatBlock, FloatLinear, LayerwiseScratch, ResidualStream, vectors_mut};
use sterna_tensor::Compute;

use crate::block::BlockRounding;
use crate::error::{QuantError, Result};
use crate::held_out::{Cost, HeldOut};
use crate::layer::{LayerRounding, Rounded};
use crate::observe::{Input, Observations};
use crate::recipe::{Grid, Method, Recipe};
use crate::rounding::{Factor, Quantized, TokenWeight};
use crate::scaling::{Scaling, awq};

/// Sequences, and tokens of each from its beginning, whose inputs are kept as they are, to try scales on.
const SAMPLE: (usize, usize) = (4, 128);

/// Where quantized layers go, in the order of the network. Ternary ones, of which nothing is made, do not come by.
pub trait Sink {
    /// A norm or a bias.
    fn vector(&mut self, name: &str, values: &[f32]) -> Result<()>;
    /// A matrix that stays as it is `[rows, cols]`.
    fn float(&mut self, layer: &FloatLinear) -> Result<()>;
    /// A rounded matrix.
    fn matrix(&mut self, name: &str, matrix: &Quantized) -> Result<()>;
}

/// What happened to one block.
#[derive(Debug, Clone, Default)]
pub struct BlockReport {
    /// Its number.
    pub index: usize,
    /// Scaled inputs.
    pub scalings: Vec<Scaling>,
    /// Name, and error of the output relative to the output itself: `tr(Δ H Δᵀ) / tr(W H Wᵀ)`.
    pub errors: Vec<(String, f64)>,
}

/// A model to be quantized, with the text it is fitted to.
pub struct Pipeline<'a> {
    network: &'a Layerwise,
    recipe: &'a Recipe,
    compute: &'a Compute,
    /// The residual stream of each sequence.
    streams: Vec<ResidualStream>,
    /// Which sequences' inputs are kept.
    sampled: Vec<bool>,
    held_out: HeldOut,
}

impl<'a> Pipeline<'a> {
    /// `sequences` are the calibration text, cut into pieces of tokens, and `held_out` more of it, which nothing is fitted
    /// to and the result is judged by. Without any text, `auto` searches the best range for
    /// each group and does no more; `awq` and `gptq` need text.
    ///
    /// # Errors
    /// When there is no text for a method that needs it, or it has tokens that the model does not know.
    pub fn new(
        network: &'a Layerwise,
        recipe: &'a Recipe,
        sequences: &[Vec<u32>],
        held_out: &[Vec<u32>],
        compute: &'a Compute,
    ) -> Result<Pipeline<'a>> {
        let n_tokens: usize = sequences.iter().map(Vec::len).sum();
        if n_tokens == 0 && matches!(recipe.method, Method::Awq | Method::Gptq) {
            return Err(QuantError::TooLittleText { expected: 1, found: 0 });
        }
        let streams = sequences.iter().map(|tokens| network.embed(tokens)).collect::<Result<_, _>>()?;
        let n_samples = SAMPLE.0.min(sequences.len());
        let mut sampled = vec![false; sequences.len()];
        (0..n_samples).for_each(|i| sampled[i * sequences.len() / n_samples] = true);
        let held_out = HeldOut::new(network, held_out)?;
        Ok(Pipeline { network, recipe, compute, streams, sampled, held_out })
    }

    /// Quantizes block `index`; blocks come in order, each once.
    ///
    /// # Errors
    /// Weights that cannot be read or rounded, and what the sink says.
    pub fn block(&mut self, index: usize, sink: &mut dyn Sink) -> Result<BlockReport> {
        let (network, c) = (self.network, self.compute);
        let mut block = network.block(index)?;
        let mut observations = self.observe(index, &block)?;
        let mut report = BlockReport { index, ..BlockReport::default() };
        let published = match self.recipe.method {
            Method::Rtn | Method::Gptq => Vec::new(),
            Method::Awq | Method::Auto => {
                let format_of = |layer: &FloatLinear| self.recipe.format_of(layer);
                awq::search(network, index, &block, &observations, &format_of, c)?
            }
        };
        let rounding = BlockRounding { recipe: self.recipe, published: &published, c };
        let spec = &network.spec().blocks[index];
        let rounded = rounding.round(spec, &mut block, &mut observations, &mut report.scalings)?;
        for (name, values) in vectors_mut(&mut block, index) {
            sink.vector(&name, values)?;
        }
        for (layer, rounded) in
            block.linears().into_iter().zip(rounded).filter(|(layer, _)| !layer.is_ternary)
        {
            let Some(Rounded { quantized, error }) = rounded else {
                sink.float(layer)?;
                continue;
            };
            report.errors.extend(error.map(|error| (layer.name.clone(), error.relative())));
            sink.matrix(&layer.name, &quantized)?;
        }
        self.advance(index, &block)?;
        Ok(report)
    }

    /// Passes over block `index`, which was quantized in an earlier run that this one goes on with: `written` has what
    /// the sink was given then, by name.
    ///
    /// # Errors
    /// As [`Pipeline::block`]; [`QuantError::Missing`].
    pub fn pass_over(
        &mut self,
        index: usize,
        written: &dyn Fn(&str) -> Result<Option<Vec<f32>>>,
    ) -> Result<()> {
        let mut block = self.network.block(index)?;
        if !self.held_out.is_empty() {
            let runnable = self.network.runnable(index, &block)?;
            self.held_out.run_original(self.network, &runnable, self.compute);
        }
        let fill = |name: &str, values: &mut Vec<f32>| match written(name)? {
            Some(found) if found.len() == values.len() => {
                *values = found;
                Ok(())
            }
            _ => Err(QuantError::Missing { name: name.to_owned() }),
        };
        for (name, values) in vectors_mut(&mut block, index) {
            fill(&name, values)?;
        }
        for layer in block.linears_mut().into_iter().filter(|layer| !layer.is_ternary) {
            fill(&layer.name, &mut layer.weight)?;
        }
        self.advance(index, &block)
    }

    /// Moves the streams through what was made of block `index`.
    fn advance(&mut self, index: usize, block: &FloatBlock) -> Result<()> {
        if !self.needs_to_run() {
            return Ok(());
        }
        let runnable = self.network.runnable(index, block)?;
        self.held_out.run_quantized(self.network, &runnable, self.compute);
        let mut scratch = LayerwiseScratch::default();
        for stream in self.streams.iter_mut().filter(|_| self.recipe.method != Method::Rtn) {
            self.network.run(self.compute, &runnable, &mut scratch, stream, |_, _| {});
        }
        Ok(())
    }

    /// Runs the text through `block` as it is without moving the streams, and watches; moves those that show the block as
    /// it was.
    fn observe(&mut self, index: usize, block: &FloatBlock) -> Result<Observations> {
        let mut observations = Observations::new(TokenWeight::Plain);
        if !self.needs_to_run() {
            return Ok(observations);
        }
        let runnable = self.network.runnable(index, block)?;
        self.held_out.run_original(self.network, &runnable, self.compute);
        if self.recipe.method == Method::Rtn {
            return Ok(observations);
        }
        let mut scratch = LayerwiseScratch::default();
        let inputs = block.inputs().into_iter().filter(|readers| !readers.iter().all(|it| it.is_ternary));
        let cols: Vec<(String, usize)> =
            inputs.map(|readers| (readers[0].name.clone(), readers[0].cols)).collect();
        if cols.is_empty() {
            return Ok(observations);
        }
        for (stream, &is_sampled) in self.streams.iter().zip(&self.sampled) {
            let n_kept = if is_sampled { SAMPLE.1 } else { 0 };
            let mut stream = stream.clone();
            self.network.run(self.compute, &runnable, &mut scratch, &mut stream, |layer, input| {
                if let Some((_, cols)) = cols.iter().find(|(name, _)| name == layer) {
                    observations.add(self.compute, layer, *cols, input, n_kept);
                }
            });
        }
        Ok(observations)
    }

    /// Rounding to nearest is fitted to nothing, and need not run the network for its own sake.
    fn needs_to_run(&self) -> bool {
        self.recipe.method != Method::Rtn || !self.held_out.is_empty()
    }

    /// The last norm, the embedding, and the head where it is not the embedding. To be called after all blocks. Says
    /// what all of it cost on the text that was held out, apart from the rounding of the embedding's looked-up rows.
    ///
    /// An embedding that is the head too is fitted to what the head reads: an error there reaches the predictions
    /// straight away.
    ///
    /// # Errors
    /// As [`Pipeline::block`].
    pub fn ends(&mut self, sink: &mut dyn Sink) -> Result<Option<Cost>> {
        let network = self.network;
        sink.vector("output_norm.weight", network.final_norm())?;
        let embedding = network.embedding()?;
        if network.spec().tied_embeddings {
            return self.head(embedding, self.recipe.embedding, sink);
        }
        self.end(&embedding, self.recipe.embedding, None, None, sink)?;
        drop(embedding);
        self.head(network.head()?, self.recipe.head, sink)
    }

    /// Rounds the matrix that makes logits.
    fn head(&self, layer: FloatLinear, grid: Grid, sink: &mut dyn Sink) -> Result<Option<Cost>> {
        let (network, c) = (self.network, self.compute);
        let mut observations = Observations::new(TokenWeight::Plain);
        if self.recipe.method != Method::Rtn {
            for stream in &self.streams {
                observations.add(c, &layer.name, layer.cols, &network.head_input(c, stream), 0);
            }
        }
        let input = observations.of(&layer.name);
        let factor = input.map(|input| self.rounding().factor(&layer.name, input)).transpose()?.flatten();
        let rounded = self.end(&layer, grid, input, factor.as_ref(), sink)?;
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let rounded = match rounded {
            Some(rounded) => network.rounded_head(rounded.pack(&c.pool)?, layer.bias.clone()),
            None => network.runnable_head(layer.clone())?,
        };
        self.held_out.cost(network, &network.runnable_head(layer)?, &rounded, c)
    }

    fn end(
        &self,
        layer: &FloatLinear,
        grid: Grid,
        input: Option<&Input>,
        factor: Option<&Factor>,
        sink: &mut dyn Sink,
    ) -> Result<Option<Quantized>> {
        let format = self.recipe.grid_of(&layer.name, grid).format();
        if !layer.cols.is_multiple_of(format.block_len()) {
            sink.float(layer)?;
            return Ok(None);
        }
        let Rounded { quantized, .. } = self.rounding().round(layer, format, input, factor)?;
        sink.matrix(&layer.name, &quantized)?;
        Ok(Some(quantized))
    }

    fn rounding(&self) -> LayerRounding<'a> {
        LayerRounding { method: self.recipe.method, c: self.compute }
    }
}
