//! One process of an engine, and what it measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ik_llama::IkLlama;
use super::{N_GENERATED, N_PROMPT};
use crate::workspace;

const LLAMA_SCRIPT: &str = include_str!("llama.py");
const OPENVINO_SCRIPT: &str = include_str!("openvino.py");
/// The text whose first token is waited for.
const TEXT: &str = "The history of the steam engine begins with";

/// What one process measured, as far as it can; the scripts print it in this form.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Measured {
    pub(super) first_token_ns: Option<u64>,
    pub(super) prefill_ns: Vec<u64>,
    pub(super) decode_ns: Vec<u64>,
    pub(super) peak_rss_bytes: Option<u64>,
}

/// The part of `sterna bench -o json` that is compared.
#[derive(Deserialize)]
struct Bench {
    peak_rss_bytes: Option<u64>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    samples_ns: Vec<u64>,
}

/// How it is measured.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) threads: usize,
    pub(super) repetitions: u32,
    /// Tokens before those that are generated.
    pub(super) depth: usize,
}

/// Who is measured.
pub(super) enum Engine {
    Sterna {
        program: PathBuf,
    },
    /// A script that a Python runs.
    Script {
        name: &'static str,
        python: PathBuf,
        script: &'static str,
    },
    IkLlama(IkLlama),
}

impl Engine {
    /// Builds Sterna as it is shipped.
    pub(super) fn sterna() -> anyhow::Result<Engine> {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        build.args(["build", "--release", "--package", "sterna"]).current_dir(workspace::root());
        ensure!(build.status()?.success(), "the release build failed");
        let name = format!("sterna{}", std::env::consts::EXE_SUFFIX);
        Ok(Engine::Sterna { program: workspace::target().join("release").join(name) })
    }

    pub(super) fn llama_cpp(python: PathBuf) -> Engine {
        Engine::Script { name: "llama.cpp", python, script: LLAMA_SCRIPT }
    }

    pub(super) fn openvino(python: PathBuf) -> Engine {
        Engine::Script { name: "OpenVINO", python, script: OPENVINO_SCRIPT }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Engine::Sterna { .. } => "Sterna",
            Engine::Script { name, .. } => name,
            Engine::IkLlama(_) => "ik_llama.cpp",
        }
    }

    /// Runs a process on `model`.
    pub(super) fn measure(&self, model: &Path, work: Work) -> anyhow::Result<Measured> {
        let [threads, repetitions] = [work.threads.to_string(), work.repetitions.to_string()];
        match self {
            Engine::Sterna { program } => sterna(program, model, work),
            Engine::Script { python, script, .. } => {
                json(Command::new(python).args(["-c", script]).arg(model).args([
                    &threads,
                    &N_PROMPT.to_string(),
                    &N_GENERATED.to_string(),
                    &repetitions,
                    &work.depth.to_string(),
                    TEXT,
                ]))
            }
            Engine::IkLlama(bench) => bench.measure(model, work),
        }
    }

    /// Whether it gets through a prompt and an answer.
    pub(super) fn runs(&self, model: &Path) -> bool {
        self.measure(model, Work { threads: 1, repetitions: 1, depth: 0 }).is_ok()
    }
}

fn sterna(program: &Path, model: &Path, work: Work) -> anyhow::Result<Measured> {
    let Work { threads, repetitions, depth } = work;
    let (threads, repetitions) = (threads.to_string(), repetitions.to_string());
    let begun = Instant::now();
    let one_token = ["--raw", "-n", "1", "--temp", "0", "--threads", &threads];
    output(Command::new(program).arg("run").arg(model).arg(TEXT).args(one_token))?;
    let first_token_ns = begun.elapsed().as_nanos() as u64;
    let (n_prompt, n_generated, deep) = (N_PROMPT.to_string(), N_GENERATED.to_string(), depth.to_string());
    let bench = |args: &[&str]| -> anyhow::Result<Bench> {
        let mut command = Command::new(program);
        command.arg("bench").arg(model).args(["-r", &repetitions, "--threads", &threads, "-o", "json"]);
        json(command.args(args))
    };
    let prefill = bench(&["-p", &n_prompt, "-n", "0"])?;
    // Made up, as it costs a decoded token as much, and nothing but that token is timed.
    let decode = bench(&["-p", "0", "-n", &n_generated, "-d", &deep, "--made-up-context"])?;
    let samples = |bench: &Bench| {
        bench.tests.first().map(|test| test.samples_ns.clone()).context("the bench has no test")
    };
    let peak = [&prefill, &decode].iter().filter_map(|bench| bench.peak_rss_bytes).max();
    Ok(Measured {
        first_token_ns: Some(first_token_ns),
        prefill_ns: samples(&prefill)?,
        decode_ns: samples(&decode)?,
        peak_rss_bytes: peak,
    })
}

pub(super) fn json<T: DeserializeOwned>(command: &mut Command) -> anyhow::Result<T> {
    let program = command.get_program().display().to_string();
    serde_json::from_slice(&output(command)?).with_context(|| format!("{program} printed something else"))
}

pub(super) fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", complaint.trim());
    Ok(output.stdout)
}
