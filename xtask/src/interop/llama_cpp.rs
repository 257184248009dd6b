//! llama.cpp, by way of llama-cpp-python.

use sterna_tensor::Precision;

use super::gguf_py;
use super::peer::Peer;
use crate::peers;

pub(super) const PEER: Peer = Peer {
    name: "llama.cpp",
    target: "gguf",
    extension: ".gguf",
    formats: &["a4g128", "s4g32", "s8g32"],
    precision: Precision::Int8,
    script: include_str!("llama_cpp.py"),
    python: peers::llama_cpp_python,
    check: Some(gguf_py::check),
};
