//! `sterna inspect`: what is in a checkpoint and what it would cost to run, without loading it.

mod blocks;
mod kernels;
mod memory;
mod native;
mod report;

use std::io::{Write, stdout};
use std::process::ExitCode;

use sterna::synthetic::Shape;
use sterna::{Checkpoint, MAX_CHUNK, Spec};

use super::model_arg;
use super::settings::{ComputeArgs, SyntheticArgs};
pub(in crate::cli) use memory::Memory;
use memory::USUAL_CONTEXT;
use report::Report;

/// Show what is in a model and what it costs to run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the catalogue or the store, a native or GGUF file, or a Hugging Face directory
    #[arg(required_unless_present = "synthetic")]
    model: Option<String>,
    #[command(flatten)]
    synthetic: SyntheticArgs,
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
    if let Some(shape) = &args.synthetic.synthetic {
        let text = shape_memory(shape, &args)?;
        stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = model_arg::resolve(args.model.as_deref().unwrap_or_default())?;
    let checkpoint = Checkpoint::open(&path)?;
    let spec = Spec::of(&checkpoint)?;
    let native = native::About::new(&checkpoint, args.verify)?;
    let options = args.compute.engine_options(Some(1));
    let report = Report::new(&checkpoint, &spec, &options, native, args.tensors)?;
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.text() };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The memory of a network that is only a shape, which has nothing else to show.
fn shape_memory(shape: &str, args: &Args) -> anyhow::Result<String> {
    let options = args.compute.engine_options(Some(1));
    let shape = Shape::new(shape, options.context.unwrap_or(USUAL_CONTEXT))?;
    let memory = Memory::of_shape(&shape, args.synthetic.bits, MAX_CHUNK, &options)?;
    if args.json {
        return Ok(serde_json::to_string_pretty(&memory)? + "\n");
    }
    let mut text = String::new();
    memory.write(&mut text)?;
    Ok(text)
}
