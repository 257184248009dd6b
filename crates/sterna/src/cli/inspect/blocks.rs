//! What kinds of blocks a network has, in words.

use std::fmt;

use serde::Serialize;
use sterna::Spec;
use sterna::spec::{AttentionSpec, FeedForwardSpec, Mamba2Spec, MixerSpec};

/// Equal blocks.
#[derive(Debug, Serialize)]
pub(super) struct Blocks {
    count: usize,
    mixer: String,
    feed_forward: String,
}

impl Blocks {
    /// Those of a network, counted together wherever they are.
    pub(super) fn of(spec: &Spec) -> Vec<Blocks> {
        let mut kinds: Vec<Blocks> = Vec::new();
        for block in &spec.blocks {
            let (mixer, feed_forward) = (mixer(&block.mixer), feed_forward(&block.feed_forward));
            match kinds.iter_mut().find(|kind| kind.mixer == mixer && kind.feed_forward == feed_forward) {
                Some(kind) => kind.count += 1,
                None => kinds.push(Blocks { count: 1, mixer, feed_forward }),
            }
        }
        kinds
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x ({}; {})", self.count, self.mixer, self.feed_forward)
    }
}

fn mixer(mixer: &MixerSpec) -> String {
    match mixer {
        MixerSpec::None => "no mixer".to_owned(),
        MixerSpec::Attention(spec) => attention(spec),
        MixerSpec::Mamba1(spec) => {
            format!("mamba, {} channels with {} states", spec.inner_size, spec.state_size)
        }
        MixerSpec::Mamba2(spec) => mamba2(spec),
        MixerSpec::ShortConv(spec) => format!("convolution over {} tokens", spec.conv_kernel),
        MixerSpec::GatedDelta(spec) => {
            let (n_heads, key_dim) = (spec.n_value_heads, spec.key_dim);
            format!("gated delta rule, {n_heads} heads of {} over keys of {key_dim}", spec.value_dim)
        }
        MixerSpec::Parallel(spec) => format!("{} beside {}", attention(&spec.attention), mamba2(&spec.mamba)),
        MixerSpec::Shared(spec) => {
            let (owner, recurrence) = (spec.owner, mamba2(&spec.mamba));
            format!("{} (weights of block {owner}), then {recurrence}", attention(&spec.attention))
        }
        other => format!("{other:?}"),
    }
}

fn attention(spec: &AttentionSpec) -> String {
    let window = spec.window.map_or(String::new(), |window| format!(", window {window}"));
    format!("attention, {} heads over {} of {}{window}", spec.n_heads, spec.n_kv_heads, spec.head_dim)
}

fn mamba2(spec: &Mamba2Spec) -> String {
    format!("mamba-2, {} heads of {} with {} states", spec.n_heads, spec.head_dim, spec.state_size)
}

fn feed_forward(feed_forward: &FeedForwardSpec) -> String {
    match feed_forward {
        FeedForwardSpec::None => "no feed-forward".to_owned(),
        FeedForwardSpec::Dense(dense) => format!("feed-forward {}", dense.intermediate_size),
        FeedForwardSpec::Moe(moe) => {
            format!("{} of {} experts of {}", moe.n_active, moe.n_experts, moe.expert.intermediate_size)
        }
        other => format!("{other:?}"),
    }
}
