//! Run every check there is, in parts that can be run alone; each step is named, timed and summed up at the end.

mod aarch64;
mod runner;

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use sterna_tensor::Isa;

use crate::instructions;
use crate::models;
use crate::workspace;
use aarch64::Toolchain;
use runner::Runner;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Parts to run [default: all]
    parts: Vec<Part>,
    /// Run the steps after a failed one too
    #[arg(long)]
    keep_going: bool,
    /// Fail, rather than skip, where the aarch64 toolchain or qemu is missing
    #[arg(long)]
    require_aarch64: bool,
    /// Fail, rather than skip, where valgrind is missing
    #[arg(long)]
    require_valgrind: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// rustfmt
    Format,
    /// clippy, warnings denied
    Lints,
    /// rustdoc, warnings denied
    Docs,
    /// Unit, property and integration tests, and the tiny checkpoints
    Unit,
    /// Instructions of a token, counted under valgrind
    Instructions,
    /// The three real models, end to end
    Models,
    /// The networks on each older instruction set of this machine
    Isa,
    /// Kernels and networks on emulated Arm processors
    Aarch64,
}

/// Processors to emulate: everything qemu knows; a Raspberry Pi 5, with the dot product; a Raspberry Pi 4, without.
const ARM_CPUS: [&str; 3] = ["max", "cortex-a76", "cortex-a72"];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut runner = Runner::new(args.keep_going);
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    for part in parts {
        match part {
            Part::Format => runner.step("format", cargo(&["fmt", "--all", "--check"])),
            Part::Lints => runner.step("lints", cargo(&LINTS)),
            Part::Docs => runner.step("docs", docs()),
            Part::Unit => unit(&mut runner),
            Part::Instructions => instructions(&mut runner, args.require_valgrind),
            Part::Models => real_models(&mut runner),
            Part::Isa => older_isas(&mut runner),
            Part::Aarch64 => aarch64(&mut runner, args.require_aarch64),
        }
    }
    runner.finish()
}

const LINTS: [&str; 7] =
    ["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"];

fn docs() -> Command {
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "--deny warnings");
    docs
}

fn unit(runner: &mut Runner) {
    runner.step("tests", cargo(&["test", "--workspace", "--no-fail-fast"]));
    runner.step("parity: tiny checkpoints", xtask(&["parity"]));
}

fn instructions(runner: &mut Runner, required: bool) {
    match instructions::missing() {
        Some(missing) if required => runner.fail("instructions", &missing),
        Some(missing) => runner.skip("instructions", &missing),
        None => runner.step("instructions of a token", xtask(&["instructions"])),
    }
}

fn real_models(runner: &mut Runner) {
    let Some(directory) = runner.task("models: bring them", || models::bring(false)) else { return };
    // As for all tests, with `--workspace`: a package alone would be built anew with the features that it alone asks for.
    let mut end_to_end =
        cargo(&["test", "--workspace", "--features", "sterna/real-models", "--test", "real_models"]);
    end_to_end.env("STERNA_TEST_MODELS", &directory);
    runner.step("models: end to end", end_to_end);
    for model in &models::TEST_MODELS {
        let mut tokenizer = xtask(&["tokenizers"]);
        tokenizer.arg(models::path_in(&directory, model.short)).arg(reference_ids(model.short));
        runner.step(&format!("models: tokenizer of {}", model.short), tokenizer);
    }
    runner.step("models: parity", xtask(&["parity", "--real"]));
}

fn reference_ids(short: &str) -> PathBuf {
    workspace::root().join("tests/fixtures/tokenizers").join(format!("{short}.jsonl"))
}

/// The kernels' own tests go through every instruction set; the networks run on the best one unless told otherwise.
fn older_isas(runner: &mut Runner) {
    let chosen = [Isa::Scalar, Isa::Avx2, Isa::Neon];
    let available = Isa::available();
    for isa in chosen.into_iter().filter(|isa| available.contains(isa) && *isa != Isa::best()) {
        let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
        tests.args(tests_of_networks()).env("STERNA_ISA", isa.name());
        runner.step(&format!("isa: networks on {}", isa.name()), tests);
        let mut parity = xtask(&["parity"]);
        parity.env("STERNA_ISA", isa.name());
        runner.step(&format!("isa: parity on {}", isa.name()), parity);
    }
}

/// Flags that name the integration tests of `sterna-model`, which the tests of the whole workspace have built.
fn tests_of_networks() -> Vec<String> {
    let files = std::fs::read_dir(workspace::root().join("crates/sterna-model/tests")).into_iter().flatten();
    let paths =
        files.flatten().map(|file| file.path()).filter(|path| path.extension() == Some("rs".as_ref()));
    let names = paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    names.map(|name| format!("--test={name}")).collect()
}

fn aarch64(runner: &mut Runner, required: bool) {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) if required => return runner.fail("aarch64", &missing),
        Err(missing) => return runner.skip("aarch64", &missing),
    };
    let tests = ["test", "--package", "sterna-tensor", "--lib", "--tests", "--no-fail-fast"];
    for cpu in ARM_CPUS {
        runner.step(&format!("aarch64: kernels on {cpu}"), toolchain.cargo(&tests, cpu));
    }
    let parity = ["run", "--quiet", "--package", "xtask", "--", "parity"];
    runner.step("aarch64: parity on max", toolchain.cargo(&parity, "max"));
}

/// Cargo at the root of the workspace.
fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(args).current_dir(workspace::root());
    cargo
}

/// Another chore of this very program, as it runs: cargo would want to build it with other features than the tests.
fn xtask(args: &[&str]) -> Command {
    let mut xtask = Command::new(std::env::current_exe().unwrap_or("xtask".into()));
    xtask.args(args).current_dir(workspace::root());
    xtask
}
