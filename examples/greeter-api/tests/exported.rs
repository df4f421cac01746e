//! What plugins in other languages are built from is what the trait says. `UPDATE_EXPECT=1` writes it.

use expect_test::expect_file;
use greeter_api::Greeter;
use jackfield_plugin::protocol::call::Described as _;
use jackfield_plugin::protocol::export;

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
