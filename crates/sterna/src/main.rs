//! The `sterna` command.
#![forbid(unsafe_code)]
fn main() {}
