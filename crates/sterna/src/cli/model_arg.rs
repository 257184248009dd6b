//! MODEL as a user types it: a name of the catalogue or the store, or a path.

use std::path::PathBuf;

use sterna_store::{CATALOGUE, Progress, PullOptions, Stage, Store, StoreError};

use super::Global;
use super::progress::ByteBar;
use super::terminal::note;

/// The path of a model that must be on this machine.
pub(super) fn resolve(model: &str) -> Result<PathBuf, StoreError> {
    Store::open_default()?.resolve(model)
}

/// The path of a model, or of the catalogue's first if none is named; one of the catalogue is brought if it is missing.
pub(super) fn resolve_or_pull(model: Option<&str>, global: &Global) -> Result<PathBuf, StoreError> {
    let store = Store::open_default()?;
    let model = model.unwrap_or(CATALOGUE[0].name);
    match store.resolve(model) {
        Err(StoreError::NotPulled { name, .. }) => {
            let options = PullOptions { offline: global.offline, ..PullOptions::default() };
            Ok(store.pull(&name, &options, &mut ProgressBar::default())?.path)
        }
        resolved => resolved,
    }
}

/// Where a chat remembers the lines typed; beside the models.
pub(super) fn history_file() -> Option<PathBuf> {
    let store = Store::open_default().ok()?;
    store.root().parent().map(|home| home.join("chat_history"))
}

/// Shows a pull on stderr: a line per stage, and a bar on a terminal.
#[derive(Default)]
pub(super) struct ProgressBar {
    bar: Option<ByteBar>,
}

impl Progress for ProgressBar {
    fn stage(&mut self, stage: &Stage<'_>) {
        self.bar = None;
        note(stage);
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        self.bar.get_or_insert_with(|| ByteBar::new(total)).set(done);
    }
}
