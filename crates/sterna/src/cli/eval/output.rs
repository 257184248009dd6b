//! Where results go: stdout, and a page in a file.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::Context;

use super::results::Results;
use super::{html, table};
use crate::cli::own_files;

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

/// Writes the page.
pub(super) fn write_page(results: &Results, path: &Path) -> anyhow::Result<()> {
    let written = own_files::write(path, html::page(results).as_bytes());
    written.with_context(|| format!("page {}", path.display()))
}
