//! The parts of the tiny checkpoints of other quantizers, to be broken by tests.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sterna_formats::hf::{ConfigFile, quantized, read_safetensors};
use sterna_formats::{FormatError, Tensor, mapped};

pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/quantized").join(name)
}

/// A configuration and the tensors that it describes.
#[derive(Clone)]
pub struct Stored {
    pub config: Value,
    pub tensors: Vec<Tensor>,
}

impl Stored {
    pub fn read(name: &str) -> Stored {
        let path = directory(name).join("model.safetensors");
        let config = std::fs::read(directory(name).join("config.json")).unwrap();
        Stored {
            config: serde_json::from_slice(&config).unwrap(),
            tensors: read_safetensors(&path, &mapped::open(&path).unwrap()).unwrap(),
        }
    }

    pub fn gather(self) -> Result<Vec<Tensor>, FormatError> {
        let config = ConfigFile::parse(Path::new("config.json"), self.config.to_string().as_bytes()).unwrap();
        quantized::gather(&config, None, self.tensors)
    }

    /// With the field at `path` changed, or gone where `value` is null.
    pub fn with(mut self, path: &str, value: Value) -> Stored {
        *self.config.pointer_mut(path).unwrap_or_else(|| panic!("no field {path}")) = value;
        self
    }

    /// Without a tensor.
    pub fn without(mut self, name: &str) -> Stored {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len() + 1, before, "no tensor {name}");
        self
    }

    /// With a tensor changed.
    pub fn changing(mut self, name: &str, change: impl FnOnce(&mut Tensor)) -> Stored {
        change(self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap());
        self
    }
}
