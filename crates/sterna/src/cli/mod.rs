//! The `sterna` command: one file per verb, each with its arguments and its `run`.

mod bench;
mod chat;
mod completions;
mod eval;
mod export;
mod inspect;
mod list;
mod memory;
mod model_arg;
mod own_files;
mod pace;
mod progress;
mod pull;
mod quality;
mod quantize;
mod rm;
mod run;
mod saved;
mod settings;
mod stream;
mod table;
mod terminal;
mod units;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run, chat with, inspect and time language models on the CPU.
#[derive(Debug, Parser)]
#[command(name = "sterna", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// Never touch the network
    #[arg(long, global = true, env = "STERNA_OFFLINE")]
    offline: bool,
    /// Say more on stderr: seed, threads, timings
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Chat(chat::Args),
    Run(run::Args),
    Inspect(inspect::Args),
    Bench(bench::Args),
    Eval(eval::Args),
    Quantize(quantize::Args),
    Export(export::Args),
    Pull(pull::Args),
    List(list::Args),
    Rm(rm::Args),
    Completions(completions::Args),
}

/// Exit codes: 0 done, 1 error, 2 wrong usage (clap's), 130 interrupted.
pub(crate) fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let done = match verb {
        Verb::Chat(args) => chat::run(args, &global),
        Verb::Run(args) => run::run(args, &global),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Quantize(args) => quantize::run(args, &global),
        Verb::Export(args) => export::run(args),
        Verb::Pull(args) => pull::run(args, &global),
        Verb::List(args) => list::run(args),
        Verb::Rm(args) => rm::run(args),
        Verb::Completions(args) => completions::run(args),
    };
    match done {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {}", terminal::red("error:"), in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, leaving out causes that the text before already tells.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        match line.as_str() {
            "" => line = cause,
            told if told.contains(&cause) => {}
            _ => line = format!("{line}: {cause}"),
        }
    }
    line
}

/// The reader of our output, `head` for one, has seen enough: nothing went wrong.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(in_one_line(&cause.context("cannot read a: no such file")), "cannot read a: no such file");
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(in_one_line(&cause.context("cannot read a")), "cannot read a: no such file");
    }

    #[test]
    fn a_broken_pipe_is_found_under_context() {
        let pipe = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing");
        assert!(is_broken_pipe(&pipe));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
