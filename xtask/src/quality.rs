//! What quantizing costs: every method on real models, and llama.cpp's files beside them, judged against the checkpoint
//! they were made of.
//!
//! The checkpoints are what the package registries carry, already quantized once; each is taken for what it stands for
//! after exact dequantization. `docs/quality.md` says what that means for the figures.

mod fewest;
mod files;
mod judged;
mod report;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::{models, workspace};
use files::{Files, succeed};
use judged::Judged;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models: names of the test models, or checkpoints
    #[arg(default_values = ["smollm2", "gemma3", "qwen25"])]
    models: Vec<String>,
    /// The text that is scored
    #[arg(long)]
    text: PathBuf,
    /// Most windows of it
    #[arg(long, default_value_t = 60)]
    windows: usize,
    /// How the checkpoint itself is computed: with int8 activations as the files are, or, slower, in float
    #[arg(long, default_value = "float")]
    against_precision: String,
    /// A file of LAMBADA's passages, to be judged by too
    #[arg(long)]
    lambada: Option<PathBuf>,
    /// Most of its passages
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Ways of rounding
    #[arg(long, value_delimiter = ',', default_values = ["rtn", "gptq", "awq", "auto"])]
    methods: Vec<String>,
    /// Bits of the blocks' weights, for each of them
    #[arg(long, value_delimiter = ',', default_values_t = [4, 3])]
    bits: Vec<usize>,
    /// Weights that share a scale there
    #[arg(long, default_value_t = 128)]
    group: usize,
    /// Tokens of the calibration text [default: as many as `sterna quantize` takes]
    #[arg(long)]
    calib_tokens: Option<String>,
    /// Average bits of all weights, spent where they count
    #[arg(long, value_delimiter = ',', default_values = ["3", "3.5", "4", "4.25", "4.5", "5", "6", "6.5"])]
    bpw: Vec<String>,
    /// Types of llama.cpp's files
    #[arg(long, value_delimiter = ',', default_values = ["Q4_0", "Q4_1", "Q4_K_M", "Q3_K_M", "IQ4_XS", "Q5_K_M", "Q6_K"])]
    llama_cpp: Vec<String>,
    /// A Python with llama-cpp-python [default: one is made under target/]
    #[arg(long)]
    python: Option<PathBuf>,
    /// Take files that an earlier run made
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sterna = release_build()?;
    let directory = workspace::target().join("quality");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for model in &args.models {
        let original = models::find(model)?;
        let files = Files { sterna: &sterna, directory: &directory, original: &original, args };
        let files = files.make()?;
        let stem = directory.join(original.file_stem().unwrap_or_default());
        let mut eval = Command::new(&sterna);
        eval.arg("eval").args(&files).arg("--against").arg(&original).arg("--text").arg(&args.text);
        eval.args(["--windows", &args.windows.to_string(), "--json"]);
        eval.args(["--against-precision", &args.against_precision]);
        if let Some(lambada) = &args.lambada {
            eval.arg("--task").arg(format!("lambada={}", lambada.display()));
            eval.args(["--limit", &args.limit.to_string()]);
        }
        eval.arg("--html").arg(stem.with_extension("html"));
        let results = Judged::of_output(&mut eval, &files, &stem.with_extension("json"))?;
        print!("{}", report::markdown(model, &results)?);
    }
    Ok(())
}

fn release_build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    succeed(Command::new(cargo).args(["build", "--release", "-p", "sterna"]).current_dir(workspace::root()))?;
    Ok(workspace::target().join("release").join(format!("sterna{}", std::env::consts::EXE_SUFFIX)))
}
