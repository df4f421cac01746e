//! What plugins in other languages are built from is what the trait says. `UPDATE_EXPECT=1` writes it.

use expect_test::expect_file;
use greeter_api::Greeter;
use jackfield_plugin::protocol::call::Described as _;
use jackfield_plugin::protocol::export;
use jackfield_plugin::protocol::protobuf::{Lock, ProtoSchema};

#[test]
fn the_wit_is_that_of_the_trait() {
    let interface = <dyn Greeter>::interface().expect("an interface");
    expect_file!["../wit/greeter.wit"].assert_eq(&export::wit(interface).expect("WIT"));
}

#[test]
fn the_description_is_that_of_the_trait() {
    let interface = <dyn Greeter>::interface().expect("an interface");
    let description = serde_json::to_string_pretty(interface).expect("JSON");
    expect_file!["../greeter.json"].assert_eq(&format!("{description}\n"));
}

#[test]
fn the_proto_is_that_of_the_trait() {
    let interface = <dyn Greeter>::interface().expect("an interface");
    let locked = Lock::parse(include_str!("../greeter.proto.lock")).expect("a lock");
    let lock = locked.update(interface).expect("it comes further");
    expect_file!["../greeter.proto.lock"].assert_eq(&lock.to_string());
    let schema = ProtoSchema::with_lock(interface, &lock).expect("a schema");
    expect_file!["../greeter.proto"].assert_eq(&schema.text());
}
