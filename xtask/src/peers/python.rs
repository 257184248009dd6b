//! Python environments with other engines: llama.cpp built for this very machine, and OpenVINO as it is distributed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace;

/// The versions that figures in docs are about.
const LLAMA_CPP: &str = "llama-cpp-python==0.3.36";
const OPENVINO: [&str; 2] = ["openvino-genai==2026.4.1.0", "numpy"];

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
    let python = python_in(&venv);
    if runs(&python) {
        return Ok(python);
    }
    make(&venv)?;
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

/// The Python of `target/peers/openvino`, which is made if it is not there.
pub(super) fn with_openvino() -> anyhow::Result<PathBuf> {
    let venv = workspace::target().join("peers/openvino");
    let python = python_in(&venv);
    let imports = |python: &Path| Command::new(python).args(["-c", "import openvino_genai"]).status();
    if !imports(&python).is_ok_and(|status| status.success()) {
        make(&venv)?;
        succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(OPENVINO))?;
    }
    Ok(python)
}

fn python_in(venv: &Path) -> PathBuf {
    venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

fn make(venv: &Path) -> anyhow::Result<()> {
    succeed(Command::new("python3").args(["-m", "venv"]).arg(venv))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
