//! What an evaluation found: the JSON that `--json` prints and `--add` reads.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sterna_quant::eval::divergence::Divergence;
use sterna_quant::eval::statistics::{Estimate, Ratio};

/// Raised when fields change their meaning.
const VERSION: u32 = 1;

/// One or several runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    version: u32,
    pub(super) models: Vec<ModelResult>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ModelResult {
    /// Of the file or directory, or in the store.
    pub(super) name: String,
    /// Whether it is what the others were compared with.
    pub(super) is_reference: bool,
    /// `int8` or `float`: the activations.
    pub(super) precision: String,
    /// Bytes of all tensors.
    pub(super) size_bytes: u64,
    /// Those bytes over the number of weights, in bits.
    pub(super) bits_per_weight: f64,
    /// Of a short text; `None` where that was not measured.
    pub(super) decode_tokens_per_second: Option<f64>,
    pub(super) text: Option<TextResult>,
    pub(super) tasks: Vec<TaskResult>,
}

/// A text, and how it was cut. Only results over the same are shown side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TextId {
    pub(super) file: String,
    /// Tokens of a window.
    pub(super) window: usize,
    pub(super) n_windows: usize,
    /// Tokens that were predicted and scored.
    pub(super) n_scored: usize,
}

/// Over a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TextResult {
    pub(super) of: TextId,
    pub(super) perplexity: Estimate,
    pub(super) comparison: Option<ComparisonResult>,
}

/// Beside the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ComparisonResult {
    /// The reference.
    pub(super) against: String,
    /// Perplexity over that of the reference.
    pub(super) perplexity_ratio: Ratio,
    /// One over it: how much of the reference's quality is left.
    pub(super) retention: Ratio,
    /// Kullback-Leibler divergence from the reference, in nats a token.
    pub(super) divergence: Divergence,
}

/// A task and how much of it was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskId {
    pub(super) task: String,
    pub(super) file: String,
    pub(super) n_items: usize,
}

/// Over a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskResult {
    pub(super) of: TaskId,
    pub(super) metrics: Vec<MetricResult>,
}

/// One figure of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MetricResult {
    pub(super) name: String,
    pub(super) estimate: Estimate,
    /// Beside the reference.
    pub(super) retention: Option<Ratio>,
}

impl Results {
    pub(super) fn new() -> Results {
        Results { version: VERSION, models: Vec::new() }
    }

    /// Those of an earlier run.
    pub(super) fn read(file: &Path) -> anyhow::Result<Results> {
        let context = || format!("results {}", file.display());
        let bytes = std::fs::read(file).with_context(context)?;
        let results: Results = serde_json::from_slice(&bytes).with_context(context)?;
        let version = results.version;
        ensure!(version == VERSION, "{}: version: expected {VERSION}, found {version}", context());
        Ok(results)
    }

    /// The texts, in the order in which they come up.
    pub(super) fn texts(&self) -> Vec<&TextId> {
        let mut ids: Vec<&TextId> = Vec::new();
        for id in self.models.iter().filter_map(|model| Some(&model.text.as_ref()?.of)) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// The tasks, in the order in which they come up.
    pub(super) fn tasks(&self) -> Vec<&TaskId> {
        let mut ids: Vec<&TaskId> = Vec::new();
        for id in self.models.iter().flat_map(|model| &model.tasks).map(|task| &task.of) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// The models that were judged over that text, with what came out.
    pub(super) fn over_text(&self, id: &TextId) -> Vec<(&ModelResult, &TextResult)> {
        let texts = self.models.iter().filter_map(|model| Some((model, model.text.as_ref()?)));
        texts.filter(|(_, text)| text.of == *id).collect()
    }

    /// The models that were asked that task, with what came out.
    pub(super) fn over_task(&self, id: &TaskId) -> Vec<(&ModelResult, &TaskResult)> {
        let tasks = self.models.iter().flat_map(|model| model.tasks.iter().map(move |task| (model, task)));
        tasks.filter(|(_, task)| task.of == *id).collect()
    }
}
