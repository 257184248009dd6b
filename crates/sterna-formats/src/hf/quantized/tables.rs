//! Tables as quantized layers hold them. A *row* of a table is an output of the layer; its *columns* are inputs, or groups
//! of inputs. Here are those of floats, and checks of the tensors that tables are made of; packed integers are in
//! [`super::integers`].

use bytes::Bytes;
use sterna_tensor::DType;

use super::matrix::Groups;
use crate::error::{FormatError, Result};
use crate::tensor::{OtherType, Tensor, TensorType};

/// A table of floats.
#[derive(Debug)]
pub(super) struct Floats {
    data: Bytes,
    dtype: DType,
    transposed: bool,
    /// Elements from one entry of the tensor's first dimension to the next.
    stride: usize,
}

impl Floats {
    /// The table of `rows` x `cols` in `tensor`, of which `[cols, rows]` is the shape where it is `transposed`.
    ///
    /// # Errors
    /// When the tensor is not of floats, or has another shape.
    pub(super) fn new(tensor: &Tensor, rows: usize, cols: usize, transposed: bool) -> Result<Floats> {
        let TensorType::Dense(dtype) = tensor.ty else {
            return Err(wrong(tensor, "floats", tensor.ty.to_string()));
        };
        let shape = if transposed { [cols, rows] } else { [rows, cols] };
        check_shape(tensor, &shape)?;
        Ok(Floats { data: tensor.data.clone(), dtype, transposed, stride: shape[1] })
    }

    /// The float at `row` and `col`.
    #[inline]
    pub(super) fn get(&self, row: usize, col: usize) -> f32 {
        let (outer, inner) = if self.transposed { (col, row) } else { (row, col) };
        let size = self.dtype.size_of();
        let mut out = [0.0];
        self.dtype.widen(&self.data[(outer * self.stride + inner) * size..][..size], &mut out);
        out[0]
    }

    /// Bytes of all floats.
    pub(super) fn n_bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }
}

/// Refuses a tensor that is not of 32-bit words.
pub(super) fn check_words(tensor: &Tensor) -> Result<()> {
    match tensor.ty {
        TensorType::Other(OtherType::I32 | OtherType::U32) => Ok(()),
        _ => Err(wrong(tensor, "I32 or U32, packed integers", tensor.ty.to_string())),
    }
}

/// Refuses a tensor of another shape.
pub(super) fn check_shape(tensor: &Tensor, expected: &[usize]) -> Result<()> {
    match tensor.shape == expected {
        true => Ok(()),
        false => Err(wrong(tensor, format!("shape {expected:?}"), format!("{:?}", tensor.shape))),
    }
}

/// The two dimensions of a tensor.
pub(super) fn two_dimensions(tensor: &Tensor) -> Result<[usize; 2]> {
    let shape = tensor.shape.as_slice().try_into();
    shape.map_err(|_| wrong(tensor, "two dimensions", format!("shape {:?}", tensor.shape)))
}

/// The integers of a small tensor, such as a list of groups.
pub(super) fn list(tensor: &Tensor) -> Result<Vec<i64>> {
    let data = &tensor.data;
    match tensor.ty {
        TensorType::Other(OtherType::I32) => {
            Ok(data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect())
        }
        TensorType::Other(OtherType::I64) => {
            Ok(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
        }
        _ => Err(wrong(tensor, "I32 or I64", tensor.ty.to_string())),
    }
}

/// Which of `n_groups` groups each of `n_inputs` inputs is in, as `g_idx` lists them.
///
/// # Errors
/// When there is no such group, or a number of inputs that is not this.
pub(super) fn listed_groups(g_idx: &Tensor, n_inputs: usize, n_groups: usize) -> Result<Groups> {
    check_shape(g_idx, &[n_inputs])?;
    let mut groups = Vec::with_capacity(n_inputs);
    for group in list(g_idx)? {
        match u32::try_from(group) {
            Ok(group) if (group as usize) < n_groups => groups.push(group),
            _ => return Err(wrong(g_idx, format!("groups from 0 to {}", n_groups - 1), group.to_string())),
        }
    }
    // As long as the first run, if all are in order.
    let size = groups.iter().take_while(|&&group| group == 0).count();
    let is_ordered =
        size > 0 && groups.iter().enumerate().all(|(input, &group)| group as usize == input / size);
    Ok(if is_ordered { Groups::Of(size) } else { Groups::Listed(groups) })
}

/// The error that says: `tensor` should be `expected`, and is what it is.
pub(super) fn wrong(tensor: &Tensor, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
    FormatError::invalid(&*tensor.file, format!("tensor {}", tensor.name), expected, found)
}
