//! Which directories are checkpoints with recorded logits.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A checkpoint to compare.
pub(crate) struct Found {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// Its path below the tree that was named.
    pub(crate) name: String,
    /// The user named this very directory, and not a tree that holds it.
    pub(crate) asked_for: bool,
}

/// The checkpoints that `roots` are or hold, in the order of their paths.
pub(crate) fn checkpoints(roots: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for root in roots {
        let before = found.len();
        if root.join("config.json").is_file() {
            ensure!(
                is_checkpoint(root),
                "{}: there is no expected.safetensors to compare with",
                root.display()
            );
            let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
            found.push(Found { dir: root.clone(), name, asked_for: true });
        } else {
            walk(root, root, &mut found)?;
        }
        let wanted = "a directory with config.json and expected.safetensors";
        ensure!(found.len() > before, "{}: no checkpoint found; looked for {wanted}", root.display());
    }
    Ok(found)
}

/// Adds the checkpoints below `dir`, which is in `root`; links are not followed, so there is no way round in circles.
fn walk(root: &Path, dir: &Path, found: &mut Vec<Found>) -> Result<()> {
    let mut subdirs = Vec::new();
    for entry in dir.read_dir().with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            subdirs.push(entry.path());
        }
    }
    subdirs.sort();
    for dir in subdirs {
        if is_checkpoint(&dir) {
            let name = dir.strip_prefix(root).unwrap_or(&dir).display().to_string();
            found.push(Found { dir, name, asked_for: false });
        } else {
            walk(root, &dir, found)?;
        }
    }
    Ok(())
}

fn is_checkpoint(dir: &Path) -> bool {
    ["config.json", "expected.safetensors"].iter().all(|name| dir.join(name).is_file())
}
