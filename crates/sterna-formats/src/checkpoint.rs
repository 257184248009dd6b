//! A model on disk, whatever its form: a Hugging Face directory, a GGUF file or a native file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{FormatError, Result};
use crate::gguf::{Gguf, Metadata};
use crate::hf::{self, ConfigFile, GenerationConfig};
use crate::native::{self, Native};
use crate::tensor::Tensor;

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const CHAT_TEMPLATE_JSON: &str = "chat_template.json";

/// The longest templates of today are some 20 KiB.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

/// The largest `tokenizer.json` known has 40 MB.
pub(crate) const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A checkpoint: what it says about itself, and its tensors by name.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    /// What a native file holds beside tensors and configuration.
    native: Option<Native>,
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
    /// Opens `path`: a native file, a GGUF file (the first, when it is split), a directory with `config.json` and
    /// safetensors, or a directory with one native or GGUF model. Weights are mapped, not read.
    ///
    /// # Errors
    /// When there is no such thing at `path` (the message says what was looked for), and when a file is malformed.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        if std::fs::metadata(path).map_err(FormatError::io(path))?.is_dir() {
            return match path.join(CONFIG).is_file() {
                true => Checkpoint::open_hf(path, CONFIG),
                false => Checkpoint::open(&only_model(path)?),
            };
        }
        if has_extension(path, native::EXTENSION) || native::is_native(path) {
            return Checkpoint::open_native(path);
        }
        if !["safetensors", "json"].iter().any(|part| has_extension(path, part)) {
            return Checkpoint::open_gguf(path);
        }
        let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Err(FormatError::invalid(
            path.display().to_string(),
            "path",
            "a native or GGUF file, or the directory of a checkpoint",
            format!("one file of a checkpoint; give its directory, {}", directory.display()),
        ))
    }

    /// Opens the Hugging Face directory `dir` with `config` (a file name in it) in place of `config.json`.
    pub fn open_hf(dir: &Path, config: &str) -> Result<Checkpoint> {
        let config = ConfigFile::open(&dir.join(config))?;
        let tensors = hf::open_weights(dir)?.ok_or_else(|| {
            FormatError::missing(dir.display().to_string(), format!("{} or {}", hf::SINGLE, hf::INDEX))
        })?;
        let gptq_config = dir.join(hf::quantized::GPTQ_CONFIG);
        let gptq_config = gptq_config.is_file().then(|| ConfigFile::open(&gptq_config)).transpose()?;
        let tensors = hf::quantized::gather(&config, gptq_config.as_ref(), tensors)?;
        Ok(Checkpoint::new(dir, Config::Hf(config), tensors))
    }

    fn open_gguf(path: &Path) -> Result<Checkpoint> {
        let gguf = Gguf::open(path)?;
        let (metadata, tensors) = gguf.into_parts();
        Ok(Checkpoint::new(path, Config::Gguf(metadata), tensors))
    }

    fn open_native(path: &Path) -> Result<Checkpoint> {
        let (native, tensors) = Native::open(path)?;
        let config = native.documents().config(path)?;
        Ok(Checkpoint { native: Some(native), ..Checkpoint::new(path, config, tensors) })
    }

    /// A checkpoint that is in no file yet; `path` is what errors name.
    pub fn of_parts(path: &Path, config: Config, tensors: Vec<Tensor>) -> Checkpoint {
        Checkpoint::new(path, config, tensors)
    }

    fn new(path: &Path, config: Config, tensors: Vec<Tensor>) -> Checkpoint {
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Checkpoint { path: path.to_path_buf(), config, native: None, tensors, by_name }
    }

    /// The native or GGUF file, or the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a native file says about itself; `None` for checkpoints of other forms.
    pub fn native(&self) -> Option<&Native> {
        self.native.as_ref()
    }

    /// What the checkpoint says about its network; a native file, in the words of its origin.
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

    /// The text of `tokenizer.json` and its path for errors, when the checkpoint has one. (GGUF files keep the tokenizer
    /// in their metadata.)
    pub fn tokenizer_json(&self) -> Result<Option<(PathBuf, String)>> {
        let Some((path, bytes)) = self.document(TOKENIZER, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
        let text = hf::text(&path, bytes)?;
        Ok(Some((path, text)))
    }

    /// `tokenizer_config.json`, parsed, when the checkpoint has one.
    pub fn tokenizer_config(&self) -> Result<Option<ConfigFile>> {
        self.document_config(TOKENIZER_CONFIG)
    }

    /// The Jinja source of the chat template: from `chat_template.jinja`, `chat_template.json`,
    /// `tokenizer_config.json`, or the metadata of a GGUF file, whichever is first; `None` when there is none.
    pub fn chat_template(&self) -> Result<Option<String>> {
        if let Config::Gguf(metadata) = &self.config {
            return Ok(metadata.get::<&str>("tokenizer.chat_template")?.map(str::to_owned));
        }
        if let Some((path, bytes)) = self.document(CHAT_TEMPLATE, MAX_TEMPLATE_BYTES)? {
            return hf::text(&path, bytes).map(Some);
        }
        for name in [CHAT_TEMPLATE_JSON, TOKENIZER_CONFIG] {
            if let Some(template) =
                self.document_config(name)?.as_ref().map(template_of).transpose()?.flatten()
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
                let said = match self.document_config(GENERATION_CONFIG)? {
                    Some(file) => GenerationConfig::from_hf(&file.view())?,
                    None => GenerationConfig::default(),
                };
                said.or_ids_of(&config.view())
            }
        }
    }

    /// The file `name` beside `config.json`, if there is one, of at most `limit` bytes, and its path for errors.
    fn document(&self, name: &str, limit: u64) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let path = self.path.join(name);
        let bytes = match (&self.config, &self.native) {
            (Config::Gguf(_), _) => None,
            (Config::Hf(_), None) if path.is_file() => Some(hf::read_small(&path, limit)?),
            (Config::Hf(_), None) => None,
            (Config::Hf(_), Some(native)) => match native.documents().get(name) {
                Some(bytes) if bytes.len() as u64 > limit => {
                    let (expected, found) =
                        (format!("at most {limit} bytes"), format!("{} bytes", bytes.len()));
                    return Err(FormatError::invalid(path.display().to_string(), "size", expected, found));
                }
                bytes => bytes.map(|bytes| bytes.to_vec()),
            },
        };
        Ok(bytes.map(|bytes| (path, bytes)))
    }

    fn document_config(&self, name: &str) -> Result<Option<ConfigFile>> {
        let document = self.document(name, hf::MAX_CONFIG_BYTES)?;
        document.map(|(path, bytes)| ConfigFile::parse(&path, &bytes)).transpose()
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

/// The model in `dir`: its only `*.sterna` or `*.gguf`, not counting the later parts of a split file.
fn only_model(dir: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(FormatError::io(dir))? {
        let path = entry.map_err(FormatError::io(dir))?.path();
        let is_model = [native::EXTENSION, "gguf"].iter().any(|extension| has_extension(&path, extension));
        if is_model && !is_later_part(&path) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let wanted = format!(
                "{CONFIG} (with {} or {}), or a *.{} or *.gguf file",
                hf::SINGLE,
                hf::INDEX,
                native::EXTENSION
            );
            Err(FormatError::missing(dir.display().to_string(), wanted))
        }
        [first, second, ..] => Err(FormatError::invalid(
            dir.display().to_string(),
            "*.sterna, *.gguf",
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
