//! Files that verbs keep for themselves or write at once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where what was computed once is kept: in `$STERNA_HOME`, or the user's directory for caches; `None` where there is
/// neither.
pub(super) fn cache() -> Option<PathBuf> {
    match std::env::var_os("STERNA_HOME").filter(|home: &OsString| !home.is_empty()) {
        Some(home) => Some(PathBuf::from(home).join("cache")),
        None => dirs::cache_dir().map(|cache| cache.join("sterna")),
    }
}

/// Writes `bytes` beside `path` and puts them in its place when they are whole.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&part);
    let write = || {
        let mut file = File::create(part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(part, path)
    };
    let written = write();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(part);
    }
    written
}
