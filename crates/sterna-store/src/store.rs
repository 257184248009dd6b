//! The store itself: a directory with one sub-directory per model.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalogue::{CATALOGUE, near};
use crate::disk::{Disk, RealDisk};
use crate::lock::Lock;
use crate::manifest::{FILE_NAME, Manifest};
use crate::pip::remove_all;
use crate::request::looks_like_path;
use crate::{Entry, ModelName, StoreError};

/// Unfinished pulls, locks and models on their way out; no model's name starts with a dot.
const INCOMING: &str = ".incoming";

/// A directory of models.
#[derive(Clone)]
pub struct Store {
    pub(crate) root: PathBuf,
    /// Address of the Hugging Face hub, without a slash at the end.
    pub(crate) hub: String,
    /// The user's `pip`, when not the one found.
    pub(crate) pip: Option<Vec<OsString>>,
    pub(crate) disk: Arc<dyn Disk>,
}

/// A model that is on this machine.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its name.
    pub name: ModelName,
    /// What to open: a GGUF file, the first of its shards, or a Hugging Face directory.
    pub path: PathBuf,
    /// What is known about it.
    pub manifest: Manifest,
}

impl Store {
    /// The user's store: `$STERNA_HOME/models`, else `sterna/models` in the platform's data directory. The hub is at
    /// `$HF_ENDPOINT`, else `https://huggingface.co`.
    pub fn open_default() -> Result<Self, StoreError> {
        let home = std::env::var_os("STERNA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let home = home.or_else(|| dirs::data_dir().map(|data| data.join("sterna")));
        let home = home.ok_or_else(|| StoreError::Io {
            action: "find",
            path: "$STERNA_HOME".into(),
            source: std::io::Error::other("not set, and this user has no data directory"),
        })?;
        let store = Self::at(home.join("models"));
        Ok(match std::env::var("HF_ENDPOINT") {
            Ok(endpoint) if !endpoint.is_empty() => store.with_hub(&endpoint),
            _ => store,
        })
    }

    /// The store in `root`, which is created when something is pulled.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hub: "https://huggingface.co".to_owned(),
            pip: None,
            disk: Arc::new(RealDisk),
        }
    }

    /// Uses the hub at this address.
    #[must_use]
    pub fn with_hub(mut self, endpoint: &str) -> Self {
        self.hub = endpoint.trim_end_matches('/').to_owned();
        self
    }

    /// Uses this command as `pip`, such as `["/opt/python/bin/python", "-m", "pip"]`.
    #[must_use]
    pub fn with_pip<S: Into<OsString>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.pip = Some(command.into_iter().map(Into::into).collect());
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every model of the store, by name. Errors when a manifest is damaged, naming it.
    pub fn list(&self) -> Result<Vec<Installed>, StoreError> {
        let mut models = Vec::new();
        for name in self.names()? {
            models.extend(self.get(&name)?);
        }
        Ok(models)
    }

    /// The model called `name`, in any case, if it is here.
    pub fn get(&self, name: &ModelName) -> Result<Option<Installed>, StoreError> {
        let exact = self.directory(name);
        let (name, directory) = if exact.join(FILE_NAME).is_file() {
            (name.clone(), exact)
        } else {
            let same = |other: &ModelName| other.as_str().eq_ignore_ascii_case(name.as_str());
            match self.names()?.into_iter().find(same) {
                Some(name) => (name.clone(), self.directory(&name)),
                None => return Ok(None),
            }
        };
        let manifest = Manifest::read(&directory)?;
        Ok(Some(Installed { name, path: manifest.model_path(&directory), manifest }))
    }

    /// The path behind MODEL as a user types it: a path, a pulled model, or a catalogue name.
    ///
    /// Errors: [`StoreError::NotPulled`] for a catalogue name that is not here yet, [`StoreError::NotFound`] with near
    /// names for anything else unknown, [`StoreError::Size`] when a file of the model was cut or grew.
    pub fn resolve(&self, model: &str) -> Result<PathBuf, StoreError> {
        let path = Path::new(model);
        let not_found = || StoreError::NotFound { model: model.to_owned(), near: self.near(model) };
        if looks_like_path(model) {
            return if path.exists() { Ok(path.to_owned()) } else { Err(not_found()) };
        }
        if let Ok(name) = ModelName::new(model)
            && let Some(installed) = self.get(&name)?
        {
            installed.check_sizes()?;
            return Ok(installed.path);
        }
        if path.exists() {
            return Ok(path.to_owned());
        }
        match Entry::find(model) {
            Some(entry) => Err(StoreError::NotPulled { name: entry.name.to_owned(), size: entry.size }),
            None => Err(not_found()),
        }
    }

    /// Removes a model of the store; gives its size in bytes.
    ///
    /// Errors when there is none of that name, or when its directory holds something that the store did not put there:
    /// that is the user's, and stays.
    pub fn remove(&self, model: &str) -> Result<u64, StoreError> {
        let not_found = || StoreError::NotFound { model: model.to_owned(), near: self.near(model) };
        let installed = self.get(&ModelName::new(model)?)?.ok_or_else(not_found)?;
        let incoming = self.incoming(&installed.name)?;
        let _lock = Lock::acquire(&incoming.with_extension("lock"), &mut ())?;
        let directory = self.directory(&installed.name);
        if let Some(path) = installed.foreign(&directory)? {
            return Err(StoreError::Foreign { path });
        }
        let going = incoming.with_extension("removed");
        remove_all(&going)?;
        self.disk.rename(&directory, &going)?;
        self.disk.sync_dir(&self.root)?;
        remove_all(&going)?;
        Ok(installed.manifest.size())
    }

    /// Names that `model` may be a slip of.
    fn near(&self, model: &str) -> Vec<String> {
        let known = CATALOGUE.iter().map(|entry| entry.name.to_owned());
        let here = self.names().unwrap_or_default().into_iter().map(|name| name.to_string());
        near(model, known.chain(here))
    }

    fn names(&self) -> Result<Vec<ModelName>, StoreError> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read", &self.root)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &self.root))?;
            let name = entry.file_name().to_str().and_then(|name| ModelName::new(name).ok());
            names.extend(name.filter(|_| entry.path().join(FILE_NAME).is_file()));
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn directory(&self, name: &ModelName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Where a model is put together, inside a directory that exists. What lies beside it differs by extension, so a
    /// name's own dots become a character that no name has.
    pub(crate) fn incoming(&self, name: &ModelName) -> Result<PathBuf, StoreError> {
        let incoming = self.root.join(INCOMING);
        std::fs::create_dir_all(&incoming).map_err(StoreError::io("create", &incoming))?;
        Ok(incoming.join(name.as_str().replace('.', "~")))
    }
}

impl Installed {
    fn check_sizes(&self) -> Result<(), StoreError> {
        let directory =
            if self.manifest.open.is_some() { self.path.parent() } else { Some(self.path.as_path()) };
        for file in &self.manifest.files {
            let path = directory.unwrap_or(Path::new("")).join(&file.name);
            let found = std::fs::metadata(&path).map_err(StoreError::io("find", &path))?.len();
            if found != file.size {
                return Err(StoreError::Size {
                    what: path.display().to_string(),
                    expected: file.size,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Something in the model's directory that its manifest does not list.
    fn foreign(&self, directory: &Path) -> Result<Option<PathBuf>, StoreError> {
        let read = StoreError::io("read", directory);
        let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let owned = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| {
                name == FILE_NAME || self.manifest.files.iter().any(|file| file.name == name)
            })
        };
        let is_link = std::fs::symlink_metadata(directory).is_ok_and(|meta| meta.file_type().is_symlink());
        if is_link {
            return Ok(Some(directory.to_owned()));
        }
        Ok(entries.map_err(read)?.into_iter().map(|entry| entry.path()).find(|path| !owned(path)))
    }
}
