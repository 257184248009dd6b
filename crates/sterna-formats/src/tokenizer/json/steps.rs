//! The `normalizer` and `pre_tokenizer` of a `tokenizer.json`.

use fancy_regex::Regex;
use serde::Deserialize;

use super::super::cut::{Behavior, ByteLevel, Cut, Cutter, Normalize, Pattern, Prepend};
use super::super::families::GPT2_PATTERN;
use crate::error::{FormatError, Result};

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum Normalizer {
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Lowercase,
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: Text,
        content: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    ByteLevel {
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Split {
        pattern: Text,
        behavior: Behavior,
        #[serde(default)]
        invert: bool,
    },
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Metaspace {
        replacement: String,
        prepend_scheme: Option<Prepend>,
        add_prefix_space: Option<bool>,
        split: Option<bool>,
    },
    Punctuation {
        behavior: Option<Behavior>,
    },
    WhitespaceSplit,
}

/// A pattern as `Split` and `Replace` have it.
#[derive(Deserialize)]
pub(super) enum Text {
    String(String),
    Regex(String),
}

fn yes() -> bool {
    true
}

/// Adds the steps to `cutter`, in order.
pub(super) fn read(
    file: &str,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    cutter: &mut Cutter,
) -> Result<()> {
    if let Some(normalizer) = normalizer {
        normalize(file, normalizer, &mut cutter.normalize)?;
    }
    match pre_tokenizer {
        Some(pre_tokenizer) => cut(file, pre_tokenizer, cutter),
        None => Ok(()),
    }
}

fn normalize(file: &str, step: Normalizer, steps: &mut Vec<Normalize>) -> Result<()> {
    steps.push(match step {
        Normalizer::Sequence { normalizers } => {
            return normalizers.into_iter().try_for_each(|step| normalize(file, step, steps));
        }
        Normalizer::Nfc => Normalize::Nfc,
        Normalizer::Nfd => Normalize::Nfd,
        Normalizer::Nfkc => Normalize::Nfkc,
        Normalizer::Nfkd => Normalize::Nfkd,
        Normalizer::Lowercase => Normalize::Lowercase,
        Normalizer::Strip { strip_left, strip_right } => {
            Normalize::Strip { left: strip_left, right: strip_right }
        }
        Normalizer::Prepend { prepend } => Normalize::Prepend(prepend),
        Normalizer::Replace { pattern: Text::String(from), content: to } if !from.is_empty() => {
            Normalize::Replace { from, to }
        }
        Normalizer::Replace { pattern: Text::String(text) | Text::Regex(text), .. } => {
            return Err(FormatError::unsupported(file, "normalizer", format!("Replace of {text:?}")));
        }
    });
    Ok(())
}

fn cut(file: &str, step: PreTokenizer, cutter: &mut Cutter) -> Result<()> {
    let unsupported = |found: &str| Err(FormatError::unsupported(file, "pre_tokenizer", found));
    if cutter.byte_level.is_some() {
        return unsupported("a step after ByteLevel");
    }
    let regex = |regex: &str| {
        Regex::new(regex).map(Pattern::Regex).map_err(|error| {
            FormatError::invalid(file, "pre_tokenizer", "a regular expression", format!("{regex:?}: {error}"))
        })
    };
    let isolated = |pattern| Cut { pattern, behavior: Behavior::Isolated, invert: false };
    match step {
        PreTokenizer::Sequence { pretokenizers } => {
            return pretokenizers.into_iter().try_for_each(|step| cut(file, step, cutter));
        }
        PreTokenizer::ByteLevel { add_prefix_space, use_regex } => {
            let cut = if use_regex { Some(isolated(regex(GPT2_PATTERN)?)) } else { None };
            cutter.byte_level = Some(ByteLevel { add_prefix_space, cut });
        }
        PreTokenizer::Split { pattern, behavior, invert } => {
            let pattern = match pattern {
                Text::String(text) => Pattern::Literal(text),
                Text::Regex(text) => regex(&text)?,
            };
            cutter.cuts.push(Cut { pattern, behavior, invert });
        }
        PreTokenizer::Digits { individual_digits } => {
            let behavior = if individual_digits { Behavior::Isolated } else { Behavior::Contiguous };
            cutter.cuts.push(Cut { pattern: Pattern::Chars(char::is_numeric), behavior, invert: false });
        }
        PreTokenizer::Punctuation { behavior } => {
            let behavior = behavior.unwrap_or(Behavior::Isolated);
            cutter.cuts.push(Cut { behavior, ..isolated(regex(r"[\p{P}$+<=>^`|~]")?) });
        }
        PreTokenizer::WhitespaceSplit => {
            let pattern = Pattern::Chars(char::is_whitespace);
            cutter.cuts.push(Cut { pattern, behavior: Behavior::Removed, invert: false });
        }
        PreTokenizer::Metaspace { replacement: mark, prepend_scheme, add_prefix_space, split } => {
            // It rewrites text, which must come before any cut.
            if !cutter.cuts.is_empty() || mark.chars().count() != 1 {
                return unsupported("Metaspace after another step, or with a mark that is not one character");
            }
            let prepend = match add_prefix_space {
                Some(false) => Prepend::Never,
                _ => prepend_scheme.unwrap_or(Prepend::Always),
            };
            if split.unwrap_or(true) {
                let pattern = Pattern::Literal(mark.clone());
                cutter.cuts.push(Cut { pattern, behavior: Behavior::MergedWithNext, invert: false });
            }
            cutter.normalize.push(Normalize::Metaspace { mark, prepend });
        }
    }
    Ok(())
}
