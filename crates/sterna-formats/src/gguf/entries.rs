//! Metadata that is being written: keys and values, each as the bytes that a GGUF file holds.

use bytes::Bytes;

use super::metadata::Metadata;
use super::reader::Reader;
use super::value::ValueType;
use super::{MAX_NAME, header};
use crate::error::Result;

/// Keys and values in the order in which they will be in the file.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    count: u64,
    bytes: Vec<u8>,
}

impl Entries {
    /// The entries of `metadata` whose keys are wanted, byte for byte.
    ///
    /// # Errors
    /// Those of parsing, which `metadata` has gone through before.
    pub fn of(metadata: &Metadata, is_wanted: impl Fn(&str) -> bool) -> Result<Entries> {
        let bytes: Bytes = metadata.to_file().into();
        let mut reader = Reader::new(bytes.clone(), metadata.file().into());
        let n_entries = header::read(&mut reader)?.n_entries;
        let mut entries = Entries::default();
        for _ in 0..n_entries {
            let start = reader.position();
            let key = reader.name("key", MAX_NAME)?;
            reader.value(&key)?;
            if is_wanted(&key) {
                entries.bytes.extend_from_slice(&bytes[start..reader.position()]);
                entries.count += 1;
            }
        }
        Ok(entries)
    }

    /// Appends `key` with `value`; each key may be given once.
    pub fn push<T: ToValue + ?Sized>(&mut self, key: &str, value: &T) {
        key.write(&mut self.bytes);
        T::TYPE.write_id(&mut self.bytes);
        value.write(&mut self.bytes);
        self.count += 1;
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: Entries) {
        self.bytes.extend(other.bytes);
        self.count += other.count;
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// All of them, one after the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A type whose values metadata can hold.
pub trait ToValue {
    /// What the file calls it.
    const TYPE: ValueType;

    /// Appends the value without its type.
    fn write(&self, out: &mut Vec<u8>);
}

impl ValueType {
    fn write_id(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self as u32).to_le_bytes());
    }
}

macro_rules! scalars {
    ($($ty:ty: $name:ident;)*) => {$(
        impl ToValue for $ty {
            const TYPE: ValueType = ValueType::$name;

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

scalars! {
    u8: U8; i8: I8; u16: U16; i16: I16; u32: U32; i32: I32; u64: U64; i64: I64; f32: F32; f64: F64;
}

impl ToValue for bool {
    const TYPE: ValueType = ValueType::Bool;

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl ToValue for str {
    const TYPE: ValueType = ValueType::String;

    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    const TYPE: ValueType = T::TYPE;

    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<T: ToValue> ToValue for [T] {
    const TYPE: ValueType = ValueType::Array;

    fn write(&self, out: &mut Vec<u8>) {
        T::TYPE.write_id(out);
        (self.len() as u64).write(out);
        self.iter().for_each(|element| element.write(out));
    }
}
