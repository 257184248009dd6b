//! llama.cpp, by way of llama-cpp-python.

use super::gguf_py;
use super::peer::Peer;
use crate::peers;

pub(super) const PEER: Peer = Peer {
    name: "llama.cpp",
    target: "gguf",
    extension: ".gguf",
    script: include_str!("llama_cpp.py"),
    python: peers::llama_cpp_python,
    check: Some(gguf_py::check),
};
