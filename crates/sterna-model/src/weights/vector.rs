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
    /// As it is computed with, numbers that are not above zero.
    Negative,
    /// The logarithm of the magnitude of numbers below zero.
    LogOfNegative,
    /// As a matrix whose columns should lie together.
    Transposed {
        /// Rows of the matrix.
        rows: usize,
    },
    /// As a matrix of numbers not above zero, whose columns should lie together.
    TransposedNegative {
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
    /// When an element is not finite, or a rate is one by which a recurrence would grow.
    pub(crate) fn read(self, tensor: &Tensor) -> Result<Vec<f32>> {
        let mut values = finite(tensor)?;
        match self {
            VectorForm::Plain | VectorForm::Transposed { .. } => {}
            VectorForm::LessOne => values.iter_mut().for_each(|value| *value += 1.0),
            VectorForm::Negative | VectorForm::TransposedNegative { .. } => {
                every(tensor, &values, "rates not above zero", |rate| rate <= 0.0)?;
            }
            VectorForm::LogOfNegative | VectorForm::TransposedLogOfNegative { .. } => {
                let is_log = |log: f32| log.exp().is_finite();
                every(tensor, &values, "logarithms of rates that 32 bits hold", is_log)?;
                values.iter_mut().for_each(|value| *value = -value.exp());
            }
        }
        Ok(match self {
            VectorForm::Transposed { rows }
            | VectorForm::TransposedNegative { rows }
            | VectorForm::TransposedLogOfNegative { rows } => transposed(&values, rows),
            _ => values,
        })
    }
}

/// The columns of `values` `[rows, cols]`, one after the other.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let cols = values.len() / rows.max(1);
    (0..values.len()).map(|i| values[i % rows * cols + i / rows]).collect()
}

/// The elements of a tensor; all must be finite.
pub(crate) fn finite(tensor: &Tensor) -> Result<Vec<f32>> {
    let values = tensor.to_f32()?;
    every(tensor, &values, "finite values", f32::is_finite)?;
    Ok(values)
}

/// Refuses `tensor` unless all of its `values` are what is `expected`.
fn every(tensor: &Tensor, values: &[f32], expected: &str, is_sound: impl Fn(f32) -> bool) -> Result<()> {
    match values.iter().find(|value| !is_sound(**value)) {
        None => Ok(()),
        Some(value) => Err(ModelError::TensorValue {
            file: tensor.file.to_string().into(),
            tensor: tensor.name.clone(),
            expected: expected.to_owned(),
            found: value.to_string(),
        }),
    }
}
