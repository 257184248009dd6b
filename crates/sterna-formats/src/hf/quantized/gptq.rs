//! GPTQ as AutoGPTQ and GPTQModel write it: 2, 3, 4 or 8 bits, a scale and a zero point for each group of inputs, in the
//! order of the inputs or (`desc_act`) in any other.
//!
//! | part | shape | |
//! |---|---|---|
//! | `qweight` | `[in bits / 32, out]` | packed along the inputs |
//! | `qzeros` | `[groups, out bits / 32]` | packed along the outputs |
//! | `scales` | `[groups, out]` | |
//! | `g_idx` | `[in]` | the group of each input; may be absent |
//!
//! Version 1 (`checkpoint_format: gptq`) stores zero points less one, wrapped around; version 2 (`gptq_v2`) as they are. Not
//! every file tells which it is, but symmetric ones give themselves away: their zero points are all the middle code.
//! Source: `gptqmodel/nn_modules/qlinear` of github.com/ModelCloud/GPTQModel.

use super::integers::{Along, Integers, Layout};
use super::matrix::{Groups, QuantizedMatrix, Zeros};
use super::parts::Parts;
use super::tables::{Floats, listed_groups, two_dimensions, wrong};
use super::{Format, Tool, group_size};
use crate::error::Result;
use crate::hf::ConfigView;
use crate::tensor::Tensor;

/// Packed along the inputs, inputs first.
const CODES: Layout = Layout { along: Along::Cols, transposed: true, interleaved: false };
/// Packed along the outputs, groups first.
const ZEROS: Layout = Layout { along: Along::Rows, transposed: true, interleaved: false };

/// How much of each tensor of zero points is looked at to tell versions apart.
const SAMPLE_BYTES: usize = 4096;

/// What the configuration says.
pub(super) struct Gptq {
    bits: usize,
    /// `None`: a group is a whole row.
    group_size: Option<usize>,
    /// Some layers have other bits or groups; their shapes say which.
    is_dynamic: bool,
    /// What is added to stored zero points.
    plus: u8,
}

impl Gptq {
    pub(super) fn new(section: &ConfigView, tensors: &[Tensor]) -> Result<Gptq> {
        let bits = section.usize("bits")?;
        if ![2, 3, 4, 8].contains(&bits) {
            return Err(section.wrong("bits", "2, 3, 4 or 8"));
        }
        let key = ["checkpoint_format", "format"].into_iter().find(|key| section.has(key));
        let said = match key.map(|key| section.str(key)).transpose()? {
            None | Some("gptq") => 1,
            Some("gptq_v2") => 0,
            Some(_) => return Err(section.wrong(key.unwrap_or_default(), "gptq or gptq_v2")),
        };
        let qzeros = tensors.iter().filter(|tensor| tensor.name.ends_with(".qzeros"));
        Ok(Gptq {
            bits,
            group_size: group_size(section, "group_size")?,
            is_dynamic: section.has("dynamic"),
            plus: stored_less(qzeros, bits).unwrap_or(said),
        })
    }

    /// The bits of the codes of `n_inputs` in so many words.
    fn bits(&self, qweight: &Tensor, n_words: usize, n_inputs: usize) -> Result<usize> {
        let fits = |bits: &usize| n_inputs.saturating_mul(*bits).div_ceil(32) == n_words;
        let choice: &[usize] = if self.is_dynamic { &[2, 3, 4, 8] } else { &[self.bits] };
        choice.iter().copied().find(fits).ok_or_else(|| {
            let expected = format!("{n_inputs} inputs of {choice:?} bits");
            wrong(qweight, expected, format!("{n_words} words for each output"))
        })
    }

    /// Which group each of `n_inputs` is in.
    fn groups(&self, g_idx: &Tensor, n_inputs: usize, n_groups: usize) -> Result<Groups> {
        let said = self.group_size.unwrap_or(n_inputs).min(n_inputs);
        match listed_groups(g_idx, n_inputs, n_groups)? {
            Groups::Of(found) if found != said && !self.is_dynamic => {
                Err(wrong(g_idx, format!("groups of {said}"), format!("of {found}")))
            }
            groups => Ok(groups),
        }
    }
}

impl Format for Gptq {
    fn anchor(&self) -> &'static str {
        "qweight"
    }

    fn others(&self) -> &'static [&'static str] {
        &["qzeros", "scales", "g_idx"]
    }

    fn read(&self, parts: &Parts) -> Result<Vec<(String, QuantizedMatrix)>> {
        let (qweight, qzeros, scales) =
            (parts.require("qweight")?, parts.require("qzeros")?, parts.require("scales")?);
        let [n_words, rows] = two_dimensions(qweight)?;
        let [n_groups, _] = two_dimensions(scales)?;
        let (cols, bits, groups) = match parts.get("g_idx") {
            Some(g_idx) => {
                let cols = g_idx.n_elements();
                let bits = self.bits(qweight, n_words, cols)?;
                (cols, bits, self.groups(g_idx, cols, n_groups)?)
            }
            None => {
                let cols = n_words.saturating_mul(32) / self.bits;
                (cols, self.bits, Groups::Of(self.group_size.unwrap_or(cols)))
            }
        };
        if let Groups::Of(size) = groups
            && cols.div_ceil(size) != n_groups
        {
            let expected = format!("{} groups of {size} inputs", cols.div_ceil(size));
            return Err(wrong(scales, expected, format!("{n_groups} groups")));
        }
        let matrix = QuantizedMatrix {
            tool: Tool::Gptq,
            bits,
            rows,
            cols,
            codes: Integers::new(qweight, rows, cols, bits, CODES)?,
            scales: Floats::new(scales, rows, n_groups, true)?,
            zeros: Zeros::Points {
                stored: Integers::new(qzeros, rows, n_groups, bits, ZEROS)?,
                plus: self.plus,
            },
            groups,
        };
        Ok(vec![(parts.name(), matrix)])
    }
}

/// How much less than the zero points the numbers in `qzeros` are, if all of them are the same, as in symmetric files: 0
/// where they are the middle code, 1 where they are the one before.
fn stored_less<'a>(qzeros: impl Iterator<Item = &'a Tensor>, bits: usize) -> Option<u8> {
    let middle = 1u8 << (bits - 1);
    let mut less = None;
    for tensor in qzeros {
        let sample = &tensor.data[..tensor.data.len().min(SAMPLE_BYTES)];
        let found = [0, 1].into_iter().find(|less| {
            // Eight codes are whole bytes.
            let codes = (0..8).fold(0u64, |codes, i| codes | u64::from(middle - less) << (bits * i));
            let pattern = &codes.to_le_bytes()[..bits];
            sample.chunks(bits).all(|bytes| pattern.starts_with(bytes))
        })?;
        if *less.get_or_insert(found) != found {
            return None;
        }
    }
    less
}
