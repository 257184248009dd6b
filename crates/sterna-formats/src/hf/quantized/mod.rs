//! Checkpoints that other tools have quantized: AutoAWQ, GPTQ, MLX, compressed-tensors.
//!
//! Such a checkpoint has several tensors for a weight matrix, `X.qweight`, `X.qzeros` and `X.scales` for instance.
//! [`gather`] makes one [`Tensor`] of them, called `X.weight` and of shape `[out, in]` as in the original, so that
//! nobody else needs to know. Codes and scales stay what they are: `matrix.rs` says how they are packed. What a layer is,
//! its tensors say; `config.json` has to agree with them. Layers that were left alone stay float tensors.
//! `docs/quantized-checkpoints.md` describes the formats.

mod awq;
mod compressed_tensors;
mod gptq;
mod integers;
mod matrix;
mod mlx;
mod parts;
mod tables;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub(crate) use matrix::QuantizedMatrix;
use serde_json::Value;

use self::awq::Awq;
use self::compressed_tensors::CompressedTensors;
use self::gptq::Gptq;
use self::mlx::Mlx;
use self::parts::Parts;
use super::{ConfigFile, ConfigView};
use crate::error::{FormatError, Result};
use crate::tensor::Tensor;

/// Who made a quantized tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum Tool {
    Awq,
    Gptq,
    Mlx,
    CompressedTensors,
}

/// How a tensor of another tool is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizedType {
    /// Who made it.
    pub tool: Tool,
    /// Bits of a code.
    pub bits: u8,
    /// Neighbouring columns that share a scale; `None` where the columns of a group lie anywhere.
    pub group_size: Option<u32>,
}

impl fmt::Display for QuantizedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tool = match self.tool {
            Tool::Awq => "AWQ",
            Tool::Gptq => "GPTQ",
            Tool::Mlx => "MLX",
            Tool::CompressedTensors => "CT",
        };
        match self.group_size {
            Some(size) => f.pad(&format!("{tool} {}-bit g{size}", self.bits)),
            None => f.pad(&format!("{tool} {}-bit act-order", self.bits)),
        }
    }
}

/// One way to store quantized matrices.
trait Format {
    /// The part of a matrix that every matrix has, such as `qweight`.
    fn anchor(&self) -> &'static str;

    /// Its other parts.
    fn others(&self) -> &'static [&'static str];

    /// Whether `tensor` can only be a part of a matrix, so that it must not be left over.
    fn is_part(&self, tensor: &Tensor) -> bool {
        self.anchor() == suffix(tensor) || self.others().contains(&suffix(tensor))
    }

    /// The matrices that `parts` are, each with its name.
    ///
    /// # Errors
    /// When parts are missing, do not fit together, or are not what the configuration says.
    fn read(&self, parts: &Parts) -> Result<Vec<(String, QuantizedMatrix)>>;
}

/// What AutoGPTQ calls the file that describes its matrices where `config.json` does not.
pub const GPTQ_CONFIG: &str = "quantize_config.json";

/// Replaces the parts of quantized matrices among `tensors` by one tensor for each matrix, as `config` says, or, where that
/// says nothing, `gptq_config` ([`GPTQ_CONFIG`]).
///
/// # Errors
/// When the configuration asks for something that is not supported, or tensors do not fit to it or to each other.
pub fn gather(
    config: &ConfigFile,
    gptq_config: Option<&ConfigFile>,
    tensors: Vec<Tensor>,
) -> Result<Vec<Tensor>> {
    match format_of(config, gptq_config, &tensors)? {
        Some(format) => gather_as(&*format, tensors),
        None => Ok(tensors),
    }
}

/// The format that the configuration names; `None` where its weights are floats, or BitNet's.
fn format_of(
    config: &ConfigFile,
    gptq_config: Option<&ConfigFile>,
    tensors: &[Tensor],
) -> Result<Option<Box<dyn Format>>> {
    const KEY: &str = "quantization_config";
    let root = config.view();
    // MLX says the same again in the other section.
    if let Some(section) = root.opt_sub("quantization")? {
        return Ok(Some(Box::new(Mlx::new(&section)?)));
    }
    let in_text = || root.opt_sub("text_config")?.map_or(Ok(None), |text| text.opt_sub(KEY));
    let Some(section) = root.opt_sub(KEY)?.map_or_else(in_text, |section| Ok(Some(section)))? else {
        let is_part = |tensor: &&Tensor| ["qweight", "weight_packed"].contains(&suffix(tensor));
        return match (tensors.iter().find(is_part), gptq_config) {
            (Some(_), Some(config)) => Ok(Some(Box::new(Gptq::new(&config.view(), tensors)?))),
            (Some(tensor), None) => {
                let expected = format!("an object that says how {} is quantized", tensor.name);
                Err(root.missing(KEY, &expected))
            }
            (None, _) => Ok(None),
        };
    };
    Ok(match section.str("quant_method")? {
        "bitnet" => None,
        "awq" => Some(Box::new(Awq::new(&section)?)),
        "gptq" => Some(Box::new(Gptq::new(&section, tensors)?)),
        "compressed-tensors" => Some(Box::new(CompressedTensors::new(&section)?)),
        _ => {
            let expected = "awq, gptq, compressed-tensors, bitnet, or no quantization_config";
            return Err(section.wrong("quant_method", expected));
        }
    })
}

fn gather_as(format: &dyn Format, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let mut matrices: HashMap<String, Parts> = HashMap::new();
    for tensor in tensors.iter().filter(|tensor| suffix(tensor) == format.anchor()) {
        matrices.insert(stem(tensor).to_owned(), Parts::new(tensor));
    }
    let mut gathered = Vec::with_capacity(tensors.len());
    let is_named = |suffix: &str| suffix == format.anchor() || format.others().contains(&suffix);
    for tensor in tensors {
        match matrices.get_mut(stem(&tensor)) {
            Some(parts) if is_named(suffix(&tensor)) => parts.add(tensor),
            None if format.is_part(&tensor) => {
                let anchor = format!("{}.{}", stem(&tensor), format.anchor());
                return Err(tables::wrong(&tensor, format!("{anchor} beside it"), "it alone"));
            }
            _ => gathered.push(tensor),
        }
    }
    let mut taken: HashMap<String, Arc<str>> =
        gathered.iter().map(|tensor| (tensor.name.clone(), tensor.file.clone())).collect();
    let mut stems: Vec<_> = matrices.into_iter().collect();
    stems.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (_, parts) in stems {
        for (name, matrix) in format.read(&parts)? {
            if let Some(file) = taken.insert(name.clone(), parts.file().clone()) {
                let field = format!("tensor {name}");
                return Err(FormatError::invalid(&*file, field, "it quantized or not", "both"));
            }
            gathered.push(Tensor::of_parts(parts.file().clone(), name, matrix));
        }
    }
    Ok(gathered)
}

/// The field `key` of a configuration: inputs that share a scale, or `None` where -1 means all of a row.
fn group_size(section: &ConfigView, key: &str) -> Result<Option<usize>> {
    if section.get(key).and_then(Value::as_i64) == Some(-1) {
        return Ok(None);
    }
    match section.usize(key)? {
        0 => Err(section.wrong(key, "a whole number above 0, or -1")),
        size => Ok(Some(size)),
    }
}

/// `X` of `X.qweight`.
fn stem(tensor: &Tensor) -> &str {
    tensor.name.rsplit_once('.').map_or("", |(stem, _)| stem)
}

/// `qweight` of `X.qweight`.
fn suffix(tensor: &Tensor) -> &str {
    tensor.name.rsplit_once('.').map_or(&*tensor.name, |(_, suffix)| suffix)
}
