//! The metadata of a GGUF file, asked for by key and Rust type.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::value::{Value, ValueType};
use crate::error::{FormatError, Result};

/// Where in a file the number of tensors is.
const TENSOR_COUNT: Range<usize> = 8..16;

/// Keys and values of a GGUF file.
#[derive(Debug, Clone)]
pub struct Metadata {
    file: Arc<str>,
    /// The file up to the end of the metadata.
    head: Bytes,
    entries: BTreeMap<String, Value>,
}

impl Metadata {
    pub(super) fn new(file: Arc<str>, head: Bytes, entries: BTreeMap<String, Value>) -> Metadata {
        Metadata { file, head, entries }
    }

    /// Path of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The metadata as a GGUF file of their own, byte for byte, without tensors.
    pub fn to_file(&self) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        if let Some(tensor_count) = bytes.get_mut(TENSOR_COUNT) {
            tensor_count.fill(0);
        }
        bytes
    }

    /// All entries, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key` as it is.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// The value of `key`, or `None` when the file does not have it. Integers of any width that hold the value
    /// are taken: `get::<u32>("llama.block_count")`, `get::<Vec<&str>>("tokenizer.ggml.tokens")`.
    ///
    /// # Errors
    /// When the value is of another type or does not fit; the error names key, expected and found type.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let invalid = |found| FormatError::invalid(&*self.file, format!("key {key}"), T::EXPECTED, found);
        T::from_value(value).map(Some).map_err(invalid)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When the file does not have it, and as [`Metadata::get`].
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.get(key)?.ok_or_else(|| FormatError::missing(&*self.file, format!("key {key}")))
    }
}

/// A type that metadata values can be read as.
pub trait FromValue<'a>: Sized {
    /// What a fitting value is, for error messages.
    const EXPECTED: &'static str;

    /// Reads `value`.
    ///
    /// # Errors
    /// What was found instead.
    fn from_value(value: &'a Value) -> Result<Self, String>;
}

macro_rules! integers {
    ($($ty:ty: $one:literal, $many:literal;)*) => {$(
        impl FromValue<'_> for $ty {
            const EXPECTED: &'static str = $one;

            fn from_value(value: &Value) -> Result<Self, String> {
                let fitting = value.integer().and_then(|integer| integer.try_into().ok());
                fitting.ok_or_else(|| value.describe())
            }
        }

        impl FromValue<'_> for Vec<$ty> {
            const EXPECTED: &'static str = $many;

            fn from_value(value: &Value) -> Result<Self, String> {
                elements(value, |element| element.integer()?.try_into().ok())
            }
        }
    )*};
}

integers! {
    u32: "a u32", "an array of u32";
    i32: "an i32", "an array of i32";
    u64: "a u64", "an array of u64";
    usize: "an unsigned integer", "an array of unsigned integers";
}

/// A single-precision float; doubles are rounded to it.
impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float";

    fn from_value(value: &Value) -> Result<Self, String> {
        float(value).ok_or_else(|| value.describe())
    }
}

impl FromValue<'_> for Vec<f32> {
    const EXPECTED: &'static str = "an array of floats";

    fn from_value(value: &Value) -> Result<Self, String> {
        elements(value, float)
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a bool";

    fn from_value(value: &Value) -> Result<Self, String> {
        boolean(value).ok_or_else(|| value.describe())
    }
}

impl FromValue<'_> for Vec<bool> {
    const EXPECTED: &'static str = "an array of bools";

    fn from_value(value: &Value) -> Result<Self, String> {
        elements(value, boolean)
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: &'a Value) -> Result<Self, String> {
        match value {
            Value::String(bytes) => std::str::from_utf8(bytes).map_err(|_| value.describe()),
            _ => Err(value.describe()),
        }
    }
}

impl<'a> FromValue<'a> for Vec<&'a str> {
    const EXPECTED: &'static str = "an array of strings";

    fn from_value(value: &'a Value) -> Result<Self, String> {
        match value {
            Value::Array(array) if array.element() == ValueType::String || array.is_empty() => {
                let text = |(index, bytes)| {
                    std::str::from_utf8(bytes).map_err(|_| format!("element {index}, which is not UTF-8"))
                };
                array.strings().enumerate().map(text).collect()
            }
            _ => Err(value.describe()),
        }
    }
}

fn float(value: &Value) -> Option<f32> {
    match *value {
        Value::F32(value) => Some(value),
        Value::F64(value) => Some(value as f32),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match *value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

/// The elements of an array of numbers or truth values, each read by `read`.
fn elements<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    let Value::Array(array) = value else { return Err(value.describe()) };
    if array.element().size_of().is_none() && !array.is_empty() {
        return Err(value.describe());
    }
    let checked = |(index, element): (usize, Value)| {
        read(&element).ok_or_else(|| format!("element {index}: {}", element.describe()))
    };
    array.scalars().enumerate().map(checked).collect()
}
