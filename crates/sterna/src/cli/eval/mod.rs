//! `sterna eval`: what a model's answers are worth, and what they lost beside those of its original.

mod bar;
mod html;
mod judge;
mod output;
mod results;
mod speed;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory};
use sterna::{KvType, Precision};
use sterna_quant::eval::EvalError;
use sterna_quant::eval::cache::{Cache, DEFAULT_LIMIT};
use sterna_quant::eval::task::{Task, TaskKind, TaskOptions};

use super::settings::{ComputeArgs, Kv, PrecisionArg, ThreadsArg, positive};
use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts};
use super::{Cli, model_arg, own_files};
use judge::{Job, Named, TextJob};
use output::Output;
use results::Results;

/// Measure what models are worth: perplexity, divergence from a reference, tasks with right answers
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("questions").required(true).multiple(true).args(["text", "task", "add"]))]
pub(super) struct Args {
    /// Names from the catalogue or the store, GGUF files, or Hugging Face directories
    #[arg(required_unless_present = "add")]
    models: Vec<String>,
    /// Compare with this model, usually the FP16 original
    #[arg(long, value_name = "MODEL")]
    against: Option<String>,
    /// Arithmetic of the reference
    #[arg(long, value_name = "PRECISION", value_enum, default_value_t = PrecisionArg::Float, requires = "against")]
    against_precision: PrecisionArg,
    /// Storage of the reference's keys and values [default: that of --kv]
    #[arg(long, value_name = "KV", value_enum, requires = "against")]
    against_kv: Option<Kv>,
    #[command(flatten)]
    questions: QuestionArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    threads: ThreadsArg,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What is asked.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Questions")]
struct QuestionArgs {
    /// Perplexity over this text (and divergence, with --against)
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens of a window, of which the second half is scored
    #[arg(long, value_name = "TOKENS", default_value = "512", value_parser = positive)]
    window: usize,
    /// Most windows of the text [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    windows: Option<usize>,
    /// Ask the items of a JSONL file: lambada=FILE, choice=FILE, gsm8k=FILE or humaneval=FILE; can be given several times
    #[arg(long, value_name = "NAME=FILE", value_parser = task)]
    task: Vec<(TaskKind, PathBuf)>,
    /// Most items of each task [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    /// Most tokens of a generated answer [default: what the task finds enough]
    #[arg(short = 'n', long, value_name = "TOKENS", value_parser = positive)]
    max_tokens: Option<usize>,
    /// Let humaneval run the code that the model writes, as this user and with little protection (docs/evaluation.md)
    #[arg(long)]
    run_code: bool,
}

/// Where the reference's predictions are kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cache of the reference")]
struct CacheArgs {
    /// Directory [default: in $STERNA_HOME, or the user's directory for caches]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Compute the reference every time
    #[arg(long)]
    no_cache: bool,
    /// Most GiB of all files in the cache; those not used for longest make room
    #[arg(long, value_name = "GIB", default_value_t = DEFAULT_LIMIT >> 30)]
    cache_limit: u64,
}

/// Form of the results.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// Print JSON, which --add can read again
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown tables
    #[arg(long)]
    markdown: bool,
    /// Also write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show the results of an earlier run too, as --json printed them; can be given several times
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let earlier =
        args.output.add.iter().map(|file| Results::read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    handle_interrupts()?;
    let interruptible = Interruptible::start();
    let job = args.job()?;
    let mut results = Results::new();
    match judge::run(&job, interruptible.cancel()) {
        Ok(models) => results.models = models,
        Err(error) if matches!(error.downcast_ref(), Some(EvalError::Cancelled)) => {
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        Err(error) => return Err(error),
    }
    results.models.extend(earlier.into_iter().flat_map(|earlier| earlier.models));
    let form = match (args.output.json, args.output.markdown) {
        (true, _) => Output::Json,
        (_, true) => Output::Markdown,
        _ => Output::Text,
    };
    output::print(&results, form)?;
    if let Some(file) = &args.output.html {
        output::write_page(&results, file)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn job(&self) -> anyhow::Result<Job> {
        let QuestionArgs { text, window, windows, task, limit, max_tokens, run_code } = &self.questions;
        if !run_code && task.iter().any(|(kind, _)| *kind == TaskKind::HumanEval) {
            let missing = "humaneval runs code that the model writes: allow that with --run-code";
            Cli::command().error(ErrorKind::MissingRequiredArgument, missing).exit();
        }
        let named = |model: &String| anyhow::Ok(Named::new(model, model_arg::resolve(model)?));
        let options = self.compute.engine_options(self.threads.threads);
        let reference = self.against.as_ref().map(named).transpose()?;
        let precision = Precision::from(self.against_precision);
        let kv = self.against_kv.map_or(options.kv, KvType::from);
        let of_reference = sterna::EngineOptions { precision, kv, ..options.clone() };
        let text = text.as_ref().map(|file| {
            let text = std::fs::read_to_string(file).with_context(|| format!("text {}", file.display()))?;
            anyhow::Ok(TextJob { file: file.clone(), text, window: *window, limit: *windows })
        });
        let open = |(kind, file): &(TaskKind, PathBuf)| Task::open(*kind, file, *limit);
        Ok(Job {
            models: self.models.iter().map(named).collect::<anyhow::Result<_>>()?,
            reference: reference.map(|model| (model, of_reference)),
            options,
            text: text.transpose()?,
            tasks: task.iter().map(open).collect::<Result<_, _>>()?,
            task_options: TaskOptions { run_code: *run_code, max_tokens: *max_tokens },
            cache: self.cache.open(),
        })
    }
}

impl CacheArgs {
    /// `None` where none is wanted, or the user has no place for one.
    fn open(&self) -> Option<Cache> {
        if self.no_cache {
            return None;
        }
        let default = || own_files::cache().map(|cache| cache.join("eval"));
        let directory = self.cache.clone().or_else(default)?;
        Some(Cache::new(directory, self.cache_limit.saturating_mul(1 << 30)))
    }
}

/// `NAME=FILE`.
fn task(text: &str) -> Result<(TaskKind, PathBuf), String> {
    let names = TaskKind::ALL.map(TaskKind::name).join(", ");
    let expected = || format!("expected NAME=FILE, where NAME is one of {names}");
    let (name, file) = text.split_once('=').ok_or_else(expected)?;
    Ok((TaskKind::of_name(name).ok_or_else(expected)?, PathBuf::from(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_a_name_and_a_file() {
        assert_eq!(task("gsm8k=a=b.jsonl"), Ok((TaskKind::Gsm8k, PathBuf::from("a=b.jsonl"))));
        for wrong in ["lambada", "mmlu=x", "=x"] {
            assert!(task(wrong).is_err_and(|error| error.contains("lambada, choice")), "{wrong}");
        }
    }
}
