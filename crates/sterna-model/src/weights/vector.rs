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
    /// As a matrix of logarithms of the magnitudes of numbers below zero, whose columns should lie together.
    TransposedLogOfNegative {
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
            VectorForm::LogOfNegative => negative_exp(&mut values),
            VectorForm::Transposed { rows } => values = transposed(&values, rows),
            VectorForm::TransposedLogOfNegative { rows } => {
                negative_exp(&mut values);
                values = transposed(&values, rows);
            }
        }
        Ok(values)
    }
}

fn negative_exp(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = -value.exp());
}

/// The columns of `values` `[rows, cols]`, one after the other.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let cols = values.len() / rows.max(1);
    (0..values.len()).map(|i| values[i % rows * cols + i / rows]).collect()
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
