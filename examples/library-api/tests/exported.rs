//! What plugins in other languages are built from is what the trait says. `UPDATE_EXPECT=1` writes it.

use expect_test::expect_file;
use jackfield_plugin::protocol::call::Described as _;
use library_api::Library;

#[test]
fn the_description_is_that_of_the_trait() {
    let interface = <dyn Library>::interface().expect("an interface");
    let description = serde_json::to_string_pretty(interface).expect("JSON");
    expect_file!["../library.json"].assert_eq(&format!("{description}\n"));
}
