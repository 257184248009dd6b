//! Where a factor per channel can hide: what makes an input is divided by it, and the layers that read it are
//! multiplied by it, so that the block computes what it did.

use sterna_model::layerwise::{FloatBlock, FloatLinear};
use sterna_model::spec::{BlockSpec, MixerSpec};
use sterna_model::weights::{FeedForwardWeights, MixerWeights};

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
/// Inputs behind a norm of their own (BitNet's sub-norms) are left alone.
pub fn folds(spec: &BlockSpec, block: &FloatBlock) -> Vec<Fold> {
    let mut folds = Vec::new();
    let name = |layer: &FloatLinear| layer.name.clone();
    let (MixerSpec::Attention(attention), MixerWeights::Attention(weights)) = (&spec.mixer, &block.mixer)
    else {
        return folds;
    };
    folds.push(Fold {
        readers: vec![name(&weights.q), name(&weights.k), name(&weights.v)],
        maker: Maker::MixerNorm,
        judge: Judge::Mixer,
    });
    if weights.sub_norm.is_none() {
        folds.push(Fold {
            readers: vec![name(&weights.o)],
            maker: Maker::Values {
                layer: name(&weights.v),
                head_dim: attention.head_dim,
                copies: attention.n_heads / attention.n_kv_heads,
            },
            judge: Judge::Layer,
        });
    }
    let (first, networks) = match &block.feed_forward {
        FeedForwardWeights::None => return folds,
        FeedForwardWeights::Dense(dense) => (Vec::new(), std::slice::from_ref(dense)),
        FeedForwardWeights::Moe(moe) => (vec![name(&moe.router)], moe.experts.as_slice()),
    };
    let readers = networks.iter().flat_map(|network| [name(&network.gate), name(&network.up)]);
    folds.push(Fold {
        readers: first.into_iter().chain(readers).collect(),
        maker: Maker::FeedForwardNorm,
        judge: Judge::FeedForward,
    });
    for network in networks.iter().filter(|network| network.sub_norm.is_none()) {
        let maker = Maker::Rows(name(&network.up));
        folds.push(Fold { readers: vec![name(&network.down)], maker, judge: Judge::Layer });
    }
    folds
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

    /// Divides the maker by `scales` and multiplies the readers by them.
    pub fn apply(&self, block: &mut FloatBlock, scales: &[f32]) {
        match &self.maker {
            Maker::MixerNorm => divide(&mut block.mixer_norm, scales),
            Maker::FeedForwardNorm => {
                if let Some(norm) = &mut block.feed_forward_norm {
                    divide(norm, scales);
                }
            }
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
fn multiply_columns(weight: &mut [f32], scales: &[f32]) {
    for row in weight.chunks_exact_mut(scales.len()) {
        row.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
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
