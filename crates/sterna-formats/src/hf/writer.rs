//! Writing a Hugging Face folder: documents, and tensors streamed into one safetensors file or, beyond 4 GiB, into
//! shards with an index. The folder is written aside and gets its name when all of it is on the medium.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sterna_tensor::DType;

use super::shards::{INDEX, SINGLE};
use crate::error::{FormatError, Result};
use crate::tensor::{OtherType, TensorType};

/// No shard is larger, unless one tensor alone is.
const SHARD_BYTES: usize = 4 << 30;

/// Headers are padded to a multiple of this, so that data is aligned.
const HEADER_ALIGNMENT: usize = 8;

/// A tensor that a folder is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name, given once.
    pub name: String,
    /// Floats, `i32` or `u32`.
    pub ty: TensorType,
    /// Outermost first.
    pub shape: Vec<usize>,
}

/// A folder that is being written, as `DIR.part` beside the place where it will be. Dropped before
/// [`FolderWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct FolderWriter {
    target: PathBuf,
    part: PathBuf,
    /// What the files say they were written for: `pt`, `mlx`.
    framework: &'static str,
    tensors: Vec<Slot>,
    n_shards: usize,
    /// Of the tensor that is being written.
    current: usize,
    /// Bytes of it that are written.
    written: usize,
    /// The shard that it is in.
    file: Option<File>,
    is_finished: bool,
}

/// A planned tensor and where it will be.
#[derive(Debug)]
struct Slot {
    of: PlannedTensor,
    n_bytes: usize,
    shard: usize,
}

impl FolderWriter {
    /// Begins the folder that will be at `dir`, with `tensors` in the order in which they will be written.
    ///
    /// # Errors
    /// When there is something at `dir` other than an empty folder, when `DIR.part` cannot be made, and when a type is
    /// none of safetensors files that are written here.
    pub fn create(dir: &Path, framework: &'static str, tensors: Vec<PlannedTensor>) -> Result<FolderWriter> {
        FolderWriter::with_shards_of(dir, framework, tensors, SHARD_BYTES)
    }

    fn with_shards_of(
        dir: &Path,
        framework: &'static str,
        tensors: Vec<PlannedTensor>,
        shard_bytes: usize,
    ) -> Result<FolderWriter> {
        // Without a slash at its end, after which a suffix would be another name.
        let dir: PathBuf = dir.components().collect();
        let file = dir.display().to_string();
        let is_free = match fs::read_dir(&dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => !dir.exists(),
        };
        if !is_free {
            return Err(FormatError::invalid(file, "output", "a new or empty folder", "something there"));
        }
        let tensors = slots(&file, tensors, shard_bytes)?;
        let mut part = dir.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        remove_leftover(&part)?;
        fs::create_dir(&part).map_err(FormatError::io(&part))?;
        Ok(FolderWriter {
            target: dir,
            part,
            framework,
            n_shards: tensors.last().map_or(1, |last| last.shard + 1),
            tensors,
            current: 0,
            written: 0,
            file: None,
            is_finished: false,
        })
    }

    /// Writes the file `name` beside the tensors.
    ///
    /// # Errors
    /// When it cannot be written, or is there already.
    pub fn document(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.part.join(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(FormatError::io(&path))
    }

    /// Writes the next bytes, little-endian, of the tensor `name`: all of it or a part. Tensors come in the order of
    /// the plan.
    ///
    /// # Errors
    /// When another tensor is due, there are more bytes than the plan says, or the file cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let due = self.tensors.get(self.current);
        let Some(slot) = due.filter(|slot| slot.of.name == name) else {
            let due = due.map_or("the end", |slot| &slot.of.name).to_owned();
            return Err(self.invalid(format!("tensor {name}"), due, "this tensor".to_owned()));
        };
        let left = slot.n_bytes - self.written;
        let (n_bytes, shard) = (slot.n_bytes, slot.shard);
        if bytes.len() > left {
            let found = format!("{} more than that", bytes.len() - left);
            return Err(self.invalid(format!("tensor {name}"), format!("{n_bytes} bytes"), found));
        }
        let path = self.part.join(self.shard_name(shard));
        if self.file.is_none() {
            let mut file = File::create_new(&path).map_err(FormatError::io(&path))?;
            file.write_all(&self.header(shard)).map_err(FormatError::io(&path))?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes).map_err(FormatError::io(&path))?;
        }
        self.written += bytes.len();
        if self.written == n_bytes {
            self.current += 1;
            self.written = 0;
            if self.tensors.get(self.current).is_none_or(|next| next.shard != shard)
                && let Some(file) = self.file.take()
            {
                file.sync_all().map_err(FormatError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Writes the index, if there are shards, and gives the folder its name; how many bytes all its files have.
    ///
    /// # Errors
    /// When a tensor is missing, or the folder cannot be written or renamed; then nothing is left of it.
    pub fn finish(mut self) -> Result<u64> {
        if let Some(missing) = self.tensors.get(self.current) {
            let field = format!("tensor {}", missing.of.name);
            let expected = format!("{} bytes", missing.n_bytes);
            return Err(self.invalid(field, expected, format!("{} bytes", self.written)));
        }
        if self.n_shards > 1 {
            let index = serde_json::to_vec_pretty(&self.index())
                .map_err(|error| self.invalid(INDEX.to_owned(), "JSON".to_owned(), error.to_string()))?;
            self.document(INDEX, &index)?;
        }
        let mut n_bytes = 0;
        for entry in fs::read_dir(&self.part).map_err(FormatError::io(&self.part))? {
            n_bytes += entry.and_then(|entry| entry.metadata()).map_err(FormatError::io(&self.part))?.len();
        }
        // The names in the folder are on the medium before its own is. Windows has no such call.
        if cfg!(unix) {
            let synced = File::open(&self.part).and_then(|folder| folder.sync_all());
            synced.map_err(FormatError::io(&self.part))?;
        }
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(FormatError::io(&self.target))?;
        }
        fs::rename(&self.part, &self.target).map_err(FormatError::io(&self.target))?;
        self.is_finished = true;
        Ok(n_bytes)
    }

    fn shard_name(&self, shard: usize) -> String {
        match self.n_shards {
            1 => SINGLE.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", shard + 1),
        }
    }

    /// Length and table of a shard.
    fn header(&self, shard: usize) -> Vec<u8> {
        let mut table = Map::new();
        table.insert("__metadata__".to_owned(), json!({"format": self.framework}));
        let mut end = 0;
        for slot in self.tensors.iter().filter(|slot| slot.shard == shard) {
            let (start, PlannedTensor { name, ty, shape }) = (end, &slot.of);
            end += slot.n_bytes;
            let entry = json!({"dtype": ty.to_string(), "shape": shape, "data_offsets": [start, end]});
            table.insert(name.clone(), entry);
        }
        let mut table = Value::Object(table).to_string().into_bytes();
        table.resize(table.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
        [&(table.len() as u64).to_le_bytes(), table.as_slice()].concat()
    }

    fn index(&self) -> Value {
        let total: usize = self.tensors.iter().map(|slot| slot.n_bytes).sum();
        let shards =
            self.tensors.iter().map(|slot| (slot.of.name.clone(), self.shard_name(slot.shard).into()));
        json!({"metadata": {"total_size": total}, "weight_map": shards.collect::<Map<_, Value>>()})
    }

    fn invalid(&self, field: String, expected: String, found: String) -> FormatError {
        FormatError::invalid(self.target.display().to_string(), field, expected, found)
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // Closed first: Windows does not remove a file that is open.
            self.file = None;
            let _ = fs::remove_dir_all(&self.part);
        }
    }
}

/// Sizes of `tensors`, and which shard each is in.
fn slots(file: &str, tensors: Vec<PlannedTensor>, shard_bytes: usize) -> Result<Vec<Slot>> {
    let (mut shard, mut filled) = (0, 0);
    let mut slots: Vec<Slot> = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let is_known = matches!(
            tensor.ty,
            TensorType::Dense(DType::F32 | DType::F16 | DType::BF16)
                | TensorType::Other(OtherType::I32 | OtherType::U32)
        );
        let n_bytes = tensor.ty.n_bytes(&tensor.shape).filter(|n_bytes| is_known && *n_bytes > 0);
        let Some(n_bytes) = n_bytes else {
            let found = format!("{} {:?}", tensor.ty, tensor.shape);
            let field = format!("tensor {}", tensor.name);
            return Err(FormatError::invalid(file, field, "floats or 32-bit integers", found));
        };
        if filled > 0 && filled + n_bytes > shard_bytes {
            (shard, filled) = (shard + 1, 0);
        }
        filled += n_bytes;
        slots.push(Slot { of: tensor, n_bytes, shard });
    }
    Ok(slots)
}

/// Removes what an export that was killed has left: a folder of nothing but files.
fn remove_leftover(part: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(part) else { return Ok(()) };
    for entry in entries {
        let kind = entry.and_then(|entry| entry.file_type()).map_err(FormatError::io(part))?;
        if !kind.is_file() {
            let file = part.display().to_string();
            return Err(FormatError::invalid(file, "output", "files of an earlier export", "other things"));
        }
    }
    fs::remove_dir_all(part).map_err(FormatError::io(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hf::open_weights;

    fn plan() -> Vec<PlannedTensor> {
        let tensor = |name: &str, ty, shape: &[usize]| PlannedTensor {
            name: name.to_owned(),
            ty,
            shape: shape.to_vec(),
        };
        vec![
            tensor("b", TensorType::Dense(DType::F16), &[2, 3]),
            tensor("a", TensorType::Other(OtherType::I32), &[4]),
            tensor("c", TensorType::Dense(DType::F32), &[1]),
        ]
    }

    fn write_all(writer: &mut FolderWriter) -> Result<()> {
        writer.document("config.json", b"{}")?;
        writer.write("b", &[1; 8])?;
        writer.write("b", &[2; 4])?;
        writer.write("a", &[3; 16])?;
        writer.write("c", &1f32.to_le_bytes())
    }

    #[test]
    fn what_is_written_is_read_back_from_one_file_and_from_shards() {
        let temp = tempfile::tempdir().unwrap();
        for (shard_bytes, files) in [(SHARD_BYTES, 2), (20, 4), (12, 5)] {
            let dir = temp.path().join(format!("of-{shard_bytes}"));
            let mut writer = FolderWriter::with_shards_of(&dir, "pt", plan(), shard_bytes).unwrap();
            write_all(&mut writer).unwrap();
            assert!(!dir.exists());
            writer.finish().unwrap();
            assert_eq!(fs::read_dir(&dir).unwrap().count(), files);
            let tensors = open_weights(&dir).unwrap().unwrap();
            for planned in plan() {
                let tensor = tensors.iter().find(|tensor| tensor.name == planned.name).unwrap();
                assert_eq!((tensor.ty, &tensor.shape), (planned.ty, &planned.shape));
            }
            let b = tensors.iter().find(|tensor| tensor.name == "b").unwrap();
            assert_eq!(b.data[..], [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3, "nothing is left aside");
    }

    #[test]
    fn tensors_out_of_order_too_long_or_missing_are_refused_and_nothing_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        let mut writer = FolderWriter::create(&dir, "pt", plan()).unwrap();
        let message = writer.write("a", &[0; 16]).unwrap_err().to_string();
        assert!(message.contains("tensor a: expected b"), "{message}");
        let message = writer.write("b", &[0; 13]).unwrap_err().to_string();
        assert!(message.contains("12 bytes, found 1 more"), "{message}");
        writer.write("b", &[0; 10]).unwrap();
        let message = writer.finish().unwrap_err().to_string();
        assert!(message.contains("tensor b: expected 12 bytes, found 10 bytes"), "{message}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_holds_something_is_not_touched() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("mine"), b"x").unwrap();
        assert!(FolderWriter::create(&dir, "pt", plan()).unwrap_err().to_string().contains("empty folder"));
        assert!(FolderWriter::create(&dir.join("mine"), "pt", plan()).is_err());
        fs::remove_file(dir.join("mine")).unwrap();
        // An empty one is replaced, and what a killed export left aside as well.
        fs::create_dir(temp.path().join("model.part")).unwrap();
        fs::write(temp.path().join("model.part/config.json"), b"old").unwrap();
        let mut writer = FolderWriter::create(&dir.join(""), "pt", plan()).unwrap();
        write_all(&mut writer).unwrap();
        writer.finish().unwrap();
        assert_eq!(fs::read(dir.join("config.json")).unwrap(), b"{}");
        fs::create_dir_all(temp.path().join("other.part/mine")).unwrap();
        assert!(FolderWriter::create(&temp.path().join("other"), "pt", plan()).is_err());
    }
}
