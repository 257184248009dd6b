//! Where results go: stdout, and a page in a file.

use std::fs::File;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::Context;

use super::results::Results;
use super::{html, table};

/// Form of the results.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    Text,
    Markdown,
    Json,
}

pub(super) fn print(results: &Results, output: Output) -> anyhow::Result<()> {
    let tables = || table::all(results).into_iter();
    let text = match output {
        Output::Text => tables().map(|table| table.text()).collect::<Vec<_>>().join("\n"),
        Output::Markdown => tables().map(|table| table.markdown()).collect::<Vec<_>>().join("\n"),
        Output::Json => serde_json::to_string_pretty(results)? + "\n",
    };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// Writes the page beside `path` and puts it in its place when it is whole.
pub(super) fn write_page(results: &Results, path: &Path) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&part);
    let write = || {
        let mut file = File::create(part)?;
        file.write_all(html::page(results).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(part, path)
    };
    let written: std::io::Result<()> = write();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(part);
    }
    written.with_context(|| format!("page {}", path.display()))
}
