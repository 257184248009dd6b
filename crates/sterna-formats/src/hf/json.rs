//! JSON as the hub writes it, read as untrusted input.
//!
//! Python's `json` writes `Infinity`, `-Infinity` and `NaN` as bare words, which is not JSON; transformers 5
//! writes `{"__float__": "Infinity"}` instead. Bare words are rewritten to that second form before parsing, so
//! that one accessor ([`non_finite`]) understands both. A key given twice is an error, because two readers
//! could then disagree about the same file.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Key of the object that stands for a float which JSON cannot write.
const FLOAT_KEY: &str = "__float__";

/// Parses `text`, which may hold bare non-finite numbers.
///
/// The message of an error says the line, the column and what is wrong there. Nesting deeper than 128 levels
/// and duplicate keys are errors.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Unique>(&quote_non_finite(text)).map(|unique| unique.0)
}

/// The number that `value` stands for when it is `{"__float__": "Infinity" | "-Infinity" | "NaN"}`.
pub fn non_finite(value: &Value) -> Option<f64> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    match object.get(FLOAT_KEY)?.as_str()? {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => None,
    }
}

/// Replaces each bare `Infinity`, `-Infinity` and `NaN` outside strings by its `{"__float__": …}` object.
fn quote_non_finite(text: &str) -> Cow<'_, str> {
    if !text.contains("Infinity") && !text.contains("NaN") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.find(['"', '-', 'I', 'N']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let word = ["Infinity", "-Infinity", "NaN"].into_iter().find(|word| here.starts_with(word));
        let taken = match word {
            Some(word) => {
                out.push_str(&format!("{{\"{FLOAT_KEY}\":\"{word}\"}}"));
                word.len()
            }
            None => {
                let taken = if here.starts_with('"') { string_len(here) } else { 1 };
                out.push_str(&here[..taken]);
                taken
            }
        };
        rest = &here[taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Length in bytes of the string literal that `text` begins with, quotes included; all of `text` when it never
/// ends.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A [`Value`] whose objects name every key once.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is given twice in one object")));
            }
            let Unique(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_non_finite_numbers_become_float_objects() {
        let value = parse(r#"{"limit": [0.0, Infinity], "low": -Infinity, "x": NaN, "one": -1}"#).unwrap();
        assert_eq!(non_finite(&value["limit"][1]), Some(f64::INFINITY));
        assert_eq!(non_finite(&value["low"]), Some(f64::NEG_INFINITY));
        assert!(non_finite(&value["x"]).unwrap().is_nan());
        assert_eq!(value["one"], -1);
    }

    #[test]
    fn words_inside_strings_stay() {
        let text = r#"{"NaN": "to Infinity and \" -Infinity", "é\\": "NaN", "x": NaN}"#;
        let value = parse(text).unwrap();
        assert_eq!(value["NaN"], "to Infinity and \" -Infinity");
        assert_eq!(value["é\\"], "NaN");
        assert!(non_finite(&value["x"]).is_some());
    }

    #[test]
    fn both_spellings_of_infinity_are_one_value() {
        assert_eq!(parse(r#"[Infinity]"#).unwrap(), parse(r#"[{"__float__": "Infinity"}]"#).unwrap());
    }

    #[test]
    fn duplicate_keys_deep_nesting_and_rubbish_are_errors() {
        let twice = parse(r#"{"a": {"b": 1, "b": 2}}"#).unwrap_err().to_string();
        assert!(twice.contains("\"b\"") && twice.contains("twice"), "{twice}");
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).unwrap_err().to_string().contains("recursion"));
        for bad in ["", "{", "\"", "\"\\", "Infinit", "NaNs", "Infinity\"", "{\"a\":1}x", "1e999"] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
