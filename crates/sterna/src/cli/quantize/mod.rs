//! `sterna quantize`: a float checkpoint in, a native file of a few bits per weight out.

mod args;
mod budget;
mod calibration;
mod format;
mod own_text;
mod resume;
mod sink;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sterna::{Checkpoint, Compute, Isa, Pool, Precision, Size, physical_cores};
use sterna_model::{Layerwise, native};
use sterna_quant::pipeline::{BlockReport, Pipeline};

use super::memory::peak_rss;
use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts, note, step_bar};
use super::{Global, model_arg, units};
pub(super) use args::Args;
use resume::{Progress, Request};
use sink::NativeSink;

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let path = model_arg::resolve(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&path)?;
    let output = args.format.native_path(&args.output, &checkpoint)?;
    let network = Layerwise::open(&checkpoint)?;
    let mut recipe = args.recipe()?;
    let bits_per_weight = Size::of(&checkpoint).bits_per_weight();
    if bits_per_weight < 15.0 {
        note(format_args!(
            "{} has {bits_per_weight:.1} bits per weight: it is quantized already, and errors add up",
            path.display()
        ));
    }
    let n_threads = args.threads.threads.unwrap_or_else(physical_cores);
    let compute = Compute { isa: Isa::from_env()?, pool: Pool::new(n_threads), precision: Precision::Float };
    handle_interrupts()?;
    let interruptible = Interruptible::start();
    let cancel = interruptible.cancel();
    let interrupted = Ok(ExitCode::from(EXIT_INTERRUPTED));
    let sequences = calibration::sequences(&args.calib, args.calib_tokens, &checkpoint, n_threads, cancel)?;
    let Some(sequences) = sequences else { return interrupted };
    let request = Request::new(&checkpoint, &sequences, &recipe, args.bpw());
    let unfinished = if args.resume { NativeSink::resume(&output, &compute.pool)? } else { None };
    let unfinished =
        unfinished.map(|(sink, state)| anyhow::Ok((sink, request.progress(state)?))).transpose()?;
    let (mut sink, mut progress) = match unfinished {
        Some(unfinished) => unfinished,
        None => {
            if args.resume {
                note(format_args!("nothing unfinished at {}: beginning", output.display()));
            }
            if let Some(bpw) = args.bpw() {
                let layers = budget::spend(
                    bpw,
                    args.symmetric(),
                    &checkpoint,
                    &network,
                    &sequences,
                    &compute,
                    cancel,
                )?;
                let Some(layers) = layers else { return interrupted };
                recipe.layers = layers;
            }
            let sink = NativeSink::create(&output, &checkpoint, &compute.pool)?;
            (sink, Progress { request, recipe, n_blocks: 0 })
        }
    };

    let recipe = progress.recipe.clone();
    let mut pipeline = Pipeline::new(&network, &recipe, &sequences, &compute)?;
    let n_blocks = network.spec().blocks.len();
    let bar = step_bar("quantizing", n_blocks);
    for index in 0..n_blocks {
        if cancel.load(Ordering::SeqCst) {
            bar.finish_and_clear();
            if progress.n_blocks > 0 {
                note(format_args!(
                    "{} of {n_blocks} blocks are done; go on with --resume",
                    progress.n_blocks
                ));
            }
            return interrupted;
        }
        if index < progress.n_blocks {
            pipeline.pass_over(index, &|name| sink.read(name))?;
        } else {
            let report = pipeline.block(index, &mut sink)?;
            progress.n_blocks = index + 1;
            sink.checkpoint(&progress)?;
            if global.verbose {
                bar.suspend(|| describe(&report));
            }
        }
        bar.inc(1);
    }
    pipeline.ends(&mut sink)?;
    for tensor in native::tensors(&checkpoint)? {
        sink.add_if_missing(&tensor)?;
    }
    sink.finish(&checkpoint, &recipe)?;
    bar.finish_and_clear();
    let Some((output, n_bytes)) = args.format.export(output, &args.output, &interruptible)? else {
        return interrupted;
    };
    let seconds = start.elapsed().as_secs_f64();
    let memory = peak_rss().map(|bytes| format!(", {} of memory at most", units::bytes(bytes)));
    let memory = memory.unwrap_or_default();
    note(format_args!("{}: {}, {seconds:.0} s{memory}", output.display(), units::bytes(n_bytes)));
    Ok(ExitCode::SUCCESS)
}

/// One line for each layer of a block, on stderr.
fn describe(report: &BlockReport) {
    for scaling in &report.scalings {
        let gain = scaling.error_after / scaling.error_before.max(f64::MIN_POSITIVE);
        note(format_args!(
            "{}: inputs scaled by power {:.2}, error x {gain:.3}",
            scaling.layer, scaling.power
        ));
    }
    for (layer, error) in &report.errors {
        note(format_args!("{layer}: relative error {error:.2e}"));
    }
}
