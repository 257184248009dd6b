//! The workshop.
#![forbid(unsafe_code)]
fn main() {}
