//! GGUF files that were split into several.

use std::path::{Path, PathBuf};

use super::{Gguf, table};
use crate::error::{FormatError, Result};

/// How many shards there are; every shard has it.
pub(super) const COUNT: &str = "split.count";
/// The shard's own number, from 0.
const NUMBER: &str = "split.no";
/// How many tensors all shards have together.
const TENSORS: &str = "split.tensors.count";

/// Opens all `count` shards of which `path` is one.
pub(super) fn open_all(path: &Path, count: u32) -> Result<Gguf> {
    let stem = stem(path, count).ok_or_else(|| {
        FormatError::invalid(
            path.display().to_string(),
            "file name",
            format!("…-00001-of-{count:05}.gguf, since key {COUNT} is {count}"),
            format!("{:?}", path.file_name().unwrap_or_default()),
        )
    })?;
    let mut whole: Option<Gguf> = None;
    for number in 0..count {
        let shard = Gguf::open_one(&shard_path(&stem, number, count))?;
        expect(&shard, NUMBER, number)?;
        expect(&shard, COUNT, count)?;
        match &mut whole {
            None => whole = Some(shard),
            Some(whole) => whole.tensors.extend(shard.tensors),
        }
    }
    let whole = whole.ok_or_else(|| FormatError::missing(path.display().to_string(), "the first shard"))?;
    check_tensors(whole)
}

/// The tensors of all shards have different names and are as many as announced.
fn check_tensors(whole: Gguf) -> Result<Gguf> {
    if let Some(name) = table::duplicate(whole.tensors.iter().map(|tensor| tensor.name.as_str())) {
        return Err(FormatError::invalid(
            whole.metadata.file(),
            format!("tensor {name}"),
            "one tensor of this name",
            "one more in another shard",
        ));
    }
    match whole.metadata.get::<usize>(TENSORS)? {
        Some(announced) if announced != whole.tensors.len() => Err(FormatError::invalid(
            whole.metadata.file(),
            format!("key {TENSORS}"),
            format!("{} tensors, as the shards hold", whole.tensors.len()),
            announced.to_string(),
        )),
        _ => Ok(whole),
    }
}

fn expect(shard: &Gguf, key: &str, expected: u32) -> Result<()> {
    let found = shard.metadata.require::<u32>(key)?;
    if found == expected {
        return Ok(());
    }
    let file = shard.metadata.file();
    Err(FormatError::invalid(file, format!("key {key}"), expected.to_string(), found.to_string()))
}

/// The path without `-00001-of-00003.gguf`.
fn stem(path: &Path, count: u32) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(&format!("-of-{count:05}.gguf"))?;
    let (stem, number) = name.rsplit_once('-')?;
    (number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit())).then(|| path.with_file_name(stem))
}

fn shard_path(stem: &Path, number: u32, count: u32) -> PathBuf {
    let mut name = stem.file_name().unwrap_or_default().to_os_string();
    name.push(format!("-{:05}-of-{count:05}.gguf", number + 1));
    stem.with_file_name(name)
}
