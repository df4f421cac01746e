//! Every value comes back as it went, in both encodings; what is written with and without Rust types is
//! the same; and no bytes, whoever sends them, make a reader panic.

#[path = "../../../fixtures/api/arbitrary.rs"]
mod arbitrary;

use arbitrary::{animals, same};
use fixtures_api::zoo::{Animal, Zoo};
use jackfield_protocol::call::Described;
use jackfield_protocol::dynamic::{check_arguments, check_value};
use jackfield_protocol::frame::{Piece, Splitter};
use jackfield_protocol::message::{HelloAnswer, Message};
use jackfield_protocol::{Encoding, Interface, InterfaceId, TypeRef};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Binary];

fn interface() -> &'static Interface {
    <dyn Zoo>::interface().expect("an interface")
}

fn encoded(encoding: Encoding, animal: &Animal) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoding.encode(animal, &mut bytes).expect("every animal can be written");
    bytes
}

fn checked(value: &Value) -> Result<Value, String> {
    let animal = TypeRef::Named("animal".to_owned());
    check_value(interface(), &animal, value, "animal").map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_comes_back_as_it_went(animal in animals()) {
        for encoding in BOTH {
            let bytes = encoded(encoding, &animal);
            let back: Animal = encoding.decode(&bytes).expect("what was written can be read");
            prop_assert!(same(&animal, &back), "{encoding}: {animal:?} came back as {back:?}");
        }
    }

    #[test]
    fn json_is_one_line(animal in animals()) {
        prop_assert!(!encoded(Encoding::Json, &animal).contains(&b'\n'));
    }

    #[test]
    fn a_value_checked_without_its_type_is_written_as_with_it(animal in animals()) {
        let json: Value = serde_json::from_slice(&encoded(Encoding::Json, &animal)).expect("JSON");
        let canonical = checked(&json);
        prop_assert_eq!(canonical.as_ref(), Ok(&json), "what is canonical stays as it is");
        let back: Animal = Encoding::Json.decode(canonical.expect("checked").to_string().as_bytes()).expect("an animal");
        prop_assert!(same(&animal, &back), "{animal:?} came back as {back:?}");
    }

    #[test]
    fn a_number_that_javascript_would_change_is_a_string(number: u64) {
        let animal_json = |number: u64| {
            let mut bytes = Vec::new();
            Encoding::Json.encode(&number, &mut bytes).expect("written");
            String::from_utf8(bytes).expect("UTF-8")
        };
        prop_assert_eq!(animal_json(number).starts_with('"'), number > (1 << 53) - 1);
    }

    #[test]
    fn a_damaged_value_is_an_error_or_another_value(animal in animals(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        for encoding in BOTH {
            let whole = encoded(encoding, &animal);
            let mut bytes = whole.clone();
            let changed = at.index(bytes.len());
            bytes[changed] = byte;
            let _ = encoding.decode::<Animal>(&bytes);
            let short = &whole[..cut.index(whole.len())];
            prop_assert!(encoding.decode::<Animal>(short).is_err(), "{encoding}: a part is no animal");
            let longer = [&*whole, b"1"].concat();
            prop_assert!(encoding.decode::<Animal>(&longer).is_err(), "{encoding}: nothing may follow");
        }
        let mut json = encoded(Encoding::Json, &animal);
        let changed = at.index(json.len());
        json[changed] = byte;
        // With types and without, the same is accepted.
        if let Ok(value) = serde_json::from_slice::<Value>(&json) {
            let typed = Encoding::Json.decode::<Animal>(&json);
            let dynamic = checked(&value);
            prop_assert_eq!(typed.is_ok(), dynamic.is_ok(), "{:?} and {:?} of {}", typed, dynamic, value);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..300), text: String) {
        for encoding in BOTH {
            let _ = encoding.decode::<Animal>(&bytes);
            let _ = encoding.decode::<Vec<Vec<String>>>(&bytes);
            let _ = encoding.decode::<std::collections::BTreeMap<u64, Vec<u8>>>(&bytes);
        }
        let _ = Message::parse(&bytes);
        let _ = serde_json::from_slice::<HelloAnswer>(&bytes);
        let _ = Interface::from_json(&text);
        let _ = text.parse::<TypeRef>();
        let _ = text.parse::<InterfaceId>();
    }

    #[test]
    fn a_stream_is_split_alike_however_it_arrives(bytes in streams(), cuts in vec(1_usize..50, 0..40), bytes_max in 0_usize..80) {
        let whole = pieces(bytes_max, [&*bytes]);
        let mut rest = &*bytes;
        let mut parts = Vec::new();
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        prop_assert_eq!(whole, pieces(bytes_max, parts));
    }
}

/// What comes from a pipe: noise, lines, and frames whole and damaged.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let frame = vec(any::<u8>(), 0..40).prop_map(|body| {
        use jackfield_protocol::frame::{Header, Kind};
        let length = u32::try_from(body.len()).expect("short");
        [&Header::answer(Kind::Answer, 7, length).to_bytes()[..], &body].concat()
    });
    let line = vec(any::<u8>(), 0..40).prop_map(|mut line| {
        line.retain(|byte| *byte != b'\n');
        line.push(b'\n');
        line
    });
    let noise = vec(any::<u8>(), 0..20);
    vec(prop_oneof![4 => frame, 4 => line, 1 => noise], 0..10).prop_map(|parts| parts.concat())
}

fn pieces<'a>(bytes_max: usize, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut splitter = Splitter::new(bytes_max);
    let mut pieces = Vec::new();
    for part in parts {
        splitter.feed(part);
        while let Some(piece) = splitter.next_piece() {
            pieces.push(match piece {
                // How much of a piece that is passed over is kept as its head is nobody's promise.
                Piece::TooLong { bytes, .. } => format!("too long: {bytes}"),
                piece => format!("{piece:?}"),
            });
        }
    }
    pieces
}

/// The arguments of a call in the spellings that people write are those that Rust writes.
#[test]
fn arguments_without_types_are_those_with_them() {
    let (_, join) = interface().function("join").expect("a function");
    for written in [serde_json::json!({"left": "a", "count": 2, "right": "b"}), serde_json::json!(["a", 2, "b"])] {
        let checked = check_arguments(interface(), join, &written).expect("arguments");
        assert_eq!(checked, serde_json::json!({"left": "a", "count": 2, "right": "b"}));
    }
    let absent = check_arguments(interface(), join, &serde_json::json!({"left": "a", "count": 2})).expect("arguments");
    assert_eq!(absent["right"], Value::Null);
}

/// A plugin describes itself: what it says is checked before it is believed, and must not cost the stack.
#[test]
fn a_description_of_types_nested_without_end_is_refused() {
    let field = |to: &str| serde_json::json!({"record": [{"name": "next", "type": to}]});
    let mut types = serde_json::Map::new();
    for number in 0..100_000 {
        types.insert(format!("t{number}"), field(&format!("t{}", number + 1)));
    }
    types.insert("t100000".to_owned(), field("u8"));
    let interface = serde_json::json!({"interface": "t:t/t@1.0.0", "types": types, "functions": []});
    let error = Interface::from_json(&interface.to_string()).expect_err("too deep").to_string();
    assert!(error.contains("deep"), "{error}");
}
