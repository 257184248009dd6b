//! Compare checkpoints with their recorded reference logits: the tiny ones kept in the repository, any others given
//! by path, and with `--real` the three real models.

mod deviation;
mod find;
mod passes;
mod real;
mod recorded;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sterna_formats::Checkpoint;
use sterna_model::ModelError;
use sterna_tensor::{Compute, Precision};

use find::Found;
use recorded::Expected;
use report::{Comparison, Outcome, Row, Table, Tolerance};

/// Both describe the same network, in the words of transformers 4 and 5.
const CONFIGS: [&str; 2] = ["config.json", "config_v5.json"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Checkpoint directories, or trees of them [default: tests/fixtures/checkpoints]; with --real: NAME=PATH, the
    /// GGUF files of smollm2, gemma3 and qwen25, where they are not those that `cargo xtask models` brought
    paths: Vec<String>,
    /// Compare real models on a recorded passage, with float and with int8 activations
    #[arg(long)]
    real: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.real {
        return real::run(&args.paths, args.json);
    }
    let mut roots: Vec<PathBuf> = args.paths.iter().map(PathBuf::from).collect();
    if roots.is_empty() {
        roots.push(fixtures().join("checkpoints"));
    }
    let compute = compute(Precision::Float);
    let rows: Vec<Row> =
        find::checkpoints(&roots)?.iter().flat_map(|found| compare(found, &compute)).collect();
    match args.json {
        true => crate::print(serde_json::to_string_pretty(&rows)? + "\n")?,
        false => crate::print(Table(&rows))?,
    }
    match rows.iter().filter(|row| row.outcome.is_failure()).count() {
        0 => Ok(()),
        n => bail!("{n} of {} comparisons failed", rows.len()),
    }
}

/// One row for each config that the checkpoint has.
fn compare(found: &Found, compute: &Compute) -> Vec<Row> {
    let present = CONFIGS.iter().filter(|config| found.dir.join(config).is_file());
    let outcome =
        |config: &str| outcome(found, config, compute).unwrap_or_else(|error| error_outcome(error, found));
    present.map(|&config| Row { checkpoint: found.name.clone(), config, outcome: outcome(config) }).collect()
}

fn outcome(found: &Found, config: &str, compute: &Compute) -> Result<Outcome> {
    let checkpoint = Checkpoint::open_hf(&found.dir, config)?;
    let expected = Expected::open(&found.dir)?;
    let passes = passes::run(&checkpoint, &expected, compute)?;
    let tolerance = Tolerance::of(checkpoint.config());
    Ok(Outcome::Compared(Comparison::new(passes, tolerance, &found.dir)))
}

fn error_outcome(error: anyhow::Error, found: &Found) -> Outcome {
    match error.downcast_ref::<ModelError>() {
        Some(ModelError::NotSupported { found: architecture, .. }) => Outcome::NotSupported {
            reason: format!("{architecture} is not supported"),
            failure: found.asked_for,
        },
        _ => Outcome::Error { reason: format!("{error:#}") },
    }
}

/// All cores, the instruction set that `STERNA_ISA` or the machine says.
fn compute(precision: Precision) -> Compute {
    Compute::new(std::thread::available_parallelism().map_or(1, usize::from), precision)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}
