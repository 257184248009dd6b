//! Questions with right answers.
//!
//! Each task is a file of this folder: how its items are read from a JSONL file, how a model is asked, and what counts
//! as right. An item gives one number per [`Metric`], so that two models can be compared item by item.

mod choice;
mod continuation;
mod gsm8k;
mod humaneval;
mod jsonl;
mod lambada;
mod python;
mod subject;

use std::fmt;
use std::path::{Path, PathBuf};

pub use subject::Subject;

use super::statistics::{Estimate, Ratio, mean, mean_ratio, perplexity, perplexity_ratio};
use super::{EvalError, Progress, Result};

/// Which questions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// The last word of a passage (Paperno et al., 2016).
    Lambada,
    /// One of several answers, by likelihood.
    Choice,
    /// Grade-school arithmetic in words (Cobbe et al., 2021).
    Gsm8k,
    /// Python functions, judged by running them (Chen et al., 2021).
    HumanEval,
}

impl TaskKind {
    /// All of them.
    pub const ALL: [TaskKind; 4] =
        [TaskKind::Lambada, TaskKind::Choice, TaskKind::Gsm8k, TaskKind::HumanEval];

    /// `lambada`, `choice`, `gsm8k` or `humaneval`.
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Lambada => "lambada",
            TaskKind::Choice => "choice",
            TaskKind::Gsm8k => "gsm8k",
            TaskKind::HumanEval => "humaneval",
        }
    }

    /// The task of that name.
    pub fn of_name(name: &str) -> Option<TaskKind> {
        TaskKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A task with its items.
#[derive(Debug, Clone)]
pub struct Task {
    file: PathBuf,
    items: Items,
}

#[derive(Debug, Clone)]
enum Items {
    Lambada(Vec<lambada::Item>),
    Choice(Vec<choice::Item>),
    Gsm8k(Vec<gsm8k::Item>),
    HumanEval(Vec<humaneval::Item>),
}

/// What a task allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// Run the code that the model writes.
    pub run_code: bool,
    /// Most tokens of a generated answer; `None` is what the task finds enough.
    pub max_tokens: Option<usize>,
}

impl Task {
    /// Reads the first `limit` items of the JSONL file at `file`.
    ///
    /// # Errors
    /// [`EvalError::Io`], [`EvalError::NoItems`], and [`EvalError::Line`], which names file and line.
    pub fn open(kind: TaskKind, file: &Path, limit: Option<usize>) -> Result<Task> {
        let items = match kind {
            TaskKind::Lambada => Items::Lambada(jsonl::read(file, limit, lambada::Item::parse)?),
            TaskKind::Choice => Items::Choice(jsonl::read(file, limit, choice::Item::parse)?),
            TaskKind::Gsm8k => Items::Gsm8k(jsonl::read(file, limit, gsm8k::Item::parse)?),
            TaskKind::HumanEval => Items::HumanEval(jsonl::read(file, limit, humaneval::Item::parse)?),
        };
        Ok(Task { file: file.to_owned(), items })
    }

    /// Which questions it asks.
    pub fn kind(&self) -> TaskKind {
        match self.items {
            Items::Lambada(_) => TaskKind::Lambada,
            Items::Choice(_) => TaskKind::Choice,
            Items::Gsm8k(_) => TaskKind::Gsm8k,
            Items::HumanEval(_) => TaskKind::HumanEval,
        }
    }

    /// Where the items are from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Number of items.
    pub fn n_items(&self) -> usize {
        match &self.items {
            Items::Lambada(items) => items.len(),
            Items::Choice(items) => items.len(),
            Items::Gsm8k(items) => items.len(),
            Items::HumanEval(items) => items.len(),
        }
    }

    /// Asks `subject` everything.
    ///
    /// # Errors
    /// [`EvalError::CodeNotAllowed`], [`EvalError::Cancelled`], an item too long for the model's context, and those of
    /// forward passes and generation.
    pub fn run(
        &self,
        subject: &mut Subject<'_>,
        options: TaskOptions,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Metric>> {
        match &self.items {
            Items::Lambada(items) => lambada::run(items, subject, progress),
            Items::Choice(items) => choice::run(items, subject, progress),
            Items::Gsm8k(items) => gsm8k::run(items, subject, options, progress),
            Items::HumanEval(_) if !options.run_code => {
                Err(EvalError::CodeNotAllowed { file: self.file.clone() })
            }
            Items::HumanEval(items) => humaneval::run(items, subject, options, progress),
        }
    }
}

/// One number for each item.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `accuracy`, `perplexity` and the like.
    pub name: &'static str,
    /// What the numbers are.
    pub kind: MetricKind,
    /// In the order of the items.
    pub values: Vec<f64>,
}

/// What the numbers of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// 1 for right, 0 for wrong; more is better.
    Share,
    /// Negative log-likelihoods in nats, of which the figure is `e^mean`; less is better.
    NegativeLogLikelihood,
}

impl Metric {
    /// 1 for each `true`.
    fn share(name: &'static str, values: &[bool]) -> Metric {
        let values = values.iter().map(|&right| f64::from(u8::from(right))).collect();
        Metric { name, kind: MetricKind::Share, values }
    }

    /// The figure with its standard error.
    pub fn estimate(&self) -> Estimate {
        match self.kind {
            MetricKind::Share => mean(&self.values),
            MetricKind::NegativeLogLikelihood => perplexity(&self.values),
        }
    }

    /// How much of the `reference`'s figure is left, over the same items: above 1 is better than it. `None` where a share
    /// is 0.
    pub fn retention(&self, reference: &Metric) -> Option<Ratio> {
        match self.kind {
            MetricKind::Share => mean_ratio(&self.values, &reference.values),
            MetricKind::NegativeLogLikelihood => Some(perplexity_ratio(&reference.values, &self.values)),
        }
    }
}
