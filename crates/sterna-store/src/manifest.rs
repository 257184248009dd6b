//! `manifest.json`: what a stored model is, where it came from, and which of its files to open.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::digest::is_sha256;
use crate::name::is_plain_file_name;

pub(crate) const FILE_NAME: &str = "manifest.json";

/// A manifest is a page of text; anything larger is not one.
const MAX_BYTES: u64 = 1 << 20;

/// What the store knows about one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// One line for people.
    pub title: String,
    /// The licence as its publisher names it, when known.
    pub licence: Option<String>,
    /// Where the bytes came from.
    pub source: String,
    /// When the pull finished, UTC, RFC 3339.
    pub date: String,
    /// The file to open; absent when the directory itself is the model (a Hugging Face directory).
    pub open: Option<String>,
    /// Every file of the model.
    pub files: Vec<FileRecord>,
}

/// One file of a stored model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// File name, one plain component.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

impl Manifest {
    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// What to hand to whoever opens models: a file, or the directory.
    pub(crate) fn model_path(&self, directory: &Path) -> PathBuf {
        match &self.open {
            Some(file) => directory.join(file),
            None => directory.to_owned(),
        }
    }

    /// Reads and checks the manifest of a model's directory; names in it cannot point elsewhere.
    pub(crate) fn read(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let wrong = |message: String| StoreError::Manifest { path: path.clone(), message };
        let size = std::fs::metadata(&path).map_err(StoreError::io("read", &path))?.len();
        if size > MAX_BYTES {
            return Err(wrong(format!("expected at most {MAX_BYTES} bytes, found {size}")));
        }
        let text = std::fs::read(&path).map_err(StoreError::io("read", &path))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        for file in &manifest.files {
            if !is_plain_file_name(&file.name) {
                return Err(wrong(format!("files: expected a plain file name, found `{}`", file.name)));
            }
            if !is_sha256(&file.sha256) {
                return Err(wrong(format!("{}: expected 64 hex digits, found `{}`", file.name, file.sha256)));
            }
        }
        match &manifest.open {
            Some(open) if !manifest.files.iter().any(|file| file.name == *open) => {
                Err(wrong(format!("open: expected one of its files, found `{open}`")))
            }
            _ => Ok(manifest),
        }
    }
}

/// The time now, UTC, as RFC 3339 with seconds.
pub(crate) fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.map_or(0, |duration| duration.as_secs()))
}

/// Seconds since 1970 as a date. Days to civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from 0000-03-01, so that the leap day is the last day of a year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + late;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(rfc3339(4_102_444_800), "2100-01-01T00:00:00Z");
    }

    fn read_text(text: &str) -> Result<Manifest, StoreError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        Manifest::read(dir.path())
    }

    fn with_file(name: &str, open: &str) -> String {
        let sha = "0".repeat(64);
        format!(
            r#"{{"title":"t","licence":null,"source":"s","date":"d","open":{open},
                 "files":[{{"name":{name},"size":1,"sha256":"{sha}"}}]}}"#
        )
    }

    #[test]
    fn a_manifest_cannot_point_outside_its_directory() {
        assert!(read_text(&with_file(r#""a.gguf""#, r#""a.gguf""#)).is_ok());
        for (name, open) in [
            (r#""../a.gguf""#, "null"),
            (r#""/etc/passwd""#, "null"),
            (r#""a.gguf""#, r#""../../a.gguf""#),
            (r#""a.gguf""#, r#""b.gguf""#),
            (r#""manifest.json""#, "null"),
        ] {
            let error = read_text(&with_file(name, open)).unwrap_err();
            assert!(matches!(error, StoreError::Manifest { .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_manifest_is_an_error() {
        for text in ["", "{", "[]", "{\"title\":1}", "null"] {
            assert!(matches!(read_text(text), Err(StoreError::Manifest { .. })), "{text:?}");
        }
    }
}
