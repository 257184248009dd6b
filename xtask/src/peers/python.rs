//! A Python environment with llama.cpp built for this very machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace;

/// The version that figures in docs are about.
const LLAMA_CPP: &str = "llama-cpp-python==0.3.36";

/// What CMake is told: built for this machine, and, where that crashes, without the matrix unit. (On some virtual
/// machines the processor announces AMX and llama.cpp's first product with it is killed.)
const NATIVE: &str = "-DGGML_NATIVE=ON";
const NATIVE_WITHOUT_AMX: &str = "-DGGML_NATIVE=ON \
    -DCMAKE_C_FLAGS='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16' \
    -DCMAKE_CXX_FLAGS='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'";

/// The Python of `target/peers/venv`, which is made if it is not there; the build takes minutes. `runs` tries whether
/// llama.cpp survives on this machine.
pub(super) fn with_llama_cpp(runs: impl Fn(&Path) -> bool) -> anyhow::Result<PathBuf> {
    let venv = workspace::target().join("peers/venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if runs(&python) {
        return Ok(python);
    }
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    for cmake_args in [NATIVE, NATIVE_WITHOUT_AMX] {
        eprintln!("building {LLAMA_CPP} in {} with {cmake_args}; this takes some minutes", venv.display());
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--force-reinstall", "--no-cache-dir"]);
        pip.args(["--no-binary=llama-cpp-python", LLAMA_CPP]);
        succeed(pip.env("CMAKE_ARGS", cmake_args))?;
        if runs(&python) {
            return Ok(python);
        }
        eprintln!("llama.cpp built with {cmake_args} does not survive a prompt on this machine");
    }
    bail!("no build of {LLAMA_CPP} runs on this machine")
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
