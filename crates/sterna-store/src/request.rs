//! What a user may ask `pull` for: a name, `hf:org/repo[@revision][:file]`, a URL, or a path.

use std::path::PathBuf;

use crate::{Entry, ModelName, StoreError};

/// A parsed request.
#[derive(Debug)]
pub enum Request {
    /// A name of the catalogue.
    Catalogue(&'static Entry),
    /// A repository on the Hugging Face hub.
    Hub(HubRequest),
    /// An `http:` or `https:` address of one GGUF file.
    Url(String),
    /// A file or a Hugging Face directory on this machine.
    Path(PathBuf),
    /// A well-formed name that the catalogue does not have.
    Unknown(ModelName),
}

/// `hf:org/repo[@revision][:file]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRequest {
    /// `organisation/repository`.
    pub repo: String,
    /// A branch, tag or commit; `main` when not given.
    pub revision: String,
    /// A path inside the repository, or a quantization type such as `q8_0`.
    pub file: Option<String>,
}

impl Request {
    /// Reads a request; the disk is looked at only to tell a path from a name.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        if let Some(reference) = text.strip_prefix("hf:") {
            return HubRequest::parse(reference).map(Request::Hub);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" if !rest.is_empty() => Ok(Request::Url(text.to_owned())),
                _ => Err(wrong(text, "only http and https addresses can be pulled")),
            };
        }
        if looks_like_path(text) {
            return Ok(Request::Path(text.into()));
        }
        if let Some(entry) = Entry::find(text) {
            return Ok(Request::Catalogue(entry));
        }
        let path = PathBuf::from(text);
        if path.exists() { Ok(Request::Path(path)) } else { ModelName::new(text).map(Request::Unknown) }
    }
}

impl HubRequest {
    fn parse(reference: &str) -> Result<Self, StoreError> {
        let whole = || format!("hf:{reference}");
        let (repo, file) = match reference.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (reference, None),
        };
        let (repo, revision) = repo.split_once('@').unwrap_or((repo, "main"));
        let plain = |part: &str| ModelName::new(part).is_ok();
        match repo.split_once('/') {
            Some((org, name)) if plain(org) && plain(name) => {}
            _ => return Err(wrong(&whole(), "expected hf:organisation/repository[:file]")),
        }
        if !plain(revision) {
            return Err(wrong(&whole(), "the revision is not a branch, tag or commit"));
        }
        if file.is_some_and(|file| !is_repository_path(file)) {
            return Err(wrong(&whole(), "the file is not a path inside the repository"));
        }
        Ok(Self { repo: repo.to_owned(), revision: revision.to_owned(), file: file.map(str::to_owned) })
    }
}

/// True for what is meant as a path even where a model has the same name.
pub(crate) fn looks_like_path(text: &str) -> bool {
    text.contains(['/', '\\']) || text.to_ascii_lowercase().ends_with(".gguf") || text == "." || text == ".."
}

/// True for a relative path of plain components, as repositories have them.
pub(crate) fn is_repository_path(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    path.len() <= 512 && path.split('/').all(plain)
}

fn wrong(request: &str, why: &'static str) -> StoreError {
    StoreError::Request { request: request.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> HubRequest {
        match Request::parse(text) {
            Ok(Request::Hub(hub)) => hub,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_form() {
        assert!(
            matches!(Request::parse("SmolLM2-135M"), Ok(Request::Catalogue(e)) if e.name == "smollm2-135m")
        );
        assert!(matches!(Request::parse("https://example.org/a.gguf"), Ok(Request::Url(_))));
        assert!(matches!(Request::parse("./a"), Ok(Request::Path(_))));
        assert!(matches!(Request::parse("a.gguf"), Ok(Request::Path(_))));
        assert!(matches!(Request::parse("src"), Ok(Request::Path(_))), "an existing directory");
        assert!(matches!(Request::parse("no-such-model"), Ok(Request::Unknown(_))));
        let plain = hub("hf:Qwen/Qwen3-0.6B-GGUF");
        assert_eq!((plain.revision.as_str(), plain.file), ("main", None));
        let full = hub("hf:Qwen/Qwen3-0.6B-GGUF@v1:sub/a-Q8_0.gguf");
        assert_eq!((full.revision.as_str(), full.file.as_deref()), ("v1", Some("sub/a-Q8_0.gguf")));
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "hf:",
            "hf:org",
            "hf:org/",
            "hf:/repo",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/b:../x",
            "hf:a/b:/x",
            "hf:a/b:",
            "hf:a/b@../x",
            "hf:a/b?x=1",
            "ftp://example.org/a",
            "file:///etc/passwd",
            "https://",
            "",
            "a b",
        ] {
            let parsed = Request::parse(text);
            assert!(
                matches!(parsed, Err(StoreError::Request { .. } | StoreError::Name { .. })),
                "{text}: {parsed:?}"
            );
        }
    }
}
