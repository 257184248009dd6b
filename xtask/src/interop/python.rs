//! Python environments under the target directory, one for each set of packages.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace::{self, succeed};

/// The Python of an environment with `packages`, which is made if `module` cannot be imported in it.
pub(super) fn with(packages: &[&str], module: &str) -> anyhow::Result<PathBuf> {
    let venv = workspace::target().join("interop").join(format!("venv-{module}"));
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let imports = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Ok(python);
    }
    eprintln!("installing {} in {}", packages.join(", "), venv.display());
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    Ok(python)
}
