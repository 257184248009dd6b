//! Compare speed with llama.cpp, side by side in one run: the same file, the same threads, by turns.
//!
//! A shared machine drifts, so each cell is measured in rounds of one process of each engine, and the ratio is taken
//! within a round: what slows both leaves it alone.

mod engines;
mod python;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::{models, workspace};
use engines::{Engines, Measured};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models to compare on: names of the test models, or GGUF files
    #[arg(default_values = ["qwen25", "smollm2"])]
    models: Vec<String>,
    /// Thread counts
    #[arg(short, long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Rounds of one process of each engine
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Repetitions inside a process
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// A Python that has llama-cpp-python, built for this machine [default: one is made under target/peers]
    #[arg(long)]
    python: Option<PathBuf>,
}

/// Prompt and generation that are timed, tokens.
const N_PROMPT: usize = 512;
const N_GENERATED: usize = 128;

/// One model at one thread count.
#[derive(Serialize)]
struct Cell {
    model: String,
    threads: usize,
    prefill: Comparison,
    decode: Comparison,
    /// From the start to the first token, seconds; less is better, and so is a ratio below 1.
    first_token: Comparison,
    /// Peak resident memory, MB; less is better.
    peak_rss: Comparison,
}

/// One figure of both engines: the median of all samples, and the ratio of each round.
#[derive(Serialize)]
struct Comparison {
    unit: &'static str,
    sterna: f64,
    llama_cpp: f64,
    /// Sterna over llama.cpp: median, least and greatest round.
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let python = match &args.python {
        Some(python) => python.clone(),
        None => llama_cpp_python()?,
    };
    let engines = Engines::new(python, args.repetitions)?;
    let mut cells = Vec::new();
    for model in &args.models {
        let path = model_path(model)?;
        for &threads in &args.threads {
            let mut rounds = Vec::new();
            for round in 1..=args.rounds {
                eprintln!("{model}, {threads} threads: round {round} of {}", args.rounds);
                rounds.push((engines.sterna(&path, threads)?, engines.llama_cpp(&path, threads)?));
            }
            cells.push(Cell::new(model, threads, &rounds));
        }
    }
    let directory = workspace::target().join("peers");
    std::fs::create_dir_all(&directory)?;
    let (table, json) = (markdown(&cells), serde_json::to_string_pretty(&cells)?);
    for (name, text) in [("peers.md", &table), ("peers.json", &json)] {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{table}");
    println!("\nalso in {} as peers.md and peers.json", directory.display());
    Ok(())
}

/// A Python with llama.cpp, built for this machine.
pub(crate) fn llama_cpp_python() -> anyhow::Result<PathBuf> {
    let smallest = model_path("smollm2")?;
    python::with_llama_cpp(|python| engines::llama_cpp_runs(python, &smallest))
}

fn model_path(model: &str) -> anyhow::Result<PathBuf> {
    if models::TEST_MODELS.iter().any(|known| known.short == model) {
        return Ok(models::path_in(&models::bring(false)?, model));
    }
    Path::new(model).canonicalize().with_context(|| format!("no test model and no file `{model}`"))
}

impl Cell {
    fn new(model: &str, threads: usize, rounds: &[(Measured, Measured)]) -> Self {
        let rate = |n_tokens: usize| move |ns: &u64| n_tokens as f64 * 1e9 / *ns as f64;
        let prefill = |m: &Measured| m.prefill_ns.iter().map(rate(N_PROMPT)).collect();
        let decode = |m: &Measured| m.decode_ns.iter().map(rate(N_GENERATED)).collect();
        Self {
            model: model.to_owned(),
            threads,
            prefill: Comparison::new("tok/s", rounds, prefill),
            decode: Comparison::new("tok/s", rounds, decode),
            first_token: Comparison::new("s", rounds, |m| vec![m.first_token_ns as f64 / 1e9]),
            peak_rss: Comparison::new("MB", rounds, |m| vec![m.peak_rss_bytes as f64 / 1e6]),
        }
    }
}

impl Comparison {
    fn new(
        unit: &'static str,
        rounds: &[(Measured, Measured)],
        samples: impl Fn(&Measured) -> Vec<f64>,
    ) -> Self {
        let all = |of: fn(&(Measured, Measured)) -> &Measured| {
            median(rounds.iter().flat_map(|round| samples(of(round))).collect())
        };
        let ratios: Vec<f64> =
            rounds.iter().map(|(sterna, llama)| median(samples(sterna)) / median(samples(llama))).collect();
        Self {
            unit,
            sterna: all(|round| &round.0),
            llama_cpp: all(|round| &round.1),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ratio: median(ratios),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn markdown(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| model | threads | figure | Sterna | llama.cpp | ratio | least to greatest round |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for Cell { model, threads, prefill, decode, first_token, peak_rss } in cells {
        let figures = [
            ("prefill 512", prefill),
            ("decode 128", decode),
            ("first token", first_token),
            ("peak memory", peak_rss),
        ];
        for (name, figure) in figures {
            let Comparison { unit, sterna, llama_cpp, ratio, ratio_min, ratio_max } = figure;
            text += &format!(
                "| {model} | {threads} | {name}, {unit} | {sterna:.2} | {llama_cpp:.2} | {ratio:.2} \
                 | {ratio_min:.2} to {ratio_max:.2} |\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let measured = |ns| Measured { prefill_ns: vec![ns], ..Measured::default() };
        // The second round is twice as slow for both.
        let rounds = [(measured(100), measured(150)), (measured(200), measured(300))];
        let comparison = Comparison::new("tok/s", &rounds, |m| vec![1.0 / m.prefill_ns[0] as f64]);
        for ratio in [comparison.ratio, comparison.ratio_min, comparison.ratio_max] {
            assert!((ratio - 1.5).abs() < 1e-12, "{ratio}");
        }
    }
}
