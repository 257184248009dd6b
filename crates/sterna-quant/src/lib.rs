//! Compression for Sterna: fewer bits for each weight, and the judge of what they cost.

#![forbid(unsafe_code)]

pub mod allocation;
mod block;
pub mod calibration;
mod error;
pub mod eval;
mod held_out;
mod layer;
pub mod observe;
pub mod pipeline;
mod predictions;
pub mod recipe;
pub mod rounding;
pub mod scaling;

pub use error::{QuantError, Result};
pub use held_out::Cost;
