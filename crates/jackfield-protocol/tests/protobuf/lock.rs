//! Numbers that stay.

use expect_test::{Expect, expect};
use jackfield_protocol::protobuf::{Lock, LockError, ProtoSchema};

use crate::{pool, read};

const FIRST: &str = r#"{"interface": "a:b/c@1.0.0",
    "types": {"p": {"record": [{"name": "x", "type": "u32"}, {"name": "y", "type": "p2"}, {"name": "z", "type": "string"}]},
              "p2": {"enum": ["a", "b", "c"]}},
    "functions": [{"name": "f", "params": [{"name": "p", "type": "p"}]}, {"name": "g", "result": "u8"}]}"#;

const SECOND: &str = r#"{"interface": "a:b/c@1.4.0",
    "types": {"p": {"record": [{"name": "z", "type": "string"}, {"name": "new", "type": "u32"}, {"name": "y", "type": "p2"}]},
              "p2": {"enum": ["c", "d", "a"]}},
    "functions": [{"name": "f", "params": [{"name": "q", "type": "option<string>"}, {"name": "p", "type": "p"}]}]}"#;

#[test]
fn a_name_keeps_its_number_and_one_that_is_gone_leaves_it_reserved() {
    let first = Lock::new(&read(FIRST)).expect("a lock");
    let second = first.update(&read(SECOND)).expect("it may come further");
    expect![[r#"
        {
          "interface": "a:b/c@1",
          "functions": {
            "f": {
              "params": [
                {"number":1,"name":"p","type":"p"},
                {"number":2,"name":"q","type":"option<string>"}
              ]
            },
            "g": {
              "result": "u8",
              "params": []
            }
          },
          "types": {
            "p": {
              "kind": "record",
              "members": [
                {"number":1,"name":"x","type":"u32","removed":true},
                {"number":2,"name":"y","type":"p2"},
                {"number":3,"name":"z","type":"string"},
                {"number":4,"name":"new","type":"u32"}
              ]
            },
            "p2": {
              "kind": "enum",
              "members": [
                {"number":1,"name":"a"},
                {"number":2,"name":"b","removed":true},
                {"number":3,"name":"c"},
                {"number":4,"name":"d"}
              ]
            }
          }
        }
    "#]]
    .assert_eq(&second.to_string());
    assert_eq!(Lock::parse(&second.to_string()), Ok(second.clone()));
    let schema = ProtoSchema::with_lock(&read(SECOND), &second).expect("a schema");
    pool(&schema);
    let (_, text) = schema.text().split_once("syntax").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a head");
    expect![[r#"
         = "proto3";

        package a.b.c.v1;

        service C {
          rpc F(FRequest) returns (FResponse);
        }

        // The arguments of `f`
        message FRequest {
          optional string q = 2;
          P p = 1;
        }

        // The answer of `f`
        message FResponse {}

        // record `p`
        message P {
          reserved 1;
          reserved "x";
          string z = 3;
          uint32 new = 4;
          P2 y = 2;
        }

        // enum `p2`
        enum P2 {
          reserved 2;
          reserved "P2_B";
          P2_UNSPECIFIED = 0;
          P2_C = 3;
          P2_D = 4;
          P2_A = 1;
        }
    "#]]
    .assert_eq(&text);
    // An interface that is behind its lock, such as a plugin's of before, has the same numbers.
    let before = ProtoSchema::with_lock(&read(FIRST), &second).expect("a schema");
    let bytes = b"\x07\x02\x01z";
    let proto = before.arguments_to_proto(0, bytes).expect("written");
    assert_eq!(proto, crate::schema(&read(FIRST)).arguments_to_proto(0, bytes).expect("written"));
    // What came in between changes no bytes of before: `x` is passed over, `q` and `new` are absent.
    let later = schema.arguments_to_json(0, &proto).expect("read");
    expect![[r#"{"q":null,"p":{"z":"z","new":0,"y":"c"}}"#]].assert_eq(&String::from_utf8_lossy(&later));
}

fn check_refused(result: Result<Lock, LockError>, expected: Expect) {
    expected.assert_eq(&result.expect_err("refused").to_string());
}

#[test]
fn what_would_make_old_bytes_mean_something_else_is_refused() {
    let lock = Lock::new(&read(FIRST)).expect("a lock");
    let edit = |from: &str, to: &str| {
        assert!(FIRST.contains(from), "{from}");
        lock.update(&read(&FIRST.replace(from, to)))
    };
    check_refused(
        edit(r#""x", "type": "u32""#, r#""x", "type": "s32""#),
        expect!["`p.x` is locked as `u32`, the interface has `s32`"],
    );
    check_refused(
        edit(r#"{"enum": ["a", "b", "c"]}"#, r#"{"flags": ["a", "b", "c"]}"#),
        expect!["`p2` is locked as `enum`, the interface has `flags`"],
    );
    check_refused(
        edit(r#""result": "u8""#, r#""result": "result<u8, string>""#),
        expect!["`g() result` is locked as `u8`, the interface has `result<u8, string>`"],
    );
    check_refused(edit(r#", "result": "u8""#, ""), expect!["`g() result` is locked as `u8`, the interface has `_`"]);
    check_refused(
        edit("a:b/c@1.0.0", "a:b/c@2.0.0"),
        expect!["the lock is of `a:b/c@1`, the interface is `a:b/c@2.0.0`"],
    );
    // What was gone comes back as what it was, or not at all.
    let without = FIRST.replace(r#"{"name": "x", "type": "u32"}, "#, "");
    let without = lock.update(&read(&without)).expect("it may go");
    assert_eq!(without.update(&read(FIRST)), Ok(lock.clone()));
    check_refused(
        without.update(&read(&FIRST.replace(r#""x", "type": "u32""#, r#""x", "type": "u64""#))),
        expect!["`p.x` is locked as `u32`, the interface has `u64`"],
    );
    let ahead = ProtoSchema::with_lock(&read(SECOND), &lock).map(|_| ()).expect_err("no numbers");
    expect!["the lock has no number for `f(q)`: the interface has come further than it"].assert_eq(&ahead.to_string());
}

#[test]
fn a_lock_that_contradicts_itself_is_refused() {
    let lock = |members: &str| {
        Lock::parse(&format!(
            r#"{{"interface": "a:b/c@1", "types": {{"p": {{"kind": "record", "members": [{members}]}}}}}}"#
        ))
    };
    check_refused(
        lock(r#"{"number": 1, "name": "x"}, {"number": 1, "name": "y"}"#),
        expect!["the lock gives `p.y` the number 1, which is that of `p.x`"],
    );
    check_refused(
        lock(r#"{"number": 1, "name": "x"}, {"number": 2, "name": "x"}"#),
        expect!["the lock gives `p.x` the number 2, and another one before"],
    );
    check_refused(
        lock(r#"{"number": 0, "name": "x"}"#),
        expect!["the lock gives `p.x` the number 0, and numbers begin with 1"],
    );
    check_refused(
        lock(r#"{"number": 19000, "name": "x"}"#),
        expect!["the lock gives `p.x` the number 19000, which protobuf keeps to itself (19000 to 19999)"],
    );
    check_refused(
        lock(r#"{"number": 536870912, "name": "x"}"#),
        expect!["the lock gives `p.x` the number 536870912, and the last one is 536870911"],
    );
    check_refused(
        lock(r#"{"number": 1, "name": "x", "tpye": "u8"}"#),
        expect![
            "not a lock of field numbers: unknown field `tpye`, expected one of `number`, `name`, `type`, `removed` at line 1 column 104"
        ],
    );
    check_refused(
        Lock::parse(""),
        expect!["not a lock of field numbers: EOF while parsing a value at line 1 column 0"],
    );
}

#[test]
fn numbers_that_protobuf_keeps_are_passed_over() {
    let lock = r#"{"interface": "a:b/c@1", "types": {"p": {"kind": "record", "members": [{"number": 18999, "name": "x", "type": "u8"}]}}}"#;
    let lock = Lock::parse(lock).expect("a lock");
    let interface = r#"{"interface": "a:b/c@1.0.0", "functions": [], "types": {"p": {"record": [{"name": "x", "type": "u8"}, {"name": "y", "type": "u8"}]}}}"#;
    let updated = lock.update(&read(interface)).expect("updated").to_string();
    assert!(updated.contains(r#"{"number":20000,"name":"y","type":"u8"}"#), "{updated}");
}
