//! Compression for Sterna: fewer bits for each weight, and the judge of what they cost.

#![forbid(unsafe_code)]

pub mod eval;
pub mod rounding;
