//! Checks a checkpoint against its configuration before anything is allocated: every tensor that the network has is there,
//! and none that another network of the family would have. With those too many, blocks that the configuration does not count,
//! biases that it denies, or a pattern of blocks that is not theirs, would be left out without a word; and so would a bias
//! that is not there, where the file itself says which layers have one.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use sterna_formats::{Checkpoint, Tensor};

use super::{Leaves, LinearTensors, assemble, bias_of};
use crate::arch::Reading;
use crate::error::{ModelError, Result};
use crate::weights::{VectorForm, finite};

/// Checks that `checkpoint` holds just the blocks of `reading`'s network.
///
/// # Errors
/// A tensor is missing, has another shape, or is one that such a network has no use for.
pub(crate) fn check(checkpoint: &Checkpoint, reading: &Reading) -> Result<()> {
    let noting = Noting::default();
    assemble(checkpoint, reading, &noting)?;
    let used = noting.used.into_inner();
    check_biases(checkpoint, reading, &used)?;
    for tensor in checkpoint.tensors().filter(|tensor| !used.contains(&tensor.name)) {
        if is_of_another_network(reading, tensor)? {
            return Err(ModelError::TensorValue {
                file: tensor.file.to_string().into(),
                tensor: tensor.name.clone(),
                expected: "no such tensor by the configuration".to_owned(),
                found: format!("one of shape {:?}", tensor.shape),
            });
        }
    }
    Ok(())
}

/// A layer has a bias in all blocks or in none.
fn check_biases(checkpoint: &Checkpoint, reading: &Reading, used: &HashSet<String>) -> Result<()> {
    let layer = |name: &str| {
        let block = reading.names.block_of(name)?;
        Some(name.replacen(&format!(".{block}."), ".*.", 1))
    };
    let biases = used.iter().filter_map(|name| {
        let weight = format!("{}weight", name.strip_suffix("bias")?);
        Some((layer(&weight)?, name))
    });
    let biases: HashMap<String, &String> = biases.collect();
    if biases.is_empty() {
        return Ok(());
    }
    let weights = checkpoint.tensors().map(|tensor| tensor.name.as_str());
    for weight in weights.filter(|name| name.ends_with("weight") && used.contains(*name)) {
        let bias = bias_of(weight);
        if let Some(other) = layer(weight).and_then(|layer| biases.get(&layer))
            && !used.contains(&bias)
        {
            let shape = checkpoint.get(other).map(|tensor| tensor.shape.clone()).unwrap_or_default();
            let file = checkpoint.path().to_path_buf();
            return Err(ModelError::MissingTensor { file, tensor: bias, expected: shape });
        }
    }
    Ok(())
}

/// Names that no family has for anything say nothing, and neither do blocks behind those of the network where they guess further
/// tokens.
fn is_of_another_network(reading: &Reading, tensor: &Tensor) -> Result<bool> {
    let name = tensor.name.as_str();
    let (block, is_bias) = match (reading.names.block_of(name), name.strip_suffix("bias")) {
        (Some(block), _) => (block, false),
        (None, Some(stem)) => match reading.names.block_of(&format!("{stem}weight")) {
            Some(block) => (block, true),
            None => return Ok(false),
        },
        (None, None) => return Ok(false),
    };
    if block >= reading.spec.blocks.len() && reading.has_guessing_blocks {
        return Ok(false);
    }
    // AutoGPTQ gives every layer a bias, of zeros where there is none.
    Ok(!is_bias || finite(tensor)?.iter().any(|value| *value != 0.0))
}

/// Leaves that are nothing, and the names of the tensors that were asked for.
#[derive(Default)]
struct Noting {
    used: RefCell<HashSet<String>>,
}

impl Leaves for Noting {
    type Linear = ();
    type Vector = ();

    fn linear(&self, tensors: LinearTensors) -> Result<()> {
        let LinearTensors { weight, bias, scale, .. } = tensors;
        let all = [Some(weight), bias, scale];
        self.used.borrow_mut().extend(all.into_iter().flatten().map(|tensor| tensor.name));
        Ok(())
    }

    fn vector(&self, tensor: &Tensor, _: VectorForm) -> Result<()> {
        self.used.borrow_mut().insert(tensor.name.clone());
        Ok(())
    }
}
