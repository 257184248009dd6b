//! What a native file says about itself, and whether its contents are what was written.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sterna::{Checkpoint, native};
use sterna_quant::recipe::Recipe;

use crate::cli::quality::Quality;
use crate::cli::units;

/// Field names are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct About {
    format_version: String,
    made_by: String,
    origin: String,
    license: Option<String>,
    recipe: Value,
    quality: Value,
    /// Bytes whose checksums were compared, if they were.
    verified_bytes: Option<u64>,
}

impl About {
    /// `None` for checkpoints of other forms, of which none can be verified.
    pub(super) fn new(checkpoint: &Checkpoint, verify: bool) -> anyhow::Result<Option<About>> {
        let Some(native) = checkpoint.native() else {
            let path = checkpoint.path().display();
            anyhow::ensure!(!verify, "{path}: --verify compares checksums, which only native files have");
            return Ok(None);
        };
        let native::About { origin, license, recipe, quality } = native.about()?;
        let (major, minor) = native.version();
        let verified_bytes = if verify { Some(native::verify(checkpoint.path())?) } else { None };
        let (format_version, made_by) = (format!("{major}.{minor}"), native.made_by().to_owned());
        Ok(Some(About { format_version, made_by, origin, license, recipe, quality, verified_bytes }))
    }

    /// What quantizing cost, if it is said in words that are known here.
    pub(super) fn quality(&self) -> Option<Quality> {
        Quality::deserialize(&self.quality).ok()
    }

    fn recipe_lines(&self) -> Option<Vec<String>> {
        let Recipe { method, body, embedding, head, layers } = Recipe::deserialize(&self.recipe).ok()?;
        let rule = format!("{method}: blocks {body}, embedding {embedding}, head {head}");
        Some(match layers.len() {
            0 => vec![rule],
            n => vec![rule, format!("but for {n} matrices or patterns, which --json lists")],
        })
    }

    pub(super) fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "format         native {}, by {}", self.format_version, one_line(&self.made_by))?;
        writeln!(out, "made of        {}", one_line(&self.origin))?;
        if let Some(license) = &self.license {
            writeln!(out, "licence        {}", one_line(license))?;
        }
        for (title, value, lines) in [
            ("recipe", &self.recipe, self.recipe_lines()),
            ("quality", &self.quality, self.quality().map(|quality| quality.lines())),
        ] {
            let lines = lines.unwrap_or_else(|| unknown(value));
            for (i, line) in lines.iter().enumerate() {
                writeln!(out, "{:<14} {}", if i == 0 { title } else { "" }, one_line(line))?;
            }
        }
        if let Some(n_bytes) = self.verified_bytes {
            writeln!(out, "checksums      compared: all {} are as they were written", units::bytes(n_bytes))?;
        }
        Ok(())
    }
}

/// What another program may have said.
fn unknown(value: &Value) -> Vec<String> {
    if value.is_null() { Vec::new() } else { vec![value.to_string()] }
}

/// The first line, without what could steer a terminal: the file may come from anywhere.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}
