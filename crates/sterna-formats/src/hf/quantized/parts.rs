//! The tensors that are one quantized matrix.

use std::sync::Arc;

use crate::error::{FormatError, Result};
use crate::tensor::Tensor;

/// Tensors `X.a`, `X.b`, … of one matrix.
pub(super) struct Parts {
    file: Arc<str>,
    stem: String,
    tensors: Vec<Tensor>,
}

impl Parts {
    /// Of the matrix that `anchor` is a part of; the anchor itself is yet to be added.
    pub(super) fn new(anchor: &Tensor) -> Parts {
        Parts { file: anchor.file.clone(), stem: super::stem(anchor).to_owned(), tensors: Vec::new() }
    }

    pub(super) fn add(&mut self, tensor: Tensor) {
        self.tensors.push(tensor);
    }

    /// The file of the anchor.
    pub(super) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// `X`.
    pub(super) fn stem(&self) -> &str {
        &self.stem
    }

    /// The name that the matrix has when it is not quantized.
    pub(super) fn name(&self) -> String {
        format!("{}.weight", self.stem)
    }

    pub(super) fn get(&self, suffix: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| super::suffix(tensor) == suffix)
    }

    /// # Errors
    /// When there is no such tensor.
    pub(super) fn require(&self, suffix: &str) -> Result<&Tensor> {
        let missing = || FormatError::missing(&*self.file, format!("tensor {}.{suffix}", self.stem));
        self.get(suffix).ok_or_else(missing)
    }
}
