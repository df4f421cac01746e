//! A manifest as tables, lists and values that know where they stand, read from TOML or JSON.
//!
//! serde would give the types for less, but its errors have a place only while it parses: whether a
//! file exists or a mechanism is built in is known later, and those errors want a line, too.

use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, ManifestProblem, did_you_mean};
use super::units::{parse_duration, parse_size};

/// Something, and the byte of the text at which it starts.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) at: usize,
    pub(super) value: T,
}

/// A value of either format.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Located<Value>>),
    Table(Table),
    /// A number that is no integer of 64 bits, and how it was written.
    Number(serde_json::Number, String),
    Null,
    /// What no key of a manifest takes, in words: `a date`.
    Other(String),
}

/// Keys and values, in no particular order.
pub(super) type Table = Vec<(Located<String>, Located<Value>)>;

/// Tables and lists inside each other; a manifest has three levels.
const DEPTH_MAX: usize = 16;

/// Reads TOML.
pub(super) fn from_toml(text: &str) -> Result<Table, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(text.len(), |span| span.start);
        let what = error.message().trim().replace('\n', "; ");
        Fault::at(at, ManifestProblem::Syntax { format: "TOML", what })
    })?;
    Ok(toml_table(table.into_inner()))
}

fn toml_table(table: DeTable<'_>) -> Table {
    let entries = table.into_iter().map(|(key, value)| {
        let key = Located { at: key.span().start, value: key.into_inner().into_owned() };
        (key, Located { at: value.span().start, value: toml_value(value.into_inner()) })
    });
    entries.collect()
}

fn toml_value(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Other(format!("the integer {integer}")),
        },
        DeValue::Float(float) => {
            // Written `1_000.5`, or `inf`, which JSON has not.
            let number = float.as_str().replace('_', "").parse().ok().and_then(serde_json::Number::from_f64);
            let words = float.to_string();
            number.map_or_else(|| Value::Other(format!("the number {words}")), |n| Value::Number(n, words.clone()))
        }
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Other("a date".to_owned()),
        DeValue::Array(items) => {
            let located = |item: toml::Spanned<DeValue<'_>>| Located {
                at: item.span().start,
                value: toml_value(item.into_inner()),
            };
            Value::List(items.into_iter().map(located).collect())
        }
        DeValue::Table(table) => Value::Table(toml_table(table)),
    }
}

/// Reads JSON.
pub(super) fn from_json(text: &str) -> Result<Table, Fault> {
    let root: &RawValue = serde_json::from_str(text).map_err(|error| syntax(text, 0, &error))?;
    match json_value(text, root, 0)? {
        Located { value: Value::Table(table), .. } => Ok(table),
        Located { at, value } => {
            let what = format!("a manifest is an object, got {value}");
            Err(Fault::at(at, ManifestProblem::Syntax { format: "JSON", what }))
        }
    }
}

/// A value whose place is the address of its text within the whole text.
fn json_value(text: &str, raw: &RawValue, depth: usize) -> Result<Located<Value>, Fault> {
    let at = raw.get().as_ptr().addr() - text.as_ptr().addr();
    if depth > DEPTH_MAX {
        let what = format!("nested more than {DEPTH_MAX} deep");
        return Err(Fault::at(at, ManifestProblem::Syntax { format: "JSON", what }));
    }
    let wrong = |error| syntax(text, at, &error);
    let value = match raw.get().as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(raw.get()).map_err(wrong)?;
            let entries = members.into_iter().map(|(key, value)| {
                let key_at = key.get().as_ptr().addr() - text.as_ptr().addr();
                let name = serde_json::from_str(key.get());
                let name = name.map_err(|error| syntax(text, key_at, &error))?;
                Ok((Located { at: key_at, value: name }, json_value(text, value, depth + 1)?))
            });
            Value::Table(entries.collect::<Result<_, Fault>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(wrong)?;
            let items = items.into_iter().map(|item| json_value(text, item, depth + 1));
            Value::List(items.collect::<Result<_, Fault>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(raw.get()).map_err(wrong)?),
        Some(b't' | b'f') => Value::Boolean(raw.get() == "true"),
        Some(b'n') => Value::Null,
        _ => match raw.get().parse() {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Number(serde_json::from_str(raw.get()).map_err(wrong)?, raw.get().to_owned()),
        },
    };
    Ok(Located { at, value })
}

/// An object's members as they are written, keys included, twice the same included.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> serde::de::Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// An error of serde_json, which counts lines and bytes from the start of what it was given.
fn syntax(text: &str, from: usize, error: &serde_json::Error) -> Fault {
    let earlier_lines = text[from..].split_inclusive('\n').take(error.line().saturating_sub(1));
    let line_start = from + earlier_lines.map(str::len).sum::<usize>();
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = whole.strip_suffix(&place).unwrap_or(&whole).to_owned();
    let at = line_start + error.column().saturating_sub(1);
    Fault::at(at, ManifestProblem::Syntax { format: "JSON", what })
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "the string {text:?}"),
            Value::Integer(integer) => write!(f, "the integer {integer}"),
            Value::Boolean(_) => f.write_str("a boolean"),
            Value::List(_) => f.write_str("a list"),
            Value::Table(_) => f.write_str("a table"),
            Value::Number(_, words) => write!(f, "the number {words}"),
            Value::Null => f.write_str("null"),
            Value::Other(words) => f.write_str(words),
        }
    }
}

/// A table whose keys are all known; each is taken once.
pub(super) struct Keys {
    prefix: &'static str,
    table: Table,
}

impl Keys {
    /// Refuses what is not in `known` first, since a misspelt key explains a missing one. `prefix`
    /// is written before keys in errors: `limits.`.
    pub(super) fn new(prefix: &'static str, table: Table, known: &[&str]) -> Result<Self, Fault> {
        let mut seen: Vec<&str> = Vec::new();
        for (Located { at, value: key }, _) in &table {
            let full = || format!("{prefix}{key}");
            if seen.contains(&&**key) {
                return Err(Fault::at(*at, ManifestProblem::Twice { key: full() }));
            }
            if !known.contains(&&**key) {
                let hint = did_you_mean(prefix, key, known.iter().copied());
                return Err(Fault::at(*at, ManifestProblem::UnknownKey { key: full(), hint }));
            }
            seen.push(key);
        }
        Ok(Self { prefix, table })
    }

    /// The value of a key, with the key's full name.
    pub(super) fn take(&mut self, key: &str) -> Option<Named> {
        let at = self.table.iter().position(|(known, _)| known.value == key)?;
        let (key, value) = self.table.swap_remove(at);
        Some(Named { key: format!("{}{}", self.prefix, key.value), value })
    }
}

/// A value and what it is called in errors.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) key: String,
    pub(super) value: Located<Value>,
}

impl Named {
    /// `problem`, where the value stands.
    pub(super) fn fault(&self, problem: impl Into<ManifestProblem>) -> Fault {
        Fault::at(self.value.at, problem)
    }

    /// A value of the right type that means nothing.
    pub(super) fn bad(&self, why: impl fmt::Display) -> Fault {
        self.fault(ManifestProblem::BadValue { key: self.key.clone(), why: why.to_string() })
    }

    pub(super) fn wrong_type(&self, wanted: &'static str) -> Fault {
        let (key, got) = (self.key.clone(), self.value.value.to_string());
        self.fault(ManifestProblem::WrongType { key, wanted, got })
    }

    pub(super) fn text(&self) -> Result<&str, Fault> {
        match &self.value.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong_type("a string")),
        }
    }

    /// The text, read as something more.
    pub(super) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&self) -> Result<T, Fault> {
        self.text()?.parse().map_err(|error| self.bad(error))
    }

    pub(super) fn integer(&self) -> Result<i64, Fault> {
        match &self.value.value {
            Value::Integer(integer) => Ok(*integer),
            _ => Err(self.wrong_type("an integer")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        match &self.value.value {
            Value::Boolean(boolean) => Ok(*boolean),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// The value as JSON: arguments of a call.
    pub(super) fn json(&self) -> Result<serde_json::Value, Fault> {
        let inner = |key: String, value: &Located<Value>| Named { key, value: value.clone() }.json();
        Ok(match &self.value.value {
            Value::Text(text) => text.as_str().into(),
            Value::Integer(integer) => (*integer).into(),
            Value::Boolean(boolean) => (*boolean).into(),
            Value::Number(number, _) => number.clone().into(),
            Value::Null => serde_json::Value::Null,
            Value::List(items) => {
                let items = items.iter().enumerate().map(|(at, item)| inner(format!("{}[{at}]", self.key), item));
                serde_json::Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Table(table) => {
                let mut members = serde_json::Map::new();
                for (key, value) in table {
                    let full = format!("{}.{}", self.key, key.value);
                    let value = inner(full.clone(), value)?;
                    if members.insert(key.value.clone(), value).is_some() {
                        return Err(Fault::at(key.at, ManifestProblem::Twice { key: full }));
                    }
                }
                serde_json::Value::Object(members)
            }
            Value::Other(_) => return Err(self.wrong_type("a value that JSON has")),
        })
    }

    /// A number from 1 of what is called `things`.
    pub(super) fn count<T: TryFrom<i64>>(&self, things: &str) -> Result<T, Fault> {
        let number = self.integer()?;
        let count = T::try_from(number).ok().filter(|_| number > 0);
        count.ok_or_else(|| self.bad(format_args!("{number} {things}; the least is 1")))
    }

    pub(super) fn duration(&self) -> Result<Duration, Fault> {
        match &self.value.value {
            Value::Text(text) => parse_duration(text).map_err(|error| self.bad(error)),
            _ => Err(self.wrong_type("a duration, as in \"5s\"")),
        }
    }

    pub(super) fn duration_above_zero(&self) -> Result<Duration, Fault> {
        match self.duration()? {
            Duration::ZERO => Err(self.bad("no time at all; the least is \"1ms\"")),
            duration => Ok(duration),
        }
    }

    /// A size in bytes, at least 1.
    pub(super) fn size(&self) -> Result<u64, Fault> {
        let bytes = match &self.value.value {
            Value::Text(text) => parse_size(text).map_err(|error| self.bad(error))?,
            Value::Integer(bytes) => {
                u64::try_from(*bytes).map_err(|_| self.bad(format_args!("{bytes} bytes; the least is 1")))?
            }
            _ => return Err(self.wrong_type("a size, as in \"16MiB\" or 4096")),
        };
        match bytes {
            0 => Err(self.bad("0 bytes; the least is 1")),
            bytes => Ok(bytes),
        }
    }

    /// A size of something held in memory.
    pub(super) fn memory_size(&self) -> Result<usize, Fault> {
        let bytes = self.size()?;
        usize::try_from(bytes).map_err(|_| self.bad(format_args!("{bytes} bytes do not fit this platform")))
    }

    /// The items of a list, called `args[0]`.
    pub(super) fn list(self) -> Result<Vec<Named>, Fault> {
        let Value::List(items) = self.value.value else {
            return Err(self.wrong_type("a list"));
        };
        let named = |(at, value)| Named { key: format!("{}[{at}]", self.key), value };
        Ok(items.into_iter().enumerate().map(named).collect())
    }

    pub(super) fn table(self) -> Result<Table, Fault> {
        match self.value.value {
            Value::Table(table) => Ok(table),
            _ => Err(self.wrong_type("a table")),
        }
    }
}
