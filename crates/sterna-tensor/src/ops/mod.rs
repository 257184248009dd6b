//! Everything in a forward pass that is not a linear layer: norms, activations, rotation, attention, convolutions and
//! recurrences.
//!
//! Each operation is written once over `Simd` and gives the same bits with every instruction set.

mod add;
mod argmax;
mod attention;
mod columns;
mod conv;
mod elementwise;
mod gate;
mod gated_delta;
mod hadamard;
mod heads;
mod math;
mod norm;
mod rope;
mod selective_scan;
mod softmax;
mod ssd;
mod time_step;

pub use add::{add_assign, add_scaled, scale};
pub use argmax::argmax;
pub use attention::{AttentionScratch, AttentionShape, FEW_TOKENS, attention};
pub use conv::{ConvActivation, causal_conv};
pub(crate) use elementwise::load_partial;
pub use gate::{gelu_tanh_mul, mul, relu2_mul, sigmoid_mul, silu_mul};
pub use gated_delta::{DeltaInput, DeltaShape, gated_delta};
pub use hadamard::hadamard;
pub use norm::{rms_norm, rms_norm_in_place};
pub use rope::rope;
pub use selective_scan::{SelectiveInput, selective_scan};
pub use softmax::softmax;
pub use ssd::{SsdInput, SsdShape, ssd_scan};
pub use time_step::time_steps;

#[cfg(test)]
pub(crate) mod testing;
