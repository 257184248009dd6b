//! Ternary weights as native files hold them: the integers and scales of the checkpoint, two bits each or five to a byte.

use std::ops::Range;

use half::f16;
use sterna_formats::native::Writer;
use sterna_formats::{FormatError, TensorType};
use sterna_tensor::{GroupedCodes, Matrix, PackedFormat, PackedMatrix, Pool, ShapeError};

use super::{CanonicalTensor, Source};
use crate::error::{ModelError, Result};
use crate::linear;
use crate::weights::{LinearTensors, scale_of};

/// [`PackedFormat::ternary`], which is two bits each, or [`PackedFormat::trits`], five to a byte: of the columns that share a scale.
pub type TernaryFormat = fn(usize) -> Option<PackedFormat>;

/// The weights of a ternary matrix.
#[derive(Debug)]
pub struct TernaryWeights {
    /// With the scales of groups that the checkpoint has; with 1 where the matrix has one scale.
    pub matrix: PackedMatrix,
    /// A factor on all weights.
    pub scale: f32,
}

impl TernaryWeights {
    /// Writes them as the tensor `name`, and beside it their factor if they have one.
    ///
    /// # Errors
    /// Those of [`Writer::add`].
    pub fn write(&self, name: &str, writer: &mut Writer) -> Result<(), FormatError> {
        let TernaryWeights { matrix, scale } = self;
        let shape = [matrix.rows(), matrix.cols()];
        writer.add(name, &shape, TensorType::Ternary(matrix.format()), matrix.as_bytes())?;
        if *scale != 1.0 {
            writer.add_f32(&scale_of(name), &[1], &[*scale])?;
        }
        Ok(())
    }
}

impl CanonicalTensor {
    /// Whether it holds weights -1, 0 and 1 that stay so.
    pub fn is_ternary(&self) -> bool {
        matches!(self.source, Source::Ternary(_))
    }

    /// The format that holds it, if it is ternary.
    pub fn ternary_format(&self, of_group: TernaryFormat) -> Option<PackedFormat> {
        let Source::Ternary(LinearTensors { weight, cols, .. }) = &self.source else { return None };
        of_group(match weight.ty {
            TensorType::Ternary(format) => format.group_size()?,
            TensorType::Ggml(ty) => ty.block_len(),
            _ => *cols,
        })
    }

    /// The weights in their [`CanonicalTensor::ternary_format`], if they are ternary.
    ///
    /// # Errors
    /// When a weight is none of the three, or the tensor is of another type than it should be.
    pub fn ternary(&self, of_group: TernaryFormat, pool: &Pool) -> Result<Option<TernaryWeights>> {
        let Source::Ternary(tensors) = &self.source else { return Ok(None) };
        let (matrix, scale) = linear::pack(tensors, pool)?;
        let (Matrix::Packed(matrix), Some(format)) = (matrix, self.ternary_format(of_group)) else {
            return Err(self.not_whole_blocks());
        };
        let matrix = if matrix.format() == format { Ok(matrix) } else { repacked(&matrix, format, pool) };
        let matrix = matrix.map_err(|error| self.wrong("weights -1, 0 and 1", error.to_string()))?;
        Ok(Some(TernaryWeights { matrix, scale }))
    }

    /// Refuses ternary weights that no format holds.
    pub(super) fn check_ternary(&self) -> Result<()> {
        let is_held = !self.is_ternary() || self.ternary_format(PackedFormat::ternary).is_some();
        if is_held { Ok(()) } else { Err(self.not_whole_blocks()) }
    }

    fn not_whole_blocks(&self) -> ModelError {
        self.wrong("ternary rows of a multiple of 32 weights", self.cols.to_string())
    }

    fn wrong(&self, expected: &str, found: String) -> ModelError {
        ModelError::TensorValue {
            file: self.file().into(),
            tensor: self.name.clone(),
            expected: expected.to_owned(),
            found,
        }
    }
}

/// The values of the rows `range`, `[range.len(), cols]`.
pub(super) fn rows(tensors: &LinearTensors, range: Range<usize>) -> Result<Vec<f32>> {
    let (matrix, scale) = linear::pack(tensors, &Pool::new(1))?;
    if range.end > matrix.rows() {
        return Err(ModelError::TensorShape {
            file: tensors.weight.file.to_string().into(),
            tensor: tensors.weight.name.clone(),
            expected: vec![range.end, tensors.cols],
            found: vec![tensors.rows, tensors.cols],
        });
    }
    let mut values = vec![0.0; range.len() * tensors.cols];
    range.zip(values.chunks_exact_mut(tensors.cols)).for_each(|(row, out)| matrix.row(row, out));
    values.iter_mut().for_each(|value| *value *= scale);
    Ok(values)
}

/// The same codes and scales in another ternary format.
fn repacked(matrix: &PackedMatrix, format: PackedFormat, pool: &Pool) -> Result<PackedMatrix, ShapeError> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let unpacked = matrix.unpack(0..rows)?;
    let scales: Vec<f16> = unpacked.scales.iter().map(|&scale| f16::from_f32(scale)).collect();
    let codes = GroupedCodes { rows, cols, codes: &unpacked.codes, scales: &scales, zero_points: &[] };
    PackedMatrix::from_codes(format, codes, pool)
}
