//! One process of either engine, and what it measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{N_GENERATED, N_PROMPT};
use crate::workspace;

const LLAMA_SCRIPT: &str = include_str!("llama.py");
/// The text whose first token is waited for.
const TEXT: &str = "The history of the steam engine begins with";

/// What one process measured; llama.cpp's script prints it in this form.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Measured {
    pub(super) first_token_ns: u64,
    pub(super) prefill_ns: Vec<u64>,
    pub(super) decode_ns: Vec<u64>,
    pub(super) peak_rss_bytes: u64,
}

/// The part of `sterna bench -o json` that is compared.
#[derive(Deserialize)]
struct Bench {
    peak_rss_bytes: Option<u64>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    test: String,
    samples_ns: Vec<u64>,
}

pub(super) struct Engines {
    sterna: PathBuf,
    python: PathBuf,
    repetitions: String,
}

impl Engines {
    /// Builds Sterna as it is shipped.
    pub(super) fn new(python: PathBuf, repetitions: u32) -> anyhow::Result<Self> {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        build.args(["build", "--release", "--package", "sterna"]).current_dir(workspace::root());
        ensure!(build.status()?.success(), "the release build failed");
        let sterna =
            workspace::target().join("release").join(format!("sterna{}", std::env::consts::EXE_SUFFIX));
        Ok(Self { sterna, python, repetitions: repetitions.to_string() })
    }

    pub(super) fn sterna(&self, model: &Path, threads: usize) -> anyhow::Result<Measured> {
        let threads = threads.to_string();
        let begun = Instant::now();
        output(Command::new(&self.sterna).arg("run").arg(model).args([
            TEXT,
            "--raw",
            "-n",
            "1",
            "--temp",
            "0",
            "--threads",
            &threads,
        ]))?;
        let first_token_ns = begun.elapsed().as_nanos() as u64;
        let (n_prompt, n_generated) = (N_PROMPT.to_string(), N_GENERATED.to_string());
        let bench: Bench = json(
            Command::new(&self.sterna)
                .arg("bench")
                .arg(model)
                .args(["-p", &n_prompt, "-n", &n_generated, "-r", &self.repetitions])
                .args(["--threads", &threads, "-o", "json"]),
        )?;
        let samples = |name: String| {
            let test = bench.tests.iter().find(|test| test.test == name);
            test.map(|test| test.samples_ns.clone()).with_context(|| format!("the bench has no test {name}"))
        };
        Ok(Measured {
            first_token_ns,
            prefill_ns: samples(format!("pp{N_PROMPT}"))?,
            decode_ns: samples(format!("tg{N_GENERATED}"))?,
            peak_rss_bytes: bench.peak_rss_bytes.context("this system does not tell the peak memory")?,
        })
    }

    pub(super) fn llama_cpp(&self, model: &Path, threads: usize) -> anyhow::Result<Measured> {
        llama_cpp(&self.python, model, threads, &self.repetitions)
    }
}

/// Whether the llama.cpp of `python` gets through a prompt and an answer.
pub(super) fn llama_cpp_runs(python: &Path, model: &Path) -> bool {
    llama_cpp(python, model, 1, "1").is_ok()
}

fn llama_cpp(python: &Path, model: &Path, threads: usize, repetitions: &str) -> anyhow::Result<Measured> {
    json(
        Command::new(python)
            .args(["-c", LLAMA_SCRIPT])
            .arg(model)
            .args([threads.to_string(), N_PROMPT.to_string(), N_GENERATED.to_string()])
            .args([repetitions, TEXT]),
    )
}

fn json<T: DeserializeOwned>(command: &mut Command) -> anyhow::Result<T> {
    let program = command.get_program().display().to_string();
    serde_json::from_slice(&output(command)?).with_context(|| format!("{program} printed something else"))
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", complaint.trim());
    Ok(output.stdout)
}
