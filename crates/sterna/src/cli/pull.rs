//! `sterna pull`: bring a model to this machine.

use std::io::{Write, stdout};
use std::process::ExitCode;

use sterna_store::{PullOptions, Store};

use super::Global;
use super::model_arg::ProgressBar;
use super::terminal::note;

/// Bring a model to this machine
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the catalogue, hf:ORG/REPO[:FILE], an https:// address, or a path
    model: String,
    /// Name in the store [default: the catalogue's, or one made from the file]
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = PullOptions { offline: global.offline, name: args.name, ..PullOptions::default() };
    let pulled = Store::open_default()?.pull(&args.model, &options, &mut ProgressBar::default())?;
    if !pulled.fresh {
        note("already here");
    }
    // What scripts want to know.
    writeln!(stdout(), "{}", pulled.path.display())?;
    Ok(ExitCode::SUCCESS)
}
