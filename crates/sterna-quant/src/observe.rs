//! What a block's linear layers read: statistics of every input, taken while calibration text runs through.

use std::collections::BTreeMap;

use sterna_model::layerwise::FloatBlock;
use sterna_tensor::Compute;

use crate::rounding::{Gram, TokenWeight};

/// Statistics of the inputs of one block, by the name of the first layer that reads them.
#[derive(Debug)]
pub struct Observations {
    token_weight: TokenWeight,
    inputs: BTreeMap<String, Input>,
}

/// Statistics of the values that some linear layers read.
#[derive(Debug)]
pub struct Input {
    /// Second moments.
    pub gram: Gram,
    /// Sum of magnitudes per channel, `[cols]`.
    magnitudes: Vec<f64>,
    n_tokens: usize,
    /// Inputs kept as they were, sequence by sequence, `[n, cols]` each.
    pub sample: Vec<Vec<f32>>,
}

impl Observations {
    /// Nothing seen yet.
    pub fn new(token_weight: TokenWeight) -> Observations {
        Observations { token_weight, inputs: BTreeMap::new() }
    }

    /// Takes the input `x` `[n, cols]` of `layer`, and keeps the first `n_kept` tokens of it.
    pub fn add(&mut self, c: &Compute, layer: &str, cols: usize, x: &[f32], n_kept: usize) {
        let token_weight = self.token_weight;
        let input = self.inputs.entry(layer.to_owned()).or_insert_with(|| Input {
            gram: Gram::new(cols, token_weight),
            magnitudes: vec![0.0; cols],
            n_tokens: 0,
            sample: Vec::new(),
        });
        input.gram.add(c, x);
        for row in x.chunks_exact(cols) {
            input.magnitudes.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x.abs()));
        }
        input.n_tokens += x.len() / cols;
        if n_kept > 0 {
            input.sample.push(x[..x.len().min(n_kept.saturating_mul(cols))].to_vec());
        }
    }

    /// What `layer`, the first of those that read the same, was given; none where no token came by.
    pub fn of(&self, layer: &str) -> Option<&Input> {
        self.inputs.get(layer)
    }

    /// What was seen of the inputs of `readers` as it is once their channels were divided by `scales`; experts are observed
    /// under names of their own.
    pub fn divide(&mut self, readers: &[String], scales: &[f32]) {
        for reader in readers {
            if let Some(input) = self.inputs.get_mut(reader) {
                input.divide(scales);
            }
        }
    }
}

impl Input {
    /// Mean magnitude of each channel, `[cols]` (AWQ's `s_X`).
    pub fn mean_magnitudes(&self) -> Vec<f32> {
        let n = self.n_tokens.max(1) as f64;
        self.magnitudes.iter().map(|sum| (sum / n) as f32).collect()
    }

    fn divide(&mut self, scales: &[f32]) {
        self.gram.scaled_by(scales);
        for (sum, scale) in self.magnitudes.iter_mut().zip(scales) {
            *sum /= f64::from(*scale);
        }
        for x in &mut self.sample {
            for row in x.chunks_exact_mut(scales.len()) {
                row.iter_mut().zip(scales).for_each(|(x, scale)| *x /= scale);
            }
        }
    }
}

/// For each linear layer of `block`, in their order, the first layer that reads the same: the name under which its input
/// is observed.
pub(crate) fn observed_names(block: &FloatBlock) -> Vec<String> {
    let names = block.inputs().into_iter();
    names.flat_map(|readers| vec![readers[0].name.clone(); readers.len()]).collect()
}
