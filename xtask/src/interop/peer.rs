//! What a peer is asked, and what it answers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sterna_tensor::Precision;

/// A runtime that exports are for.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Its format, as `sterna export --to` has it.
    pub(super) target: &'static str,
    /// What the name of its file ends in; empty for directories.
    pub(super) extension: &'static str,
    /// Of the formats that are tried, those that it has a place for.
    pub(super) formats: &'static [&'static str],
    /// What it rounds inputs of linear layers to.
    pub(super) precision: Precision,
    /// Reads a [`Request`] from standard input and prints an [`Answer`].
    pub(super) script: &'static str,
    /// A Python that has the runtime; makes one if there is none.
    pub(super) python: fn() -> anyhow::Result<PathBuf>,
    /// What else must be true of its files.
    pub(super) check: Option<fn(&Path, &Path) -> anyhow::Result<()>>,
}

#[derive(Serialize)]
pub(super) struct Request {
    /// The file or directory to load.
    pub(super) model: PathBuf,
    /// Texts to tokenize.
    pub(super) texts: Vec<String>,
    /// Ids to continue.
    pub(super) prompts: Vec<Vec<u32>>,
    /// Tokens to continue each by, the likeliest one each time.
    pub(super) n_generated: usize,
    /// Ids to compute logits of.
    pub(super) passage: Vec<u32>,
    /// Where to put those: little-endian f32, `[passage.len(), vocabulary]`.
    pub(super) logits: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct Answer {
    /// Ids of each text.
    pub(super) tokens: Vec<Vec<u32>>,
    /// Ids that continue each prompt.
    pub(super) continuations: Vec<Vec<u32>>,
}

impl Peer {
    /// Runs the script on `request`.
    pub(super) fn ask(&self, python: &Path, request: &Request) -> anyhow::Result<Answer> {
        let request = serde_json::to_vec(request)?;
        let answer = run(python, self.script, &[], &request).with_context(|| self.name)?;
        serde_json::from_slice(&answer).with_context(|| format!("{} answered something else", self.name))
    }
}

/// What `script` prints, given arguments and standard input.
pub(super) fn run(python: &Path, script: &str, args: &[&Path], input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(python);
    command.args(["-c", script]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", python.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script that ends early says why on standard error.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {}", python.display(), complaint.trim());
    Ok(output.stdout)
}
