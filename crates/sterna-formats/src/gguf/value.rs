//! Values of GGUF metadata. Arrays stay in the mapped file until somebody asks for their elements.

use bytes::Bytes;

/// Type of a metadata value, by its id in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // The names say it.
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type with the id `id`.
    pub fn from_id(id: u32) -> Option<ValueType> {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64].get(id as usize).copied()
    }

    /// Bytes of a value; `None` for strings and arrays, which say their length themselves.
    pub fn size_of(self) -> Option<usize> {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => Some(1),
            U16 | I16 => Some(2),
            U32 | I32 | F32 => Some(4),
            U64 | I64 | F64 => Some(8),
            String | Array => None,
        }
    }

    /// The type in lower case, as error messages name it.
    pub fn name(self) -> &'static str {
        use ValueType::*;
        match self {
            U8 => "u8",
            I8 => "i8",
            U16 => "u16",
            I16 => "i16",
            U32 => "u32",
            I32 => "i32",
            F32 => "f32",
            Bool => "bool",
            String => "string",
            Array => "array",
            U64 => "u64",
            I64 => "i64",
            F64 => "f64",
        }
    }
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A single-precision float.
    F32(f32),
    /// A double-precision float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A string; whether it is UTF-8 is checked when it is asked for.
    String(Bytes),
    /// An array.
    Array(Array),
}

impl Value {
    /// The value of a fixed-size type in little-endian `bytes`; `None` for strings and arrays, and for a wrong
    /// number of bytes.
    pub(super) fn scalar(ty: ValueType, bytes: &[u8]) -> Option<Value> {
        Some(match ty {
            ValueType::U8 => Value::Unsigned(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::U16 => Value::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::U32 => Value::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::U64 => Value::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I8 => Value::Signed(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I16 => Value::Signed(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I32 => Value::Signed(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            ValueType::I64 => Value::Signed(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => Value::Bool(u8::from_le_bytes(bytes.try_into().ok()?) != 0),
            ValueType::String | ValueType::Array => return None,
        })
    }

    /// The value as an integer, when it is one.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Value::Unsigned(value) => Some(value.into()),
            Value::Signed(value) => Some(value.into()),
            _ => None,
        }
    }

    /// What the value is, for error messages: kind and, where it is short, contents.
    pub fn describe(&self) -> String {
        match self {
            Value::Unsigned(value) => format!("the integer {value}"),
            Value::Signed(value) => format!("the integer {value}"),
            Value::F32(value) => format!("the float {value}"),
            Value::F64(value) => format!("the float {value}"),
            Value::Bool(value) => format!("the bool {value}"),
            Value::String(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if text.len() <= 40 => format!("the string {text:?}"),
                Ok(_) => format!("a string of {} bytes", bytes.len()),
                Err(_) => "a string that is not UTF-8".to_string(),
            },
            Value::Array(array) => format!("an array of {} {} values", array.len, array.element.name()),
        }
    }
}

/// An array, whose elements are still as the file holds them.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    element: ValueType,
    len: usize,
    bytes: Bytes,
}

impl Array {
    /// `bytes` hold `len` elements, which the caller has walked through.
    pub(super) fn new(element: ValueType, len: usize, bytes: Bytes) -> Array {
        Array { element, len, bytes }
    }

    /// Type of the elements.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers and truth values; nothing when the elements are strings or arrays.
    pub fn scalars(&self) -> impl Iterator<Item = Value> + '_ {
        let size = self.element.size_of().unwrap_or(usize::MAX);
        self.bytes.chunks_exact(size).filter_map(|bytes| Value::scalar(self.element, bytes))
    }

    /// The strings; nothing when the elements are something else.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let mut rest = if self.element == ValueType::String { &self.bytes[..] } else { &[] };
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk()?;
            let (string, after) = after.split_at_checked(u64::from_le_bytes(*len).try_into().ok()?)?;
            rest = after;
            Some(string)
        })
    }
}
