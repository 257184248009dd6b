//! What `sterna eval --json` says of each file, as far as it is looked at here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// One file's results.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Judged {
    pub(super) name: String,
    pub(super) is_reference: bool,
    pub(super) bits_per_weight: f64,
    /// Where it is, unless it is the reference.
    #[serde(skip)]
    pub(super) file: PathBuf,
    text: Option<Text>,
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Debug, Clone, Deserialize)]
struct Text {
    comparison: Option<Comparison>,
}

/// Beside the checkpoint, on the text.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Comparison {
    pub(super) perplexity_ratio: Value,
    pub(super) retention: Value,
    pub(super) divergence: Divergence,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Divergence {
    pub(super) mean: Value,
    pub(super) same_top: Value,
}

#[derive(Debug, Clone, Deserialize)]
struct Task {
    metrics: Vec<Metric>,
}

#[derive(Debug, Clone, Deserialize)]
struct Metric {
    name: String,
    estimate: Value,
    retention: Option<Value>,
}

/// A figure, and how sure it is, where that is looked at.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Value {
    pub(super) value: f64,
    pub(super) standard_error: Option<f64>,
}

#[derive(Deserialize)]
struct Results {
    models: Vec<Judged>,
}

impl Judged {
    /// Runs `eval`, which judges `files` in this order, keeps what it prints in `json`, and reads it.
    pub(super) fn of_output(
        eval: &mut Command,
        files: &[PathBuf],
        json: &Path,
    ) -> anyhow::Result<Vec<Judged>> {
        let output =
            eval.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {eval:?}"))?;
        ensure!(output.status.success(), "{eval:?}: {}", output.status);
        fs::write(json, &output.stdout).with_context(|| format!("cannot write {}", json.display()))?;
        let results: Results = serde_json::from_slice(&output.stdout).context("results of sterna eval")?;
        let mut models = results.models;
        let of_files = models.iter_mut().filter(|judged| !judged.is_reference).zip(files);
        of_files.for_each(|(judged, file)| judged.file.clone_from(file));
        Ok(models)
    }

    pub(super) fn comparison(&self) -> Option<&Comparison> {
        self.text.as_ref()?.comparison.as_ref()
    }

    /// Share of the task's items that are right.
    pub(super) fn accuracy(&self) -> Option<Value> {
        self.accuracy_metric().map(|metric| metric.estimate)
    }

    /// That over the checkpoint's.
    pub(super) fn accuracy_retention(&self) -> Option<f64> {
        Some(self.accuracy_metric()?.retention?.value)
    }

    fn accuracy_metric(&self) -> Option<&Metric> {
        self.tasks.iter().flat_map(|task| &task.metrics).find(|metric| metric.name == "accuracy")
    }
}
