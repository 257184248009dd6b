//! What can be wrong with a file: every error names the file, the field, what was expected and what was found.

use std::io;
use std::path::Path;

/// Result of reading a file.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;

/// Why a file, or a part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// Path of the file.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A field holds something else than the format, or the reader, asks for.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    Invalid {
        /// Path of the file.
        file: String,
        /// The header field, metadata key, tensor or JSON path.
        field: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A field that is needed is not there.
    #[error("{file}: {field} is missing")]
    Missing {
        /// Path of the file.
        file: String,
        /// The metadata key, tensor or JSON path.
        field: String,
    },
    /// The file is well formed, as far as one can see, but uses something this version does not know.
    #[error("{file}: {field}: {found} is not supported")]
    Unsupported {
        /// Path of the file.
        file: String,
        /// Where it is used.
        field: String,
        /// The feature, version or type.
        found: String,
    },
}

impl FormatError {
    /// An [`FormatError::Io`] for `path`; meant for `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> FormatError + '_ {
        move |source| FormatError::Io { file: path.display().to_string(), source }
    }

    /// An [`FormatError::Invalid`].
    pub fn invalid(
        file: impl Into<String>,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> FormatError {
        FormatError::Invalid {
            file: file.into(),
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// An [`FormatError::Missing`].
    pub fn missing(file: impl Into<String>, field: impl Into<String>) -> FormatError {
        FormatError::Missing { file: file.into(), field: field.into() }
    }

    /// An [`FormatError::Unsupported`].
    pub fn unsupported(
        file: impl Into<String>,
        field: impl Into<String>,
        found: impl Into<String>,
    ) -> FormatError {
        FormatError::Unsupported { file: file.into(), field: field.into(), found: found.into() }
    }
}
