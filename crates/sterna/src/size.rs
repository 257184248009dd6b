//! How large a checkpoint is.

use sterna_formats::{Checkpoint, Tensor};

/// Parameters and the bytes they take in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Elements of all tensors.
    pub n_params: u64,
    /// Bytes of all tensors as stored.
    pub n_bytes: u64,
}

impl Size {
    /// Of all tensors of a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Size {
        checkpoint.tensors().map(Size::of_tensor).fold(Size::default(), Size::plus)
    }

    /// Of one tensor.
    pub fn of_tensor(tensor: &Tensor) -> Size {
        let n_params = tensor.shape.iter().map(|n| *n as u64).product();
        Size { n_params, n_bytes: tensor.n_bytes() as u64 }
    }

    /// Both together.
    pub fn plus(self, other: Size) -> Size {
        Size { n_params: self.n_params + other.n_params, n_bytes: self.n_bytes + other.n_bytes }
    }

    /// 16 for a half-precision checkpoint, about 4.8 for Q4_K_M.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.n_bytes as f64 / self.n_params.max(1) as f64
    }
}
