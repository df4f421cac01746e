//! The rules of reading and writing, byte by byte.

use std::sync::LazyLock;

use expect_test::{Expect, expect};
use jackfield_protocol::dynamic::ValueError;
use jackfield_protocol::protobuf::ProtoSchema;

use crate::{read, schema};

static RULES: LazyLock<ProtoSchema> = LazyLock::new(|| {
    schema(&read(
        r#"{"interface": "a:rules/rules@1.0.0",
            "types": {
                "point": {"record": [{"name": "x", "type": "u8"}, {"name": "y-axis", "type": "s16"}, {"name": "at", "type": "option<place>"}]},
                "place": {"record": [{"name": "color", "type": "color"}, {"name": "in", "type": "result<string, _>"}]},
                "color": {"enum": ["red", "green"]},
                "marks": {"flags": ["a", "b"]},
                "shape": {"variant": [{"name": "dot"}, {"name": "line", "type": "list<u8>"}, {"name": "at", "type": "point"}]}
            },
            "functions": [
                {"name": "point", "params": [{"name": "point", "type": "point"}]},
                {"name": "numbers", "params": [{"name": "numbers", "type": "list<s32>"}, {"name": "marks", "type": "marks"}]},
                {"name": "shape", "params": [{"name": "shape", "type": "shape"}]},
                {"name": "map", "params": [{"name": "map", "type": "map<char, point>"}]},
                {"name": "letter", "params": [{"name": "letter", "type": "char"}, {"name": "text", "type": "string"}]},
                {"name": "nest", "params": [{"name": "nest", "type": "list<option<color>>"}, {"name": "pair", "type": "option<tuple<bool, option<option<u8>>>>"}]},
                {"name": "fail", "result": "result<list<color>, point>"}
            ]}"#,
    ))
});

/// Reads the request of a function.
fn check(function: &str, proto: &[u8], expected: Expect) {
    let at = RULES.function(&format!("/a.rules.v1.Rules/{function}")).expect(function);
    let json = RULES.arguments_to_json(at, proto);
    assert_eq!(json.is_ok(), RULES.arguments_to_binary(at, proto).is_ok());
    expected.assert_eq(&match json {
        Ok(json) => String::from_utf8(json).expect("UTF-8"),
        Err(error) => error.to_string(),
    });
}

#[test]
fn a_scalar_that_is_absent_is_zero_and_a_message_is_missing() {
    check("Point", b"\x0a\x00", expect![[r#"{"point":{"x":0,"y-axis":0,"at":null}}"#]]);
    check("Point", b"", expect!["`point(point)`: is missing"]);
    check("Letter", b"", expect![[r#"{"letter":"\u0000","text":""}"#]]);
    check("Point", b"\x0a\x02\x1a\x00", expect!["`point(point).at.color`: is missing"]);
    check("Point", b"\x0a\x04\x1a\x02\x08\x01", expect!["`point(point).at.in`: is missing"]);
    check(
        "Point",
        b"\x0a\x06\x1a\x04\x08\x01\x12\x00",
        expect!["`point(point).at.in`: `result<string, _>` has no case that is known"],
    );
    check(
        "Point",
        b"\x0a\x08\x1a\x06\x08\x01\x12\x02\x0a\x00",
        expect![[r#"{"point":{"x":0,"y-axis":0,"at":{"color":"red","in":{"ok":""}}}}"#]],
    );
}

#[test]
fn of_a_scalar_the_last_counts_and_messages_are_merged() {
    check("Point", b"\x0a\x04\x08\x01\x08\x02", expect![[r#"{"point":{"x":2,"y-axis":0,"at":null}}"#]]);
    check("Point", b"\x0a\x02\x08\x07\x0a\x02\x10\x09", expect![[r#"{"point":{"x":7,"y-axis":9,"at":null}}"#]]);
    // Of a `oneof` the last case counts, and what came of it before another one does not.
    check("Shape", b"\x0a\x02\x0a\x00\x0a\x03\x12\x01a", expect![[r#"{"shape":{"tag":"line","val":"YQ=="}}"#]]);
    check(
        "Shape",
        b"\x0a\x10\x1a\x02\x08\x01\x0a\x00\x1a\x02\x10\x02\x1a\x02\x10\x03\x1a\x00",
        expect![[r#"{"shape":{"tag":"at","val":{"x":0,"y-axis":3,"at":null}}}"#]],
    );
}

#[test]
fn numbers_are_packed_or_not() {
    check(
        "Numbers",
        b"\x0a\x02\x01\x02\x08\x03\x0a\x00\x0a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        expect![[r#"{"numbers":[1,2,3,-1],"marks":[]}"#]],
    );
    check("Numbers", b"\x10\x02\x12\x02\x01\x02", expect![[r#"{"numbers":[],"marks":["a","b"]}"#]]);
    check("Numbers", b"\x10\x03", expect!["`numbers(marks)`: `marks` has no value 3"]);
    check("Numbers", b"\x12\x02\x01\x00", expect!["`numbers(marks)`: is a `marks`, got `MARKS_UNSPECIFIED`"]);
    check("Numbers", b"\x0a\x02\x01\x80", expect!["`numbers(numbers)`: it ends within a field"]);
    check("Numbers", b"\x0d\x01\x02\x03\x04", expect!["`numbers(numbers)[0]`: is a `s32`, got four bytes"]);
}

#[test]
fn a_key_that_comes_twice_has_its_last_value() {
    check(
        "Map",
        b"\x0a\x06\x08\x62\x12\x02\x08\x01\x0a\x02\x08\x61\x0a\x06\x12\x02\x08\x02\x08\x62",
        expect![[r#"{"map":{"a":{"x":0,"y-axis":0,"at":null},"b":{"x":2,"y-axis":0,"at":null}}}"#]],
    );
    check(
        "Map",
        b"\x0a\x07\x08\x62\x12\x03\x08\x80\x02",
        expect!["`map(map)['b'].x`: 256 is out of range for `u8` (0 to 255)"],
    );
    check(
        "Map",
        b"\x0a\x06\x08\x80\xb0\x03\x12\x00",
        expect!["`map(map){key}`: is a `char`, got 55296, which is no Unicode scalar value"],
    );
}

#[test]
fn what_is_not_of_its_type_is_named_with_its_path() {
    check("Point", b"\x0a\x03\x08\x80\x02", expect!["`point(point).x`: 256 is out of range for `u8` (0 to 255)"]);
    check(
        "Point",
        b"\x0a\x04\x10\x80\x80\x02",
        expect!["`point(point).y-axis`: 32768 is out of range for `s16` (-32768 to 32767)"],
    );
    check("Point", b"\x08\x01", expect!["`point(point)`: a message is bytes with a length, got a varint"]);
    check("Point", b"\x0a\x02\x0a\x00", expect!["`point(point).x`: is a `u8`, got bytes with a length"]);
    check("Point", b"\x0a\x04\x1a\x02\x08\x05", expect!["`point(point).at.color`: `color` has no value 5"]);
    check("Point", b"\x0a\x05", expect!["`point`: it ends within a field"]);
    check("Shape", b"\x0a\x00", expect!["`shape(shape)`: variant `shape` has no case that is known"]);
    check(
        "Shape",
        b"\x0a\x05\x1a\x03\x08\x80\x02",
        expect!["`shape(shape).at.x`: 256 is out of range for `u8` (0 to 255)"],
    );
    check(
        "Letter",
        b"\x08\x80\xb0\x03",
        expect!["`letter(letter)`: is a `char`, got 55296, which is no Unicode scalar value"],
    );
    check("Letter", b"\x12\x02a\xff", expect!["`letter(text)`: is a `string`, got bytes that are no UTF-8 from 1"]);
    check("Nest", b"\x0a\x00\x0a\x02\x08\x02\x0a\x02\x08\x07", expect!["`nest(nest)[2]`: `color` has no value 7"]);
    check("Nest", b"\x12\x04\x08\x01\x12\x00", expect![[r#"{"nest":[],"pair":[true,{"some":null}]}"#]]);
    check("Nest", b"\x12\x05\x12\x03\x08\x80\x02", expect!["`nest(pair).1`: 256 is out of range for `u8` (0 to 255)"]);
}

#[test]
fn an_answer_is_one_of_two() {
    let fail = RULES.function("/a.rules.v1.Rules/Fail").expect("a function");
    let check = |proto: &[u8], expected: Expect| {
        expected.assert_eq(&match RULES.answer_to_json(fail, proto) {
            Ok((ok, json)) => format!("{ok} {}", String::from_utf8_lossy(&json)),
            Err(error) => error.to_string(),
        });
    };
    check(b"\x0a\x00", expect!["true []"]);
    check(b"\x0a\x04\x0a\x02\x01\x02", expect![[r#"true ["red","green"]"#]]);
    check(b"\x12\x02\x08\x01", expect![[r#"false {"x":1,"y-axis":0,"at":null}"#]]);
    check(b"", expect!["`fail() result`: has neither `ok` nor `err`"]);
    check(b"\x0a\x04\x0a\x02\x01\x03", expect!["`fail() result.ok[1]`: `color` has no value 3"]);
    check(b"\x12\x03\x08\x80\x02", expect!["`fail() result.err.x`: 256 is out of range for `u8` (0 to 255)"]);
}

#[test]
fn what_cannot_be_written_is_named_with_its_path() {
    let check = |result: Result<Vec<u8>, ValueError>, expected: Expect| {
        expected.assert_eq(&result.expect_err("not of its type").to_string());
    };
    let at = |function: &str| RULES.function(&format!("/a.rules.v1.Rules/{function}")).expect(function);
    check(
        RULES.json_arguments_to_proto(at("Point"), br#"{"point": {"x": 256, "y-axis": 0}}"#),
        expect!["`point(point).x`: 256 is out of range for `u8` (0 to 255)"],
    );
    check(
        RULES.json_arguments_to_proto(at("Point"), b"{"),
        expect!["`point`: EOF while parsing an object at line 1 column 1"],
    );
    check(
        RULES.arguments_to_proto(at("Point"), b"\x01\x02\x07"),
        expect!["`point(point).at`: Found an Option discriminant that wasn't 0 or 1"],
    );
    check(
        RULES.arguments_to_proto(at("Point"), b"\x01\x02\x01\x02"),
        expect!["`point(point).at.color`: `color` has no value 2"],
    );
    check(RULES.arguments_to_proto(at("Point"), b"\x01\x02\x00\x00"), expect!["`point`: 1 bytes follow the value"]);
    check(RULES.arguments_to_proto(at("Numbers"), b"\x00\x04"), expect!["`numbers(marks)`: `marks` has only 2 flags"]);
    check(
        RULES.arguments_to_proto(at("Nest"), b"\x03\x01\x01\x00\x01\x02"),
        expect!["`nest(nest)[2]`: `color` has no value 2"],
    );
    check(RULES.answer_to_proto(at("Fail"), true, b"\x01\x05"), expect!["`fail() result[0]`: `color` has no value 5"]);
    check(
        RULES.answer_to_proto(at("Point"), false, b""),
        expect!["`point() result`: has no error of the plugin's own, and was given one"],
    );
    check(RULES.answer_to_proto(7, true, b""), expect!["`a:rules/rules@1.0.0`: has 7 functions, and none at 7"]);
}
