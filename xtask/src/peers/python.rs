//! A Python environment with llama.cpp built for this very machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::workspace;

/// The version that figures in docs are about.
const LLAMA_CPP: &str = "llama-cpp-python==0.3.36";

/// The Python of `target/peers/venv`, which is made if it is not there; the build takes minutes.
pub(super) fn with_llama_cpp() -> anyhow::Result<PathBuf> {
    let venv = workspace::target().join("peers/venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let has_llama_cpp = || {
        Command::new(&python).args(["-c", "import llama_cpp"]).status().is_ok_and(|status| status.success())
    };
    if has_llama_cpp() {
        return Ok(python);
    }
    eprintln!("building {LLAMA_CPP} in {}; this takes some minutes", venv.display());
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-binary=llama-cpp-python", LLAMA_CPP]);
    succeed(pip.env("CMAKE_ARGS", "-DGGML_NATIVE=ON"))?;
    Ok(python)
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
