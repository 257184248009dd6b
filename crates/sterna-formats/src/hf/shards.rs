//! The weights of a Hugging Face directory: `model.safetensors`, or shards named by `model.safetensors.index.json`, or one
//! file with a name of its own, as AutoGPTQ gives it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{read_safetensors, read_small};
use crate::error::{FormatError, Result};
use crate::mapped;
use crate::tensor::Tensor;

/// One file with all weights.
pub const SINGLE: &str = "model.safetensors";
/// The table of which tensor is in which shard.
pub const INDEX: &str = "model.safetensors.index.json";

/// A hundred bytes for each of a million tensors.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// The tensors of the checkpoint in `dir`, mapped; `None` when it has neither `model.safetensors`, nor an index, nor just one
/// other such file.
///
/// With an index, every tensor must be in the shard that the index names and nowhere else, and every shard must
/// lie inside `dir`.
pub fn open(dir: &Path) -> Result<Option<Vec<Tensor>>> {
    let single = dir.join(SINGLE);
    if single.is_file() {
        return read_safetensors(&single, &mapped::open(&single)?).map(Some);
    }
    let index = dir.join(INDEX);
    if index.is_file() {
        return open_shards(dir, &index).map(Some);
    }
    only_file(dir)?.map(|path| read_safetensors(&path, &mapped::open(&path)?)).transpose()
}

/// The safetensors file in `dir`, if there is just one.
fn only_file(dir: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(FormatError::io(dir))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    Ok(files.next().filter(|_| files.next().is_none()))
}

fn open_shards(dir: &Path, index_path: &Path) -> Result<Vec<Tensor>> {
    let file = index_path.display().to_string();
    let index: Index = serde_json::from_slice(&read_small(index_path, MAX_INDEX_BYTES)?)
        .map_err(|error| FormatError::invalid(&file, "content", "a table of shards", error.to_string()))?;
    let shard_of = index.weight_map.0;

    let mut n_listed: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, shard) in &shard_of {
        if !stays_inside(shard) {
            let field = format!("weight_map[{name:?}]");
            return Err(FormatError::invalid(
                file,
                field,
                "a file inside the directory",
                format!("{shard:?}"),
            ));
        }
        *n_listed.entry(shard).or_default() += 1;
    }

    let mut tensors = Vec::with_capacity(shard_of.len());
    for (&shard, &n_listed) in &n_listed {
        let path = dir.join(shard);
        let found = read_safetensors(&path, &mapped::open(&path)?)?;
        for tensor in &found {
            let misplaced = match shard_of.get(&tensor.name) {
                Some(listed) if listed == shard => continue,
                Some(listed) => format!("only in {listed:?}, as the index says"),
                None => "listed in the index".to_owned(),
            };
            let field = format!("tensor {}", tensor.name);
            return Err(FormatError::invalid(
                path.display().to_string(),
                field,
                misplaced,
                "it in this shard",
            ));
        }
        // Names are unique within a file and each is listed for this shard, so a short count means a missing one.
        if found.len() < n_listed {
            let missing = shard_of
                .iter()
                .filter(|&(_, listed)| listed == shard)
                .find(|&(name, _)| found.iter().all(|tensor| tensor.name != *name));
            let name = missing.map_or("", |(name, _)| name);
            return Err(FormatError::missing(path.display().to_string(), format!("tensor {name}")));
        }
        tensors.extend(found);
    }
    Ok(tensors)
}

/// Whether `shard`, from an index, names a file below the directory on every system.
fn stays_inside(shard: &str) -> bool {
    let plain = |component| matches!(component, Component::Normal(_));
    !shard.is_empty() && !shard.contains(['\\', ':']) && Path::new(shard).components().all(plain)
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// Tensor name → file name of its shard; each tensor once.
struct WeightMap(HashMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor).map(WeightMap)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = HashMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object from tensor to shard")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut shards = HashMap::new();
        while let Some((name, shard)) = map.next_entry::<String, String>()? {
            if shards.contains_key(&name) {
                return Err(A::Error::custom(format!("tensor {name} is given twice")));
            }
            shards.insert(name, shard);
        }
        Ok(shards)
    }
}
