//! What can go wrong with a model's name, its sources, and the disk it is kept on.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the store; the text names the model, file or address it is about, and expected and found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A name that cannot be a directory name on every system.
    #[error("`{name}` is not a model name: {why}")]
    Name {
        /// The name as given.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// An address or hub reference that cannot be read.
    #[error("cannot pull `{request}`: {why}")]
    Request {
        /// The request as given.
        request: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Neither a pulled model, nor a name of the catalogue, nor a path.
    #[error(
        "no model `{model}` here: not in the store, not in the catalogue, and no such file{}",
        suggest(near)
    )]
    NotFound {
        /// What was asked for.
        model: String,
        /// Known names that look like it, nearest first.
        near: Vec<String>,
    },
    /// A name of the catalogue whose files are not on this machine yet.
    #[error("`{name}` is in the catalogue but not on this machine; `sterna pull {name}` brings it ({} MB)", size / 1_000_000)]
    NotPulled {
        /// The catalogue's name.
        name: String,
        /// Size of the download, bytes.
        size: u64,
    },
    /// Something that needs the network, asked for offline.
    #[error("offline: {what} would need the network")]
    Offline {
        /// What would have been fetched.
        what: String,
    },
    /// The name belongs to a model from elsewhere.
    #[error("the name `{name}` is taken by {owner}; choose another name, or remove that model first")]
    Taken {
        /// The name.
        name: String,
        /// Where the model that has it came from.
        owner: String,
    },
    /// A directory of the store holds something that the store did not put there.
    #[error("{} was not put there by the store; move it away first", path.display())]
    Foreign {
        /// What is not the store's.
        path: PathBuf,
    },
    /// Bytes that are no GGUF file, such as a page that asks for a login.
    #[error("{what}: expected a GGUF file, which begins with `GGUF`")]
    NotGguf {
        /// The file.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No answer, or a broken one.
    #[error("{url}: {message}")]
    Transport {
        /// The address.
        url: String,
        /// What happened.
        message: String,
    },
    /// An answer that is not the file.
    #[error("{url}: the server answered {status}{}", status_hint(*status))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url}: redirected to `{to}`, which is refused: {why}")]
    Redirect {
        /// The address that answered with the redirect.
        url: String,
        /// Where it pointed.
        to: String,
        /// Why it is not followed.
        why: &'static str,
    },
    /// The bytes are not as many as they must be.
    #[error("{what}: expected {expected} bytes, found {found}")]
    Size {
        /// The file.
        what: String,
        /// Bytes expected.
        expected: u64,
        /// Bytes found (a lower limit when reading stopped there).
        found: u64,
    },
    /// The bytes are others than they must be.
    #[error("{what}: expected sha256 {expected}, found {found}")]
    Checksum {
        /// The file.
        what: String,
        /// SHA-256 expected, lower-case hex.
        expected: String,
        /// SHA-256 found, lower-case hex.
        found: String,
    },
    /// More than the store takes from a source that does not say how much it will send.
    #[error("{what}: more than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        what: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// The user's own `pip` is missing or failed.
    #[error("pip, for {requirement}: {message}")]
    Pip {
        /// `package==version`.
        requirement: String,
        /// What pip said last.
        message: String,
    },
    /// A package without the file that it should carry.
    #[error("{package}: `{member}`: {message}")]
    Package {
        /// The package's file.
        package: String,
        /// The member looked for.
        member: String,
        /// What is wrong.
        message: String,
    },
    /// A hub repository that holds nothing to run.
    #[error("hf:{repo}: {message}")]
    Hub {
        /// `organisation/repository`.
        repo: String,
        /// What is wrong.
        message: String,
    },
    /// A `manifest.json` that does not describe a model.
    #[error("{}: {message}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The field, expected and found.
        message: String,
    },
    /// Every source failed; the reasons are in the order in which they were tried.
    #[error("no source has `{name}`:{}", list(tried))]
    NoSource {
        /// The model.
        name: String,
        /// Source and reason.
        tried: Vec<(String, StoreError)>,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| StoreError::Io { action, path: path.to_owned(), source }
    }
}

fn suggest(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

fn status_hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (private, gated, or not there at all)",
        404 => " (not there)",
        429 => " (too many requests; try again later)",
        _ => "",
    }
}

fn list(tried: &[(String, StoreError)]) -> String {
    tried.iter().map(|(source, error)| format!("\n  {source}: {error}")).collect()
}
