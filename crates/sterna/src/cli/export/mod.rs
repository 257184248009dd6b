//! `sterna export`: a model in, the file or directory that another runtime wants out.

mod gguf;
mod report;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::ensure;
use clap::ValueEnum;
use sterna::Checkpoint;
use sterna_model::export::Export;
use sterna_model::export::hf::{self, HfExport};

use super::progress::StepBar;
use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts, note};
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
    /// Keep every weight exactly, also where that takes more bytes; for gguf
    #[arg(long)]
    exact: bool,
    /// Print what became of every tensor as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Target {
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

impl Target {
    /// Refuses an output whose name is not one of the format, or that is a folder with something in it.
    pub(super) fn check_path(self, output: &Path) -> anyhow::Result<()> {
        match self {
            Target::Gguf => gguf::check_path(output),
            Target::Hf | Target::Awq | Target::Gptq | Target::Mlx => {
                let is_used = output.read_dir().is_ok_and(|mut entries| entries.next().is_some());
                ensure!(!is_used, "{}: expected a folder that is new or empty", output.display());
                Ok(())
            }
        }
    }

    /// Begins the output.
    pub(super) fn begin(
        self,
        checkpoint: &Checkpoint,
        output: &Path,
        exact: bool,
    ) -> anyhow::Result<Box<dyn Export>> {
        let folder =
            |target| anyhow::Ok(Box::new(HfExport::create(checkpoint, output, target)?) as Box<dyn Export>);
        match self {
            Target::Gguf => gguf::begin(checkpoint, output, exact),
            Target::Hf => folder(hf::Target::Dense),
            Target::Awq => folder(hf::Target::Awq),
            Target::Gptq => folder(hf::Target::Gptq),
            Target::Mlx => folder(hf::Target::Mlx),
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let path = model_arg::resolve(&args.model)?;
    let checkpoint = Checkpoint::open(&path)?;
    args.to.check_path(&args.output)?;
    let export = args.to.begin(&checkpoint, &args.output, args.exact)?;
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

/// Writes all of `export`, with a bar; `None` when Ctrl-C was pressed.
pub(super) fn finish(
    mut export: Box<dyn Export>,
    interruptible: &Interruptible,
) -> anyhow::Result<Option<Report>> {
    let mut bar = StepBar::new("writing", 0, export.n_tensors());
    let mut tensors = Vec::new();
    while let Some(written) = export.step()? {
        if interruptible.cancel().load(Ordering::SeqCst) {
            return Ok(None);
        }
        tensors.push(written);
        bar.step();
    }
    let n_bytes = export.finish()?;
    Ok(Some(Report::new(tensors, n_bytes)))
}
