//! `sterna quantize`: a float checkpoint in, a native file of a few bits per weight out.

mod args;
mod budget;
mod calibration;
mod format;
mod measured;
mod own_text;
mod resume;
mod sink;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sterna::spec::Projections;
use sterna::{Checkpoint, Compute, Isa, Precision, Size, physical_cores};
use sterna_model::{Layerwise, native};
use sterna_quant::Cost;
use sterna_quant::calibration::hold_out;
use sterna_quant::pipeline::{BlockReport, Pipeline};
use sterna_quant::recipe::Recipe;

use super::memory::peak_rss;
use super::progress::StepBar;
use super::quality::Quality;
use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts, note};
use super::{Global, model_arg, units};
pub(super) use args::Args;
use resume::{Progress, Request, Source};
use sink::NativeSink;

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let path = model_arg::resolve(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&path)?;
    let native = args.format.native_path(&args.output, &checkpoint)?;
    let network = Layerwise::open(&checkpoint)?;
    let recipe = args.recipe()?;
    let bits_per_weight = Size::of(&checkpoint).bits_per_weight();
    if let Projections::Ternary { .. } = network.spec().projections {
        note(format_args!(
            "{}: weights -1, 0 and 1 stay as they are; the others are rounded",
            path.display()
        ));
    } else if bits_per_weight < 15.0 {
        note(format_args!(
            "{} has {bits_per_weight:.1} bits per weight: it is quantized already, and errors add up",
            path.display()
        ));
    }
    let n_threads = args.threads.threads.unwrap_or_else(physical_cores);
    let compute = Compute { isa: Isa::from_env()?, ..Compute::new(n_threads, Precision::Float) };
    handle_interrupts()?;
    let interruptible = Interruptible::start();
    let job = Job {
        args: &args,
        checkpoint: &checkpoint,
        network: &network,
        compute: &compute,
        cancel: interruptible.cancel(),
        native: &native,
    };
    let Some(cost) = job.quantize(recipe, global.verbose)? else {
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    };
    let Some((output, n_bytes)) = args.format.export(native.clone(), &args.output, &interruptible)? else {
        return Ok(ExitCode::from(EXIT_INTERRUPTED));
    };
    let seconds = start.elapsed().as_secs_f64();
    let memory = peak_rss().map(|bytes| format!(", {} of memory at most", units::bytes(bytes)));
    let memory = memory.unwrap_or_default();
    note(format_args!("{}: {}, {seconds:.0} s{memory}", output.display(), units::bytes(n_bytes)));
    if let Some(Cost { divergence, same_top, n_tokens }) = cost.held_out {
        note(format_args!(
            "on {n_tokens} tokens that it was not fitted to: divergence {divergence:.4} nats, same top token {:.1} %; \
             `sterna eval` measures more",
            100.0 * same_top
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// A checkpoint on its way into a native file.
struct Job<'a> {
    args: &'a Args,
    checkpoint: &'a Checkpoint,
    network: &'a Layerwise,
    compute: &'a Compute,
    cancel: &'a AtomicBool,
    native: &'a Path,
}

impl<'a> Job<'a> {
    /// Quantizes everything, or what an earlier run left; `None` when interrupted.
    fn quantize(&self, recipe: Recipe, verbose: bool) -> anyhow::Result<Option<Quality>> {
        let Job { args, checkpoint, network, compute, cancel, .. } = *self;
        let tensors = native::tensors(checkpoint)?;
        let n_threads = compute.pool.n_threads();
        let text = calibration::sequences(&args.calib, args.calib_tokens, checkpoint, n_threads, cancel)?;
        let Some(mut text) = text else { return Ok(None) };
        let held_out = hold_out(&mut text);
        let Some((mut sink, mut progress)) = self.begin(recipe, &text)? else { return Ok(None) };
        let recipe = progress.recipe.clone();
        let mut pipeline = Pipeline::new(network, &recipe, &text, &held_out, compute)?;
        let n_blocks = network.spec().blocks.len();
        let mut bar = StepBar::new("quantizing", 0, n_blocks);
        for index in 0..n_blocks {
            if cancel.load(Ordering::SeqCst) {
                drop(bar);
                if progress.n_blocks > 0 {
                    let done = progress.n_blocks;
                    note(format_args!("{done} of {n_blocks} blocks are done; go on with --resume"));
                }
                return Ok(None);
            }
            if index < progress.n_blocks {
                pipeline.pass_over(index, &|name| sink.read(name))?;
            } else {
                let report = pipeline.block(index, &mut sink)?;
                if verbose {
                    bar.suspend(|| describe(&report));
                }
                progress.n_blocks = index + 1;
                progress.quality.layers.extend(report.errors);
                sink.checkpoint(&progress)?;
            }
            bar.step();
        }
        progress.quality.held_out = pipeline.ends(&mut sink)?;
        for tensor in &tensors {
            sink.add_if_missing(tensor, &recipe)?;
        }
        sink.finish(checkpoint, &recipe, &progress.quality)?;
        Ok(Some(progress.quality))
    }

    /// The file to write to, and how far it is; `None` when interrupted.
    fn begin(
        &self,
        mut recipe: Recipe,
        text: &[Vec<u32>],
    ) -> anyhow::Result<Option<(NativeSink<'a>, Progress)>> {
        let Job { args, checkpoint, network, compute, cancel, native } = *self;
        let request = Request::new(Source::new(checkpoint, text), &recipe, args.bpw());
        if args.resume {
            if let Some((sink, state)) = NativeSink::resume(native, &compute.pool)? {
                return Ok(Some((sink, request.progress(state)?)));
            }
            note(format_args!("nothing unfinished at {}: beginning", native.display()));
        }
        if let Some(bpw) = args.bpw() {
            let grids = args.format.grids(args.symmetric())?;
            let units = budget::measure(&grids, &request.source, network, text, compute, cancel)?;
            let Some(units) = units else { return Ok(None) };
            recipe.layers = budget::spend(bpw, checkpoint, units)?;
        }
        let sink = NativeSink::create(native, checkpoint, &compute.pool)?;
        Ok(Some((sink, Progress { request, recipe, n_blocks: 0, quality: Quality::default() })))
    }
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
