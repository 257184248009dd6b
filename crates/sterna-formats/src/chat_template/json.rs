//! Between JSON and the values of templates, and `json.dumps` as Python writes it.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// A JSON value as templates see it; objects keep their order.
pub(super) fn to_template(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_template).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.clone(), to_template(value))))
        }
    }
}

/// How `json.dumps` lays out its text.
pub(super) struct Style {
    /// Spaces per level, on lines of their own; all on one line without.
    indent: Option<usize>,
    /// What stands between items, and between a key and its value.
    pub(super) separators: [String; 2],
    pub(super) sort_keys: bool,
}

impl Style {
    /// Python's defaults.
    pub(super) fn python(indent: Option<usize>) -> Style {
        let item = if indent.is_some() { "," } else { ", " };
        Style { indent, separators: [item.to_owned(), ": ".to_owned()], sort_keys: false }
    }
}

/// `value` as JSON, at most `limit` bytes of it.
pub(super) fn dumps(value: &Value, style: &Style, limit: usize) -> Result<String, Error> {
    let mut writer = Writer { style, out: String::new(), limit };
    writer.value(value, 0)?;
    Ok(writer.out)
}

/// Deepest nesting of a value; lists can hold one another without end.
const MAX_DEPTH: usize = 128;

struct Writer<'a> {
    style: &'a Style,
    out: String,
    limit: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH || self.out.len() > self.limit {
            return Err(invalid("value too large for tojson"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked();
                self.list('[', ']', depth, items, |writer, item| writer.value(&item?, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                if self.style.sort_keys {
                    keys.sort();
                }
                self.list('{', '}', depth, keys.into_iter(), |writer, key| {
                    writer.string(&key.to_string());
                    writer.out.push_str(&writer.style.separators[1]);
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => return Err(invalid(&format!("tojson of {kind}"))),
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.out.push_str(&self.style.separators[0]);
            }
            self.line(depth + 1);
            write(self, item)?;
            empty = false;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn number(&mut self, value: &Value) {
        // What is not finite is written as Python does, in words that are not JSON.
        match f64::try_from(value.clone()) {
            Ok(number) if number.is_nan() => self.out.push_str("NaN"),
            Ok(number) if number.is_infinite() => {
                self.out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
            }
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => self.out.push_str(&format!("\\u{:04x}", u32::from(character))),
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value =
            serde_json::json!({"b": [1, -2.5, 3.0, true, null], "a": {"é\n\"<": "\u{1}"}, "e": [], "o": {}});
        let value = to_template(&value);
        let compact = r#"{"b": [1, -2.5, 3.0, true, null], "a": {"é\n\"<": "\u0001"}, "e": [], "o": {}}"#;
        assert_eq!(dumps(&value, &Style::python(None), 1000).unwrap(), compact);
        let indented = "{\n  \"b\": [\n    1,\n    -2.5,\n    3.0,\n    true,\n    null\n  ],\n  \"a\": {\n    \
                        \"é\\n\\\"<\": \"\\u0001\"\n  },\n  \"e\": [],\n  \"o\": {}\n}";
        assert_eq!(dumps(&value, &Style::python(Some(2)), 1000).unwrap(), indented);
        let style = Style { sort_keys: true, separators: [",".into(), ":".into()], ..Style::python(None) };
        let sorted = r#"{"a":{"é\n\"<":"\u0001"},"b":[1,-2.5,3.0,true,null],"e":[],"o":{}}"#;
        assert_eq!(dumps(&value, &style, 1000).unwrap(), sorted);
        assert!(dumps(&value, &style, 10).is_err());
    }
}
