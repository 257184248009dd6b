//! A model on disk, whatever its form: a Hugging Face directory or a GGUF file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{FormatError, Result};
use crate::gguf::{Gguf, Metadata};
use crate::hf::{self, ConfigFile, GenerationConfig};
use crate::tensor::Tensor;

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const CHAT_TEMPLATE_JSON: &str = "chat_template.json";

/// The longest templates of today are some 20 KiB.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

/// A checkpoint: what it says about itself, and its tensors by name.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

/// What a checkpoint says about its network, in the words of its format.
#[derive(Debug, Clone)]
pub enum Config {
    /// `config.json`.
    Hf(ConfigFile),
    /// The metadata of a GGUF file.
    Gguf(Metadata),
}

impl Checkpoint {
    /// Opens `path`: a GGUF file (the first, when it is split), a directory with `config.json` and safetensors, or a
    /// directory with one GGUF model. Weights are mapped, not read.
    ///
    /// # Errors
    /// When there is no such thing at `path` (the message says what was looked for), and when a file is malformed.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        if std::fs::metadata(path).map_err(FormatError::io(path))?.is_dir() {
            return match path.join(CONFIG).is_file() {
                true => Checkpoint::open_hf(path, CONFIG),
                false => Checkpoint::open_gguf(&only_gguf(path)?),
            };
        }
        if !["safetensors", "json"].iter().any(|part| has_extension(path, part)) {
            return Checkpoint::open_gguf(path);
        }
        let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Err(FormatError::invalid(
            path.display().to_string(),
            "path",
            "a GGUF file, or the directory of a checkpoint",
            format!("one file of a checkpoint; give its directory, {}", directory.display()),
        ))
    }

    /// Opens the Hugging Face directory `dir` with `config` (a file name in it) in place of `config.json`.
    pub fn open_hf(dir: &Path, config: &str) -> Result<Checkpoint> {
        let config = ConfigFile::open(&dir.join(config))?;
        let tensors = hf::open_weights(dir)?.ok_or_else(|| {
            FormatError::missing(dir.display().to_string(), format!("{} or {}", hf::SINGLE, hf::INDEX))
        })?;
        Ok(Checkpoint::new(dir, Config::Hf(config), tensors))
    }

    fn open_gguf(path: &Path) -> Result<Checkpoint> {
        let gguf = Gguf::open(path)?;
        let (metadata, tensors) = gguf.into_parts();
        Ok(Checkpoint::new(path, Config::Gguf(metadata), tensors))
    }

    fn new(path: &Path, config: Config, tensors: Vec<Tensor>) -> Checkpoint {
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Checkpoint { path: path.to_path_buf(), config, tensors, by_name }
    }

    /// The GGUF file or the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the checkpoint says about its network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All tensors, in the order of the files.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &Tensor> {
        self.tensors.iter()
    }

    /// The tensor of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.get(name)
            .ok_or_else(|| FormatError::missing(self.path.display().to_string(), format!("tensor {name}")))
    }

    /// `tokenizer.json`, when the checkpoint is a directory that has one. (GGUF files keep the tokenizer in their
    /// metadata.)
    pub fn tokenizer_json(&self) -> Option<PathBuf> {
        self.sibling(TOKENIZER)
    }

    /// `tokenizer_config.json`, parsed, when the checkpoint is a directory that has one.
    pub fn tokenizer_config(&self) -> Result<Option<ConfigFile>> {
        self.sibling_config(TOKENIZER_CONFIG)
    }

    /// The Jinja source of the chat template: from `chat_template.jinja`, `chat_template.json`,
    /// `tokenizer_config.json`, or the metadata of a GGUF file, whichever is first; `None` when there is none.
    pub fn chat_template(&self) -> Result<Option<String>> {
        if let Config::Gguf(metadata) = &self.config {
            return Ok(metadata.get::<&str>("tokenizer.chat_template")?.map(str::to_owned));
        }
        if let Some(path) = self.sibling(CHAT_TEMPLATE) {
            return hf::read_text(&path, MAX_TEMPLATE_BYTES).map(Some);
        }
        for name in [CHAT_TEMPLATE_JSON, TOKENIZER_CONFIG] {
            if let Some(template) =
                self.sibling_config(name)?.as_ref().map(template_of).transpose()?.flatten()
            {
                return Ok(Some(template));
            }
        }
        Ok(None)
    }

    /// What the checkpoint recommends for generation; what it does not say is left empty.
    pub fn generation_config(&self) -> Result<GenerationConfig> {
        match &self.config {
            Config::Gguf(metadata) => GenerationConfig::from_gguf(metadata),
            Config::Hf(config) => {
                let said = match self.sibling_config(GENERATION_CONFIG)? {
                    Some(file) => GenerationConfig::from_hf(&file.view())?,
                    None => GenerationConfig::default(),
                };
                said.or_ids_of(&config.view())
            }
        }
    }

    /// The file `name` beside `config.json`.
    fn sibling(&self, name: &str) -> Option<PathBuf> {
        match self.config {
            Config::Hf(_) => Some(self.path.join(name)).filter(|path| path.is_file()),
            Config::Gguf(_) => None,
        }
    }

    fn sibling_config(&self, name: &str) -> Result<Option<ConfigFile>> {
        self.sibling(name).map(|path| ConfigFile::open(&path)).transpose()
    }
}

/// The field `chat_template`: one template, or a list of named ones of which `default` is meant.
fn template_of(file: &ConfigFile) -> Result<Option<String>> {
    const EXPECTED: &str = "a template, or a list of {name, template} with one named \"default\"";
    let view = file.view();
    match view.get("chat_template") {
        None => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(named)) => {
            let default =
                named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            let template = default.and_then(|entry| entry.get("template")).and_then(Value::as_str);
            template.map(|text| Some(text.to_owned())).ok_or_else(|| view.wrong("chat_template", EXPECTED))
        }
        Some(_) => Err(view.wrong("chat_template", EXPECTED)),
    }
}

/// The GGUF model in `dir`: its only `*.gguf`, not counting the later parts of a split file.
fn only_gguf(dir: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(FormatError::io(dir))? {
        let path = entry.map_err(FormatError::io(dir))?.path();
        if has_extension(&path, "gguf") && !is_later_part(&path) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let wanted = format!("{CONFIG} (with {} or {}), or a *.gguf file", hf::SINGLE, hf::INDEX);
            Err(FormatError::missing(dir.display().to_string(), wanted))
        }
        [first, second, ..] => Err(FormatError::invalid(
            dir.display().to_string(),
            "*.gguf",
            "one model in the directory, or the path of one",
            format!("{} models, among them {} and {}", found.len(), first.display(), second.display()),
        )),
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Whether `path` is `NAME-00002-of-00003.gguf` or later.
fn is_later_part(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let Some((rest, count)) = stem.rsplit_once("-of-") else { return false };
    let Some((_, part)) = rest.rsplit_once('-') else { return false };
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(count) && is_number(part) && part != "00001"
}
