//! Bring the three real test models, and lay them out under the names that the tests use.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use sterna_store::{Progress, PullOptions, Stage, Store};

use crate::workspace;

/// A test model: the name in the catalogue, and the name that tests and fixtures use.
pub(crate) struct TestModel {
    pub(crate) catalogue: &'static str,
    pub(crate) short: &'static str,
}

pub(crate) const TEST_MODELS: [TestModel; 3] = [
    TestModel { catalogue: "smollm2-135m", short: "smollm2" },
    TestModel { catalogue: "gemma3-270m", short: "gemma3" },
    TestModel { catalogue: "qwen2.5-coder-1.5b", short: "qwen25" },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print only the directory with smollm2.gguf, gemma3.gguf and qwen25.gguf
    #[arg(long)]
    dir: bool,
    /// Fail rather than touch the network
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let directory = bring(args.offline)?;
    if args.dir {
        println!("{}", directory.display());
    } else {
        TEST_MODELS.iter().for_each(|model| println!("{}", path_in(&directory, model.short).display()));
    }
    Ok(())
}

/// Pulls the models into the user's store and links them into one directory, which it gives.
pub(crate) fn bring(offline: bool) -> anyhow::Result<PathBuf> {
    let store = Store::open_default()?;
    let options = PullOptions { offline, ..PullOptions::default() };
    let directory = workspace::target().join("test-models");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for model in &TEST_MODELS {
        let pulled = store.pull(model.catalogue, &options, &mut Terminal::new(model.catalogue))?;
        link(&pulled.path, &path_in(&directory, model.short))?;
    }
    Ok(directory)
}

/// The file of the test model of that name, which is brought if need be; else the path itself.
pub(crate) fn find(model: &str) -> anyhow::Result<PathBuf> {
    match TEST_MODELS.iter().any(|known| known.short == model) {
        true => Ok(path_in(&bring(false)?, model)),
        false => Ok(PathBuf::from(model)),
    }
}

pub(crate) fn path_in(directory: &Path, short: &str) -> PathBuf {
    directory.join(format!("{short}.gguf"))
}

/// A hard link where the file system can, else a copy.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot link {} to {}", from.display(), to.display());
    if to.exists() {
        std::fs::remove_file(to).with_context(context)?;
    }
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).with_context(context)?;
    }
    Ok(())
}

/// Progress on standard error: a line per stage, and a percentage where someone is watching.
struct Terminal {
    model: &'static str,
    watched: bool,
    last: Instant,
}

impl Terminal {
    fn new(model: &'static str) -> Self {
        Self { model, watched: std::io::stderr().is_terminal(), last: Instant::now() }
    }
}

impl Progress for Terminal {
    fn stage(&mut self, stage: &Stage<'_>) {
        let clear = if self.watched { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{}: {stage}", self.model);
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        if !self.watched || self.last.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.last = Instant::now();
        let mb = |bytes: u64| bytes / 1_000_000;
        let of = total.map_or(String::new(), |total| format!(" of {}", mb(total)));
        eprint!("\r\x1b[K  {}{of} MB", mb(done));
        // A progress line that cannot be shown is no reason to stop.
        let _ = std::io::stderr().flush();
    }
}
