//! A linear layer of the fast path: a matrix, and what its product is scaled and shifted by.

use half::f16;
use sterna_formats::mapped;
use sterna_tensor::{
    Activations, Block, BlockSource, Compute, DenseMatrix, Matrix, PackedFormat, PackedMatrix, Pool,
    ShapeError, linear,
};

use crate::error::{ModelError, Result};
use crate::mixer::Pass;
use crate::ternary::TernaryMatrix;
use crate::weights::{self, LinearTensors};

/// `y = x · matrixᵀ · scale + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// The tensor that the matrix was made of.
    pub(crate) name: String,
    pub(crate) matrix: Matrix,
    pub(crate) scale: f32,
    /// `[rows]`.
    pub(crate) bias: Option<Vec<f32>>,
    /// Inputs are rounded to 8 bits with one scale per token (BitNet), whatever the precision.
    pub(crate) rounds_per_token: bool,
}

impl Linear {
    /// Takes `x` `[n, cols]` as the input of this layer, and of others like it.
    pub(crate) fn take_input(&self, pass: &Pass, x: &[f32], input: &mut Activations) {
        if let Some(tap) = pass.inputs {
            (*tap.borrow_mut())(&self.name, x);
        }
        match self.rounds_per_token {
            true => input.set_per_token(x, self.matrix.cols(), pass.compute),
            false => input.set(x, self.matrix.cols(), pass.compute),
        }
    }

    fn finish(&self, y: &mut [f32]) {
        if self.scale != 1.0 {
            y.iter_mut().for_each(|y| *y *= self.scale);
        }
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
    }
}

/// Layers that read the same `input`, in one parallel region; each output is `[n, rows]`.
pub(crate) fn project<const N: usize>(c: &Compute, input: &Activations, outputs: [(&Linear, &mut [f32]); N]) {
    let layers = outputs.each_ref().map(|(layer, _)| *layer);
    let mut outputs = outputs.map(|(layer, y)| (&layer.matrix, y));
    linear(c, input, &mut outputs);
    for (layer, (_, y)) in layers.iter().zip(&mut outputs) {
        layer.finish(y);
    }
}

/// One layer with an input of its own.
pub(crate) fn project_one(pass: &Pass, x: &[f32], layer: &Linear, input: &mut Activations, y: &mut [f32]) {
    layer.take_input(pass, x, input);
    project(pass.compute, input, [(layer, y)]);
}

/// The head, which every logit's error comes through at full size: its input is rounded more finely than the others'.
/// It is read for few tokens, so memory sets its pace and the finer input costs next to nothing.
pub(crate) fn project_head(
    c: &Compute,
    x: &[f32],
    head: &Linear,
    input: &mut Activations,
    logits: &mut [f32],
) {
    input.set_refined(x, head.matrix.cols(), c);
    project(c, input, [(head, logits)]);
}

/// The matrix of `tensors` as it is computed with, and the factor on its product. Pages of the file that were read for it are given
/// back.
pub(crate) fn pack(tensors: &LinearTensors, pool: &Pool) -> Result<(Matrix, f32)> {
    let LinearTensors { weight, order, .. } = tensors;
    let Some(storage) = tensors.ternary else {
        let scale = tensors.scale.as_ref().map_or(Ok(1.0), weights::single)?;
        return Ok((weight.matrix(*order, pool)?, scale));
    };
    let matrix = TernaryMatrix::read(tensors, storage)?;
    let scale = matrix.scale;
    mapped::release(&weight.data);
    let matrix = matrix.matrix(pool).map_err(|error| ModelError::TensorValue {
        file: weight.file.to_string().into(),
        tensor: weight.name.clone(),
        expected: "a matrix".to_owned(),
        found: error.to_string(),
    })?;
    Ok((matrix, scale))
}

impl TernaryMatrix {
    /// The weights -1, 0 and 1 as a matrix: packed, or float where rows are not whole blocks.
    fn matrix(self, pool: &Pool) -> Result<Matrix, ShapeError> {
        let (rows, cols) = (self.rows, self.cols);
        if let Some(format) = PackedFormat::ternary(cols) {
            return Ok(PackedMatrix::pack(format, rows, cols, &self, pool)?.into());
        }
        let values = self.codes.iter().map(|code| f32::from(*code) - 1.0).collect();
        Ok(DenseMatrix::from_f32(rows, cols, values)?.into())
    }
}

impl BlockSource for TernaryMatrix {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        const LEN: usize = 32;
        out.codes[..LEN].copy_from_slice(&self.codes[row * self.cols + block * LEN..][..LEN]);
        // The scale of the matrix is not always an f16; it multiplies the product instead.
        out.d = f16::ONE;
    }
}
