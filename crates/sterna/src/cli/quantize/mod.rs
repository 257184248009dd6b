//! `sterna quantize`: a float checkpoint in, a native file of a few bits per weight out.

mod sink;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use sterna::{Checkpoint, Compute, Isa, Pool, Precision, Size, Tokenizer, physical_cores};
use sterna_model::{Layerwise, native};
use sterna_quant::calibration;
use sterna_quant::pipeline::{BlockReport, Pipeline};
use sterna_quant::recipe::{Grid, Method, Recipe};

use super::settings::{ThreadsArg, positive};
use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts, note, step_bar};
use super::{Global, model_arg, units};
use sink::NativeSink;

/// Make a model smaller: 4 bits per weight, or 2, 3, 8
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the store, a GGUF file, or a Hugging Face directory; best with f16, bf16 or f32 weights
    checkpoint: String,
    /// The file to write, NAME.sterna
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How weights are rounded
    #[arg(long, value_enum, default_value_t = MethodArg::Auto)]
    method: MethodArg,
    /// Bits of a weight
    #[arg(long, default_value_t = 4, value_parser = bits)]
    bits: usize,
    /// Weights of a row that share a scale: a multiple of 32
    #[arg(long, default_value_t = 128, value_parser = group_size, value_name = "N")]
    group: usize,
    /// No zero points: a little smaller, a little worse
    #[arg(long)]
    symmetric: bool,
    /// Bits of the embedding, which is the head too in many models [default: 6, or 8 where --bits is 8]
    #[arg(long, value_parser = bits, value_name = "BITS")]
    embed_bits: Option<usize>,
    /// Bits of the head, where it is not the embedding [default: as the embedding]
    #[arg(long, value_parser = bits, value_name = "BITS")]
    head_bits: Option<usize>,
    /// Text to fit to: a file, or the text that comes with sterna
    #[arg(long, default_value = "builtin", value_name = "FILE|builtin")]
    calib: String,
    /// Most tokens of that text
    #[arg(long, default_value = "16k", value_parser = positive, value_name = "TOKENS")]
    calib_tokens: usize,
    #[command(flatten)]
    threads: ThreadsArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodArg {
    /// Activation-aware scaling, then whichever rounding leaves the least error
    Auto,
    /// Activation-aware scaling (AWQ)
    Awq,
    /// Later columns make up for the errors of earlier ones (GPTQ)
    Gptq,
    /// To nearest
    Rtn,
}

/// Tokens of a piece of calibration text.
const SEQUENCE: usize = 512;

/// Columns that share a scale in embedding and head.
const END_GROUP: usize = 32;

fn bits(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bits @ (2 | 3 | 4 | 5 | 6 | 8)) => Ok(bits),
        _ => Err(format!("{text} is none of 2, 3, 4, 5, 6, 8")),
    }
}

fn group_size(text: &str) -> Result<usize, String> {
    match positive(text)? {
        n if n.is_multiple_of(32) => Ok(n),
        n => Err(format!("{n} is no multiple of 32")),
    }
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let path = model_arg::resolve(&args.checkpoint)?;
    let checkpoint = Checkpoint::open(&path)?;
    let output = output_path(&args.output)?;
    let network = Layerwise::open(&checkpoint)?;
    let recipe = args.recipe();
    ensure!(
        recipe.body.format().is_some(),
        "there is no format of {} bits with zero points; try --symmetric",
        args.bits
    );
    let bits_per_weight = Size::of(&checkpoint).bits_per_weight();
    if bits_per_weight < 15.0 {
        note(format_args!(
            "{} has {bits_per_weight:.1} bits per weight: it is quantized already, and errors add up",
            path.display()
        ));
    }
    let threads = args.threads.threads.unwrap_or_else(physical_cores);
    let compute = Compute { isa: Isa::from_env()?, pool: Pool::new(threads), precision: Precision::Float };
    let sequences = args.calibration(&checkpoint)?;
    let mut pipeline = Pipeline::new(&network, &recipe, &sequences, &compute)?;

    handle_interrupts()?;
    let interruptible = Interruptible::start();
    let mut sink = NativeSink::create(&output, &checkpoint, &compute.pool)?;
    let n_blocks = network.spec().blocks.len();
    let bar = step_bar("quantizing", n_blocks);
    for index in 0..n_blocks {
        if interruptible.cancel().load(Ordering::SeqCst) {
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        let report = pipeline.block(index, &mut sink)?;
        if global.verbose {
            bar.suspend(|| describe(&report));
        }
        bar.inc(1);
    }
    pipeline.ends(&mut sink)?;
    for tensor in native::tensors(&checkpoint)? {
        sink.add_if_missing(&tensor)?;
    }
    let n_bytes = sink.finish(&checkpoint, &recipe)?;
    bar.finish_and_clear();
    note(format_args!(
        "{}: {}, {:.0} s",
        output.display(),
        units::bytes(n_bytes),
        start.elapsed().as_secs_f64()
    ));
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

/// `path` with the extension of native files.
fn output_path(path: &Path) -> anyhow::Result<PathBuf> {
    match path.extension() {
        Some(extension) if extension == "sterna" => Ok(path.to_owned()),
        None => Ok(path.with_extension("sterna")),
        Some(_) => bail!("{}: expected a name that ends in .sterna", path.display()),
    }
}

impl Args {
    fn recipe(&self) -> Recipe {
        let embed_bits = self.embed_bits.unwrap_or(if self.bits == 8 { 8 } else { 6 });
        let end = |bits| Grid { bits, group_size: END_GROUP, symmetric: true };
        // Codes of 8 bits have no zero points.
        let symmetric = self.symmetric || self.bits > 4;
        Recipe {
            method: match self.method {
                MethodArg::Auto => Method::Auto,
                MethodArg::Awq => Method::Awq,
                MethodArg::Gptq => Method::Gptq,
                MethodArg::Rtn => Method::Rtn,
            },
            body: Grid { bits: self.bits, group_size: self.group, symmetric },
            embedding: end(embed_bits),
            head: end(self.head_bits.unwrap_or(embed_bits)),
        }
    }

    fn calibration(&self, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Vec<u32>>> {
        let text = match self.calib.as_str() {
            "builtin" => calibration::builtin(),
            file => fs::read_to_string(file).with_context(|| format!("reading {file}"))?,
        };
        let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
        let tokens = tokenizer.encode_with_bos(&text)?;
        Ok(calibration::sequences(&tokens, SEQUENCE, self.calib_tokens)?)
    }
}
