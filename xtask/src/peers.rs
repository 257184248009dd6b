//! Compare speed with other engines, side by side in one run: the same file, the same threads, by turns.
//!
//! A shared machine drifts, so each cell is measured in rounds of one process of each engine, and the ratio is taken
//! within a round: what slows all leaves it alone.

mod engines;
mod ik_llama;
mod python;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::{models, workspace};
use engines::{Engine, Measured, Work};
use ik_llama::IkLlama;
use table::Cell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models to compare on: names of the test models, or GGUF files. `FILE=OWN` lets Sterna run the file OWN instead, such as one
    /// that it has quantized itself
    #[arg(default_values = ["qwen25", "smollm2"])]
    models: Vec<String>,
    /// Who to compare with
    #[arg(long, value_delimiter = ',', default_values = ["llama.cpp", "openvino"])]
    peers: Vec<Peer>,
    /// Thread counts
    #[arg(short, long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Rounds of one process of each engine
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Repetitions inside a process
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Tokens in the context before those whose generation is timed
    #[arg(short, long, default_value_t = 0)]
    depth: usize,
    /// A Python that has llama-cpp-python, built for this machine [default: one is made under target/peers]
    #[arg(long)]
    python: Option<PathBuf>,
    /// A Python that has openvino-genai [default: one is made under target/peers]
    #[arg(long)]
    openvino_python: Option<PathBuf>,
    /// The `llama-bench` of an ik_llama.cpp that was built for this machine
    #[arg(long, value_name = "PROGRAM")]
    ik_llama_bench: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Peer {
    #[value(name = "llama.cpp")]
    LlamaCpp,
    #[value(name = "openvino")]
    OpenVino,
    #[value(name = "ik_llama.cpp")]
    IkLlama,
}

/// Prompt and generation that are timed, tokens.
const N_PROMPT: usize = 512;
const N_GENERATED: usize = 128;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sterna = Engine::sterna()?;
    let peers: Vec<Engine> =
        args.peers.iter().map(|peer| peer.engine(args)).collect::<anyhow::Result<_>>()?;
    let mut cells = Vec::new();
    for model in &args.models {
        let (file, own) = model.split_once('=').unwrap_or((model, model));
        let (file, own) = (model_path(file)?, model_path(own)?);
        for &threads in &args.threads {
            let work = Work { threads, repetitions: args.repetitions, depth: args.depth };
            let mut cell =
                Cell::new(model, work, std::fs::metadata(&own)?.len(), std::fs::metadata(&file)?.len());
            for round in 1..=args.rounds {
                eprintln!("{model}, {threads} threads: round {round} of {}", args.rounds);
                let ours = sterna.measure(&own, work)?;
                for peer in &peers {
                    match peer.measure(&file, work) {
                        Ok(theirs) => cell.add(peer.name(), ours.clone(), theirs),
                        Err(error) => eprintln!("{} does not run {model}: {error:#}", peer.name()),
                    }
                }
            }
            cells.push(cell);
        }
    }
    let directory = workspace::target().join("peers");
    std::fs::create_dir_all(&directory)?;
    let (table, json) = (table::markdown(&cells), serde_json::to_string_pretty(&cells)?);
    for (name, text) in [("peers.md", &table), ("peers.json", &json)] {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{table}");
    println!("\nalso in {} as peers.md and peers.json", directory.display());
    Ok(())
}

impl Peer {
    fn engine(self, args: &Args) -> anyhow::Result<Engine> {
        Ok(match self {
            Peer::LlamaCpp => Engine::llama_cpp(match &args.python {
                Some(python) => python.clone(),
                None => llama_cpp_python()?,
            }),
            Peer::OpenVino => Engine::openvino(match &args.openvino_python {
                Some(python) => python.clone(),
                None => python::with_openvino()?,
            }),
            Peer::IkLlama => {
                let program = args.ik_llama_bench.as_deref();
                let program = program.context(
                    "ik_llama.cpp is no package: build it, and name its llama-bench with --ik-llama-bench",
                )?;
                Engine::IkLlama(IkLlama::new(program)?)
            }
        })
    }
}

/// A Python with llama.cpp, built for this machine.
pub(crate) fn llama_cpp_python() -> anyhow::Result<PathBuf> {
    let smallest = model_path("smollm2")?;
    python::with_llama_cpp(|python| Engine::llama_cpp(python.to_path_buf()).runs(&smallest))
}

fn model_path(model: &str) -> anyhow::Result<PathBuf> {
    if models::TEST_MODELS.iter().any(|known| known.short == model) {
        return Ok(models::path_in(&models::bring(false)?, model));
    }
    Path::new(model).canonicalize().with_context(|| format!("no test model and no file `{model}`"))
}
