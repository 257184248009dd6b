//! Names of models in the store, which are directory names on every system.

use std::fmt;

use crate::StoreError;

/// A model's name in the store: letters, digits, `.`, `_`, `-`; starts with a letter or digit; at most 96 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

const MAX_LEN: usize = 96;

/// Windows opens a device for these, whatever their extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

impl ModelName {
    /// Checks a name as a user or a manifest gives it.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        match broken_rule(name) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(StoreError::Name { name: name.to_owned(), why }),
        }
    }

    /// The name for something called `text` elsewhere (a file's stem, a repository): lower case, other characters
    /// become `-`.
    pub fn from_elsewhere(text: &str) -> Result<Self, StoreError> {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = text.chars().map(allowed).take(MAX_LEN).collect::<String>().to_ascii_lowercase();
        Self::new(name.trim_matches(['-', '.', '_']))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn broken_rule(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let device = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MAX_LEN {
        Some("it is longer than 96 characters")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("it must start with a letter or a digit")
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        Some("only letters, digits, `.`, `_` and `-` are allowed")
    } else if name.ends_with('.') || name.contains("..") {
        Some("it must not end with a dot or hold two in a row")
    } else if DEVICES.contains(&device) && stem.len() <= device.len() + 1 {
        Some("it is the name of a device on Windows")
    } else {
        None
    }
}

/// True for a file name that may be created inside a model's directory: one plain component, nothing hidden.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    broken_rule(name).is_none() && name != crate::manifest::FILE_NAME
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names() {
        for name in ["smollm2-135m", "Qwen2.5-Coder_1.5B", "a", "7b", "comet", "com10x"] {
            assert_eq!(ModelName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_leave_the_store_or_break_a_system() {
        let long = "a".repeat(97);
        for name in [
            "", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:x", ".hidden", "-flag", "a..b", "a.", "con",
            "NUL.gguf", "com1", "lpt9.x", "a\0b", "a b", "é", &long,
        ] {
            assert!(matches!(ModelName::new(name), Err(StoreError::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn names_from_elsewhere() {
        assert_eq!(ModelName::from_elsewhere("My Model (v2)").unwrap().as_str(), "my-model--v2");
        assert_eq!(ModelName::from_elsewhere("Qwen/Qwen3-0.6B").unwrap().as_str(), "qwen-qwen3-0.6b");
        assert!(ModelName::from_elsewhere("../..").is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_path_component(text in "\\PC{0,40}") {
            for name in [ModelName::new(&text), ModelName::from_elsewhere(&text)].into_iter().flatten() {
                let path = std::path::Path::new("root").join(name.as_str());
                prop_assert_eq!(path.components().count(), 2);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("root")));
            }
        }
    }
}
