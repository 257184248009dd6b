//! What quantizing costs: every method on real models, judged against the checkpoint they were made of.
//!
//! The checkpoints are what the package registries carry, already quantized once; each is taken for what it stands for
//! after exact dequantization. `docs/quality.md` says what that means for the figures.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{models, workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models: names of the test models, or checkpoints
    #[arg(default_values = ["smollm2"])]
    models: Vec<String>,
    /// The text that is scored
    #[arg(long)]
    text: PathBuf,
    /// Most windows of it
    #[arg(long, default_value_t = 60)]
    windows: usize,
    /// Ways of rounding
    #[arg(long, value_delimiter = ',', default_values = ["rtn", "gptq", "awq", "auto"])]
    methods: Vec<String>,
    /// Bits of the blocks' weights
    #[arg(long, value_delimiter = ',', default_values_t = [4, 3])]
    bits: Vec<usize>,
    /// Weights that share a scale
    #[arg(long, default_value_t = 128)]
    group: usize,
    /// Further files of the same models to judge beside
    #[arg(long)]
    beside: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sterna = workspace::release_build()?;
    let directory = workspace::target().join("quality");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for model in &args.models {
        let original = models::find(model)?;
        let mut files = Vec::new();
        for bits in &args.bits {
            for method in &args.methods {
                let name = format!("{}-{method}-{bits}bit-g{}.sterna", stem(&original), args.group);
                let file = directory.join(name);
                let mut quantize = Command::new(&sterna);
                quantize.arg("quantize").arg(&original).arg("-o").arg(&file).args(["--method", method]);
                quantize.args(["--bits", &bits.to_string(), "--group", &args.group.to_string()]);
                workspace::succeed(&mut quantize)?;
                files.push(file);
            }
        }
        let mut eval = Command::new(&sterna);
        eval.arg("eval").args(&files).args(&args.beside).arg("--against").arg(&original);
        eval.arg("--text").arg(&args.text).args(["--windows", &args.windows.to_string(), "--markdown"]);
        workspace::succeed(&mut eval)?;
    }
    Ok(())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
