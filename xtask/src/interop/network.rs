//! What Sterna computes, and how far from it others are.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use sterna_formats::{Checkpoint, Tokenizer};
use sterna_model::{KvType, LoadOptions, Logits, Model, State, Workspace, forward, native};
use sterna_tensor::{Compute, Precision};

/// A model as `sterna run` has it.
pub(super) struct Network {
    model: Model,
    tokenizer: Tokenizer,
    compute: Compute,
}

impl Network {
    pub(super) fn load(path: &Path, precision: Precision) -> anyhow::Result<Network> {
        let checkpoint = Checkpoint::open(path)?;
        let compute = Compute::new(2, precision);
        let model = Model::load(&checkpoint, &LoadOptions::default(), &compute)?;
        Ok(Network { model, tokenizer: Tokenizer::from_checkpoint(&checkpoint)?, compute })
    }

    pub(super) fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        Ok(self.tokenizer.encode_with_bos(text)?)
    }

    /// Logits `[ids.len(), vocabulary]`.
    pub(super) fn logits(&self, ids: &[u32]) -> anyhow::Result<Vec<f32>> {
        let (mut state, mut workspace) = (State::new(&self.model, KvType::F16), Workspace::new());
        let logits = forward(&self.model, &self.compute, &mut state, &mut workspace, ids, Logits::All)?;
        Ok(logits.to_vec())
    }

    /// The `n` ids that follow `prompt`, the likeliest one each time.
    pub(super) fn continuation(&self, prompt: &[u32], n: usize) -> anyhow::Result<Vec<u32>> {
        let (mut state, mut workspace) = (State::new(&self.model, KvType::F16), Workspace::new());
        let (mut ids, mut next) = (Vec::new(), prompt.to_vec());
        while ids.len() < n {
            let logits =
                forward(&self.model, &self.compute, &mut state, &mut workspace, &next, Logits::Last)?;
            let likeliest = (0..).zip(logits).max_by(|(_, a), (_, b)| a.total_cmp(b));
            let (id, _) = likeliest.context("a network without logits")?;
            ids.push(id);
            next = vec![id];
        }
        Ok(ids)
    }
}

/// The floats in the file at `path`, which are rows for `n_tokens` tokens.
pub(super) fn read_logits(path: &Path, n_tokens: usize) -> anyhow::Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| format!("no {}", path.display()))?;
    let logits: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    ensure!(!logits.is_empty() && logits.len().is_multiple_of(n_tokens), "{} logits", logits.len());
    Ok(logits)
}

/// Mean Kullback-Leibler divergence of the distributions of `theirs` from those of `ours`, nats a token.
pub(super) fn mean_divergence(ours: &[f32], theirs: &[f32], n_tokens: usize) -> f64 {
    let rows = |logits: &[f32]| logits.len() / n_tokens;
    let pairs = ours.chunks_exact(rows(ours)).zip(theirs.chunks_exact(rows(theirs)));
    pairs.map(|(ours, theirs)| divergence(&log_softmax(ours), &log_softmax(theirs))).sum::<f64>()
        / n_tokens as f64
}

fn divergence(ours: &[f64], theirs: &[f64]) -> f64 {
    ours.iter().zip(theirs).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let centred = || logits.iter().map(|&logit| f64::from(logit - largest));
    let log_sum = centred().map(f64::exp).sum::<f64>().ln();
    centred().map(|logit| logit - log_sum).collect()
}

/// The largest relative error of a tensor of `exported`, read back, against `native`.
pub(super) fn largest_error(native: &Path, exported: &Path) -> anyhow::Result<f64> {
    let exported = native::tensors(&Checkpoint::open(exported)?)?;
    let exported: HashMap<&str, _> = exported.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut largest = 0.0f64;
    for tensor in native::tensors(&Checkpoint::open(native)?)? {
        let read = exported.get(tensor.name.as_str()).with_context(|| format!("no {}", tensor.name))?;
        let (before, after) = (tensor.load()?, read.load()?);
        ensure!(before.len() == after.len(), "{} has {} values", tensor.name, after.len());
        let square = |x: f64| x * x;
        let errors = before.iter().zip(&after).map(|(a, b)| square(f64::from(*a) - f64::from(*b)));
        let error = errors.sum::<f64>();
        if error > 0.0 {
            let squares = before.iter().map(|value| square(f64::from(*value))).sum::<f64>();
            largest = largest.max((error / squares).sqrt());
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_distributions() {
        let (half, quarters) = ([0.0f32, 0.0], [3.0f32.ln(), 0.0]);
        assert_eq!(mean_divergence(&half, &half, 1), 0.0);
        let expected = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
        assert!((mean_divergence(&half, &quarters, 1) - expected).abs() < 1e-7);
    }
}
