//! What is to become of a model: method, bits, groups, and where the rule has exceptions.
//!
//! As TOML, in files for `sterna quantize --recipe`:
//!
//! ```toml
//! method = "auto"
//! body = "a4g128"
//! embedding = "s6g32"
//! head = "s6g32"
//!
//! [layers]
//! "blk.*.attn_v.weight" = "s6g64"
//! "blk.0.*" = "s8g32"
//! ```
//!
//! Ternary weights stay as they are whatever this says, but for one thing: where it says `t1g256`, or `t1g` and any other
//! number, they are written five to a byte.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sterna_model::layerwise::FloatLinear;
use sterna_tensor::PackedFormat;

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// To nearest, group by group.
    Rtn,
    /// Activation-aware scaling (arXiv:2306.00978), then to nearest with the best clipping.
    Awq,
    /// With each column's error made up for by the columns after it (arXiv:2210.17323).
    Gptq,
    /// Activation-aware scaling, then whichever of the others leaves the least error, with scales fitted afterwards.
    Auto,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Rtn => "rtn",
            Method::Awq => "awq",
            Method::Gptq => "gptq",
            Method::Auto => "auto",
        })
    }
}

/// How a model is quantized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// How weights are rounded.
    pub method: Method,
    /// Of the linear layers of all blocks.
    pub body: Grid,
    /// Of the embedding.
    pub embedding: Grid,
    /// Of the head, where it is not the embedding.
    pub head: Grid,
    /// Exceptions by name, as native files name tensors, where `*` stands for any characters. Of several patterns that
    /// match a name, the longest counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, Grid>,
}

impl Recipe {
    /// What the matrix `name` is rounded to, where the rule for its kind is `usual`.
    pub fn grid_of(&self, name: &str, usual: Grid) -> Grid {
        let matching = self.layers.iter().filter(|(pattern, _)| matches(pattern, name));
        matching.max_by_key(|(pattern, _)| pattern.len()).map_or(usual, |(_, grid)| *grid)
    }

    /// What the layer `layer` of a block is rounded to. Layers that steer others stay as they are, and so do ternary ones and
    /// rows that are no whole groups of 32.
    pub(crate) fn format_of(&self, layer: &FloatLinear) -> Option<PackedFormat> {
        let format = self.grid_of(&layer.name, self.body).format();
        (is_rounded(layer) && layer.cols.is_multiple_of(format.block_len())).then_some(format)
    }
}

/// Bits and groups of a matrix, called as in native files: `a4g128` has 4 bits, zero points, and groups of 128 columns;
/// `s6g32` has 6 bits and no zero points; `a4b32` has scales of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grid(PackedFormat);

impl Grid {
    /// `bits` of a code and columns that share a scale; `symmetric` has no zero points. `None` where there is no such
    /// format.
    pub fn new(bits: usize, group_size: usize, symmetric: bool) -> Option<Grid> {
        let format = match symmetric {
            true => PackedFormat::symmetric(bits, group_size),
            false => PackedFormat::affine(bits, group_size),
        };
        format.map(Grid)
    }

    /// The same with scales of one byte, `a4b128` for `a4g128`; `None` where there is no such format.
    pub fn with_byte_scales(self) -> Option<Grid> {
        self.0.with_byte_scales().map(Grid)
    }

    /// Whether codes of three values lie five to a byte, as in `t1g256`.
    pub fn is_five_to_a_byte(self) -> bool {
        self.0.group_size().and_then(PackedFormat::trits) == Some(self.0)
    }

    /// The format that holds such a matrix.
    pub fn format(self) -> PackedFormat {
        self.0
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Grid {
    type Err = String;

    fn from_str(name: &str) -> Result<Grid, String> {
        let format: PackedFormat = name.parse().map_err(|error| format!("{error}"))?;
        match format.group_size() {
            Some(_) => Ok(Grid(format)),
            None => Err(format!("{name} is no format that weights are rounded to; try a4g128 or s6g32")),
        }
    }
}

impl TryFrom<String> for Grid {
    type Error = String;

    fn try_from(name: String) -> Result<Grid, String> {
        name.parse()
    }
}

impl From<Grid> for String {
    fn from(grid: Grid) -> String {
        grid.to_string()
    }
}

/// Whether `layer` may be rounded. Ternary ones have been already. Others are small, and much hangs on them: routers pick experts,
/// and time steps say how fast states are forgotten.
pub(crate) fn is_rounded(layer: &FloatLinear) -> bool {
    let kept = [
        "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight",
        "ssm_in_dt.weight",
        "ssm_x.weight",
        "ssm_dt.weight",
        "delta_b.weight",
        "delta_a.weight",
    ];
    !layer.is_ternary && !kept.iter().any(|kept| layer.name.ends_with(kept))
}

/// Whether `name` is `pattern` with something, or nothing, in place of each `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything() {
        let name = "blk.12.ffn_up_exps.7.weight";
        for pattern in [name, "*", "blk.12.*", "*.weight", "blk.*.ffn_up_exps.*.weight", "blk.12*.ffn*weight"]
        {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["", "blk.1", "blk.12", "blk.*.ffn_down*", "*.bias", "blk.*.weight.*", "ffn*"] {
            assert!(!matches(pattern, name), "{pattern}");
        }
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn the_longest_pattern_counts() {
        let grid = |name: &str| name.parse::<Grid>().unwrap();
        let layers = [("blk.*", "s8g32"), ("blk.*.attn_v.weight", "s6g64"), ("blk.3.*", "a4g32")];
        let recipe = Recipe {
            method: Method::Auto,
            body: grid("a4g128"),
            embedding: grid("s6g32"),
            head: grid("s6g32"),
            layers: layers.map(|(pattern, name)| (pattern.to_owned(), grid(name))).into(),
        };
        let of = |name| recipe.grid_of(name, recipe.body).to_string();
        assert_eq!(of("blk.3.attn_v.weight"), "s6g64");
        assert_eq!(of("blk.3.attn_q.weight"), "a4g32");
        assert_eq!(of("blk.4.attn_q.weight"), "s8g32");
        assert_eq!(of("output.weight"), "a4g128");
    }

    #[test]
    fn routers_and_ternary_layers_are_not_rounded() {
        let grid: Grid = "a4g32".parse().unwrap();
        let recipe =
            Recipe { method: Method::Auto, body: grid, embedding: grid, head: grid, layers: BTreeMap::new() };
        let format_of = |name: &str, cols, is_ternary| {
            let (name, weight) = (name.to_owned(), vec![0.0; cols]);
            recipe.format_of(&FloatLinear { name, rows: 1, cols, weight, bias: None, is_ternary })
        };
        assert_eq!(format_of("blk.0.ffn_up.weight", 64, false), Some(grid.format()));
        assert_eq!(format_of("blk.0.ffn_up.weight", 64, true), None);
        assert_eq!(format_of("blk.0.ffn_up.weight", 33, false), None);
        assert_eq!(format_of("blk.0.ffn_gate_inp.weight", 64, false), None);
    }

    #[test]
    fn formats_of_other_makers_are_no_grids() {
        assert!("Q4_K".parse::<Grid>().is_err());
        assert!("a5g128".parse::<Grid>().is_err());
        let is_five_to_a_byte = |name: &str| name.parse::<Grid>().unwrap().is_five_to_a_byte();
        assert!(is_five_to_a_byte("t1g256") && !is_five_to_a_byte("t2g256") && !is_five_to_a_byte("s2g256"));
        assert_eq!("Q4_0".parse::<Grid>().map(|grid| grid.to_string()).as_deref(), Ok("s4g32"));
    }
}
