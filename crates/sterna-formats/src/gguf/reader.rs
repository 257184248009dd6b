//! A cursor over the bytes of a GGUF file that never trusts a length.

use std::sync::Arc;

use bytes::Bytes;

use super::value::{Array, Value, ValueType};
use crate::error::{FormatError, Result};

/// Arrays of arrays of … deeper than this are refused.
const MAX_NESTING: usize = 8;

/// Reads little-endian fields one after the other. Every method takes the name of the field, for errors.
pub(super) struct Reader {
    bytes: Bytes,
    at: usize,
    file: Arc<str>,
}

impl Reader {
    pub(super) fn new(bytes: Bytes, file: Arc<str>) -> Reader {
        Reader { bytes, at: 0, file }
    }

    /// Path of the file.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Offset of the next byte in the file.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `min_bytes` each, so that it cannot exceed what the file holds.
    pub(super) fn count(&mut self, field: &str, min_bytes: usize) -> Result<usize> {
        let at_most = (self.remaining().saturating_sub(8)) / min_bytes;
        let count = self.u64(field)?;
        match usize::try_from(count) {
            Ok(count) if count <= at_most => Ok(count),
            _ => Err(self.invalid(
                field,
                format!("a count of at most {at_most}, for the file to hold them"),
                count,
            )),
        }
    }

    /// A string: its length in bytes, then the bytes.
    pub(super) fn string(&mut self, field: &str) -> Result<Bytes> {
        let len = self.count(field, 1)?;
        self.take(field, len)
    }

    /// A string that names something: UTF-8, at least one byte and at most `max_bytes`.
    pub(super) fn name(&mut self, field: &str, max_bytes: usize) -> Result<String> {
        let bytes = self.string(field)?;
        if bytes.is_empty() || bytes.len() > max_bytes {
            return Err(self.invalid(field, format!("1 to {max_bytes} bytes"), bytes.len()));
        }
        match std::str::from_utf8(&bytes) {
            Ok(name) => Ok(name.to_string()),
            Err(_) => Err(self.invalid(field, "UTF-8", "other bytes")),
        }
    }

    /// A metadata value with its type before it.
    pub(super) fn value(&mut self, field: &str) -> Result<Value> {
        match self.value_type(field)? {
            ValueType::String => self.string(field).map(Value::String),
            ValueType::Array => {
                let (element, len) = self.array_header(field)?;
                let start = self.at;
                self.skip_elements(field, element, len, 1)?;
                Ok(Value::Array(Array::new(element, len, self.bytes.slice(start..self.at))))
            }
            scalar => {
                let size = scalar.size_of().unwrap_or(0);
                let bytes = self.take(field, size)?;
                Value::scalar(scalar, &bytes)
                    .ok_or_else(|| self.invalid(field, scalar.name(), "something else"))
            }
        }
    }

    fn value_type(&mut self, field: &str) -> Result<ValueType> {
        let id = self.u32(field)?;
        ValueType::from_id(id).ok_or_else(|| self.invalid(field, "a value type from 0 to 12", id))
    }

    /// Type and number of the elements of an array.
    fn array_header(&mut self, field: &str) -> Result<(ValueType, usize)> {
        let element = self.value_type(field)?;
        let min_bytes = match element {
            ValueType::String => 8,
            ValueType::Array => 12,
            scalar => scalar.size_of().unwrap_or(1),
        };
        Ok((element, self.count(field, min_bytes)?))
    }

    fn skip_elements(&mut self, field: &str, element: ValueType, len: usize, depth: usize) -> Result<()> {
        if depth > MAX_NESTING {
            return Err(self.invalid(field, format!("arrays nested at most {MAX_NESTING} deep"), "more"));
        }
        match element {
            ValueType::String => {
                for _ in 0..len {
                    let len = self.count(field, 1)?;
                    self.advance(field, len)?;
                }
            }
            ValueType::Array => {
                for _ in 0..len {
                    let (element, len) = self.array_header(field)?;
                    self.skip_elements(field, element, len, depth + 1)?;
                }
            }
            scalar => {
                let size = scalar.size_of().unwrap_or(1).checked_mul(len);
                self.advance(field, size.unwrap_or(usize::MAX))?;
            }
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        match self.bytes[self.at..].first_chunk() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(self.ends(field, N)),
        }
    }

    fn take(&mut self, field: &str, n: usize) -> Result<Bytes> {
        self.advance(field, n)?;
        Ok(self.bytes.slice(self.at - n..self.at))
    }

    fn advance(&mut self, field: &str, n: usize) -> Result<()> {
        if n > self.remaining() {
            return Err(self.ends(field, n));
        }
        self.at += n;
        Ok(())
    }

    fn ends(&self, field: &str, n: usize) -> FormatError {
        self.invalid(
            field,
            format!("{n} bytes at offset {}", self.at),
            format!("{} before the end of the file", self.remaining()),
        )
    }

    pub(super) fn invalid(
        &self,
        field: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> FormatError {
        FormatError::invalid(&*self.file, field, expected, found.to_string())
    }
}
