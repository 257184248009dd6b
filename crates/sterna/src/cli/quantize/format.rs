//! `--format`: the form in which the quantized model is wanted. Other than native ones are exported from a native file,
//! which is written beside the output and removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use sterna::spec::Projections;
use sterna::{Checkpoint, Spec};
use sterna_model::export::gguf;
use sterna_quant::allocation;
use sterna_quant::recipe::Grid;

use crate::cli::export::{self, Target};
use crate::cli::terminal::{Interruptible, note};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Sterna's own: the smallest, and run as it lies
    Sterna,
    /// A file for llama.cpp; smallest and exact with --symmetric --group 32
    Gguf,
    /// A folder for vLLM, SGLang, transformers: 4 bits with zero points
    Awq,
    /// A folder for mlx-lm
    Mlx,
}

impl Format {
    /// What the native file is exported to.
    fn target(self) -> Option<Target> {
        match self {
            Format::Sterna => None,
            Format::Gguf => Some(Target::Gguf),
            Format::Awq => Some(Target::Awq),
            Format::Mlx => Some(Target::Mlx),
        }
    }

    /// Out of which formats `--bpw` may choose for each matrix: for GGUF files those that take as many bits there. (In MLX's
    /// folders a group takes 32 bits instead of 16 or 20, so that they come out a little larger.)
    ///
    /// # Errors
    /// When there is no choice.
    pub(super) fn grids(self, symmetric: bool) -> anyhow::Result<Vec<Grid>> {
        let mut grids = allocation::usual_grids();
        match self {
            Format::Sterna | Format::Mlx => grids.retain(|grid| !symmetric || !grid.format().is_affine()),
            // Q4_0, Q5_0, Q8_0.
            Format::Gguf => grids = [4, 5, 8].iter().filter_map(|&bits| Grid::new(bits, 32, true)).collect(),
            Format::Awq => bail!("--bpw: AWQ's files have 4 bits everywhere"),
        }
        Ok(grids)
    }

    /// Where the native file goes.
    ///
    /// # Errors
    /// When `output` is not called as outputs of the format are, or the format cannot express the model: hours of
    /// quantizing should not end in a refusal.
    pub(super) fn native_path(self, output: &Path, checkpoint: &Checkpoint) -> anyhow::Result<PathBuf> {
        let Some(target) = self.target() else {
            return match output.extension() {
                Some(extension) if extension == "sterna" => Ok(output.to_owned()),
                None => Ok(output.with_extension("sterna")),
                Some(_) => bail!("{}: expected a name that ends in .sterna", output.display()),
            };
        };
        target.check_path(output)?;
        if let Projections::Ternary { .. } = Spec::of(checkpoint)?.projections {
            bail!("--format: weights -1, 0 and 1 stay as they are, which only native files have a place for");
        }
        if self == Format::Gguf {
            gguf::is_expressible(checkpoint)?;
        }
        // Without the slash that the name of a folder may end in.
        let mut name = output.components().as_path().as_os_str().to_owned();
        name.push(".sterna");
        Ok(name.into())
    }

    /// Makes `output` of the native file; what is there then and its size, or `None` when Ctrl-C was pressed.
    ///
    /// # Errors
    /// Those of the export. The native file is kept then, and the message says where.
    pub(super) fn export(
        self,
        native: PathBuf,
        output: &Path,
        interruptible: &Interruptible,
    ) -> anyhow::Result<Option<(PathBuf, u64)>> {
        let Some(target) = self.target() else {
            let n_bytes = fs::metadata(&native)?.len();
            return Ok(Some((native, n_bytes)));
        };
        let export = Checkpoint::open(&native)
            .map_err(anyhow::Error::from)
            .and_then(|checkpoint| target.begin(&checkpoint, output, false))
            .and_then(|export| export::finish(export, interruptible));
        let kept = || format!("{} is quantized and kept, but not exported", native.display());
        match export.with_context(kept)? {
            Some(report) => {
                fs::remove_file(&native).with_context(|| format!("removing {}", native.display()))?;
                report.tell();
                Ok(Some((output.to_owned(), report.n_bytes)))
            }
            None => {
                note(kept());
                Ok(None)
            }
        }
    }
}
