//! The files that are judged: a model quantized in every way, by Sterna and by llama.cpp.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::Args;
use crate::peers;

/// Where the files of `original` go, and what they are made with.
pub(super) struct Files<'a> {
    pub(super) sterna: &'a Path,
    pub(super) directory: &'a Path,
    pub(super) original: &'a Path,
    pub(super) args: &'a Args,
}

impl Files<'_> {
    /// One file for each method and number of bits, one for each budget, one for each of llama.cpp's types.
    pub(super) fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        let args = self.args;
        let mut files = Vec::new();
        let group = args.group.to_string();
        for bits in &args.bits {
            for method in &args.methods {
                let bits = bits.to_string();
                let rounding = ["--method", method, "--bits", &bits, "--group", &group];
                files.push(self.quantize(&format!("{method}-{bits}bit-g{group}"), &rounding)?);
            }
        }
        for bpw in &args.bpw {
            files.push(self.quantize(&format!("auto-{bpw}bpw"), &["--bpw", bpw])?);
        }
        if !args.llama_cpp.is_empty() {
            let python = match &args.python {
                Some(python) => python.clone(),
                None => peers::llama_cpp_python()?,
            };
            for kind in &args.llama_cpp {
                files.push(self.requantize(&python, kind)?);
            }
        }
        Ok(files)
    }

    fn quantize(&self, name: &str, rounding: &[&str]) -> anyhow::Result<PathBuf> {
        let file = self.path(name, "sterna");
        if !self.is_kept(&file) {
            let mut quantize = Command::new(self.sterna);
            quantize.arg("quantize").arg(self.original).arg("-o").arg(&file).args(rounding);
            if let Some(n) = &self.args.calib_tokens {
                quantize.args(["--calib-tokens", n]);
            }
            succeed(&mut quantize)?;
        }
        Ok(file)
    }

    fn requantize(&self, python: &Path, kind: &str) -> anyhow::Result<PathBuf> {
        let (file, part) = (self.path(kind, "gguf"), self.path(kind, "gguf.part"));
        if !self.is_kept(&file) {
            let mut command = Command::new(python);
            command.args(["-c", include_str!("requantize.py")]).args([self.original, &part]).arg(kind);
            let output = command.output().with_context(|| format!("cannot run {}", python.display()))?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "llama.cpp cannot make {kind}: {errors}");
            fs::rename(&part, &file).with_context(|| format!("cannot rename {}", part.display()))?;
        }
        Ok(file)
    }

    /// Whether `file` is there and taken as it is.
    fn is_kept(&self, file: &Path) -> bool {
        self.args.keep && file.exists()
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        let stem = self.original.file_stem().unwrap_or_else(|| OsStr::new("model")).to_string_lossy();
        self.directory.join(format!("{stem}-{name}.{extension}"))
    }
}

pub(super) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
