//! Names as protobuf spells them. Each spelling keeps the words of a kebab-case name apart, so that two
//! names of an interface never become one.

use crate::name::InterfaceId;

/// `first-name` as `FirstName`.
pub(super) fn upper_camel(name: &str) -> String {
    name.split('-').map(capital).collect()
}

/// `first-name` as `first_name`.
pub(super) fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// `first-name` as `FIRST_NAME`.
pub(super) fn shouting(name: &str) -> String {
    snake(name).to_ascii_uppercase()
}

/// The name that protobuf's own JSON gives a field: `first_name` as `firstName`.
pub(super) fn json(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    first + &words.map(capital).collect::<String>()
}

/// The message that protobuf makes of a map field: `by_name` as `ByNameEntry`.
pub(super) fn entry(field: &str) -> String {
    field.split('_').map(capital).collect::<String>() + "Entry"
}

/// `demo:greeter/greeter@1.2.0` as `demo.greeter.v1`.
///
/// Each interface has a package of its own, since two that share one must not both define a type of some
/// name: where it is not called like its WIT package, its name comes behind. Below 1.0 the minor tells
/// what is compatible, so it is there, too.
pub(super) fn package(id: &InterfaceId) -> String {
    let (namespace, package) = id.package.split_once(':').unwrap_or(("", &id.package));
    let mut parts = vec![snake(namespace), snake(package)];
    if id.name != package {
        parts.push(snake(&id.name));
    }
    parts.push(match id.version.major {
        0 => format!("v0_{}", id.version.minor),
        major => format!("v{major}"),
    });
    parts.join(".")
}

fn capital(word: &str) -> String {
    let (head, tail) = word.split_at(word.len().min(1));
    head.to_ascii_uppercase() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_each_spelling() {
        let name = "a-first2-name";
        assert_eq!(upper_camel(name), "AFirst2Name");
        assert_eq!(shouting(name), "A_FIRST2_NAME");
        assert_eq!(json(&snake(name)), "aFirst2Name");
        assert_eq!(entry(&snake(name)), "AFirst2NameEntry");
    }

    #[test]
    fn an_interface_has_a_package_of_its_own() {
        for (id, expected) in [
            ("demo:greeter/greeter@1.2.0", "demo.greeter.v1"),
            ("my-co:zoo/zoo-keeper@2.0.0-rc.1", "my_co.zoo.zoo_keeper.v2"),
            ("test:zoo/counter@0.2.1", "test.zoo.counter.v0_2"),
        ] {
            assert_eq!(package(&id.parse().expect(id)), expected);
        }
    }
}
