//! `--speculation`: what guessing ahead is worth, on text that repeats its input and on text that does not.
//!
//! Each task is answered token by token and with guesses by turns, in sessions that know nothing yet, greedily; ratios are taken
//! within a round, since machines drift.

use std::sync::atomic::AtomicBool;

use anyhow::ensure;
use serde::Serialize;
use sterna::{
    Completion, Engine, Message, Network, Request, Sampler, SamplingOptions, Session, SessionOptions,
};

use crate::cli::{table, terminal};

/// Names, prompts, and whether the answer repeats its prompt.
const TASKS: [(&str, &str, bool); 4] = [
    ("code edit", include_str!("speculation/edit.txt"), true),
    ("summary with quotes", include_str!("speculation/quotes.txt"), true),
    ("story", include_str!("speculation/story.txt"), false),
    ("explanation", include_str!("speculation/explain.txt"), false),
];

/// The results of all tasks.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    tasks: Vec<Task>,
}

/// One task, over all rounds.
#[derive(Debug, Serialize)]
struct Task {
    task: &'static str,
    repeats_its_input: bool,
    generated_tokens: usize,
    /// Of a round each.
    plain_tokens_per_second: Vec<f64>,
    tokens_per_second: Vec<f64>,
    ratio: Vec<f64>,
    /// Of the last round.
    passes: usize,
    guessed_tokens: usize,
    accepted_tokens: usize,
}

/// Answers each task with at most `n_tokens` tokens, `rounds` times in both ways.
pub(super) fn measure(engine: &Engine, n_tokens: usize, rounds: usize) -> anyhow::Result<Report> {
    let task = |(task, prompt, repeats_its_input): (&'static str, &str, bool)| {
        let messages = [Message::new("user", prompt.trim_end())];
        let prompt = match engine.has_chat_template() {
            true => engine.chat_prompt(&messages)?,
            false => engine.text_prompt(prompt.trim_end())?,
        };
        let mut found = Task {
            task,
            repeats_its_input,
            generated_tokens: 0,
            plain_tokens_per_second: Vec::new(),
            tokens_per_second: Vec::new(),
            ratio: Vec::new(),
            passes: 0,
            guessed_tokens: 0,
            accepted_tokens: 0,
        };
        for round in 1..=rounds {
            terminal::note(format_args!("{task} · {round}/{rounds}"));
            let plain = answer(plain_session(engine.network()), engine, &prompt, n_tokens)?;
            let guessing = answer(engine.session(), engine, &prompt, n_tokens)?;
            ensure!(plain.tokens == guessing.tokens, "{task}: guesses changed the answer");
            found.add(&plain, &guessing);
        }
        Ok(found)
    };
    Ok(Report { tasks: TASKS.into_iter().map(task).collect::<anyhow::Result<_>>()? })
}

fn plain_session(network: &Network) -> Session {
    let Network { model, compute, context, kv, .. } = network;
    let options = SessionOptions { kv: *kv, lookup: false, ..SessionOptions::with_context(*context) };
    Session::new(model, compute, options)
}

fn answer(
    mut session: Session,
    engine: &Engine,
    prompt: &[u32],
    n_tokens: usize,
) -> anyhow::Result<Completion> {
    let mut sampler = Sampler::new(SamplingOptions::greedy())?;
    let never = AtomicBool::new(false);
    let request = Request { prompt, max_tokens: Some(n_tokens), stop: &[], cancel: &never };
    Ok(session.generate(engine.tokenizer(), &mut sampler, request, |_| {})?)
}

impl Task {
    fn add(&mut self, plain: &Completion, guessing: &Completion) {
        let rate = |completion: &Completion| completion.decode_tokens_per_second().unwrap_or(0.0);
        self.generated_tokens = guessing.tokens.len();
        self.plain_tokens_per_second.push(rate(plain));
        self.tokens_per_second.push(rate(guessing));
        self.ratio.push(rate(guessing) / rate(plain));
        self.passes = guessing.speculation.passes;
        self.guessed_tokens = guessing.speculation.guessed;
        self.accepted_tokens = guessing.speculation.accepted;
    }
}

impl Report {
    /// A row for each task, medians over its rounds.
    pub(super) fn markdown(&self) -> String {
        let titles = ["task", "tokens", "plain, t/s", "guessing, t/s", "ratio", "range", "guesses right"];
        let row = |task: &Task| {
            let ratios = sorted(&task.ratio);
            vec![
                task.task.to_owned(),
                task.generated_tokens.to_string(),
                format!("{:.2}", median(&task.plain_tokens_per_second)),
                format!("{:.2}", median(&task.tokens_per_second)),
                format!("{:.2}", median(&task.ratio)),
                format!("{:.2} to {:.2}", ratios[0], ratios[ratios.len() - 1]),
                format!("{} of {}", task.accepted_tokens, task.guessed_tokens),
            ]
        };
        let rows: Vec<_> =
            [titles.map(str::to_owned).to_vec()].into_iter().chain(self.tasks.iter().map(row)).collect();
        table::markdown(&rows)
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle one, the lower of two.
fn median(values: &[f64]) -> f64 {
    sorted(values)[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians() {
        let task = Task {
            task: "story",
            repeats_its_input: false,
            generated_tokens: 128,
            plain_tokens_per_second: vec![10.0, 12.0, 11.0],
            tokens_per_second: vec![20.0, 22.0, 30.0],
            ratio: vec![2.0, 1.8, 2.7],
            passes: 60,
            guessed_tokens: 90,
            accepted_tokens: 67,
        };
        let text = Report { tasks: vec![task] }.markdown();
        let row = text.lines().last().unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["story", "128", "11.00", "22.00", "2.00", "1.80 to 2.70", "67 of 90"]);
    }
}
