//! A [`Spec`] as the metadata of a GGUF file: the reverse of reading those, under the names that llama.cpp's converters
//! write.

use sterna_formats::gguf::{Entries, ToValue};

use super::fields::{Key, keys};
use super::parts::ROTATES;
use super::recurrent::{
    BAMBA, BARE_NORMS, INNER_SIZE, INTERVAL, MAMBA1, RECURRENT_BLOCKS, SHORT_CONV_KERNEL,
};
use super::{FactorsInGguf, GgufForm};
use super::{experts, rope, scales};
use crate::rope::{Regime, RopeScaling, RopeSpec, yarn_mscale};
use crate::spec::{
    AttentionSpec, BlockSpec, FeedForwardSpec, GatedDeltaSpec, InnerNorms, Mamba1Spec, Mamba2Spec, MixerSpec,
    MoeSpec, Routing, Spec,
};

/// Blocks between those without a window, in Gemma 3 and where files do not say.
const USUAL_PATTERN: usize = 6;

/// A tensor of divisors of rotary frequencies, one for each pair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Divisors {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f32>,
}

/// Appends the hyper-parameters of `spec` to `entries`; what of them is said by tensors.
pub(crate) fn hyper_parameters(
    spec: &Spec,
    architecture: &'static str,
    form: &GgufForm,
    entries: &mut Entries,
) -> Vec<Divisors> {
    let mut writer = Writer { architecture, entries };
    writer.number(keys::VOCAB_SIZE, spec.vocab_size);
    writer.number(keys::CONTEXT_LENGTH, spec.context_length);
    writer.number(keys::HIDDEN_SIZE, spec.hidden_size);
    writer.number(keys::N_LAYERS, spec.blocks.len());
    writer.float(keys::NORM_EPS, spec.norm_eps);
    if let Some(cap) = spec.logit_softcap {
        writer.float(keys::LOGIT_SOFTCAP, cap);
    }
    writer.feed_forward(spec);
    writer.recurrence(spec);
    writer.attention(spec, form);
    if form.factors == FactorsInGguf::Said {
        writer.factors(spec);
    }
    let attention: Vec<&AttentionSpec> =
        spec.blocks.iter().filter_map(|block| block.mixer.attention()).collect();
    writer.rotation(&attention)
}

struct Writer<'a> {
    architecture: &'static str,
    entries: &'a mut Entries,
}

impl Writer<'_> {
    fn value<T: ToValue + ?Sized>(&mut self, key: Key, value: &T) {
        self.entries.push(&format!("{}.{}", self.architecture, key.gguf), value);
    }

    fn number(&mut self, key: Key, number: usize) {
        self.value(key, &(number as u32));
    }

    fn float(&mut self, key: Key, float: f32) {
        self.value(key, &float);
    }

    /// One number where all blocks have the same, else one for each.
    fn number_of_blocks(&mut self, key: Key, numbers: &[usize]) {
        match numbers {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|other| other == first) => self.number(key, *first),
            _ => {
                let numbers: Vec<u32> = numbers.iter().map(|&number| number as u32).collect();
                self.value(key, numbers.as_slice());
            }
        }
    }

    fn feed_forward(&mut self, spec: &Spec) {
        let width = |block: &BlockSpec| match &block.feed_forward {
            FeedForwardSpec::None => 0,
            FeedForwardSpec::Dense(dense) => dense.intermediate_size,
            FeedForwardSpec::Moe(moe) => moe.expert.intermediate_size,
        };
        let widths: Vec<usize> = spec.blocks.iter().map(width).collect();
        self.number_of_blocks(keys::INTERMEDIATE_SIZE, &widths);
        let moe = spec.blocks.iter().find_map(|block| match &block.feed_forward {
            FeedForwardSpec::Moe(moe) => Some(moe),
            FeedForwardSpec::None | FeedForwardSpec::Dense(_) => None,
        });
        if let Some(moe) = moe {
            self.experts(moe);
            self.dense_blocks(spec);
        }
    }

    fn experts(&mut self, moe: &MoeSpec) {
        const N_SHARED: Key = Key { hf: "", gguf: "expert_shared_count" };
        const GATING: Key = Key { hf: "", gguf: "expert_gating_func" };
        const SIGMOID: usize = 2;
        let MoeSpec { n_experts, n_active, expert, shared, routing, latent, .. } = moe;
        self.number(keys::N_EXPERTS, *n_experts);
        self.number(keys::N_ACTIVE_EXPERTS, *n_active);
        self.number(keys::MOE_INTERMEDIATE_SIZE, expert.intermediate_size);
        if let Some(shared) = shared {
            self.number(keys::SHARED_INTERMEDIATE_SIZE, shared.intermediate_size);
            self.number(N_SHARED, 1);
        }
        if let Some(latent) = latent {
            self.number(experts::LATENT, latent.size);
        }
        if let &Routing::Sigmoid { n_groups, n_active_groups, renormalize, scale, .. } = routing {
            self.number(GATING, SIGMOID);
            self.value(experts::RENORMALIZE, &renormalize);
            self.float(experts::SCALE, scale);
            self.number(experts::N_GROUPS, n_groups);
            if n_groups > 1 {
                self.number(experts::N_ACTIVE_GROUPS, n_active_groups);
            }
        }
    }

    /// How many blocks there are before the first with experts, where all before it are dense and none after it is.
    fn dense_blocks(&mut self, spec: &Spec) {
        let is_dense = |block: &BlockSpec| matches!(block.feed_forward, FeedForwardSpec::Dense(_));
        let n_dense = spec.blocks.iter().take_while(|block| is_dense(block)).count();
        if n_dense > 0 && !spec.blocks[n_dense..].iter().any(is_dense) {
            self.number(experts::N_DENSE, n_dense);
        }
    }

    fn recurrence(&mut self, spec: &Spec) {
        // Nemotron-H is asked for the epsilon by this name too.
        const NORM_EPS: Key = Key { hf: "", gguf: "attention.layer_norm_epsilon" };
        let recurrent = spec.blocks.iter().map(|block| &block.mixer).find(|mixer| mixer.state_len() > 0);
        let Some(recurrent) = recurrent else { return };
        self.float(NORM_EPS, spec.norm_eps);
        match recurrent {
            MixerSpec::Mamba1(mamba) => self.mamba1(mamba),
            MixerSpec::Mamba2(mamba) => self.mamba2(mamba),
            MixerSpec::Parallel(parallel) => self.mamba2(&parallel.mamba),
            MixerSpec::Shared(shared) => self.mamba2(&shared.mamba),
            MixerSpec::ShortConv(conv) => self.number(SHORT_CONV_KERNEL, conv.conv_kernel),
            MixerSpec::GatedDelta(delta) => self.gated_delta(delta, spec),
            MixerSpec::None | MixerSpec::Attention(_) => {}
        }
    }

    fn mamba1(&mut self, spec: &Mamba1Spec) {
        self.number(MAMBA1.conv_kernel, spec.conv_kernel);
        self.number(INNER_SIZE, spec.inner_size);
        self.number(MAMBA1.state_size, spec.state_size);
        self.number(MAMBA1.dt_rank, spec.dt_rank);
        if let InnerNorms::Bare { .. } = spec.inner_norms {
            self.value(BARE_NORMS, &true);
        }
    }

    fn mamba2(&mut self, spec: &Mamba2Spec) {
        self.number(BAMBA.conv_kernel, spec.conv_kernel);
        self.number(INNER_SIZE, spec.inner_size());
        self.number(BAMBA.state_size, spec.state_size);
        self.number(BAMBA.n_heads, spec.n_heads);
        self.number(BAMBA.n_groups, spec.n_groups);
    }

    fn gated_delta(&mut self, delta: &GatedDeltaSpec, spec: &Spec) {
        self.number(BAMBA.conv_kernel, delta.conv_kernel);
        self.number(INNER_SIZE, delta.values_size());
        self.number(BAMBA.state_size, delta.key_dim);
        self.number(BAMBA.n_heads, delta.n_value_heads);
        self.number(BAMBA.n_groups, delta.n_key_heads);
        let is_recurrent = |block: &BlockSpec| block.mixer.attention().is_none();
        let recurrent: Vec<bool> = spec.blocks.iter().map(is_recurrent).collect();
        self.value(RECURRENT_BLOCKS, recurrent.as_slice());
        // What older readers have in place of the list.
        if let Some(first) = recurrent.iter().position(|is_recurrent| !is_recurrent) {
            self.number(INTERVAL, first + 1);
        }
    }

    /// The constant factors of Granite, and whether its blocks rotate.
    fn factors(&mut self, spec: &Spec) {
        self.float(scales::EMBEDDING, spec.embedding_scale);
        self.float(scales::LOGITS, scales::reciprocal(spec.logit_scale));
        if let Some(block) = spec.blocks.first() {
            self.float(scales::RESIDUAL, block.residual_scale);
        }
        if let Some(attention) = spec.blocks.iter().find_map(|block| block.mixer.attention()) {
            self.float(scales::ATTENTION, attention.scale);
            self.value(ROTATES, &attention.rope.is_some());
        }
    }

    fn attention(&mut self, spec: &Spec, form: &GgufForm) {
        let blocks: Vec<&AttentionSpec> =
            spec.blocks.iter().filter_map(|block| block.mixer.attention()).collect();
        let usual = blocks.first().map_or((0, 0), |block| (block.n_heads, block.n_kv_heads));
        let heads = |block: &BlockSpec| match &block.mixer {
            // Listed by itself.
            MixerSpec::GatedDelta(_) => usual,
            // Having no heads of keys is how recurrent blocks are known.
            mixer => mixer.attention().map_or((usual.0, 0), |it| (it.n_heads, it.n_kv_heads)),
        };
        let (n_heads, n_kv_heads): (Vec<usize>, Vec<usize>) = spec.blocks.iter().map(heads).unzip();
        self.number_of_blocks(keys::N_HEADS, &n_heads);
        self.number_of_blocks(keys::N_KV_HEADS, &n_kv_heads);
        if let Some(first) = blocks.first() {
            self.number(keys::HEAD_DIM, first.head_dim);
            self.number(keys::VALUE_HEAD_DIM, first.head_dim);
        }
        match blocks.iter().find_map(|block| block.window) {
            Some(window) => self.number(keys::SLIDING_WINDOW, window),
            None if form.is_phi3 => self.number(keys::SLIDING_WINDOW, 0),
            None => {}
        }
        let first_full = blocks.iter().position(|block| block.window.is_none());
        if let Some(first_full) = first_full.filter(|&first| first > 0 && first + 1 != USUAL_PATTERN) {
            self.number(keys::SLIDING_WINDOW_PATTERN, first_full + 1);
        }
    }

    /// The rotation of blocks that see everything, or of all blocks; and the base of those that see a window, where there
    /// are both.
    fn rotation(&mut self, blocks: &[&AttentionSpec]) -> Vec<Divisors> {
        let of_kind = |is_windowed: bool| {
            let mut blocks = blocks.iter().filter(|block| block.window.is_some() == is_windowed);
            blocks.find_map(|block| block.rope.as_ref())
        };
        let Some(main) = of_kind(false).or(of_kind(true)) else { return Vec::new() };
        self.number(rope::N_DIMS, main.n_dims);
        self.float(rope::THETA, main.theta as f32);
        if let (Some(_), Some(local)) = (of_kind(false), of_kind(true)) {
            self.float(rope::LOCAL_THETA, local.theta as f32);
        }
        self.scaling(main)
    }

    fn scaling(&mut self, main: &RopeSpec) -> Vec<Divisors> {
        match &main.scaling {
            RopeScaling::None => Vec::new(),
            RopeScaling::Linear { factor } => {
                self.value(rope::SCALING_TYPE, "linear");
                self.float(rope::FACTOR, *factor as f32);
                Vec::new()
            }
            RopeScaling::Yarn { factor, original_context, attention_factor, .. } => {
                self.value(rope::SCALING_TYPE, "yarn");
                self.float(rope::FACTOR, *factor as f32);
                self.number(rope::ORIGINAL_CONTEXT, *original_context as usize);
                let beyond_usual = attention_factor / yarn_mscale(*factor, 1.0);
                if (beyond_usual - 1.0).abs() > 1e-6 {
                    self.float(rope::ATTENTION_FACTOR, beyond_usual as f32);
                }
                Vec::new()
            }
            RopeScaling::LongRope { short, long, original_context, attention_factor } => {
                self.number(rope::ORIGINAL_CONTEXT, *original_context);
                self.float(rope::ATTENTION_FACTOR, *attention_factor as f32);
                vec![
                    Divisors { name: "rope_factors_long.weight", values: long.clone() },
                    Divisors { name: "rope_factors_short.weight", values: short.clone() },
                ]
            }
            RopeScaling::Llama3 { .. } => {
                let unscaled = RopeSpec { scaling: RopeScaling::None, ..main.clone() };
                let pairs =
                    unscaled.frequencies(Regime::Short).into_iter().zip(main.frequencies(Regime::Short));
                let values = pairs.map(|(unscaled, scaled)| unscaled / scaled).collect();
                vec![Divisors { name: "rope_freqs.weight", values }]
            }
            RopeScaling::Divisors(values) => {
                vec![Divisors { name: "rope_freqs.weight", values: values.clone() }]
            }
        }
    }
}
