//! `sterna list`: the models on this machine and those of the catalogue.

use std::io::{Write, stdout};
use std::process::ExitCode;

use serde::Serialize;
use sterna_store::{CATALOGUE, Installed, Store};

use super::{table, units};

/// List the models on this machine and those that can be pulled by name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A model that is here or in the catalogue.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    title: String,
    licence: Option<String>,
    size_bytes: u64,
    /// `None` for one of the catalogue that is not here.
    path: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let rows = rows(Store::open_default()?.list()?);
    let text = if args.json { serde_json::to_string_pretty(&rows)? + "\n" } else { text(&rows) };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The installed ones, then the rest of the catalogue.
fn rows(installed: Vec<Installed>) -> Vec<Row> {
    let mut rows: Vec<Row> = installed
        .into_iter()
        .map(|model| Row {
            name: model.name.to_string(),
            size_bytes: model.manifest.size(),
            title: model.manifest.title,
            licence: model.manifest.licence,
            path: Some(model.path.display().to_string()),
        })
        .collect();
    for entry in CATALOGUE {
        if !rows.iter().any(|row| row.name == entry.name) {
            rows.push(Row {
                name: entry.name.to_owned(),
                title: entry.title.to_owned(),
                licence: Some(entry.licence.to_owned()),
                size_bytes: entry.size,
                path: None,
            });
        }
    }
    rows
}

fn text(rows: &[Row]) -> String {
    let mut cells = vec![["name", "size", "here", "licence", "what"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let here = if row.path.is_some() { "yes" } else { "no" };
        let licence = row.licence.as_deref().unwrap_or("unknown");
        [&row.name, &units::bytes(row.size_bytes), here, licence, &row.title].map(str::to_owned)
    }));
    table::aligned(&cells, &[1])
}
