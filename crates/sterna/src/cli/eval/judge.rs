//! The work: one model after the other, the reference beside them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::ensure;
use sterna::{Checkpoint, Engine, EngineOptions, Network, Precision, Size, Spec, Tokenizer};
use sterna_quant::eval::cache::{Cache, CacheKey, ModelIdentity};
use sterna_quant::eval::divergence::{Comparison, compare};
use sterna_quant::eval::perplexity::negative_log_likelihoods;
use sterna_quant::eval::task::{Metric, Subject, Task, TaskOptions};
use sterna_quant::eval::{EvalError, LogitSource, Reference, Runner, Windows, statistics};

use super::bar::Bar;
use super::results::{ComparisonResult, MetricResult, ModelResult, TaskId, TaskResult, TextId, TextResult};
use super::speed::decode_rate;
use crate::cli::terminal::note;

/// All that is to be done.
pub(super) struct Job {
    pub(super) models: Vec<Named>,
    pub(super) options: EngineOptions,
    pub(super) reference: Option<(Named, EngineOptions)>,
    pub(super) text: Option<TextJob>,
    pub(super) tasks: Vec<Task>,
    pub(super) task_options: TaskOptions,
    pub(super) cache: Option<Cache>,
}

/// A model and what it is called in tables.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// A text to predict.
pub(super) struct TextJob {
    pub(super) file: PathBuf,
    pub(super) text: String,
    pub(super) window: usize,
    pub(super) limit: Option<usize>,
}

impl Named {
    /// `argument` as the user gave it, and where that is. A path is called by its last part.
    pub(super) fn new(argument: &str, path: PathBuf) -> Named {
        let last = Path::new(argument).file_name().map(|name| name.to_string_lossy().into_owned());
        let last = last.unwrap_or_else(|| argument.to_owned());
        let name = last.strip_suffix(".gguf").unwrap_or(&last).to_owned();
        Named { name, path }
    }
}

/// Judges all models; the reference is the first of the results.
pub(super) fn run(job: &Job, cancel: &AtomicBool) -> anyhow::Result<Vec<ModelResult>> {
    match &job.reference {
        Some((named, options)) => run_against(job, named, options, cancel),
        None => job.models.iter().map(|named| Ok(judge(job, named, None, &[], cancel)?.0)).collect(),
    }
}

/// As [`run`], beside the reference `named`.
fn run_against(
    job: &Job,
    named: &Named,
    options: &EngineOptions,
    cancel: &AtomicBool,
) -> anyhow::Result<Vec<ModelResult>> {
    let checkpoint = Checkpoint::open(&named.path)?;
    let mut result = describe(named, Size::of(&checkpoint), options.precision);
    result.is_reference = true;
    let mut metrics = Vec::new();
    if !job.tasks.is_empty() {
        let engine = load(named, options)?;
        result.decode_tokens_per_second = decode_rate(engine.network())?;
        metrics = ask(job, named, &engine, cancel)?;
        result.tasks = task_results(&job.tasks, &metrics, &[]);
    }

    let windows = match &job.text {
        Some(text) => Some(text.windows(&Tokenizer::from_checkpoint(&checkpoint)?)?),
        None => None,
    };
    let rate = Cell::new(result.decode_tokens_per_second);
    let load = || load_reference(named, options, &rate);
    let mut predictions = match &windows {
        Some(windows) => {
            let vocab_size = Spec::of(&checkpoint)?.vocab_size;
            let key =
                CacheKey::new(&ModelIdentity::of(&checkpoint)?, &computing(options), vocab_size, windows);
            let cache = job.cache.clone().map(|cache| (cache, key));
            Some(Reference::new(windows, vocab_size, cache, Box::new(load)))
        }
        None => None,
    };

    let mut results = Vec::new();
    for model in &job.models {
        let (judged, comparison) = judge(job, model, predictions.as_mut(), &metrics, cancel)?;
        if let (None, Some(comparison), Some(text)) = (&result.text, comparison, &judged.text) {
            let perplexity = statistics::perplexity(&comparison.reference_nll);
            result.text = Some(TextResult { of: text.of.clone(), perplexity, comparison: None });
        }
        results.push(judged);
    }
    drop(predictions);
    result.decode_tokens_per_second = rate.get();
    results.insert(0, result);
    Ok(results)
}

/// One model: the text, beside the reference's `predictions` where there are any, then the tasks, beside its `metrics`.
fn judge(
    job: &Job,
    named: &Named,
    predictions: Option<&mut Reference<'_>>,
    metrics: &[Vec<Metric>],
    cancel: &AtomicBool,
) -> anyhow::Result<(ModelResult, Option<Comparison>)> {
    let engine = load(named, &job.options)?;
    let network = engine.network();
    let mut result = describe(named, network.size, job.options.precision);
    result.decode_tokens_per_second = decode_rate(network)?;
    let mut comparison = None;
    if let Some(text) = &job.text {
        let windows = text.windows(engine.tokenizer())?;
        let mut runner = Runner::new(&network.model, &network.compute, network.kv);
        let mut bar = Bar::new(format!("{}: windows", named.name), cancel);
        let (perplexity, compared) = match (predictions, &job.reference) {
            (Some(predictions), Some((reference, _))) => {
                ensure!(
                    windows == *predictions.windows(),
                    "{} and {} make different tokens of the text: they cannot be compared",
                    named.name,
                    reference.name
                );
                let compared = compare(&mut runner, predictions, &mut bar)?;
                let result = comparison_result(&reference.name, &compared);
                let perplexity = statistics::perplexity(&compared.nll);
                comparison = Some(compared);
                (perplexity, Some(result))
            }
            _ => {
                let nlls = negative_log_likelihoods(&mut runner, &windows, &mut bar)?;
                (statistics::perplexity(&nlls), None)
            }
        };
        result.text = Some(TextResult { of: text.id(&windows), perplexity, comparison: compared });
    }
    result.tasks = task_results(&job.tasks, &ask(job, named, &engine, cancel)?, metrics);
    Ok((result, comparison))
}

fn load(named: &Named, options: &EngineOptions) -> anyhow::Result<Engine> {
    note(format_args!("loading {}", named.path.display()));
    Ok(Engine::load(&named.path, options)?)
}

/// The reference as a source of logits; how fast it writes goes to `rate`.
fn load_reference(
    named: &Named,
    options: &EngineOptions,
    rate: &Cell<Option<f64>>,
) -> Result<Box<dyn LogitSource>, EvalError> {
    note(format_args!("loading {}", named.path.display()));
    let network =
        Network::load(&named.path, options).map_err(|error| EvalError::Reference(Box::new(error)))?;
    if rate.get().is_none() {
        rate.set(decode_rate(&network).map_err(|error| EvalError::Reference(error.into()))?);
    }
    Ok(Box::new(Runner::new(&network.model, &network.compute, network.kv)))
}

/// The metrics of each task.
fn ask(job: &Job, named: &Named, engine: &Engine, cancel: &AtomicBool) -> anyhow::Result<Vec<Vec<Metric>>> {
    let Network { model, compute, context, kv, .. } = engine.network();
    let mut subject = Subject::new(model, compute, engine.tokenizer(), *context, *kv, cancel);
    let run = |task: &Task| {
        let mut bar = Bar::new(format!("{}: {}", named.name, task.kind()), cancel);
        Ok(task.run(&mut subject, job.task_options, &mut bar)?)
    };
    job.tasks.iter().map(run).collect()
}

/// Beside the metrics of the reference, where there are any.
fn task_results(tasks: &[Task], metrics: &[Vec<Metric>], reference: &[Vec<Metric>]) -> Vec<TaskResult> {
    let result = |(i, (task, metrics)): (usize, (&Task, &Vec<Metric>))| {
        let result = |(k, metric): (usize, &Metric)| MetricResult {
            name: metric.name.to_owned(),
            estimate: metric.estimate(),
            retention: reference.get(i).and_then(|reference| metric.retention(&reference[k])),
        };
        let of =
            TaskId { task: task.kind().to_string(), file: file_name(task.file()), n_items: task.n_items() };
        TaskResult { of, metrics: metrics.iter().enumerate().map(result).collect() }
    };
    tasks.iter().zip(metrics).enumerate().map(result).collect()
}

fn comparison_result(against: &str, comparison: &Comparison) -> ComparisonResult {
    let ratio = statistics::perplexity_ratio(&comparison.nll, &comparison.reference_nll);
    ComparisonResult {
        against: against.to_owned(),
        perplexity_ratio: ratio,
        retention: ratio.inverse(),
        divergence: comparison.figures(),
    }
}

/// A result with nothing measured yet.
fn describe(named: &Named, size: Size, precision: Precision) -> ModelResult {
    ModelResult {
        name: named.name.clone(),
        is_reference: false,
        precision: precision_name(precision).to_owned(),
        size_bytes: size.n_bytes,
        bits_per_weight: size.bits_per_weight(),
        decode_tokens_per_second: None,
        text: None,
        tasks: Vec::new(),
    }
}

impl TextJob {
    fn windows(&self, tokenizer: &Tokenizer) -> Result<Windows, EvalError> {
        Windows::of_text(tokenizer, &self.text, self.window, self.limit)
    }

    fn id(&self, windows: &Windows) -> TextId {
        TextId {
            file: file_name(&self.file),
            window: windows.length(),
            n_windows: windows.n_windows(),
            n_scored: windows.n_scored(),
        }
    }
}

/// What the logits depend on besides the model. (Neither the number of threads nor the instruction set.)
fn computing(options: &EngineOptions) -> String {
    format!("{} {}", precision_name(options.precision), options.kv)
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Int8 => "int8",
        Precision::Float => "float",
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
