//! `sterna bench`: how fast a model reads and writes on this machine.
//!
//! The habits are llama-bench's: `pp512` is a prompt of 512 tokens, `tg128` the generation of 128, `@ d4096` after 4096
//! tokens of context; tokenizing and sampling are not timed; one warm-up, then `-r` repetitions, mean ± standard deviation.

mod caches;
mod energy;
mod limits;
mod measure;
mod report;
mod speculation;
mod tune;
mod weights;

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::ValueEnum;
use sterna::synthetic::Shape;
use sterna::{Compute, Engine, EngineOptions, Isa, Network};
use sterna_tensor::limits::load_rate;

use super::inspect::Memory;
use super::memory::MemoryArgs;
use super::settings::{ComputeArgs, SyntheticArgs, positive, threads, tuned};
use super::{memory, model_arg, terminal};
use energy::Meter;
use limits::Limits;
use measure::{Context, Test};
use report::{About, Report};

/// Measure prefill and decode speed, memory, energy, and the share of the memory bandwidth
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the catalogue or the store, a GGUF file, or a Hugging Face directory
    #[arg(required_unless_present_any = ["limits", "synthetic", "tune"])]
    model: Option<String>,
    #[command(flatten)]
    synthetic: SyntheticArgs,
    /// Do not compute the context that -d asks for: fill the cache with keys and values that mean nothing, which costs a token
    /// after it as much; so it always is with --synthetic
    #[arg(long)]
    made_up_context: bool,
    /// Measure what bounds every model here, reads from each cache and from memory and multiply-adds; with a model, also
    /// the speed that they allow it and the share that it reaches
    #[arg(long)]
    limits: bool,
    /// Measure which kernels and how many threads are fastest on this machine, and use them from now on (docs/tuning.md)
    #[arg(long)]
    tune: bool,
    /// Measure instead what guessing ahead is worth: `-n` tokens of answers that repeat their input and of others, token by
    /// token and with guesses by turns
    #[arg(long, requires = "model")]
    speculation: bool,
    /// With `--speculation`: a smaller model with the same tokenizer that guesses what the model will say
    #[arg(long, value_name = "MODEL", requires = "speculation")]
    draft: Option<String>,
    /// Prompt lengths to measure; 0 for none
    #[arg(short = 'p', long, value_name = "TOKENS", value_delimiter = ',', default_value = "512")]
    n_prompt: Vec<usize>,
    /// Generation lengths to measure; 0 for none
    #[arg(short = 'n', long, value_name = "TOKENS", value_delimiter = ',', default_value = "128")]
    n_gen: Vec<usize>,
    /// Context lengths to measure at
    #[arg(short = 'd', long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Repetitions of each test
    #[arg(short = 'r', long, value_name = "N", default_value = "5", value_parser = positive)]
    repetitions: usize,
    /// Numbers of threads to measure with [default: what `--tune` found fastest, or physical cores]
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = Format::Md)]
    output: Format,
    /// The same as `--output json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    memory: MemoryArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Md,
    Json,
    Csv,
}

impl Args {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let tuned = args.tune.then(tune::run).transpose()?;
    let cores = args.compute.engine_options(None).threads;
    let thread_counts = match (args.threads.is_empty(), args.limits) {
        (false, _) => args.threads.clone(),
        (true, true) if cores > 1 => vec![1, cores],
        (true, _) => vec![cores],
    };
    let isa = Isa::from_env()?;
    if let Some(tuned) = tuned {
        stdout().write_all(tuned.as_bytes())?;
    }
    let limits = args.limits.then(|| Limits::measure(isa, &thread_counts)).transpose()?;
    let text = match (args.model.as_ref().or(args.synthetic.synthetic.as_ref()), limits) {
        (Some(model), _) if args.speculation => speculate(model, &args)?,
        (Some(model), limits) => bench(model, &args, &thread_counts, limits)?,
        (None, Some(limits)) => match args.format() {
            Format::Json => serde_json::to_string_pretty(&limits)? + "\n",
            Format::Md | Format::Csv => limits.markdown(),
        },
        (None, None) => String::new(),
    };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Times `model`.
fn bench(
    model: &str,
    args: &Args,
    thread_counts: &[usize],
    limits: Option<Limits>,
) -> anyhow::Result<String> {
    let most_threads = thread_counts.iter().copied().max().unwrap_or(1);
    let asked = (!args.threads.is_empty()).then_some(most_threads);
    let options = args.compute.engine_options(asked);
    let tests = Test::all(&args.n_prompt, &args.n_gen, &args.depth);
    terminal::note(format_args!("loading {model}"));
    let longest = tests.iter().map(|test| test.depth + test.n_tokens).max().unwrap_or(1);
    let longest_prompt = args.n_prompt.iter().copied().max().unwrap_or(0).max(1);
    let (network, predicted) = match args.synthetic.synthetic {
        Some(_) => {
            let shape = Shape::new(model, longest)?;
            let predicted = Memory::of_shape(&shape, args.synthetic.bits, longest_prompt, &options)?;
            args.memory.check(predicted.total_bytes)?;
            (Network::synthetic(&shape, args.synthetic.bits, &options)?, Some(predicted))
        }
        // Without the tokenizer that an engine has: any ids do for timing.
        None => {
            let path = model_arg::resolve(model)?;
            // Tests that are longer than the model's context are refused later.
            let of_tests = EngineOptions { context: Some(longest), ..options.clone() };
            let predicted = Memory::of_model(&path, &of_tests).ok().map(Memory::without_tokenizer);
            args.memory.check(predicted.as_ref().map_or(0, |predicted| predicted.total_bytes))?;
            (Network::load(&path, &options)?, predicted)
        }
    };
    let context = match args.made_up_context || args.synthetic.synthetic.is_some() {
        true => Context::MadeUp,
        false => Context::Computed,
    };
    let meter = Meter::find();
    let results = measure::run(&network, thread_counts, &tests, args.repetitions, context, &meter)?;
    let peak_rss = memory::peak_rss();
    terminal::note("measuring the memory bandwidth");
    let bandwidth = memory_rate(&network)?;
    let predicted_rss = predicted.map(|predicted| predicted.total_bytes);
    let kernels = &tuned().source;
    let about = About { model, context, peak_rss, predicted_rss, bandwidth, meter, kernels };
    let report = Report::new(about, &network, results, limits);
    Ok(match args.format() {
        Format::Md => report.markdown(),
        Format::Json => report.json()?,
        Format::Csv => report.csv(),
    })
}

/// Bytes a second that all threads together read from memory, or from a cache where one holds all weights.
fn memory_rate(network: &Network) -> anyhow::Result<f64> {
    /// Fewer would measure a cache.
    const LEAST_BYTES: usize = 256 << 20;
    let Compute { isa, pool, .. } = &*network.compute;
    let n_bytes = weights::bytes_per_token(&network.model).max(LEAST_BYTES);
    Ok(load_rate(*isa, pool, n_bytes / pool.n_threads())?)
}

/// Times answers of `model` with guesses and without.
fn speculate(model: &str, args: &Args) -> anyhow::Result<String> {
    let draft = args.draft.as_deref().map(model_arg::resolve).transpose()?;
    let options = EngineOptions { draft, ..args.compute.engine_options(args.threads.first().copied()) };
    let engine = Engine::load(model_arg::resolve(model)?, &options)?;
    let n_tokens = args.n_gen.first().copied().unwrap_or(1).max(1);
    let report = speculation::measure(&engine, n_tokens, args.repetitions)?;
    Ok(match args.format() {
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
        Format::Md | Format::Csv => report.markdown(),
    })
}
