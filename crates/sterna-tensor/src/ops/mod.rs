//! Everything in a forward pass that is not a linear layer: norms, activations, rotation, attention.
//!
//! Each operation is written once over `Simd` and gives the same bits with every instruction set.

mod add;
mod argmax;
mod attention;
mod elementwise;
mod gate;
mod math;
mod norm;
mod rope;
mod softmax;

pub use add::{add_assign, add_scaled, scale};
pub use argmax::argmax;
pub use attention::{AttentionScratch, AttentionShape, attention};
pub(crate) use elementwise::load_partial;
pub use gate::{gelu_tanh_mul, relu2_mul, silu_mul};
pub use norm::{rms_norm, rms_norm_in_place};
pub use rope::rope;
pub use softmax::softmax;

#[cfg(test)]
pub(crate) mod testing;
