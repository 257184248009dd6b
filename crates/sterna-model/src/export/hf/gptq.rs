//! The format of GPTQ checkpoints, as AutoGPTQ and GPTQModel write it: 2, 3, 4 or 8 bits, words along the inputs.
//!
//! With `n` inputs, `m` outputs, groups of `g` inputs and codes of `b` bits there are `qweight` `[n b/32, m]`, `qzeros`
//! `[n/g, m b/32]`, `scales` `[n/g, m]` and `g_idx` `[n]`, the group of each input. Two versions are about: the first,
//! `gptq`, stores zero points less one, so that zero is none of them; the second, `gptq_v2`, stores them as they are.
//! Symmetric matrices are written in the first, which every runtime reads; others in the second, as runtimes know of
//! the first that its zero points may have wrapped around, and GPTQModel refuses those of others.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sterna_formats::hf::{FolderWriter, PlannedTensor};
use sterna_formats::{OtherType, TensorType};
use sterna_tensor::DType;

use super::awq::transpose;
use super::codes::{self, pack_bits, scale_bytes, word_bytes};
use super::tensors::HfTensor;
use crate::error::Result;
use crate::native::TensorKind;

/// How the zero points of all matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Less one.
    One,
    /// As they are.
    Two,
}

impl Version {
    /// The version for `tensors`, all of which fit.
    pub(super) fn of<'a>(mut tensors: impl Iterator<Item = &'a HfTensor>) -> Version {
        if tensors.all(codes::is_symmetric) { Version::One } else { Version::Two }
    }
}

/// The bits with which `tensor` can be in this format, if it can.
pub(super) fn bits(tensor: &HfTensor) -> Option<usize> {
    let may_be = tensor.kind == TensorKind::Projection && !codes::has_minima(tensor);
    let bits = codes::bits(tensor).filter(|_| may_be)?;
    let is_known = matches!(bits, 2 | 3 | 4 | 8) && (tensor.rows() * bits).is_multiple_of(32);
    is_known.then_some(bits)
}

/// `quantization_config`. `bits` are those of each module that is in this format; `dense` are the others.
pub(super) fn config(
    version: Version,
    group_size: usize,
    bits: &BTreeMap<String, usize>,
    dense: &[String],
) -> Value {
    let mut counts = BTreeMap::new();
    bits.values().for_each(|bits| *counts.entry(*bits).or_insert(0) += 1);
    let usual = counts.iter().max_by_key(|(_, count)| **count).map_or(4, |(bits, _)| *bits);
    let others = bits.iter().filter(|(_, bits)| **bits != usual);
    let others = others.map(|(module, bits)| (format!("+:{}", exactly(module)), json!({"bits": bits})));
    let dense = dense.iter().map(|module| (format!("-:{}", exactly(module)), json!({})));
    let mut config = json!({
        "quant_method": "gptq",
        "bits": usual,
        "group_size": group_size,
        "desc_act": false,
        "sym": version == Version::One,
        "lm_head": false,
        "checkpoint_format": if version == Version::One { "gptq" } else { "gptq_v2" },
        "pack_dtype": "int32",
    });
    let dynamic: Map<String, Value> = others.chain(dense).collect();
    if !dynamic.is_empty() {
        config["dynamic"] = Value::Object(dynamic);
    }
    config
}

/// A regular expression that only `module` matches.
fn exactly(module: &str) -> String {
    format!("^{}$", module.replace('.', r"\."))
}

/// What `tensor` is in the output.
pub(super) fn plan(tensor: &HfTensor, bits: usize, group_size: usize) -> Vec<PlannedTensor> {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let planned = |leaf: &str, ty, shape: &[usize]| PlannedTensor {
        name: format!("{}.{leaf}", tensor.module),
        ty,
        shape: shape.to_vec(),
    };
    let words = TensorType::Other(OtherType::I32);
    vec![
        planned("qweight", words, &[cols * bits / 32, rows]),
        planned("qzeros", words, &[cols / group_size, rows * bits / 32]),
        planned("scales", TensorType::Dense(DType::F16), &[cols / group_size, rows]),
        planned("g_idx", words, &[cols]),
    ]
}

/// Writes `tensor`: its codes, zero points and scales as they are.
pub(super) fn write(
    tensor: &HfTensor,
    (bits, group_size, version): (usize, usize, Version),
    writer: &mut FolderWriter,
) -> Result<()> {
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let codes = codes::of(tensor, group_size)?;
    let n_groups = cols / group_size;
    let name = |leaf: &str| format!("{}.{leaf}", tensor.module);
    writer.write(&name("qweight"), &word_bytes(&words_of_inputs(&codes.codes, (rows, cols), bits)))?;
    let less = u8::from(version == Version::One);
    let mut zeros = Vec::new();
    for group in 0..n_groups {
        let of_group = (0..rows).map(|row| codes.zero_points[row * n_groups + group] - less);
        pack_bits(of_group, bits, &mut zeros);
    }
    writer.write(&name("qzeros"), &word_bytes(&zeros))?;
    writer.write(&name("scales"), &scale_bytes(transpose(&codes.scales, rows, n_groups)))?;
    let group_of_input: Vec<u32> = (0..cols).map(|col| (col / group_size) as u32).collect();
    writer.write(&name("g_idx"), &word_bytes(&group_of_input))?;
    Ok(())
}

/// Codes `[rows, cols]` as words `[cols * bits / 32, rows]`, each of some inputs of one output.
fn words_of_inputs(codes: &[u8], (rows, cols): (usize, usize), bits: usize) -> Vec<u32> {
    let mut words = vec![0; cols * bits / 32 * rows];
    let mut of_row = Vec::new();
    for (row, codes) in codes.chunks_exact(cols).enumerate() {
        of_row.clear();
        pack_bits(codes.iter().copied(), bits, &mut of_row);
        of_row.iter().enumerate().for_each(|(index, word)| words[index * rows + row] = *word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_run_along_the_inputs() {
        // Two outputs of 16 inputs: codes 0 to 15, and all of them 9.
        let codes: Vec<u8> = (0..16).chain([9; 16]).collect();
        assert_eq!(words_of_inputs(&codes, (2, 16), 4), [0x7654_3210, 0x9999_9999, 0xfedc_ba98, 0x9999_9999]);
    }

    #[test]
    fn modules_of_other_bits_and_dense_ones_are_named() {
        let bits = [("a.q", 4), ("a.k", 4), ("a.down", 8)].map(|(name, bits)| (name.to_owned(), bits));
        let config = config(Version::Two, 64, &bits.into(), &["b.q".to_owned()]);
        assert_eq!((&config["bits"], &config["sym"]), (&json!(4), &json!(false)));
        assert_eq!(config["dynamic"], json!({r"+:^a\.down$": {"bits": 8}, r"-:^b\.q$": {}}));
    }
}
