//! What formats would cost, by trying: each block is rounded for itself while the rest of the network stays as it is.

use std::collections::BTreeMap;

use sterna_model::Layerwise;
use sterna_model::layerwise::{FloatBlock, FloatLinear, LayerwiseScratch, ResidualStream, RunnableBlock};
use sterna_tensor::{Compute, PackedFormat};

use super::curve::Rows;
use super::{Choice, Unit};
use crate::error::{QuantError, Result};
use crate::observe::observed_names;
use crate::predictions::{self, Differences};
use crate::recipe::{Grid, is_rounded};
use crate::rounding::{Quantized, Search, round_to_nearest};

/// Sequences that are looked at, and tokens of each.
const SEQUENCES: usize = 4;
const TOKENS: usize = 128;
/// Experts of a block whose weights are looked at; they stand for the others.
const EXPERTS: usize = 4;

/// The residual stream of each sequence.
type Streams = Vec<ResidualStream>;

/// What trials round to; other formats' costs follow from the errors of the weights.
const REFERENCE: PackedFormat = PackedFormat::affine(4, 128).unwrap();

/// A network whose matrices are being tried, block after block.
pub struct Measurement<'a> {
    network: &'a Layerwise,
    grids: &'a [Grid],
    c: &'a Compute,
    streams: Streams,
    trials: Vec<Trial>,
    parts: Vec<Part>,
    scratch: LayerwiseScratch,
}

/// The streams behind something that was rounded, on their way through the rest of the network.
struct Trial {
    streams: Streams,
    /// Mean square of what it did to the stream there, relative to the stream.
    change: f64,
}

/// A unit of which is known what it does to the stream behind it.
struct Part {
    pattern: String,
    /// Rows, columns, and how many matrices there are of them.
    shape: (usize, usize, u64),
    /// The trial that says what a change there does to predictions.
    trial: usize,
    /// The same as [`Trial::change`], with only this unit rounded to the reference.
    change: f64,
    /// Squared error in each grid over that in the reference.
    curve: Vec<f64>,
}

impl<'a> Measurement<'a> {
    /// Begins with the embedding. Looks at some of `sequences` and tries `grids`.
    ///
    /// # Errors
    /// No text, tokens that the model does not know, weights that cannot be rounded.
    pub fn new(
        network: &'a Layerwise,
        grids: &'a [Grid],
        sequences: &[Vec<u32>],
        c: &'a Compute,
    ) -> Result<Measurement<'a>> {
        if sequences.iter().all(Vec::is_empty) {
            return Err(QuantError::TooLittleText { expected: 1, found: 0 });
        }
        let tokens = sample(sequences);
        let streams = tokens.iter().map(|tokens| network.embed(tokens)).collect::<Result<_, _>>()?;
        let (trials, parts) = (Vec::new(), Vec::new());
        let mut measurement =
            Measurement { network, grids, c, streams, trials, parts, scratch: LayerwiseScratch::default() };
        measurement.embedding()?;
        Ok(measurement)
    }

    /// The rows that the text looks up, rounded.
    fn embedding(&mut self) -> Result<()> {
        let network = self.network;
        let (rows, cols) = (network.spec().vocab_size, network.spec().hidden_size);
        let weight: Vec<f32> = self.streams.iter().flat_map(|stream| &stream.x).copied().collect();
        let looked_up = FloatLinear {
            name: "token_embd.weight".to_owned(),
            rows: weight.len() / cols,
            cols,
            weight,
            bias: None,
            is_ternary: false,
        };
        if !cols.is_multiple_of(REFERENCE.block_len()) {
            return Ok(());
        }
        let rounded = self.rounded(&looked_up)?;
        let mut rest = rounded.as_slice();
        let x =
            self.streams.iter().map(|stream| rest.split_off(..stream.x.len()).unwrap_or_default().to_vec());
        let streams: Streams = x.map(|x| network.stream(x)).collect();
        let change = relative_change(&self.streams, &streams, cols);
        let curve = Rows::of(&looked_up).curve(self.grids, REFERENCE, None, &self.c.pool)?;
        let pattern = looked_up.name;
        self.parts.push(Part { pattern, shape: (rows, cols, 1), trial: self.trials.len(), change, curve });
        self.trials.push(Trial { streams, change });
        Ok(())
    }

    /// Tries the matrices of block `index`; blocks come in order, each once.
    ///
    /// # Errors
    /// Weights that cannot be read or rounded.
    pub fn block(&mut self, index: usize) -> Result<()> {
        let (network, c) = (self.network, self.c);
        let block = network.block(index)?;
        let mut runnable = network.runnable(index, &block)?;
        let readers = observed_names(&block);
        let mut importance: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for (layer, observed) in block.linears().into_iter().zip(&readers) {
            importance.entry(observed).or_insert_with(|| vec![0.0; layer.cols]);
        }
        let mut after = self.streams.clone();
        for stream in &mut after {
            network.run(c, &runnable, &mut self.scratch, stream, |layer, input| {
                if let Some(sums) = importance.get_mut(layer) {
                    add_squares(sums, input);
                }
            });
        }
        let units = units(&block);
        let importance_of = |layer: &FloatLinear| {
            let at = block.linears().iter().position(|other| other.name == layer.name)?;
            importance.get(readers[at].as_str()).map(Vec::as_slice)
        };
        for (pattern, layers) in &units {
            for layer in layers {
                runnable.replace(&layer.name, self.rounded(layer)?)?;
            }
            let change = self.change(&runnable, &after);
            for layer in layers {
                runnable.replace(&layer.name, layer.weight.clone())?;
            }
            let mut curve = vec![0.0; self.grids.len()];
            let seen = layers.len().min(EXPERTS);
            for layer in &layers[..seen] {
                let own = Rows::of(layer).curve(self.grids, REFERENCE, importance_of(layer), &c.pool)?;
                curve.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / seen as f64);
            }
            let shape = (layers[0].rows, layers[0].cols, layers.len() as u64);
            let trial = self.trials.len();
            self.parts.push(Part { pattern: pattern.clone(), shape, trial, change, curve });
        }
        for layer in units.values().flatten() {
            runnable.replace(&layer.name, self.rounded(layer)?)?;
        }
        let rounded = self.run(&runnable, self.streams.clone());
        let change = relative_change(&after, &rounded, network.spec().hidden_size);
        let runnable = network.runnable(index, &block)?;
        for trial in 0..self.trials.len() {
            let streams = std::mem::take(&mut self.trials[trial].streams);
            self.trials[trial].streams = self.run(&runnable, streams);
        }
        self.trials.push(Trial { streams: rounded, change });
        self.streams = after;
        Ok(())
    }

    /// Tries the head, compares the predictions behind all trials with the true ones, and says what everything costs.
    /// To be called after all blocks.
    ///
    /// # Errors
    /// As [`Measurement::block`]; predictions that are not finite.
    pub fn finish(mut self) -> Result<Vec<Unit>> {
        let (network, c) = (self.network, self.c);
        let head = network.head()?;
        let inputs: Vec<f32> = self.streams.iter().flat_map(|stream| network.head_input(c, stream)).collect();
        let (rows, cols) = (head.rows, head.cols);
        let mut importance = vec![0.0; cols];
        add_squares(&mut importance, &inputs);
        let can_be_rounded = cols.is_multiple_of(REFERENCE.block_len());
        let mut head_curve = Vec::new();
        let mut rounded_head = None;
        if can_be_rounded {
            head_curve = Rows::of(&head).curve(self.grids, REFERENCE, Some(&importance), &c.pool)?;
            let packed = self.to_reference(&head)?.pack(&c.pool)?;
            rounded_head = Some(network.rounded_head(packed, head.bias.clone()));
        }
        let head = network.runnable_head(head)?;
        let trials: Vec<Vec<f32>> = self
            .trials
            .iter_mut()
            .map(|trial| trial.streams.drain(..).flat_map(|stream| network.head_input(c, &stream)).collect())
            .collect();
        let n_tokens = inputs.len() / cols;
        let mut costs = vec![0.0; trials.len()];
        let mut head_cost = 0.0;
        for (i, input) in inputs.chunks(predictions::TOKENS * cols).enumerate() {
            let logits = network.logits(c, &head, input);
            let divergence = |other: &[f32]| -> Result<f64> {
                let mut differences = Differences::default();
                differences.add(&c.pool, network.spec().vocab_size, &logits, other)?;
                Ok(differences.divergence / n_tokens as f64)
            };
            for (cost, trial) in costs.iter_mut().zip(&trials) {
                let trial = &trial[i * predictions::TOKENS * cols..][..input.len()];
                *cost += divergence(&network.logits(c, &head, trial))?;
            }
            if let Some(rounded) = &rounded_head {
                head_cost += divergence(&network.logits(c, rounded, input))?;
            }
        }
        let mut units: Vec<Unit> = self.parts.iter().map(|part| self.unit(part, &costs)).collect();
        if can_be_rounded {
            let tied = network.spec().tied_embeddings;
            let head_costs = head_curve.iter().map(|error| head_cost * error);
            match units.iter_mut().find(|unit| tied && unit.pattern == "token_embd.weight") {
                Some(embedding) => {
                    embedding
                        .choices
                        .iter_mut()
                        .zip(head_costs)
                        .for_each(|(choice, cost)| choice.cost += cost);
                }
                None => {
                    let choices = self.choices((rows, cols, 1), head_costs);
                    units.push(Unit { pattern: "output.weight".to_owned(), choices });
                }
            }
        }
        Ok(units)
    }

    fn unit(&self, part: &Part, costs: &[f64]) -> Unit {
        let whole = self.trials[part.trial].change;
        let per_change = if whole > 0.0 { costs[part.trial] / whole } else { 0.0 };
        let costs = part.curve.iter().map(|error| per_change * part.change * error);
        Unit { pattern: part.pattern.clone(), choices: self.choices(part.shape, costs) }
    }

    fn choices(&self, shape: (usize, usize, u64), costs: impl Iterator<Item = f64>) -> Vec<Choice> {
        let (rows, cols, n_layers) = shape;
        let choice = |(&grid, cost): (&Grid, f64)| {
            let n_bytes = grid.format().n_bytes(rows, cols)? as u64 * n_layers;
            Some(Choice { grid, n_bytes, cost })
        };
        self.grids.iter().zip(costs).filter_map(choice).collect()
    }

    fn rounded(&self, layer: &FloatLinear) -> Result<Vec<f32>> {
        Ok(self.to_reference(layer)?.dequantize(&self.c.pool))
    }

    fn to_reference(&self, layer: &FloatLinear) -> Result<Quantized> {
        let FloatLinear { name, rows, cols, weight, .. } = layer;
        let (format, pool) = (REFERENCE, &self.c.pool);
        let rounded = round_to_nearest(weight, *rows, *cols, format, None, Search::MinMax, pool);
        rounded.map_err(|source| QuantError::Rounding { layer: name.clone(), source })
    }

    fn run(&mut self, block: &RunnableBlock, mut streams: Streams) -> Streams {
        for stream in &mut streams {
            self.network.run(self.c, block, &mut self.scratch, stream, |_, _| {});
        }
        streams
    }

    fn change(&mut self, block: &RunnableBlock, wanted: &Streams) -> f64 {
        let streams = self.run(block, self.streams.clone());
        relative_change(wanted, &streams, self.network.spec().hidden_size)
    }
}

/// Some of `sequences`, evenly spread, and the beginning of each.
fn sample(sequences: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let n = sequences.len().min(SEQUENCES);
    let of = |i: usize| &sequences[i * sequences.len() / n];
    (0..n).map(|i| of(i)[..of(i).len().min(TOKENS)].to_vec()).collect()
}

/// The matrices of `block` that can be rounded, by pattern.
fn units(block: &FloatBlock) -> BTreeMap<String, Vec<&FloatLinear>> {
    let mut units: BTreeMap<String, Vec<&FloatLinear>> = BTreeMap::new();
    let block_len = REFERENCE.block_len();
    for layer in block.linears() {
        if is_rounded(layer) && layer.cols.is_multiple_of(block_len) {
            units.entry(pattern(&layer.name)).or_default().push(layer);
        }
    }
    units
}

/// The [`Unit`] of the matrix `name`: a star for the number of an expert, as in `blk.3.ffn_up_exps.*.weight`.
pub fn pattern(name: &str) -> String {
    let is_number = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    let parts = name.split('.').enumerate();
    let parts = parts.map(|(i, part)| if i > 1 && is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Adds the squares of the inputs `x` `[n, sums.len()]` to `sums`.
fn add_squares(sums: &mut [f32], x: &[f32]) {
    for x in x.chunks_exact(sums.len()) {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * x);
    }
}

/// Mean over tokens of `|changed - x|² / |x|²`.
fn relative_change(streams: &Streams, changed: &Streams, hidden_size: usize) -> f64 {
    let square = |row: &mut dyn Iterator<Item = f32>| row.map(|x| f64::from(x) * f64::from(x)).sum::<f64>();
    let (mut sum, mut n_tokens) = (0.0, 0);
    for (stream, changed) in streams.iter().zip(changed) {
        for (x, changed) in stream.x.chunks_exact(hidden_size).zip(changed.x.chunks_exact(hidden_size)) {
            let difference = square(&mut x.iter().zip(changed).map(|(x, changed)| changed - x));
            sum += difference / square(&mut x.iter().copied()).max(f64::MIN_POSITIVE);
            n_tokens += 1;
        }
    }
    sum / n_tokens.max(1) as f64
}
