//! The documents of a checkpoint: the small files, beside its weights, that say what those are.

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, Config, MAX_TOKENIZER_BYTES};
use crate::error::{FormatError, Result};
use crate::hf;

/// The files of a Hugging Face directory that are taken along, where they are there.
const HF_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
];

/// A GGUF file without tensors: header and metadata.
pub(crate) const METADATA: &str = "metadata.gguf";

/// What a checkpoint's documents are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `config.json` and its siblings, as in a Hugging Face directory.
    #[default]
    Hf,
    /// One document, `metadata.gguf`: a GGUF file of no tensors.
    Gguf,
}

/// The documents of one checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// What they are.
    pub kind: Kind,
    /// The files, each name once.
    pub list: Vec<Document>,
}

/// A file, as it was in the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// File name, without a directory.
    pub name: String,
    /// Contents.
    pub bytes: Bytes,
}

impl Documents {
    /// The documents of `checkpoint`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(checkpoint: &Checkpoint) -> Result<Documents> {
        if let Some(native) = checkpoint.native() {
            return Ok(native.documents().clone());
        }
        let config = match checkpoint.config() {
            Config::Gguf(metadata) => {
                let bytes = metadata.to_file().into();
                let list = vec![Document { name: METADATA.to_owned(), bytes }];
                return Ok(Documents { kind: Kind::Gguf, list });
            }
            Config::Hf(config) => config.view().file(),
        };
        let dir = checkpoint.path();
        let mut list = Vec::new();
        for name in HF_FILES {
            // The configuration may have been opened under another name.
            let path = if name == HF_FILES[0] { config.to_path_buf() } else { dir.join(name) };
            if path.is_file() {
                list.push(Document {
                    name: name.to_owned(),
                    bytes: hf::read_small(&path, MAX_TOKENIZER_BYTES)?.into(),
                });
            }
        }
        Ok(Documents { kind: Kind::Hf, list })
    }

    /// The document of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.list.iter().find(|document| document.name == name).map(|document| &document.bytes)
    }

    /// The configuration in them; `path` is that of the file that they are in.
    pub(crate) fn config(&self, path: &Path) -> Result<Config> {
        let document = |name: &str| {
            let missing = || FormatError::missing(path.display().to_string(), format!("document {name}"));
            Ok::<_, FormatError>((path.join(name), self.get(name).ok_or_else(missing)?))
        };
        match self.kind {
            Kind::Hf => {
                let (path, bytes) = document(HF_FILES[0])?;
                hf::ConfigFile::parse(&path, bytes).map(Config::Hf)
            }
            Kind::Gguf => {
                let (path, bytes) = document(METADATA)?;
                let gguf = crate::gguf::Gguf::parse(&path.display().to_string(), bytes.clone())?;
                Ok(Config::Gguf(gguf.into_parts().0))
            }
        }
    }
}

/// Whether `name` is the name of a file on every system, and of none that is hidden.
pub(super) fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}
