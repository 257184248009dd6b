//! The workshop: one subcommand per file, each with its `Args` and its `run`. Never shipped.
#![forbid(unsafe_code)]

mod instructions;
mod interop;
mod memory;
mod models;
mod parity;
mod peers;
mod quality;
mod synthetic;
mod test;
mod tokenizers;
mod workspace;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Sterna workspace", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check there is: format, lints, docs, tests, real models, other instruction sets
    Test(test::Args),
    /// Bring the three real test models and print their paths
    Models(models::Args),
    /// Compare checkpoints with their recorded reference logits
    Parity(parity::Args),
    /// Compare a tokenizer with recorded reference ids
    Tokenizers(tokenizers::Args),
    /// Compare speed with llama.cpp, side by side in one run
    Peers(peers::Args),
    /// Export a model and have other runtimes compute with it
    Interop(interop::Args),
    /// Quantize real models by every method, and judge what came out
    Quality(quality::Args),
    /// Measure the memory of networks of made-up weights at long contexts
    Memory(memory::Args),
    /// Count the instructions of a token under valgrind, and compare them with those recorded
    Instructions(instructions::Args),
    /// Write a checkpoint of random weights as large as asked for
    Synthetic(synthetic::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Parity(args) => parity::run(&args),
        Command::Tokenizers(args) => tokenizers::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Interop(args) => interop::run(&args),
        Command::Quality(args) => quality::run(&args),
        Command::Memory(args) => memory::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Synthetic(args) => synthetic::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // One line: a failed comparison is no bug of this program, to need a backtrace.
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a report; one that nobody reads to its end, as before `| head`, is no failure.
fn print(report: impl std::fmt::Display) -> anyhow::Result<()> {
    match write!(io::stdout().lock(), "{report}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
