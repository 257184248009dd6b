//! ik_llama.cpp through its `llama-bench`, which times both figures itself and tells nothing of loading and memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::engines::{Measured, Work, json, output};
use super::{N_GENERATED, N_PROMPT};

/// A `llama-bench` that rearranges weights at load, which makes it faster.
pub(super) struct IkLlama {
    program: PathBuf,
}

/// One test of those that `-o json` prints.
#[derive(Deserialize)]
struct Test {
    n_gen: usize,
    samples_ns: Vec<u64>,
}

impl IkLlama {
    pub(super) fn new(program: &Path) -> anyhow::Result<IkLlama> {
        let help = output(Command::new(program).arg("--help"))?;
        let is_it = String::from_utf8_lossy(&help).contains("--run-time-repack");
        ensure!(is_it, "{} is not the llama-bench of ik_llama.cpp", program.display());
        Ok(IkLlama { program: program.to_path_buf() })
    }

    /// Runs both tests in one process.
    pub(super) fn measure(&self, model: &Path, work: Work) -> anyhow::Result<Measured> {
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(model).args(["-o", "json", "-rtr", "1", "-n", "0"]);
        command.args(["-t", &work.threads.to_string(), "-r", &work.repetitions.to_string()]);
        command.args(["-p", &N_PROMPT.to_string(), "-gp", &format!("{},{N_GENERATED}", work.depth)]);
        let tests: Vec<Test> = json(&mut command)?;
        let samples = |of_generation: bool| {
            let test = tests.iter().find(|test| (test.n_gen > 0) == of_generation);
            test.map(|test| test.samples_ns.clone()).context("llama-bench left a test out")
        };
        Ok(Measured { prefill_ns: samples(false)?, decode_ns: samples(true)?, ..Measured::default() })
    }
}
