//! What quantizing costs, on text that was kept from it: each block runs as it was and as it became, each on its own
//! residual stream, and in the end the predictions are compared.

use serde::{Deserialize, Serialize};
use sterna_model::Layerwise;
use sterna_model::layerwise::{LayerwiseScratch, ResidualStream, RunnableBlock, RunnableHead};
use sterna_tensor::Compute;

use crate::error::Result;
use crate::predictions::{Differences, TOKENS};

/// How far the quantized network's predictions are from the original's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Mean divergence, in nats a token.
    pub divergence: f64,
    /// Share of tokens whose likeliest successor is still the same.
    pub same_top: f64,
    /// Tokens of held-out text.
    pub n_tokens: usize,
}

/// The two residual streams of each held-out sequence.
#[derive(Debug, Default)]
pub(crate) struct HeldOut {
    original: Vec<ResidualStream>,
    quantized: Vec<ResidualStream>,
}

impl HeldOut {
    pub(crate) fn new(network: &Layerwise, sequences: &[Vec<u32>]) -> Result<HeldOut> {
        let original: Vec<ResidualStream> =
            sequences.iter().map(|tokens| network.embed(tokens)).collect::<Result<_, _>>()?;
        Ok(HeldOut { quantized: original.clone(), original })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.original.is_empty()
    }

    /// Runs a block as it was.
    pub(crate) fn run_original(&mut self, network: &Layerwise, block: &RunnableBlock, c: &Compute) {
        run(network, block, &mut self.original, c);
    }

    /// Runs a block as it became.
    pub(crate) fn run_quantized(&mut self, network: &Layerwise, block: &RunnableBlock, c: &Compute) {
        run(network, block, &mut self.quantized, c);
    }

    /// Compares the predictions behind all blocks. (The embedding is that of the original on both sides.)
    pub(crate) fn cost(
        &self,
        network: &Layerwise,
        original: &RunnableHead,
        quantized: &RunnableHead,
        c: &Compute,
    ) -> Result<Option<Cost>> {
        let input = |streams: &[ResidualStream]| -> Vec<f32> {
            streams.iter().flat_map(|stream| network.head_input(c, stream)).collect()
        };
        let (vocab_size, width) = (network.spec().vocab_size, TOKENS * network.spec().hidden_size);
        let mut sums = Differences::default();
        for (p, q) in input(&self.original).chunks(width).zip(input(&self.quantized).chunks(width)) {
            let (p, q) = (network.logits(c, original, p), network.logits(c, quantized, q));
            sums.add(&c.pool, vocab_size, &p, &q)?;
        }
        let n = sums.n_tokens as f64;
        let cost = Cost {
            divergence: sums.divergence / n,
            same_top: sums.same_top as f64 / n,
            n_tokens: sums.n_tokens,
        };
        Ok((sums.n_tokens > 0).then_some(cost))
    }
}

fn run(network: &Layerwise, block: &RunnableBlock, streams: &mut [ResidualStream], c: &Compute) {
    let mut scratch = LayerwiseScratch::default();
    for stream in streams {
        network.run(c, block, &mut scratch, stream, |_, _| {});
    }
}
