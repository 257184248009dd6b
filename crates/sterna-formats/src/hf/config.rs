//! Typed, named access to `config.json` and its siblings.
//!
//! A [`ConfigView`] is one JSON object of a file, together with the file's name and the dotted path that led to
//! it, so that every error can say which field of which file is wrong, what was expected and what is there.

use std::path::Path;

use serde_json::{Map, Value};

use super::json;
use crate::error::{FormatError, Result};

/// No honest config comes near this; without a limit a file could dictate what is allocated.
pub(crate) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// A parsed JSON file of a Hugging Face directory: `config.json`, `tokenizer_config.json`, …
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Path of the file, for errors.
    file: String,
    root: Map<String, Value>,
}

impl ConfigFile {
    /// Reads `path`, a JSON object of at most 4 MiB; bare `Infinity`, `-Infinity` and `NaN` are understood.
    pub fn open(path: &Path) -> Result<ConfigFile> {
        let bytes = super::read_small(path, MAX_CONFIG_BYTES)?;
        ConfigFile::parse(path, &bytes)
    }

    /// Parses `bytes`, the content of the file at `path` (used in errors only).
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<ConfigFile> {
        let file = path.display().to_string();
        let invalid = |found: String| FormatError::invalid(&file, "content", "a JSON object", found);
        let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
        match json::parse(text).map_err(|error| invalid(error.to_string()))? {
            Value::Object(root) => Ok(ConfigFile { file, root }),
            other => Err(invalid(describe(&other))),
        }
    }

    /// The whole object as JSON.
    pub fn to_json(&self) -> String {
        let fields = self.root.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    /// The whole object.
    pub fn view(&self) -> ConfigView<'_> {
        ConfigView { file: &self.file, prefix: String::new(), object: &self.root }
    }
}

/// One object of a JSON file: fields by name, with the type that the caller expects.
///
/// For every type there are two getters: `usize("hidden_size")` fails when the field is absent,
/// `opt_usize("head_dim")` gives `None` when it is absent or `null`. Both fail when the field is something else.
#[derive(Debug, Clone)]
pub struct ConfigView<'a> {
    file: &'a str,
    /// Path of this object within the file: empty for the root, else ending in a dot.
    prefix: String,
    object: &'a Map<String, Value>,
}

/// A getter pair: required and optional.
macro_rules! getters {
    ($($(#[$doc:meta])* $required:ident, $optional:ident -> $ty:ty = $expected:literal, $convert:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// Fails when the field is absent, `null`, or not that.
        pub fn $required(&self, key: &str) -> Result<$ty> {
            self.$optional(key)?.ok_or_else(|| self.missing(key, $expected))
        }

        $(#[$doc])*
        ///
        /// `None` when the field is absent or `null`; fails when it is something else.
        pub fn $optional(&self, key: &str) -> Result<Option<$ty>> {
            let convert: fn(&'a Value) -> Option<$ty> = $convert;
            match self.get(key) {
                None => Ok(None),
                Some(value) => convert(value).map(Some).ok_or_else(|| self.wrong(key, $expected)),
            }
        }
    )*};
}

impl<'a> ConfigView<'a> {
    getters! {
        /// A whole number ≥ 0; `512.0` counts as 512.
        usize, opt_usize -> usize = "a whole number >= 0", as_usize;
        /// A token id or another number that fits 32 bits.
        u32, opt_u32 -> u32 = "a whole number in 0..2^32", as_u32;
        /// A number, `Infinity` and `NaN` included.
        f32, opt_f32 -> f32 = "a number", as_f32;
        /// A number at full precision, `Infinity` and `NaN` included.
        f64, opt_f64 -> f64 = "a number", as_f64;
        /// `true` or `false`.
        bool, opt_bool -> bool = "true or false", Value::as_bool;
        /// A string.
        str, opt_str -> &'a str = "a string", Value::as_str;
        /// A list of whole numbers ≥ 0.
        usizes, opt_usizes -> Vec<usize> = "a list of whole numbers >= 0", |value| list(value, as_usize);
        /// A list of numbers, `Infinity` included (`time_step_limit`).
        f32s, opt_f32s -> Vec<f32> = "a list of numbers", |value| list(value, as_f32);
        /// A list of strings (`architectures`, `layer_types`).
        strs, opt_strs -> Vec<&'a str> = "a list of strings", |value| list(value, Value::as_str);
        /// A list of `true`/`false`; 1 and 0 count as such (`no_rope_layers`).
        bools, opt_bools -> Vec<bool> = "a list of true/false or 1/0", |value| list(value, as_flag);
        /// One id or a list of ids (`eos_token_id`), as a list.
        ids, opt_ids -> Vec<u32> = "a token id or a list of them", |value| match value {
            Value::Array(_) => list(value, as_u32),
            one => Some(vec![as_u32(one)?]),
        };
    }

    /// The object under `key`, such as `rope_scaling` or the `text_config` of a multimodal model.
    pub fn sub(&self, key: &str) -> Result<ConfigView<'a>> {
        self.opt_sub(key)?.ok_or_else(|| self.missing(key, "an object"))
    }

    /// The object under `key`, or `None` when it is absent or `null`.
    pub fn opt_sub(&self, key: &str) -> Result<Option<ConfigView<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                Ok(Some(ConfigView { file: self.file, prefix: format!("{}{key}.", self.prefix), object }))
            }
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// The raw value of `key`; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The names of all fields that are not `null`.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str())
    }

    /// Whether `key` is there and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Path of the file this object comes from.
    pub fn file(&self) -> &'a Path {
        Path::new(self.file)
    }

    /// The error that says: `key` should be `expected`, and is what it is. For values of the right type that make
    /// no sense (`num_attention_heads: 0`).
    pub fn wrong(&self, key: &str, expected: impl Into<String>) -> FormatError {
        let found = self.get(key).map_or_else(|| "nothing".to_owned(), describe);
        FormatError::invalid(self.file, self.field(key), expected, found)
    }

    /// The error that says: what `key` asks for is not supported (`hidden_act: "tangent"`).
    pub fn unsupported(&self, key: &str) -> FormatError {
        let found = self.get(key).map_or_else(|| "its absence".to_owned(), describe);
        FormatError::unsupported(self.file, self.field(key), found)
    }

    /// The error that says: `key`, which should be `expected`, is not there.
    pub fn missing(&self, key: &str, expected: &str) -> FormatError {
        FormatError::missing(self.file, format!("{} ({expected})", self.field(key)))
    }

    /// The dotted path of `key` within the file.
    pub fn field(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn as_usize(value: &Value) -> Option<usize> {
    let whole = match value.as_u64() {
        Some(whole) => whole,
        // 2^53: beyond it a float no longer names one whole number.
        None => {
            value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(x))? as u64
        }
    };
    usize::try_from(whole).ok()
}

fn as_u32(value: &Value) -> Option<u32> {
    u32::try_from(as_usize(value)?).ok()
}

fn as_f64(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| json::non_finite(value))
}

/// Rounds to f32; a finite number that f32 cannot hold is none.
fn as_f32(value: &Value) -> Option<f32> {
    let wide = as_f64(value)?;
    let narrow = wide as f32;
    (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
}

fn as_flag(value: &Value) -> Option<bool> {
    match value.as_u64() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => value.as_bool(),
    }
}

fn list<'a, T>(value: &'a Value, item: impl Fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(item).collect()
}

/// What `value` is, short enough for an error message.
fn describe(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {} items", items.len()),
        Value::Object(object) => match json::non_finite(value) {
            Some(number) => number.to_string(),
            None => format!("an object of {} fields", object.len()),
        },
        Value::String(text) if text.chars().count() > 60 => {
            format!("the string \"{}…\"", text.chars().take(60).collect::<String>().escape_debug())
        }
        Value::String(text) => format!("the string {text:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("dir/config.json"), text.as_bytes()).unwrap()
    }

    #[test]
    fn fields_come_with_their_type() {
        let file = parse(
            r#"{"hidden_size": 64, "window": null, "rope_theta": 10000.0, "limit": [0.0, Infinity], "eos": [1, 2],
                "bos": 1, "kinds": ["a", "b"], "flags": [1, 0, true], "whole": 512.0,
                "rope_scaling": {"rope_type": "yarn", "factor": 4}}"#,
        );
        let config = file.view();
        assert_eq!(config.usize("hidden_size").unwrap(), 64);
        assert_eq!(config.usize("whole").unwrap(), 512);
        assert_eq!(config.opt_usize("window").unwrap(), None);
        assert_eq!(config.opt_usize("absent").unwrap(), None);
        assert_eq!(config.f32("rope_theta").unwrap(), 10000.0);
        assert_eq!(config.f32s("limit").unwrap(), [0.0, f32::INFINITY]);
        assert_eq!(config.ids("eos").unwrap(), [1, 2]);
        assert_eq!(config.ids("bos").unwrap(), [1]);
        assert_eq!(config.strs("kinds").unwrap(), ["a", "b"]);
        assert_eq!(config.bools("flags").unwrap(), [true, false, true]);
        let scaling = config.sub("rope_scaling").unwrap();
        assert_eq!(scaling.str("rope_type").unwrap(), "yarn");
        assert_eq!(scaling.f64("factor").unwrap(), 4.0);
    }

    #[test]
    fn errors_name_file_field_expected_and_found() {
        let file = parse(
            r#"{"text_config": {"heads": "eight", "deep": {"x": -1}}, "size": 1e300, "id": 4294967296}"#,
        );
        let text = file.view().sub("text_config").unwrap();
        let message = text.usize("heads").unwrap_err().to_string();
        for part in ["config.json", "text_config.heads", "whole number", "\"eight\""] {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
        let message = text.sub("deep").unwrap().usize("x").unwrap_err().to_string();
        assert!(message.contains("text_config.deep.x") && message.contains("-1"), "{message}");
        let message = text.usize("absent").unwrap_err().to_string();
        assert!(message.contains("text_config.absent") && message.contains("missing"), "{message}");
        assert!(file.view().f32("size").is_err());
        assert!(file.view().u32("id").is_err());
        assert!(file.view().sub("size").is_err());
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["[]", "3", "null", "", "{", "\u{feff}"] {
            assert!(ConfigFile::parse(Path::new("config.json"), text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(ConfigFile::parse(Path::new("config.json"), b"{\"a\": \"\xff\"}").is_err());
    }
}
