//! HumanEval: Python functions, right when their tests pass (Chen et al., 2021).
//!
//! An item is `{"task_id": …, "prompt": …, "test": …, "entry_point": …}`: the model completes `prompt`, greedily, and
//! `check(entry_point)` of `test` must then succeed. The code runs as `python.rs` says.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::jsonl::object;
use super::python::{Limits, Python};
use super::{Metric, Subject, TaskOptions};
use crate::eval::progress::step;
use crate::eval::{Progress, Result};

/// Where a function ends: at the first line that belongs to none (Chen et al., section 3.1).
const STOP: [&str; 7] = ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```"];

const MAX_TOKENS: usize = 512;

const LIMITS: Limits = Limits { time: Duration::from_secs(10), memory_bytes: 1 << 30 };

/// A function to write, and its tests.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Item {
    prompt: String,
    test: String,
    entry_point: String,
}

impl Item {
    pub(super) fn parse(line: &str) -> Result<Item, String> {
        let item: Item = object(line)?;
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        match item.entry_point.is_empty() || !item.entry_point.chars().all(is_name) {
            true => Err(format!("\"entry_point\": expected a name, found {:?}", item.entry_point)),
            false => Ok(item),
        }
    }

    /// The whole program.
    fn program(&self, completion: &str) -> String {
        let Item { prompt, test, entry_point } = self;
        format!("{prompt}{completion}\n{test}\ncheck({entry_point})\n")
    }
}

pub(super) fn run(
    items: &[Item],
    subject: &mut Subject<'_>,
    options: TaskOptions,
    progress: &mut dyn Progress,
) -> Result<Vec<Metric>> {
    let python = Python::find(Path::new(if cfg!(windows) { "python" } else { "python3" }))?;
    let stop = STOP.map(str::to_owned);
    let mut passed = Vec::new();
    for (i, item) in items.iter().enumerate() {
        step(progress, i, items.len())?;
        let completion = subject.complete(&item.prompt, options.max_tokens.unwrap_or(MAX_TOKENS), &stop)?;
        // A generation that was interrupted is no answer.
        step(progress, i, items.len())?;
        passed.push(python.passes(&item.program(&completion), LIMITS)?);
    }
    step(progress, items.len(), items.len())?;
    Ok(vec![Metric::share("pass@1", &passed)])
}
