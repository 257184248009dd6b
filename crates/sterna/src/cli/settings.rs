//! Command-line flags shared by verbs, and the one place where they become configuration.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;
use clap::ValueEnum;
use sterna::{EngineOptions, KvType, Precision, SamplingOptions, Tuned, Tuning, physical_cores, synthetic};
use sterna_tensor::PackedFormat;

use super::inspect::Memory;
use super::memory::MemoryArgs;
use super::terminal::note;
use super::{model_arg, own_files};

/// Flags of the verbs that compute.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Computing")]
pub(super) struct ComputeArgs {
    /// Most tokens of prompt and answer together [default: what the model was trained for]
    #[arg(long, value_name = "TOKENS", value_parser = positive)]
    pub(super) context: Option<usize>,
    /// Storage of keys and values: int8 takes about half the memory of f16, int4 about a quarter (docs/memory.md)
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    pub(super) kv: Kv,
    /// Arithmetic against quantized weights: int8 is faster, float is exact
    #[arg(long, value_enum, default_value_t = PrecisionArg::Int8)]
    pub(super) precision: PrecisionArg,
}

/// Flags of the verbs that generate text.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    pub(super) sampling: SamplingArgs,
    #[command(flatten)]
    threads: ThreadsArg,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
}

/// Flags of guessing ahead.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Guessing ahead (the text stays the same)")]
struct SpeculationArgs {
    /// A smaller model with the same tokenizer that guesses what the model will say
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,
    /// Guess nothing from earlier text that looks alike
    #[arg(long)]
    no_lookup: bool,
}

impl GenerateArgs {
    /// Fails when the model at `path`, with the one that guesses for it, will not fit in memory.
    pub(super) fn check_memory(&self, path: &Path) -> anyhow::Result<()> {
        let options = self.engine_options()?;
        let mut needed = 0;
        for model in [Some(path), options.draft.as_deref()].into_iter().flatten() {
            needed += Memory::of_model(model, &options)?.total_bytes;
        }
        self.memory.check(needed)
    }

    /// How to run the model.
    ///
    /// # Errors
    /// The draft model is not on this machine.
    pub(super) fn engine_options(&self) -> anyhow::Result<EngineOptions> {
        let draft = self.speculation.draft.as_deref().map(model_arg::resolve).transpose()?;
        let lookup = !self.speculation.no_lookup;
        Ok(EngineOptions { lookup, draft, ..self.compute.engine_options(self.threads.threads) })
    }
}

/// The number of threads, for verbs that take one.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Computing")]
pub(super) struct ThreadsArg {
    /// Threads to compute with [default: what `bench --tune` found fastest, or physical cores]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub(super) threads: Option<usize>,
}

/// A network without a checkpoint, for verbs that measure.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Made-up weights")]
pub(super) struct SyntheticArgs {
    /// Instead of a model: a network with made-up weights in the shape of this config.json, or of qwen2.5-3b, phi-4-mini,
    /// bitnet-3b, bamba-3b, bamba-9b, nemotron-h-8b or jamba-mini
    #[arg(long, value_name = "CONFIG", conflicts_with = "model")]
    pub(super) synthetic: Option<String>,
    /// Bits of made-up weights: 2, 3, 4, 5, 6 or 8; ternary networks stay ternary
    #[arg(long, value_name = "N", default_value = "4", value_parser = weight_format, requires = "synthetic")]
    pub(super) bits: PackedFormat,
}

fn weight_format(bits: &str) -> Result<PackedFormat, String> {
    let format = bits.parse().ok().and_then(synthetic::weight_format);
    format.ok_or_else(|| "expected 2, 3, 4, 5, 6 or 8".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kv {
    F16,
    F32,
    Int8,
    Int4,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> KvType {
        match kv {
            Kv::F16 => KvType::F16,
            Kv::F32 => KvType::F32,
            Kv::Int8 => KvType::Int8,
            Kv::Int4 => KvType::Int4,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PrecisionArg {
    Int8,
    Float,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Precision {
        match precision {
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::Float => Precision::Float,
        }
    }
}

impl ComputeArgs {
    /// With `threads`, or as many as were found to be fastest here.
    pub(super) fn engine_options(&self, threads: Option<usize>) -> EngineOptions {
        let mut tuning = tuned().tuning;
        let Tuning { decode_threads, prefill_threads, .. } = tuning;
        let threads = threads.inspect(|_| (tuning.decode_threads, tuning.prefill_threads) = (None, None));
        EngineOptions {
            threads: threads.or(decode_threads.max(prefill_threads)).unwrap_or_else(physical_cores),
            tuning,
            context: self.context,
            kv: self.kv.into(),
            precision: self.precision.into(),
            ..EngineOptions::default()
        }
    }
}

/// What was found to be fastest on this machine. A profile that cannot be used is told of once, and then not there.
pub(super) fn tuned() -> Tuned {
    static TUNED: OnceLock<Tuned> = OnceLock::new();
    let find = || {
        let found = own_files::cache().map(|cache| Tuned::find(&cache)).transpose();
        let tuned = found.unwrap_or_else(|error| {
            note(format_args!(
                "ignoring what was tuned for this machine: {error}; `sterna bench --tune` measures it again"
            ));
            None
        });
        // Whoever computes says what is wrong with STERNA_ISA.
        tuned.unwrap_or_default().as_asked().unwrap_or_default()
    };
    TUNED.get_or_init(find).clone()
}

/// More threads than any machine has would only exhaust it.
const MAX_THREADS: usize = 1024;

/// A number of threads.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        n if n > MAX_THREADS => Err(format!("{n} threads are more than {MAX_THREADS}")),
        n => Ok(n),
    }
}

/// A whole number of at least 1, with `k` for 1024: `8k`.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    let number: Option<usize> = digits.parse().ok().and_then(|n: usize| n.checked_mul(factor));
    number.filter(|n| *n > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// How tokens are chosen. What is not given comes from the model's own recommendation, or from `SamplingOptions`.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingArgs {
    /// Temperature; 0 always takes the most likely token [default: the model's, or 0.7]
    #[arg(long)]
    pub(super) temp: Option<f32>,
    /// Sample from this many most likely tokens; 0 is all [default: the model's, or 40]
    #[arg(long, value_name = "K")]
    pub(super) top_k: Option<usize>,
    /// Sample from the fewest tokens whose probabilities reach this [default: the model's, or 0.95]
    #[arg(long, value_name = "P")]
    pub(super) top_p: Option<f32>,
    /// Sample from tokens at least this likely relative to the most likely [default: the model's, or 0.05]
    #[arg(long, value_name = "P")]
    pub(super) min_p: Option<f32>,
    /// Make the last 64 tokens less likely; 1 is off [default: the model's, or 1]
    #[arg(long, value_name = "FACTOR")]
    pub(super) repeat_penalty: Option<f32>,
    /// Seed of the random draws [default: a random one, shown by -v]
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Stop after this many tokens [default: when the model ends its turn]
    #[arg(short = 'n', long = "max-tokens", value_name = "TOKENS", value_parser = positive)]
    pub(super) max_tokens: Option<usize>,
    /// End the text before this string; can be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) stop: Vec<String>,
}

impl SamplingArgs {
    /// One setting by name, as `/set` gives it.
    pub(super) fn from_setting(name: &str, value: &str) -> Result<SamplingArgs, String> {
        fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>, String> {
            value.parse().map(Some).map_err(|_| format!("{name} needs a number, found `{value}`"))
        }
        let mut args = SamplingArgs::default();
        match name {
            "temp" | "temperature" => args.temp = number(name, value)?,
            "top-k" | "top_k" => args.top_k = number(name, value)?,
            "top-p" | "top_p" => args.top_p = number(name, value)?,
            "min-p" | "min_p" => args.min_p = number(name, value)?,
            "repeat-penalty" | "repeat_penalty" => args.repeat_penalty = number(name, value)?,
            "seed" => args.seed = number(name, value)?,
            "n" | "max-tokens" => {
                args.max_tokens = positive(value).map(Some).map_err(|e| format!("{name}: {e}"))?
            }
            _ => {
                let names = "temp, top-k, top-p, min-p, repeat-penalty, seed, n";
                return Err(format!("no setting `{name}`; there are {names}"));
            }
        }
        Ok(args)
    }

    /// These flags over `base`.
    ///
    /// # Errors
    /// A value out of range.
    pub(super) fn over(&self, base: SamplingOptions) -> anyhow::Result<SamplingOptions> {
        let options = SamplingOptions {
            temperature: self.temp.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            seed: self.seed.unwrap_or(base.seed),
            ..base
        };
        options.validate().context("sampling")?;
        Ok(options)
    }
}

/// The sampling in one line, with what it takes to repeat it.
pub(super) fn describe(options: &SamplingOptions) -> String {
    let SamplingOptions { temperature, top_k, top_p, min_p, repeat_penalty, seed, .. } = options;
    format!(
        "temp {temperature}  top-k {top_k}  top-p {top_p}  min-p {min_p}  repeat-penalty {repeat_penalty}  seed {seed}"
    )
}

/// A seed that differs from run to run.
pub(super) fn random_seed() -> u64 {
    // The standard library keys each hasher from the system's randomness. 32 bits are easy to type again.
    RandomState::new().hash_one(0u8) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_a_k() {
        assert_eq!(positive("8k"), Ok(8192));
        assert_eq!(positive("17"), Ok(17));
        for wrong in ["0", "-1", "k", "1.5", "99999999999999999999", "18446744073709551615k"] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
        assert!(threads("2000").is_err());
    }

    #[test]
    fn flags_win_over_the_model() -> anyhow::Result<()> {
        let model = SamplingOptions { top_k: 7, temperature: 0.3, ..SamplingOptions::default() };
        let args = SamplingArgs { temp: Some(0.9), ..SamplingArgs::default() };
        assert_eq!(args.over(model.clone())?, SamplingOptions { temperature: 0.9, ..model.clone() });
        let wrong = SamplingArgs { top_p: Some(1.5), ..SamplingArgs::default() };
        assert!(wrong.over(model).is_err_and(|e| format!("{e:#}").contains("found 1.5")));
        Ok(())
    }
}
