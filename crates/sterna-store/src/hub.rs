//! The Hugging Face hub: what a repository holds, and which of it is the model to run.

use serde::Deserialize;

use crate::digest::is_sha256;
use crate::http::Client;
use crate::name::is_plain_file_name;
use crate::plan::{Plan, Wanted, Way, is_checkpoint_file};
use crate::request::is_repository_path;
use crate::{HubRequest, ModelName, StoreError, shards};

/// A listing of ten thousand files is about 3 MB.
const MAX_LISTING: u64 = 16 << 20;

/// Which quantization to take when a repository has several and the user names none.
const PREFERRED: [&str; 12] = [
    "q4_k_m", "q4_k_s", "q4_k", "q4_0", "q4_1", "iq4_xs", "iq4_nl", "q5_k_m", "q5_k_s", "q5_0", "q6_k",
    "q8_0",
];

/// The answer to `/api/models/REPO/revision/REV?blobs=true`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Repository {
    /// The commit.
    sha: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    siblings: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "rfilename")]
    path: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: String,
}

/// Asks the hub at `endpoint` what `request` is.
pub(crate) fn plan(client: &Client, endpoint: &str, request: &HubRequest) -> Result<Plan, StoreError> {
    let HubRequest { repo, revision, .. } = request;
    let url = format!("{endpoint}/api/models/{repo}/revision/{revision}?blobs=true");
    let text = client.document(&url, MAX_LISTING)?;
    let repository: Repository = serde_json::from_slice(&text).map_err(|error| StoreError::Hub {
        repo: repo.clone(),
        message: format!("unreadable listing: {error}"),
    })?;
    repository.plan(endpoint, request)
}

impl Repository {
    fn plan(&self, endpoint: &str, request: &HubRequest) -> Result<Plan, StoreError> {
        let repo = &request.repo;
        let wrong = |message: String| StoreError::Hub { repo: repo.clone(), message };
        let (open, files) = match self.gguf(request.file.as_deref()) {
            Some(path) => {
                let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
                let names =
                    shards::all_of(file).ok_or_else(|| wrong(format!("{path} is not the first shard")))?;
                let whole = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
                let find = |name: String| self.find(&whole(name.clone())).ok_or(name);
                let files = names.into_iter().map(find).collect::<Result<Vec<_>, _>>();
                (Some(file), files.map_err(|name| wrong(format!("the shard {name} is missing")))?)
            }
            None if request.file.is_some() => {
                let wanted = request.file.as_deref().unwrap_or_default();
                let mut has: Vec<&str> = self.ggufs().collect();
                has.truncate(20);
                return Err(wrong(format!(
                    "no GGUF file or quantization `{wanted}`; it has: {}",
                    has.join(", ")
                )));
            }
            None => {
                let files: Vec<&File> =
                    self.siblings.iter().filter(|file| is_checkpoint_file(&file.path)).collect();
                let has = |end: &str| files.iter().any(|file| file.path.ends_with(end));
                if !has("config.json") || !has(".safetensors") {
                    return Err(wrong(
                        "neither a GGUF file nor config.json with .safetensors files".to_owned(),
                    ));
                }
                (None, files)
            }
        };
        let commit = self.sha.as_deref().filter(|sha| sha.chars().all(|c| c.is_ascii_hexdigit()));
        let revision = commit.unwrap_or(&request.revision);
        let name = match open {
            Some(file) => shards::stem(file),
            None => repo.split_once('/').map_or(repo.as_str(), |(_, name)| name),
        };
        let at = if request.revision == "main" { String::new() } else { format!("@{}", request.revision) };
        let file = open.map_or(String::new(), |file| format!(":{file}"));
        Ok(Plan {
            name: ModelName::from_elsewhere(name)?,
            title: name.to_owned(),
            licence: self.tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned),
            open: open.map(str::to_owned),
            ways: vec![Way::Http {
                label: format!("hf:{repo}{at}{file}"),
                urls: files
                    .iter()
                    .map(|file| format!("{endpoint}/{repo}/resolve/{revision}/{}", file.path))
                    .collect(),
            }],
            files: files.into_iter().map(File::wanted).collect(),
        })
    }

    fn find(&self, path: &str) -> Option<&File> {
        self.siblings.iter().find(|file| file.path == path)
    }

    /// GGUF files that open a model, in the order of their names.
    fn ggufs(&self) -> impl Iterator<Item = &str> {
        let mut paths: Vec<&str> = self.siblings.iter().map(|file| file.path.as_str()).collect();
        paths.sort();
        paths.into_iter().filter(|path| {
            let file = path.rsplit('/').next().unwrap_or(path);
            let part_of_a_model =
                ["mmproj", "imatrix"].iter().any(|word| file.to_ascii_lowercase().contains(word));
            path.ends_with(".gguf")
                && is_repository_path(path)
                && is_plain_file_name(file)
                && !part_of_a_model
                && shards::all_of(file).is_some()
        })
    }

    /// The GGUF file to take: the one named, else the one of the quantization named, else by preference.
    fn gguf(&self, wanted: Option<&str>) -> Option<&str> {
        let of_kind = |kind: &str| self.ggufs().find(|path| is_of_kind(path, kind));
        match wanted {
            Some(wanted) => self.ggufs().find(|path| *path == wanted).or_else(|| of_kind(wanted)),
            None => PREFERRED.iter().find_map(|kind| of_kind(kind)).or_else(|| self.ggufs().next()),
        }
    }
}

impl File {
    fn wanted(&self) -> Wanted {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path).to_owned();
        let sha256 = self.lfs.as_ref().map(|lfs| lfs.sha256.clone()).filter(|sha| is_sha256(sha));
        Wanted { name, size: self.size, sha256 }
    }
}

/// `model-Q4_K_M.gguf` and `model.Q4_K_M-00001-of-00002.gguf` are of kind `q4_k_m`; `model-Q4_K_M_L.gguf` is not.
fn is_of_kind(path: &str, kind: &str) -> bool {
    let stem = shards::stem(path.rsplit('/').next().unwrap_or(path)).to_ascii_lowercase();
    match stem.strip_suffix(&kind.to_ascii_lowercase()) {
        Some(before) => before.ends_with(['-', '.', '_']) || before.is_empty(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(paths: &[&str]) -> Repository {
        let sha = "a".repeat(64);
        let siblings: Vec<_> = paths
            .iter()
            .map(|path| serde_json::json!({"rfilename": path, "size": 7, "lfs": {"sha256": sha}}))
            .collect();
        let text = serde_json::json!({"sha": "c0ffee", "tags": ["license:mit"], "siblings": siblings});
        serde_json::from_value(text).unwrap()
    }

    fn plan(paths: &[&str], file: Option<&str>) -> Result<Plan, StoreError> {
        let request =
            HubRequest { repo: "org/Repo".into(), revision: "main".into(), file: file.map(str::to_owned) };
        repository(paths).plan("https://hub.example", &request)
    }

    #[test]
    fn prefers_q4_k_m_and_keeps_its_checksum() {
        let plan = plan(&["README.md", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "mmproj-Q4_K_M.gguf"], None).unwrap();
        assert_eq!((plan.name.as_str(), plan.open.as_deref()), ("m-q4_k_m", Some("m-Q4_K_M.gguf")));
        assert_eq!(plan.licence.as_deref(), Some("mit"));
        assert_eq!((plan.files[0].size, plan.files[0].sha256.as_deref()), (Some(7), Some(&*"a".repeat(64))));
        let [Way::Http { label, urls }] = &plan.ways[..] else { panic!("{plan:?}") };
        assert_eq!(label, "hf:org/Repo:m-Q4_K_M.gguf");
        assert_eq!(urls, &["https://hub.example/org/Repo/resolve/c0ffee/m-Q4_K_M.gguf"]);
    }

    #[test]
    fn takes_the_file_or_the_kind_named() {
        let paths = [
            "m-Q4_K_M.gguf",
            "m-Q8_0.gguf",
            "sub/m-Q2_K-00001-of-00002.gguf",
            "sub/m-Q2_K-00002-of-00002.gguf",
        ];
        assert_eq!(plan(&paths, Some("m-Q8_0.gguf")).unwrap().open.as_deref(), Some("m-Q8_0.gguf"));
        assert_eq!(plan(&paths, Some("q8_0")).unwrap().open.as_deref(), Some("m-Q8_0.gguf"));
        let sharded = plan(&paths, Some("q2_k")).unwrap();
        let names: Vec<_> = sharded.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["m-Q2_K-00001-of-00002.gguf", "m-Q2_K-00002-of-00002.gguf"]);
        let error = plan(&paths, Some("q3_k")).unwrap_err().to_string();
        assert!(error.contains("q3_k") && error.contains("m-Q8_0.gguf"), "{error}");
        let error = plan(&paths[..3], Some("q2_k")).unwrap_err().to_string();
        assert!(error.contains("m-Q2_K-00002-of-00002.gguf"), "{error}");
    }

    #[test]
    fn a_checkpoint_is_taken_without_what_a_model_does_not_need() {
        let plan =
            plan(&["config.json", "model.safetensors", "tokenizer.json", "README.md", "x.py"], None).unwrap();
        assert_eq!((plan.name.as_str(), plan.open), ("repo", None));
        let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    }

    #[test]
    fn a_repository_with_nothing_to_run_is_an_error() {
        for paths in [&["README.md"][..], &["config.json"], &["../evil.gguf"], &["a/../b.gguf"], &[]] {
            assert!(matches!(plan(paths, None), Err(StoreError::Hub { .. })), "{paths:?}");
        }
    }

    #[test]
    fn kinds_by_file_name() {
        assert!(is_of_kind("x/m-Q4_K_M.gguf", "q4_k_m") && is_of_kind("m.Q8_0-00001-of-00002.gguf", "Q8_0"));
        assert!(!is_of_kind("m-IQ4_0.gguf", "q4_0") && !is_of_kind("m-Q4_K_M.gguf", "k_"));
    }
}
