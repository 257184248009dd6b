//! Compression for Sterna: fewer bits for each weight, and the judge of what they cost.

#![forbid(unsafe_code)]

pub mod allocation;
pub mod awq;
pub mod calibration;
mod error;
pub mod eval;
pub mod observe;
pub mod pipeline;
pub mod recipe;
pub mod rounding;

pub use error::{QuantError, Result};
