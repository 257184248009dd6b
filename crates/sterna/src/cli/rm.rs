//! `sterna rm`: remove a model from the store.

use std::process::ExitCode;

use sterna_store::Store;

use super::terminal::note;
use super::units;

/// Remove pulled models from this machine
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names as `sterna list` shows them
    #[arg(required = true)]
    models: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let store = Store::open_default()?;
    for model in &args.models {
        let freed = store.remove(model)?;
        note(format_args!("{model} removed, {} freed", units::bytes(freed)));
    }
    Ok(ExitCode::SUCCESS)
}
