//! What to make of a model: flags, and the recipe they stand for.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use sterna_quant::recipe::{Grid, Method, Recipe};

use super::format::Format;
use crate::cli::settings::{ThreadsArg, positive};

/// Make a model smaller: 4 bits per weight, or 2, 3, 8, or as many as a budget allows
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A name from the store, a GGUF file, or a Hugging Face directory; best with f16, bf16 or f32 weights
    pub(super) checkpoint: String,
    /// The file to write, NAME.sterna or what --format asks for
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// The form in which the model is wanted
    #[arg(long, value_enum, default_value_t = Format::Sterna)]
    pub(super) format: Format,
    #[command(flatten)]
    rounding: RoundingArgs,
    /// Text to fit to: a file, the text that comes with sterna, text that the model writes itself, or nothing
    #[arg(
        long,
        default_value = "builtin",
        value_name = "FILE|builtin|self|none",
        help_heading = "Calibration"
    )]
    pub(super) calib: String,
    /// Most tokens of that text [default: 16k; 4k of the model's own]
    #[arg(long, value_parser = positive, value_name = "TOKENS", help_heading = "Calibration")]
    pub(super) calib_tokens: Option<usize>,
    /// Go on where an interrupted run with the same arguments stopped
    #[arg(long)]
    pub(super) resume: bool,
    #[command(flatten)]
    pub(super) threads: ThreadsArg,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rounding")]
struct RoundingArgs {
    /// How weights are rounded
    #[arg(long, value_enum, default_value_t = MethodArg::Auto)]
    method: MethodArg,
    /// Average bits of all weights, embedding and head included, spent where they count; replaces --bits and --group
    #[arg(long, value_parser = bits_per_weight, value_name = "BITS", conflicts_with_all = ["bits", "group", "embed_bits", "head_bits"])]
    bpw: Option<f64>,
    /// Bits of a weight; weights that were trained to be -1, 0 and 1 stay so
    #[arg(long, default_value_t = 4, value_parser = bits)]
    bits: usize,
    /// Weights of a row that share a scale: a multiple of 32, or `row`
    #[arg(long, default_value = "128", value_parser = group_size, value_name = "N|row")]
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
    /// A TOML file that says all of the above, layer by layer if need be
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "bpw", "bits", "group", "symmetric", "embed_bits", "head_bits"])]
    recipe: Option<PathBuf>,
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

/// Columns that share a scale in embedding and head.
const END_GROUP: usize = 32;

/// A group that is no shorter than any row.
const WHOLE_ROW: usize = 1 << 20;

fn bits(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bits @ (2 | 3 | 4 | 5 | 6 | 8)) => Ok(bits),
        _ => Err(format!("{text} is none of 2, 3, 4, 5, 6, 8")),
    }
}

fn bits_per_weight(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(bits) if (2.0..=16.0).contains(&bits) => Ok(bits),
        _ => Err(format!("{text} is no number from 2 to 16")),
    }
}

fn group_size(text: &str) -> Result<usize, String> {
    match text {
        "row" => Ok(WHOLE_ROW),
        _ => match positive(text)? {
            n if n.is_multiple_of(32) => Ok(n.min(WHOLE_ROW)),
            n => Err(format!("{n} is no multiple of 32")),
        },
    }
}

impl Args {
    /// What the flags, or the file that they name, ask for.
    pub(super) fn recipe(&self) -> anyhow::Result<Recipe> {
        match &self.rounding.recipe {
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
            }
            None => self.rounding.recipe(),
        }
    }

    /// Average bits that are to be spent where they count, if that is asked for.
    pub(super) fn bpw(&self) -> Option<f64> {
        self.rounding.bpw
    }

    /// Whether zero points are not wanted.
    pub(super) fn symmetric(&self) -> bool {
        self.rounding.symmetric
    }
}

impl RoundingArgs {
    fn recipe(&self) -> anyhow::Result<Recipe> {
        let grid = |bits, group_size, symmetric| {
            Grid::new(bits, group_size, symmetric).ok_or_else(|| anyhow!("no format of {bits} bits"))
        };
        let embed_bits = self.embed_bits.unwrap_or(if self.bits == 8 { 8 } else { 6 });
        // Codes of more than 4 bits have no zero points.
        let symmetric = self.symmetric || self.bits > 4;
        Ok(Recipe {
            method: match self.method {
                MethodArg::Auto => Method::Auto,
                MethodArg::Awq => Method::Awq,
                MethodArg::Gptq => Method::Gptq,
                MethodArg::Rtn => Method::Rtn,
            },
            body: grid(self.bits, self.group, symmetric)?,
            embedding: grid(embed_bits, END_GROUP, true)?,
            head: grid(self.head_bits.unwrap_or(embed_bits), END_GROUP, true)?,
            layers: BTreeMap::new(),
        })
    }
}
