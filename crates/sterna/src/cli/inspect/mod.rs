//! `sterna inspect`: what is in a checkpoint and what it would cost to run, without loading it.

mod kernels;
mod native;
mod report;

use std::io::{Write, stdout};
use std::process::ExitCode;

use sterna::{Checkpoint, Spec};

use super::model_arg;
use super::settings::ComputeArgs;
use report::Report;

/// Show what is in a model and what it costs to run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the catalogue or the store, a native or GGUF file, or a Hugging Face directory
    model: String,
    /// Compare the contents of a native file with its checksums
    #[arg(long)]
    verify: bool,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print JSON; with every tensor if --tensors
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let path = model_arg::resolve(&args.model)?;
    let checkpoint = Checkpoint::open(&path)?;
    let spec = Spec::of(&checkpoint)?;
    let options = args.compute.engine_options(Some(1));
    let context = options.context_of(&spec)?;
    let compute = options.compute()?;
    let mut report = Report::new(&checkpoint, &spec, &compute, context, options.kv, args.tensors);
    report.native = native::About::new(&checkpoint, args.verify)?;
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.text() };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
