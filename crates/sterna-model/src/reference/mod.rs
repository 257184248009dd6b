//! The oracle: the same networks once more, in plain f32 loops written to be read.
//!
//! No kernels, no cache, no threads: every call computes the whole sequence. It reads the [`Spec`] and the tensors
//! that the fast path reads, each weight as the exact f32 that the file means. Shapes are `[rows, cols]`, row after
//! row; `n` is the number of tokens. What happens to a token, from top to bottom:
//!
//! ```text
//! x = embedding[token] · embedding_scale
//! for each block:   x += mixer(norm(x));   x += feed_forward(norm(x))
//! logits = head · norm(x)
//! ```

mod attention;
mod feed_forward;
mod recurrent;
mod shared;

use sterna_formats::{Checkpoint, Tensor};

use crate::arch;
use crate::error::Result;
use crate::rope::Regime;
use crate::spec::{BlockSpec, FeedForwardSpec, MixerSpec, Spec};
use crate::tap::{Site, Tap};
use crate::ternary::TernaryMatrix;
use crate::weights::{
    self, BlockWeights, FeedForwardWeights, Leaves, LinearTensors, MixerWeights, VectorForm, Weights,
};

/// A network with all weights as f32.
pub struct Reference {
    spec: Spec,
    /// `[vocab_size, hidden_size]`.
    embedding: Vec<f32>,
    weights: Weights<Linear, Vec<f32>>,
}

impl Reference {
    /// Reads `checkpoint`; takes four bytes of memory for each of its weights.
    ///
    /// # Errors
    /// Those of [`Spec::of`], and tensors that are missing, of the wrong shape, or hold no weights.
    pub fn load(checkpoint: &Checkpoint) -> Result<Reference> {
        let reading = arch::read(checkpoint)?;
        let embedding = weights::embedding(checkpoint, &reading)?;
        weights::check(checkpoint, &reading)?;
        let weights = weights::assemble(checkpoint, &reading, &Plain)?;
        Ok(Reference { embedding: embedding.to_f32()?, weights, spec: reading.spec })
    }

    /// The network.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Logits `[n, vocab_size]` of every position of `tokens`.
    ///
    /// # Errors
    /// When there is no token, one is outside the vocabulary, or there are more than the context holds.
    pub fn forward(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.forward_tapped(tokens, &mut |_, _: &[f32]| {})
    }

    /// As [`Self::forward`], and shows `tap` the values between the blocks.
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    pub fn forward_tapped(&self, tokens: &[u32], tap: &mut dyn Tap) -> Result<Vec<f32>> {
        let spec = &self.spec;
        crate::forward::check_tokens(spec, tokens, tokens.len())?;
        // The residual stream, [n, hidden_size].
        let mut x: Vec<f32> = Vec::with_capacity(tokens.len() * spec.hidden_size);
        for &token in tokens {
            let row = &self.embedding[token as usize * spec.hidden_size..][..spec.hidden_size];
            x.extend(row.iter().map(|value| value * spec.embedding_scale));
        }
        tap.observe(Site::Embedding, &x);
        let start = x.clone();
        for (i, (block, weights)) in spec.blocks.iter().zip(&self.weights.blocks).enumerate() {
            self.block(block, weights, &start, &mut x);
            tap.observe(Site::Block(i), &x);
        }
        let x = rms_norm(&x, &self.weights.final_norm, spec.norm_eps);
        tap.observe(Site::FinalNorm, &x);
        let mut logits = self.weights.head.apply(&x);
        for logit in &mut logits {
            *logit *= spec.logit_scale;
            if let Some(cap) = spec.logit_softcap {
                *logit = cap * (*logit / cap).tanh();
            }
        }
        Ok(logits)
    }

    /// Adds what one block makes of `x` `[n, hidden_size]` to it; `start` is what `x` was before all blocks.
    fn block(
        &self,
        spec: &BlockSpec,
        weights: &BlockWeights<Linear, Vec<f32>>,
        start: &[f32],
        x: &mut [f32],
    ) {
        let eps = self.spec.norm_eps;
        let regime = self.regime(x.len() / self.spec.hidden_size);
        if let Some(norm) = &weights.mixer_norm {
            let normed = rms_norm(x, norm, eps);
            let mut y = match (&spec.mixer, &weights.mixer) {
                (MixerSpec::Attention(spec), MixerWeights::Attention(weights)) => {
                    attention::attention(spec, weights, &normed, eps, regime)
                }
                (MixerSpec::Mamba1(spec), MixerWeights::Mamba1(weights)) => {
                    recurrent::mamba1(spec, weights, &normed, eps)
                }
                (MixerSpec::ShortConv(spec), MixerWeights::ShortConv(weights)) => {
                    recurrent::short_conv(spec, weights, &normed)
                }
                (MixerSpec::Mamba2(spec), MixerWeights::Mamba2(weights)) => {
                    recurrent::mamba2(spec, weights, &normed, eps)
                }
                (MixerSpec::GatedDelta(spec), MixerWeights::GatedDelta(weights)) => {
                    recurrent::gated_delta(spec, weights, &normed, eps)
                }
                (MixerSpec::Shared(spec), MixerWeights::Shared(weights)) => {
                    let MixerWeights::Shared(owner) = &self.weights.blocks[spec.owner].mixer else { return };
                    let Some(transformer) = &owner.transformer else { return };
                    let mut read = shared::transformer(spec, transformer, weights, (x, start), eps, regime);
                    add(&mut read, x, 1.0);
                    recurrent::mamba2(&spec.mamba, &weights.mamba, &rms_norm(&read, norm, eps), eps)
                }
                (MixerSpec::Parallel(spec), MixerWeights::Parallel(weights)) => {
                    let scaled = |factor: f32| normed.iter().map(|x| x * factor).collect::<Vec<f32>>();
                    let (x, w) = (scaled(spec.attention_in), &weights.attention);
                    let of_attention = attention::attention(&spec.attention, w, &x, eps, regime);
                    let (x, w) = (scaled(spec.mamba_in), &weights.mamba);
                    let of_mamba = recurrent::mamba2(&spec.mamba, w, &x, eps);
                    let pairs = of_attention.iter().zip(&of_mamba);
                    pairs.map(|(a, m)| a * spec.attention_out + m * spec.mamba_out).collect()
                }
                _ => return,
            };
            if let Some(norm) = &weights.mixer_post_norm {
                y = rms_norm(&y, norm, eps);
            }
            add(x, &y, spec.residual_scale);
        }

        let Some(norm) = &weights.feed_forward_norm else { return };
        let normed = rms_norm(x, norm, eps);
        let mut y = match (&spec.feed_forward, &weights.feed_forward) {
            (FeedForwardSpec::Dense(spec), FeedForwardWeights::Dense(weights)) => {
                feed_forward::dense(spec, weights, &normed, eps)
            }
            (FeedForwardSpec::Moe(spec), FeedForwardWeights::Moe(weights)) => {
                feed_forward::moe(spec, weights, &normed, eps)
            }
            _ => return,
        };
        if let Some(norm) = &weights.feed_forward_post_norm {
            y = rms_norm(&y, norm, eps);
        }
        add(x, &y, spec.residual_scale);
    }

    /// The rotary frequencies for a sequence of `n` tokens.
    fn regime(&self, n: usize) -> Regime {
        self.spec.regime(n)
    }
}

/// A linear layer: `y = x · wᵀ · scale + bias`.
#[derive(Clone)]
struct Linear {
    /// `[rows, cols]`.
    weight: Vec<f32>,
    cols: usize,
    /// `[rows]`.
    bias: Option<Vec<f32>>,
    scale: f32,
    /// Inputs are rounded to 8 bits per token (BitNet).
    rounds_input: bool,
}

impl Linear {
    /// `[n, cols]` → `[n, rows]`.
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut y = Vec::new();
        for token in x.chunks_exact(self.cols) {
            let token = if self.rounds_input { rounded_to_8_bits(token) } else { token.to_vec() };
            for (r, row) in self.weight.chunks_exact(self.cols).enumerate() {
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[r]);
                y.push(dot(&token, row) * self.scale + bias);
            }
        }
        y
    }
}

/// The values nearest to `x` that 8-bit codes with one scale for all can say.
fn rounded_to_8_bits(x: &[f32]) -> Vec<f32> {
    let largest = x.iter().fold(1e-5, |largest: f32, value| largest.max(value.abs()));
    let per_unit = 127.0 / largest;
    x.iter().map(|value| (value * per_unit).round_ties_even().clamp(-128.0, 127.0) / per_unit).collect()
}

/// Every row of `x` `[n, len]` divided by its root mean square, times `weight` `[len]`.
fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let mean_square = dot(row, row) / row.len() as f32;
        let scale = 1.0 / (mean_square + eps).sqrt();
        out.extend(row.iter().zip(weight).map(|(value, weight)| value * scale * weight));
    }
    out
}

/// Sums in f64, so that the oracle's own rounding is never what two passes differ by.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

fn add(x: &mut [f32], y: &[f32], scale: f32) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y * scale;
    }
}

/// Makes plain f32 of tensors.
struct Plain;

impl Leaves for Plain {
    type Linear = Linear;
    type Vector = Vec<f32>;

    fn linear(&self, tensors: LinearTensors) -> Result<Linear> {
        let (rows, cols, order) = (tensors.rows, tensors.cols, tensors.order);
        let mut scale = 1.0;
        let weight = match tensors.ternary {
            Some(storage) => {
                let matrix = TernaryMatrix::read(&tensors, storage)?;
                scale = matrix.scale;
                matrix.codes.iter().map(|code| f32::from(*code) - 1.0).collect()
            }
            None => {
                if let Some(tensor) = &tensors.scale {
                    scale = weights::single(tensor)?;
                }
                let stored = tensors.weight.to_f32()?;
                (0..rows).flat_map(|row| &stored[order.stored_row(row) * cols..][..cols]).copied().collect()
            }
        };
        let bias = tensors.bias.map(|bias| weights::finite(&bias)).transpose()?;
        let bias = bias.map(|bias| (0..rows).map(|row| bias[order.stored_row(row)]).collect());
        Ok(Linear { weight, cols, bias, scale, rounds_input: tensors.rounds_per_token })
    }

    fn vector(&self, tensor: &Tensor, form: VectorForm) -> Result<Vec<f32>> {
        form.read(tensor)
    }
}
