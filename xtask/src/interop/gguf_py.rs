//! GGUF files as the `gguf` package of the llama.cpp project reads them: the same tensors, and of each the same weights.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use sterna_formats::gguf::Gguf;

use super::{peer, python};

const SCRIPT: &str = include_str!("gguf_py.py");

/// A tensor as the package has it.
#[derive(Deserialize)]
struct Tensor {
    name: String,
    /// Outermost first.
    shape: Vec<usize>,
    ty: String,
    /// Some weights from the beginning and some from the end.
    weights: Vec<f32>,
}

/// Compares the file at `path` with what the package reads in it.
///
/// # Errors
/// When it cannot be read, or something is not the same.
pub(super) fn check(_: &Path, path: &Path) -> anyhow::Result<()> {
    let python = python::with(&["gguf==0.19.0"], "gguf")?;
    let answer = peer::run(&python, SCRIPT, &[path], &[]).context("gguf")?;
    let theirs: Vec<Tensor> = serde_json::from_slice(&answer)?;
    let gguf = Gguf::open(path)?;
    ensure!(theirs.len() == gguf.tensors().len(), "gguf reads {} tensors", theirs.len());
    for (ours, theirs) in gguf.tensors().iter().zip(theirs) {
        let Tensor { name, shape, ty, weights } = theirs;
        let weights_of = ours.to_f32()?;
        let half = weights.len() / 2;
        let is_same = ours.name == name && ours.shape == shape && ours.ty.to_string() == ty;
        ensure!(
            is_same,
            "gguf reads {name} {ty} {shape:?}, Sterna {} {} {:?}",
            ours.name,
            ours.ty,
            ours.shape
        );
        let ends = weights_of[..half].iter().chain(&weights_of[weights_of.len() - half..]);
        ensure!(ends.eq(&weights), "gguf reads other weights in {name}");
    }
    Ok(())
}
