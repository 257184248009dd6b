//! Files of one JSON object per line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::eval::{EvalError, Result};

/// Bytes of the longest line. Items of today's tasks have some kilobytes.
const MAX_LINE: u64 = 1 << 20;

/// The first `limit` objects of `file`, each made by `parse`, which says what is wrong with one. Empty lines do not count.
pub(super) fn read<T>(
    file: &Path,
    limit: Option<usize>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>> {
    let mut reader = BufReader::new(File::open(file).map_err(EvalError::io(file))?);
    let mut items = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        if limit.is_some_and(|limit| items.len() >= limit) {
            break;
        }
        bytes.clear();
        let read = (&mut reader).take(MAX_LINE + 1).read_until(b'\n', &mut bytes);
        if read.map_err(EvalError::io(file))? == 0 {
            break;
        }
        let problem = |problem: String| EvalError::Line { file: file.to_owned(), line, problem };
        if bytes.len() as u64 > MAX_LINE {
            return Err(problem(format!("expected at most {MAX_LINE} bytes, found more")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| problem(error.to_string()))?.trim();
        if !text.is_empty() {
            items.push(parse(text).map_err(problem)?);
        }
    }
    match items.is_empty() {
        true => Err(EvalError::NoItems { file: file.to_owned() }),
        false => Ok(items),
    }
}

/// A JSON object with the fields of `T`.
pub(super) fn object<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
