//! The `.proto` file and its descriptor.

use expect_test::{Expect, expect, expect_file};
use fixtures_api::misbehave::Misbehave;
use fixtures_api::zoo::{Counter, Zoo};
use jackfield_protocol::Interface;
use jackfield_protocol::call::Described;
use jackfield_protocol::protobuf::ProtoSchema;

use crate::{pool, read, schema};

/// Compares what stands behind the head of the file, which is always the same.
fn check_text(interface: &Interface, expected: Expect) {
    let schema = schema(interface);
    pool(&schema);
    let text = schema.text();
    let (_, text) = text.split_once("syntax = \"proto3\";\n\n").expect("a head");
    expected.assert_eq(text);
}

#[test]
fn the_greeter_is_what_one_would_write_by_hand() {
    let greeter = read(include_str!("../../../../examples/greeter-api/greeter.json"));
    check_text(
        &greeter,
        expect![[r#"
            package demo.greeter.v1;

            import "google/protobuf/empty.proto";

            // Greets people.
            service Greeter {
              // Greets one person by name.
              rpc Greet(GreetRequest) returns (GreetResponse);
            }

            // The arguments of `greet`
            message GreetRequest {
              string name = 1;
            }

            // The answer of `greet`
            message GreetResponse {
              oneof result {
                string ok = 1;
                GreetError err = 2;
              }
            }

            // variant `greet-error`
            message GreetError {
              oneof kind {
                .google.protobuf.Empty empty_name = 1;
                uint32 too_long = 2;
              }
            }
        "#]],
    );
    let schema = schema(&greeter);
    assert_eq!((schema.package(), schema.service()), ("demo.greeter.v1", "Greeter"));
    assert_eq!(schema.full_name(), "demo.greeter.v1.Greeter");
    assert_eq!(schema.file_name(), "demo/greeter/v1/greeter.proto");
    assert_eq!(schema.method(0), "/demo.greeter.v1.Greeter/Greet");
    assert_eq!(schema.function("/demo.greeter.v1.Greeter/Greet"), Some(0));
    assert_eq!(schema.function("/demo.greeter.v1.Greeter/Shout"), None);
}

#[test]
fn every_type_has_a_form() {
    let zoo = schema(<dyn Zoo>::interface().expect("an interface"));
    pool(&zoo);
    expect_file!["../zoo.proto"].assert_eq(&zoo.text());
    for interface in [<dyn Misbehave>::interface(), <dyn Counter>::interface()] {
        pool(&schema(interface.expect("an interface")));
    }
}

#[test]
fn a_name_that_is_taken_is_numbered() {
    check_text(
        &read(
            r#"{"interface": "google:protobuf/service@0.3.0",
                "types": {
                    "service": {"enum": ["unspecified", "b-c"]},
                    "service-b": {"enum": ["c", "unspecified"]},
                    "get-request": {"record": [{"name": "kind", "type": "list<list<string>>"}]},
                    "string-list": {"variant": [{"name": "kind"}, {"name": "google"}, {"name": "optional", "type": "service"}]},
                    "by-name-entry": {"record": [{"name": "by-name", "type": "map<string, service-b>"},
                                                 {"name": "other", "type": "tuple<tuple<u8>, tuple<u8, tuple<s8, s8>>>"}]}
                },
                "functions": [
                    {"name": "get", "params": [{"name": "message", "type": "get-request"}, {"name": "by-name", "type": "map<char, by-name-entry>"}]},
                    {"name": "get-request", "result": "result<result<_, _>, list<u8>>"}
                ]}"#,
        ),
        expect![[r#"
            package google.protobuf.service.v0_3;

            import "google/protobuf/empty.proto";

            service Service {
              rpc Get(GetRequest2) returns (GetResponse);

              rpc GetRequest(GetRequestRequest) returns (GetRequestResponse);
            }

            // The arguments of `get`
            message GetRequest2 {
              GetRequest message = 1;
              map<uint32, .google.protobuf.service.v0_3.ByNameEntry> by_name = 2; // the keys: char
            }

            // The answer of `get`
            message GetResponse {}

            // The arguments of `get-request`
            message GetRequestRequest {}

            // The answer of `get-request`
            message GetRequestResponse {
              oneof result {
                EmptyEmptyResult ok = 1;
                bytes err = 2;
              }
            }

            // record `by-name-entry`
            message ByNameEntry {
              map<string, ServiceB> by_name = 1;
              U8TupleU8S8S8TupleTupleTuple other = 2;
            }

            // record `get-request`
            message GetRequest {
              repeated StringList2 kind = 1;
            }

            // variant `string-list`
            message StringList {
              oneof kind_ {
                .google.protobuf.Empty kind = 1;
                .google.protobuf.Empty google = 2;
                Service2 optional = 3;
              }
            }

            // `result<_, _>`
            message EmptyEmptyResult {
              oneof result {
                .google.protobuf.Empty ok = 1;
                .google.protobuf.Empty err = 2;
              }
            }

            // `tuple<tuple<u8>, tuple<u8, tuple<s8, s8>>>`
            message U8TupleU8S8S8TupleTupleTuple {
              U8Tuple f0 = 1;
              U8S8S8TupleTuple f1 = 2;
            }

            // `tuple<u8>`
            message U8Tuple {
              uint32 f0 = 1; // u8
            }

            // `tuple<u8, tuple<s8, s8>>`
            message U8S8S8TupleTuple {
              uint32 f0 = 1; // u8
              S8S8Tuple f1 = 2;
            }

            // `tuple<s8, s8>`
            message S8S8Tuple {
              int32 f0 = 1; // s8
              int32 f1 = 2; // s8
            }

            // `list<string>`
            message StringList2 {
              repeated string items = 1;
            }

            // enum `service`
            enum Service2 {
              SERVICE_UNSPECIFIED = 0;
              SERVICE_UNSPECIFIED_2 = 1;
              SERVICE_B_C = 2;
            }

            // enum `service-b`
            enum ServiceB {
              SERVICE_B_UNSPECIFIED = 0;
              SERVICE_B_C_2 = 1;
              SERVICE_B_UNSPECIFIED_2 = 2;
            }
        "#]],
    );
}

/// A name of the interface may be any word of protobuf.
#[test]
fn a_keyword_is_a_name() {
    let keywords = "syntax import weak public package option message enum service rpc returns stream repeated optional \
        required oneof map extensions extend to max reserved group true false inf nan int32 string bytes \
        google kind result value key items entries f0 ok err";
    for keyword in keywords.split(' ') {
        let is_wit = ["option", "map", "string", "enum", "result"].contains(&keyword);
        let name = if is_wit { "other" } else { keyword };
        pool(&schema(&read(&format!(
            r#"{{"interface": "{keyword}:{keyword}/{keyword}@1.0.0",
                "types": {{
                    "{name}": {{"record": [{{"name": "{keyword}", "type": "map<string, list<u16>>"}}, {{"name": "a", "type": "option<{name}-set>"}}]}},
                    "{name}-set": {{"flags": ["{keyword}", "a"]}},
                    "{name}-kind": {{"variant": [{{"name": "{keyword}", "type": "{name}"}}, {{"name": "a"}}]}}
                }},
                "functions": [{{"name": "{keyword}", "params": [{{"name": "{keyword}", "type": "option<{name}-kind>"}}], "result": "option<option<char>>"}}]}}"#
        ))));
    }
}

#[test]
fn messages_in_each_other_have_a_limit() {
    let nested = |depth: usize| {
        let types: Vec<_> = (0..depth)
            .map(|at| format!(r#""t{at}": {{"record": [{{"name": "x", "type": "list<list<t{}>>"}}]}}"#, at + 1))
            .collect();
        let types = types.join(",");
        let json = format!(
            r#"{{"interface": "a:b/c@1.0.0", "functions": [], "types": {{{types}, "t{depth}": {{"enum": ["x"]}}}}}}"#
        );
        ProtoSchema::new(&read(&json)).map(|_| ())
    };
    assert_eq!(nested(32), Ok(()));
    let error = nested(33).expect_err("too deep").to_string();
    expect!["message `T0` is nested too deep: more than 64 messages"].assert_eq(&error);
}
