//! Rounding a float matrix to few bits, so that what it does to its inputs changes least.
//!
//! The error of a rounded matrix is `Σ_rows δ H δᵀ`, where `δ` is what a row lost and `H` the second moments of the
//! layer's inputs ([`Gram`]): the mean square of what its outputs lost. [`round_to_nearest`] rounds each weight for
//! itself; [`gptq`] lets later columns make up for what earlier ones lost; [`refit`] improves what any of them made.

mod cholesky;
mod error;
mod factor;
mod gptq;
mod gram;
mod grid;
mod moments;
mod nearest;
mod product;
mod quantized;
mod refit;

pub use error::{Result, RoundingError};
pub use factor::{Damping, Factor, Order};
pub use gptq::{Grids, compensate, gptq};
pub use gram::{Gram, TokenWeight};
pub use moments::GroupMoments;
pub use nearest::{Search, round_scaled, round_to_nearest};
pub use quantized::Quantized;
pub use refit::{Refit, refit};
