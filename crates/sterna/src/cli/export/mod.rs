//! `sterna export`: a model in, the file or directory that another runtime wants out.

mod gguf;
mod report;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::ValueEnum;
use sterna::Checkpoint;
use sterna_model::export::Export;
use sterna_model::export::hf::{self, HfExport};

use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts, note, step_bar};
use super::{model_arg, units};
use report::Report;

/// Write a model in the format of another runtime
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the store, a native or GGUF file, or a Hugging Face directory
    model: String,
    /// The format
    #[arg(long, value_enum)]
    to: Target,
    /// The file to write, or the directory for formats that are one
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Keep every weight exactly, also where that takes more bytes
    #[arg(long)]
    exact: bool,
    /// Print what became of every tensor as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    /// llama.cpp and what builds on it: one file
    Gguf,
    /// transformers and most others: a folder with weights of 16 bits
    Hf,
    /// vLLM, SGLang, transformers: a folder with the 4 bits that the model has
    Awq,
    /// The same runtimes: a folder with the 2, 3, 4 or 8 bits that the model has
    Gptq,
    /// mlx-lm: a folder with the 2 to 8 bits that the model has
    Mlx,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let path = model_arg::resolve(&args.model)?;
    let checkpoint = Checkpoint::open(&path)?;
    let export = match args.to {
        Target::Gguf => gguf::create(&checkpoint, &args.output, args.exact)?,
        Target::Hf => folder(&checkpoint, &args.output, hf::Target::Dense)?,
        Target::Awq => folder(&checkpoint, &args.output, hf::Target::Awq)?,
        Target::Gptq => folder(&checkpoint, &args.output, hf::Target::Gptq)?,
        Target::Mlx => folder(&checkpoint, &args.output, hf::Target::Mlx)?,
    };
    handle_interrupts()?;
    let interruptible = Interruptible::start();
    let Some(report) = finish(export, &interruptible)? else { return Ok(ExitCode::from(EXIT_INTERRUPTED)) };
    if args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        stdout().write_all(text.as_bytes())?;
    } else {
        report.tell();
    }
    let (output, seconds) = (args.output.display(), start.elapsed().as_secs_f64());
    note(format_args!("{output}: {}, {seconds:.1} s", units::bytes(report.n_bytes)));
    Ok(ExitCode::SUCCESS)
}

fn folder(checkpoint: &Checkpoint, output: &Path, target: hf::Target) -> anyhow::Result<Box<dyn Export>> {
    Ok(Box::new(HfExport::create(checkpoint, output, target)?))
}

/// Writes all of `export`, with a bar on a terminal; `None` when Ctrl-C was pressed.
pub(super) fn finish(
    mut export: Box<dyn Export>,
    interruptible: &Interruptible,
) -> anyhow::Result<Option<Report>> {
    let bar = step_bar("writing", export.n_tensors());
    let mut tensors = Vec::new();
    while let Some(written) = export.step()? {
        if interruptible.cancel().load(Ordering::SeqCst) {
            return Ok(None);
        }
        tensors.push(written);
        bar.inc(1);
    }
    let n_bytes = export.finish()?;
    bar.finish_and_clear();
    Ok(Some(Report::new(tensors, n_bytes)))
}
