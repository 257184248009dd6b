//! The face.
#![forbid(unsafe_code)]
