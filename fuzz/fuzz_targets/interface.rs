//! A description that a plugin reports: what is accepted is canonical, and compares as equal to itself.

#![no_main]

use jackfield_protocol::{Comparison, Interface, compare};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let _ = json.parse::<jackfield_protocol::TypeRef>();
    let Ok(interface) = Interface::from_json(json) else { return };
    let again = Interface::from_json(&interface.canonical()).expect("the canonical form is a description");
    assert_eq!(interface.canonical(), again.canonical());
    assert_eq!(compare(&interface, &again, &[]), Comparison::Exact);
});
