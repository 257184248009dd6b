//! Real models on a recorded passage: the float path must be the reference, the int8 path nearly so.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use sterna_formats::Checkpoint;
use sterna_model::{KvType, LoadOptions, Logits, Model, State, Workspace, forward};
use sterna_store::Store;
use sterna_tensor::Precision;

use super::deviation::argmax;
use super::recorded::Recorded;

/// Directory of the recorded numbers, and name in the catalogue.
const MODELS: [(&str, &str); 3] =
    [("smollm2", "smollm2-135m"), ("gemma3", "gemma3-270m"), ("qwen25", "qwen2.5-coder-1.5b")];

/// Least top-1 agreement with each precision.
const BARS: [(Precision, f64); 2] = [(Precision::Float, 0.995), (Precision::Int8, 0.97)];

/// One model with one precision.
#[derive(Debug, Serialize)]
struct Row {
    model: &'static str,
    /// `float` or `int8`: the activations.
    activations: &'static str,
    /// Share of positions whose likeliest token is the reference's.
    top1: f64,
    /// The least `top1` that passes.
    required: f64,
    missed: Vec<Miss>,
    /// Largest |Δ| among the recorded logits, 50 a position.
    max_abs: f64,
    /// Mean negative log-likelihood of the passage, nats per token.
    nll: f64,
    reference_nll: f64,
    /// `exp(nll)`.
    perplexity: f64,
    reference_perplexity: f64,
}

/// A position whose likeliest token is another than the reference's.
#[derive(Debug, Serialize)]
struct Miss {
    at: usize,
    /// By how much the reference prefers its likeliest token to its second.
    margin: f32,
}

/// Compares the models; `arguments` are `NAME=PATH`, and name the only ones compared when there are any.
pub(crate) fn run(arguments: &[String], json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for (name, path) in paths(arguments)? {
        let passage = Passage::open(name)?;
        let checkpoint = Checkpoint::open(&path)?;
        for (precision, required) in BARS {
            rows.push(passage.compare(&checkpoint, precision, required)?);
        }
    }
    match json {
        true => crate::print(serde_json::to_string_pretty(&rows)? + "\n")?,
        false => crate::print(Table(&rows))?,
    }
    match rows.iter().filter(|row| row.top1 < row.required).count() {
        0 => Ok(()),
        n => bail!("{n} of {} comparisons failed", rows.len()),
    }
}

/// The GGUF file of each model: as given, or all three from the store.
fn paths(arguments: &[String]) -> Result<Vec<(&'static str, PathBuf)>> {
    if arguments.is_empty() {
        let store = Store::open_default()?;
        let resolve = |(name, model): (&'static str, &str)| {
            let path = store.resolve(model).context("`cargo xtask models` brings it, or say NAME=PATH")?;
            Ok((name, path))
        };
        return MODELS.into_iter().map(resolve).collect();
    }
    let parse = |argument: &String| {
        let (name, path) =
            argument.split_once('=').with_context(|| format!("{argument}: expected NAME=PATH"))?;
        let known = MODELS.into_iter().find(|(known, _)| *known == name);
        let (name, _) = known.with_context(|| format!("{name}: expected smollm2, gemma3 or qwen25"))?;
        Ok((name, PathBuf::from(path)))
    };
    arguments.iter().map(parse).collect()
}

/// A recorded passage.
struct Passage {
    model: &'static str,
    input_ids: Vec<u32>,
    /// `[n, n_top]`, the likeliest first.
    top_ids: Vec<u32>,
    /// `[n, n_top]`
    top_logits: Vec<f32>,
    n_top: usize,
    /// Of every token but the first.
    nll: Vec<f64>,
}

impl Passage {
    fn open(model: &'static str) -> Result<Passage> {
        let dir = super::fixtures().join("real").join(model);
        let recorded = Recorded::open(&dir.join("passage.safetensors"))?;
        let input_ids = recorded.ids("input_ids")?;
        let top_ids = recorded.ids("top_ids")?;
        let n_top = top_ids.len() / input_ids.len().max(1);
        let top_logits = recorded.floats("top_logits")?;
        let nll = reference_nll(&dir.join("reference.json"))?;
        ensure!(
            n_top > 0 && top_logits.len() == input_ids.len() * n_top && nll.len() + 1 == input_ids.len(),
            "{}: the recorded tensors do not fit together",
            dir.display()
        );
        Ok(Passage { model, input_ids, top_ids, top_logits, n_top, nll })
    }

    fn compare(&self, checkpoint: &Checkpoint, precision: Precision, required: f64) -> Result<Row> {
        let compute = super::compute(precision);
        let model = Model::load(checkpoint, &LoadOptions::default(), &compute)?;
        let mut state = State::new(&model, KvType::F32);
        let mut workspace = Workspace::new();
        let logits = forward(&model, &compute, &mut state, &mut workspace, &self.input_ids, Logits::All)?;
        let vocab_size = model.spec().vocab_size;
        let top = self
            .top_ids
            .iter()
            .max()
            .copied()
            .unwrap_or(0)
            .max(self.input_ids.iter().max().copied().unwrap_or(0));
        ensure!(
            (top as usize) < vocab_size,
            "{}: the passage is not of this model",
            checkpoint.path().display()
        );

        let (mut missed, mut max_abs, mut nll) = (Vec::new(), 0.0f64, 0.0);
        for (at, logits) in logits.chunks_exact(vocab_size).enumerate() {
            let range = at * self.n_top..(at + 1) * self.n_top;
            let (ids, reference) = (&self.top_ids[range.clone()], &self.top_logits[range]);
            if argmax(logits) as u32 != ids[0] {
                missed.push(Miss { at, margin: reference[0] - reference[1] });
            }
            for (&id, &reference) in ids.iter().zip(reference) {
                max_abs = max_abs.max(f64::from((logits[id as usize] - reference).abs()));
            }
            if let Some(&next) = self.input_ids.get(at + 1) {
                nll += log_sum_exp(logits) - f64::from(logits[next as usize]);
            }
        }
        let mean = |sum: f64| sum / self.nll.len() as f64;
        let (nll, reference_nll) = (mean(nll), mean(self.nll.iter().sum()));
        Ok(Row {
            model: self.model,
            activations: match precision {
                Precision::Float => "float",
                Precision::Int8 => "int8",
            },
            top1: 1.0 - missed.len() as f64 / self.input_ids.len() as f64,
            required,
            missed,
            max_abs,
            nll,
            reference_nll,
            perplexity: nll.exp(),
            reference_perplexity: reference_nll.exp(),
        })
    }
}

/// The per-token NLL in `reference.json`, of the GGUF weights dequantized to f32.
fn reference_nll(path: &Path) -> Result<Vec<f64>> {
    let reference: Value =
        serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)?;
    let nll = reference.get("dequantised_fp32").unwrap_or(&reference).get("nll").and_then(Value::as_array);
    let numbers = nll.and_then(|list| list.iter().map(Value::as_f64).collect());
    numbers.with_context(|| format!("{}: expected a list of numbers \"nll\"", path.display()))
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln()
}

/// Rows as text.
struct Table<'a>(&'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "model    activations   top-1  needed  max |Δ|  perplexity  reference     ΔNLL")?;
        for row in self.0 {
            let verdict = if row.top1 < row.required { "FAILED" } else { "ok" };
            writeln!(
                f,
                "{:8} {:11} {:6.1}% {:6.1}%  {:7.4}  {:10.4} {:10.4} {:+8.5}  {verdict}",
                row.model,
                row.activations,
                100.0 * row.top1,
                100.0 * row.required,
                row.max_abs,
                row.perplexity,
                row.reference_perplexity,
                row.nll - row.reference_nll,
            )?;
            for miss in &row.missed {
                writeln!(
                    f,
                    "         position {} differs, where the reference's margin is {:.3}",
                    miss.at, miss.margin
                )?;
            }
        }
        Ok(())
    }
}
