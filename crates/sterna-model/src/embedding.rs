//! An embedding that nothing is multiplied with: rows of a file, read as tokens ask for them.

use sterna_formats::{QuantizedRows, RowOrder, Tensor, TensorType, ggml};
use sterna_tensor::{Bytes, Matrix, Pool};

use crate::error::{ModelError, Result};
use crate::synthetic;

/// Rows `[vocab_size, hidden_size]` that are read from the file as they are asked for.
#[derive(Debug)]
pub(crate) struct Embedding {
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    /// A slice of the file for each row.
    Stored { ty: TensorType, row_bytes: usize, data: Bytes },
    /// Codes and scales, still in the file.
    Quantized(QuantizedRows),
    /// Tiles of a native file.
    Packed(Matrix),
    /// Computed as they are asked for.
    MadeUp,
}

impl Embedding {
    /// `tensor` is `[vocab_size, hidden_size]`.
    pub(crate) fn new(tensor: Tensor) -> Result<Embedding> {
        let rows = match tensor.ty {
            TensorType::Quantized(_) if let Some(rows) = tensor.quantized => Rows::Quantized(*rows),
            TensorType::Packed(_) => Rows::Packed(tensor.matrix(RowOrder::AsStored, &Pool::new(1))?),
            TensorType::Dense(_) | TensorType::Ggml(_) => {
                let n_rows = tensor.shape.first().copied().unwrap_or(1);
                Rows::Stored { ty: tensor.ty, row_bytes: tensor.data.len() / n_rows, data: tensor.data }
            }
            TensorType::I2S | TensorType::Ternary(_) | TensorType::Quantized(_) | TensorType::Other(_) => {
                return Err(ModelError::TensorValue {
                    file: tensor.file.to_string().into(),
                    tensor: tensor.name,
                    expected: "a type of weights with rows of their own".to_owned(),
                    found: tensor.ty.to_string(),
                });
            }
        };
        Ok(Embedding { rows })
    }

    /// Rows of numbers that mean nothing.
    pub(crate) fn made_up() -> Embedding {
        Embedding { rows: Rows::MadeUp }
    }

    /// Row `token`, into `out` `[hidden_size]`.
    pub(crate) fn row(&self, token: u32, out: &mut [f32]) {
        match &self.rows {
            Rows::Packed(matrix) => matrix.row(token as usize, out),
            Rows::MadeUp => synthetic::fill(u64::from(token), out),
            Rows::Quantized(rows) => rows.row(token as usize, out),
            Rows::Stored { ty, row_bytes, data } => {
                let bytes = &data[token as usize * row_bytes..][..*row_bytes];
                match *ty {
                    TensorType::Dense(dtype) => dtype.widen(bytes, out),
                    TensorType::Ggml(ty) => ggml::dequantize(ty, bytes, out),
                    TensorType::I2S
                    | TensorType::Packed(_)
                    | TensorType::Ternary(_)
                    | TensorType::Quantized(_)
                    | TensorType::Other(_) => {}
                }
            }
        }
    }
}
