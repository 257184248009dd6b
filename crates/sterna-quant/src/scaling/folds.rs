//! Where a factor per channel can hide: what makes an input is divided by it, and the layers that read it are
//! multiplied by it, so that the block computes what it did.

use sterna_model::layerwise::{FloatBlock, FloatLinear};
use sterna_model::spec::{AttentionSpec, BlockSpec, MixerSpec};
use sterna_model::weights::{
    AttentionWeights, FeedForwardWeights, GatedDeltaWeights, Mamba2Weights, MixerWeights, ParallelWeights,
    SharedWeights,
};

/// An input whose channels can be scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// The linear layers that read it; it is observed under the name of the first.
    pub readers: Vec<String>,
    /// What it is made by.
    pub maker: Maker,
    /// What a change of the readers' weights is judged by.
    pub judge: Judge,
}

/// What makes an input, and can make it smaller.
#[derive(Debug, Clone, PartialEq)]
pub enum Maker {
    /// The norm before the mixer.
    MixerNorm,
    /// The norm of what a recurrence gives.
    MixerInnerNorm,
    /// The norm before the feed-forward network.
    FeedForwardNorm,
    /// The rows of a linear layer.
    Rows(String),
    /// The rows of the value projection, each head of which is read by `copies` heads of queries.
    Values {
        /// Name of the projection.
        layer: String,
        /// Width of a head.
        head_dim: usize,
        /// Query heads for each head of values.
        copies: usize,
    },
}

/// The output that should stay as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// That of the mixer.
    Mixer,
    /// That of the feed-forward network.
    FeedForward,
    /// That of the reading layer itself.
    Layer,
}

/// All folds of `block`, in the order in which data flows.
///
/// Inputs behind a norm of their own (BitNet's sub-norms) are left alone, and so are ternary layers.
pub fn folds(spec: &BlockSpec, block: &FloatBlock) -> Vec<Fold> {
    let mut folds = of_mixer(spec, block);
    folds.extend(of_feed_forward(block));
    let ternary: Vec<String> =
        block.linears().into_iter().filter(|layer| layer.is_ternary).map(name).collect();
    folds.retain(|fold| !ternary.iter().any(|layer| fold.changes(layer)));
    folds
}

fn of_feed_forward(block: &FloatBlock) -> Vec<Fold> {
    let (mut readers, behind_norm, networks) = match &block.feed_forward {
        FeedForwardWeights::None => return Vec::new(),
        FeedForwardWeights::Dense(dense) => (Vec::new(), vec![dense], vec![dense]),
        FeedForwardWeights::Moe(moe) => {
            let gates = [&moe.router].into_iter().chain(&moe.shared_gate).chain(&moe.latent_in).map(name);
            let all: Vec<_> = moe.experts.iter().chain(&moe.shared).collect();
            let behind_norm = if moe.latent_in.is_some() { moe.shared.iter().collect() } else { all.clone() };
            (gates.collect(), behind_norm, all)
        }
    };
    readers.extend(behind_norm.iter().flat_map(|network| network.gate.iter().chain([&network.up])).map(name));
    let judge = Judge::FeedForward;
    let mut folds = vec![Fold { readers, maker: Maker::FeedForwardNorm, judge }];
    // Without a gate, what stands between the two is no product, and a factor would not go through it.
    let products = networks.iter().filter(|network| network.gate.is_some() && network.sub_norm.is_none());
    folds.extend(products.map(|network| {
        let maker = Maker::Rows(name(&network.up));
        Fold { readers: vec![name(&network.down)], maker, judge: Judge::Layer }
    }));
    folds
}

fn of_mixer(spec: &BlockSpec, block: &FloatBlock) -> Vec<Fold> {
    let behind_norm = |readers: &[&FloatLinear]| {
        let readers = readers.iter().map(|layer| name(layer)).collect();
        Fold { readers, maker: Maker::MixerNorm, judge: Judge::Mixer }
    };
    match (&spec.mixer, &block.mixer) {
        (MixerSpec::Attention(spec), MixerWeights::Attention(weights)) => {
            let readers: Vec<_> =
                [&weights.q, &weights.k, &weights.v].into_iter().chain(&weights.gate).collect();
            [behind_norm(&readers)].into_iter().chain(of_values(spec, weights)).collect()
        }
        (MixerSpec::Parallel(spec), MixerWeights::Parallel(ParallelWeights { attention, mamba })) => {
            let read_norm =
                [&attention.q, &attention.k, &attention.v, &mamba.in_z, &mamba.in_xbc, &mamba.in_dt];
            let behind_norm = behind_norm(&read_norm);
            let parts = of_values(&spec.attention, attention).into_iter().chain(of_inner_norm(mamba));
            [behind_norm].into_iter().chain(parts).collect()
        }
        (MixerSpec::Mamba1(_), MixerWeights::Mamba1(weights)) => {
            vec![behind_norm(&[&weights.in_x, &weights.in_z])]
        }
        (MixerSpec::GatedDelta(_), MixerWeights::GatedDelta(weights)) => {
            let GatedDeltaWeights { in_q, in_k, in_v, in_z, in_b, in_a, .. } = weights;
            vec![behind_norm(&[in_q, in_k, in_v, in_z, in_b, in_a])]
        }
        (MixerSpec::ShortConv(_), MixerWeights::ShortConv(weights)) => {
            let maker = Maker::Rows(name(&weights.in_c));
            let out = Fold { readers: vec![name(&weights.out)], maker, judge: Judge::Layer };
            vec![behind_norm(&[&weights.in_b, &weights.in_c, &weights.in_v]), out]
        }
        // The transformer is left alone: its norms are read by what other blocks adapt it with.
        (MixerSpec::Shared(_), MixerWeights::Shared(SharedWeights { mamba: weights, .. }))
        | (MixerSpec::Mamba2(_), MixerWeights::Mamba2(weights)) => {
            let behind_norm = behind_norm(&[&weights.in_z, &weights.in_xbc, &weights.in_dt]);
            [behind_norm].into_iter().chain(of_inner_norm(weights)).collect()
        }
        _ => Vec::new(),
    }
}

/// The fold of values into what reads them mixed, unless a norm is between.
fn of_values(spec: &AttentionSpec, weights: &AttentionWeights<FloatLinear, Vec<f32>>) -> Option<Fold> {
    let maker = Maker::Values {
        layer: name(&weights.v),
        head_dim: spec.head_dim,
        copies: spec.n_heads / spec.n_kv_heads,
    };
    let fold = Fold { readers: vec![name(&weights.o)], maker, judge: Judge::Layer };
    weights.sub_norm.is_none().then_some(fold)
}

/// The fold of a recurrence's norm into what reads it, where there is one.
fn of_inner_norm(weights: &Mamba2Weights<FloatLinear, Vec<f32>>) -> Option<Fold> {
    let readers = vec![name(&weights.out)];
    weights.norm.is_some().then_some(Fold { readers, maker: Maker::MixerInnerNorm, judge: Judge::Layer })
}

fn name(layer: &FloatLinear) -> String {
    layer.name.clone()
}

impl Fold {
    /// Makes `scales`, one for each channel, such that the maker can be divided by them: heads that read the same values
    /// get the same scales, the mean of theirs.
    pub fn tie(&self, scales: &mut [f32]) {
        let Maker::Values { head_dim, copies, .. } = self.maker else { return };
        for shared in scales.chunks_exact_mut(head_dim * copies) {
            for dim in 0..head_dim {
                let mean = (0..copies).map(|copy| shared[copy * head_dim + dim]).sum::<f32>() / copies as f32;
                (0..copies).for_each(|copy| shared[copy * head_dim + dim] = mean);
            }
        }
    }

    /// Whether scales would change the weights of the linear layer `layer`.
    fn changes(&self, layer: &String) -> bool {
        let is_maker = match &self.maker {
            Maker::Rows(maker) | Maker::Values { layer: maker, .. } => maker == layer,
            Maker::MixerNorm | Maker::MixerInnerNorm | Maker::FeedForwardNorm => false,
        };
        is_maker || self.readers.contains(layer)
    }

    /// Divides the maker by `scales` and multiplies the readers by them.
    pub fn apply(&self, block: &mut FloatBlock, scales: &[f32]) {
        match &self.maker {
            Maker::MixerNorm => divide_norm(&mut block.mixer_norm, scales),
            Maker::MixerInnerNorm => {
                if let MixerWeights::Mamba2(weights)
                | MixerWeights::Shared(SharedWeights { mamba: weights, .. })
                | MixerWeights::Parallel(ParallelWeights { mamba: weights, .. }) = &mut block.mixer
                {
                    divide_norm(&mut weights.norm, scales);
                }
            }
            Maker::FeedForwardNorm => divide_norm(&mut block.feed_forward_norm, scales),
            Maker::Rows(layer) => divide_rows(block, layer, scales),
            Maker::Values { layer, head_dim, copies } => {
                let of_values: Vec<f32> = scales
                    .chunks_exact(head_dim * copies)
                    .flat_map(|shared| &shared[..*head_dim])
                    .copied()
                    .collect();
                divide_rows(block, layer, &of_values);
            }
        }
        for layer in block.linears_mut().into_iter().filter(|layer| self.readers.contains(&layer.name)) {
            multiply_columns(&mut layer.weight, scales);
        }
    }
}

/// Multiplies each column of `weight` `[rows, cols]` by its scale.
pub(crate) fn multiply_columns(weight: &mut [f32], scales: &[f32]) {
    for row in weight.chunks_exact_mut(scales.len()) {
        row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
    }
}

fn divide_norm(norm: &mut Option<Vec<f32>>, scales: &[f32]) {
    if let Some(norm) = norm {
        divide(norm, scales);
    }
}

fn divide(values: &mut [f32], scales: &[f32]) {
    values.iter_mut().zip(scales).for_each(|(value, scale)| *value /= scale);
}

fn divide_rows(block: &mut FloatBlock, layer: &str, scales: &[f32]) {
    for layer in block.linears_mut().into_iter().filter(|candidate| candidate.name == layer) {
        for (row, scale) in layer.weight.chunks_exact_mut(layer.cols).zip(scales) {
            row.iter_mut().for_each(|weight| *weight /= scale);
        }
        if let Some(bias) = &mut layer.bias {
            divide(bias, scales);
        }
    }
}
