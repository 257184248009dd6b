//! Vectors: how files have them, and what they become.

use sterna_formats::Tensor;

use crate::error::{ModelError, Result};

/// How a file has a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum VectorForm {
    /// As it is computed with.
    Plain,
    /// Less one.
    LessOne,
    /// The logarithm of the magnitude of numbers below zero.
    LogOfNegative,
    /// As a matrix whose columns should lie together.
    Transposed {
        /// Rows of the matrix.
        rows: usize,
    },
}

impl VectorForm {
    /// What `tensor`, which is so, is computed with.
    ///
    /// # Errors
    /// When an element is not finite.
    pub(crate) fn read(self, tensor: &Tensor) -> Result<Vec<f32>> {
        let mut values = finite(tensor)?;
        match self {
            VectorForm::Plain => {}
            VectorForm::LessOne => values.iter_mut().for_each(|value| *value += 1.0),
            VectorForm::LogOfNegative => values.iter_mut().for_each(|value| *value = -value.exp()),
            VectorForm::Transposed { rows } => {
                let cols = values.len() / rows.max(1);
                values = (0..values.len()).map(|i| values[i % rows * cols + i / rows]).collect();
            }
        }
        Ok(values)
    }
}

/// The elements of a tensor; all must be finite.
pub(crate) fn finite(tensor: &Tensor) -> Result<Vec<f32>> {
    let values = tensor.to_f32()?;
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(value) => Err(ModelError::TensorValue {
            file: tensor.file.to_string().into(),
            tensor: tensor.name.clone(),
            expected: "finite values".to_owned(),
            found: value.to_string(),
        }),
    }
}
