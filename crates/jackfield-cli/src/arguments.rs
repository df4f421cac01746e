//! The arguments of a call, as they are typed: JSON that is taken at its word.

use std::fmt;
use std::io::{BufRead, Read};

use anyhow::{Context as _, Result};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads arguments from `written`, or from `stdin` when that is `-`.
pub(crate) fn read(written: &str, stdin: impl Read) -> Result<Value> {
    if written != "-" {
        return parse(written).context("ARGS is not JSON");
    }
    let text = std::io::read_to_string(stdin).context("cannot read the arguments from stdin")?;
    parse(&text).context("stdin is not JSON")
}

/// Reads messages one after the other from `written`, or line by line from `stdin` when that is `-`, until
/// `take` wants no more.
pub(crate) fn read_each(written: &str, stdin: impl BufRead, mut take: impl FnMut(Value) -> bool) -> Result<()> {
    if written != "-" {
        for message in serde_json::Deserializer::from_str(written).into_iter::<Exact>() {
            let Exact(message) = message.context("ARGS is not JSON")?;
            if !take(message) {
                break;
            }
        }
        return Ok(());
    }
    for (at, line) in stdin.lines().enumerate() {
        let line = line.context("cannot read the messages from stdin")?;
        if line.trim().is_empty() {
            continue;
        }
        let message = parse(&line).with_context(|| format!("line {} of stdin is not JSON", at + 1))?;
        if !take(message) {
            break;
        }
    }
    Ok(())
}

fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str::<Exact>(text).map(|Exact(value)| value)
}

/// A value in which no member of an object is there twice. serde_json would take the last one, which
/// is to change what was said.
pub(crate) struct Exact(pub(crate) Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ExactVisitor).map(Exact)
    }
}

struct ExactVisitor;

impl<'de> Visitor<'de> for ExactVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Exact(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Exact(value))) = map.next_entry::<String, _>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("`{name}` is there twice")));
            }
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(written: &str, expected: Expect) {
        expected.assert_eq(&match read(written, "[\n \"Ada\"]".as_bytes()) {
            Ok(value) => value.to_string(),
            Err(error) => format!("{error:#}"),
        });
    }

    #[test]
    fn arguments_are_json_from_the_line_or_from_stdin() {
        check(
            r#"{"name": "Ada", "age": 36, "tags": [null, true, -1.5]}"#,
            expect![[r#"{"age":36,"name":"Ada","tags":[null,true,-1.5]}"#]],
        );
        check("18446744073709551615", expect!["18446744073709551615"]);
        check("-", expect![[r#"["Ada"]"#]]);
    }

    #[test]
    fn messages_stand_side_by_side_or_on_lines() {
        let check = |written: &str, expected: Expect| {
            let mut messages = Vec::new();
            let read = read_each(written, "{\"n\": 1}\n\n2\n{".as_bytes(), |message| {
                messages.push(message.to_string());
                true
            });
            let end = read.map_or_else(|error| format!("{error:#}"), |()| "end".to_owned());
            expected.assert_eq(&format!("{}; {end}", messages.join(" ")));
        };
        check("{\"n\": 1} {\"n\": 2}", expect![[r#"{"n":1} {"n":2}; end"#]]);
        check("", expect!["; end"]);
        check(
            "-",
            expect![[r#"{"n":1} 2; line 4 of stdin is not JSON: EOF while parsing an object at line 1 column 1"#]],
        );
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        check("{name: 1}", expect!["ARGS is not JSON: key must be a string at line 1 column 2"]);
        check("{\"name\":\n Ada}", expect!["ARGS is not JSON: expected value at line 2 column 2"]);
        check("", expect!["ARGS is not JSON: EOF while parsing a value at line 1 column 0"]);
        check("{} {}", expect!["ARGS is not JSON: trailing characters at line 1 column 4"]);
        check(
            r#"{"a": {"name": "Ada", "name": "Bob"}}"#,
            expect!["ARGS is not JSON: `name` is there twice at line 1 column 36"],
        );
    }
}
