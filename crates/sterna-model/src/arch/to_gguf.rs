//! A [`Spec`] as the metadata of a GGUF file: the reverse of reading those, under the names that llama.cpp's converters
//! write.

use sterna_formats::gguf::{Entries, ToValue};

use super::GgufForm;
use super::fields::{Key, keys};
use super::rope;
use crate::rope::{Regime, RopeScaling, RopeSpec, yarn_mscale};
use crate::spec::{AttentionSpec, FeedForwardSpec, MoeSpec, Spec};

/// Blocks between those without a window, in Gemma 3 and where files do not say.
const USUAL_PATTERN: usize = 6;

/// A tensor of divisors of rotary frequencies, one for each pair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Divisors {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f32>,
}

/// Appends the hyper-parameters of `spec` to `entries`; what of them is said by tensors.
pub(crate) fn hyper_parameters(spec: &Spec, form: GgufForm, entries: &mut Entries) -> Vec<Divisors> {
    let mut writer = Writer { architecture: form.architecture, entries };
    writer.number(keys::VOCAB_SIZE, spec.vocab_size);
    writer.number(keys::CONTEXT_LENGTH, spec.context_length);
    writer.number(keys::HIDDEN_SIZE, spec.hidden_size);
    writer.number(keys::N_LAYERS, spec.blocks.len());
    writer.float(keys::NORM_EPS, spec.norm_eps);
    if let Some(cap) = spec.logit_softcap {
        writer.float(keys::LOGIT_SOFTCAP, cap);
    }
    writer.feed_forward(spec);
    let attention: Vec<&AttentionSpec> =
        spec.blocks.iter().filter_map(|block| block.mixer.attention()).collect();
    writer.attention(&attention, form);
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
        let width = |feed_forward: &FeedForwardSpec| match feed_forward {
            FeedForwardSpec::Dense(dense) => Some(dense.intermediate_size),
            FeedForwardSpec::None | FeedForwardSpec::Moe(_) => None,
        };
        let widths: Vec<Option<usize>> = spec.blocks.iter().map(|block| width(&block.feed_forward)).collect();
        if let Some(usual) = widths.iter().flatten().next().copied() {
            let widths: Vec<usize> = widths.iter().map(|width| width.unwrap_or(usual)).collect();
            self.number_of_blocks(keys::INTERMEDIATE_SIZE, &widths);
        }
        let moe = spec.blocks.iter().find_map(|block| match &block.feed_forward {
            FeedForwardSpec::Moe(moe) => Some(moe),
            FeedForwardSpec::None | FeedForwardSpec::Dense(_) => None,
        });
        if let Some(MoeSpec { n_experts, n_active, expert, .. }) = moe {
            self.number(keys::N_EXPERTS, *n_experts);
            self.number(keys::N_ACTIVE_EXPERTS, *n_active);
            self.number(keys::MOE_INTERMEDIATE_SIZE, expert.intermediate_size);
        }
    }

    fn attention(&mut self, blocks: &[&AttentionSpec], form: GgufForm) {
        let all =
            |of: fn(&AttentionSpec) -> usize| blocks.iter().map(|block| of(block)).collect::<Vec<usize>>();
        self.number_of_blocks(keys::N_HEADS, &all(|block| block.n_heads));
        self.number_of_blocks(keys::N_KV_HEADS, &all(|block| block.n_kv_heads));
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
