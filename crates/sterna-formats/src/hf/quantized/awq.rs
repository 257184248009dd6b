//! AutoAWQ: four bits, a half-float scale and a zero point for each group; the versions `gemm` and `gemv`.
//!
//! | part | gemm | gemv |
//! |---|---|---|
//! | `qweight` | `[in, out / 8]`, outputs of a word in AWQ's order | `[out, in / 8]` |
//! | `qzeros` | `[groups, out / 8]`, likewise | `[out, w]` |
//! | `scales` | `[groups, out]` | `[out, 8 w]` |
//!
//! `w` is `groups / 8`, rounded up, and further up to an even number for groups of 64 and a multiple of four for groups of
//! 32. Zero points are what they say. Source: `awq/modules/linear` of github.com/casper-hansen/AutoAWQ.

use super::integers::{Along, Integers, Layout};
use super::matrix::{Groups, QuantizedMatrix, Zeros};
use super::parts::Parts;
use super::tables::{Floats, two_dimensions, wrong};
use super::{Format, Tool, group_size};
use crate::error::Result;
use crate::hf::ConfigView;
use crate::tensor::Tensor;

const BITS: usize = 4;
/// Codes in a word.
const PER_WORD: usize = 8;

/// What the configuration says.
pub(super) struct Awq {
    version: Version,
    /// `None`: a group is a whole row.
    group_size: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    Gemm,
    Gemv,
}

impl Awq {
    pub(super) fn new(section: &ConfigView) -> Result<Awq> {
        let key = ["version", "checkpoint_format", "format"].into_iter().find(|key| section.has(key));
        let version = match key.map(|key| section.str(key)).transpose()?.map(str::to_lowercase).as_deref() {
            None | Some("gemm") => Version::Gemm,
            Some("gemv") => Version::Gemv,
            Some(_) => return Err(section.wrong(key.unwrap_or_default(), "gemm or gemv")),
        };
        let key = if section.has("w_bit") { "w_bit" } else { "bits" };
        if section.usize(key)? != BITS {
            return Err(section.wrong(key, "4"));
        }
        let key = if section.has("q_group_size") { "q_group_size" } else { "group_size" };
        Ok(Awq { version, group_size: group_size(section, key)? })
    }

    /// Integers, floats and zero points of `gemm`.
    fn gemm(&self, qweight: &Tensor, qzeros: &Tensor, scales: &Tensor) -> Result<QuantizedMatrix> {
        let [cols, words] = two_dimensions(qweight)?;
        let rows = words.saturating_mul(PER_WORD);
        let size = self.group_size.unwrap_or(cols);
        let n_groups = cols.div_ceil(size);
        let layout = Layout { along: Along::Rows, transposed: true, interleaved: true };
        matrix([qweight, qzeros, scales], (rows, cols), (size, n_groups), layout)
    }

    /// Integers, floats and zero points of `gemv`.
    fn gemv(&self, qweight: &Tensor, qzeros: &Tensor, scales: &Tensor) -> Result<QuantizedMatrix> {
        let [rows, words] = two_dimensions(qweight)?;
        let cols = words.saturating_mul(PER_WORD);
        let size = self.group_size.unwrap_or(cols);
        let multiple = match size {
            32 => 4,
            64 => 2,
            128.. => 1,
            _ => return Err(wrong(qweight, "groups of 32, 64 or at least 128", format!("of {size}"))),
        };
        let n_groups = cols.div_ceil(size);
        let n_padded = n_groups.div_ceil(PER_WORD).next_multiple_of(multiple) * PER_WORD;
        let layout = Layout { along: Along::Cols, transposed: false, interleaved: false };
        matrix([qweight, qzeros, scales], (rows, cols), (size, n_padded), layout)
    }
}

/// A matrix of `rows` and `cols`, with groups of a size, and scales and zero points for a number of them, all in `layout`.
fn matrix(
    [qweight, qzeros, scales]: [&Tensor; 3],
    (rows, cols): (usize, usize),
    (group_size, n_groups): (usize, usize),
    layout: Layout,
) -> Result<QuantizedMatrix> {
    Ok(QuantizedMatrix {
        tool: Tool::Awq,
        bits: BITS,
        rows,
        cols,
        codes: Integers::new(qweight, rows, cols, BITS, layout)?,
        scales: Floats::new(scales, rows, n_groups, layout.transposed)?,
        zeros: Zeros::Points { stored: Integers::new(qzeros, rows, n_groups, BITS, layout)?, plus: 0 },
        groups: Groups::Of(group_size),
    })
}

impl Format for Awq {
    fn anchor(&self) -> &'static str {
        "qweight"
    }

    fn others(&self) -> &'static [&'static str] {
        &["qzeros", "scales"]
    }

    fn read(&self, parts: &Parts) -> Result<Vec<(String, QuantizedMatrix)>> {
        let (qweight, qzeros, scales) =
            (parts.require("qweight")?, parts.require("qzeros")?, parts.require("scales")?);
        let matrix = match self.version {
            Version::Gemm => self.gemm(qweight, qzeros, scales)?,
            Version::Gemv => self.gemv(qweight, qzeros, scales)?,
        };
        Ok(vec![(parts.name(), matrix)])
    }
}
