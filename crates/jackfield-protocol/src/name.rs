//! Names: of interfaces (`demo:greeter/greeter@1.2.0`), capabilities (`batch@2`) and their parts.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

/// Name and version of an interface, as in WIT: `namespace:package/interface@major.minor.patch`.
///
/// ```
/// let id: jackfield_protocol::InterfaceId = "demo:greeter/greeter@1.2.0".parse()?;
/// assert_eq!(id.name, "greeter");
/// assert_eq!(id.to_string(), "demo:greeter/greeter@1.2.0");
/// # Ok::<(), jackfield_protocol::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InterfaceId {
    /// `demo:greeter`: namespace and package.
    pub package: String,
    /// `greeter`: the interface within its package; also the prefix of its methods.
    pub name: String,
    /// Semantic version of the interface.
    pub version: Version,
}

impl InterfaceId {
    /// `demo:greeter/greeter`, without the version.
    pub fn unversioned(&self) -> String {
        format!("{}/{}", self.package, self.name)
    }

    /// Whether both name the same interface, whatever the version.
    pub fn same_name(&self, other: &Self) -> bool {
        self.package == other.package && self.name == other.name
    }

    /// Whether the versions promise to understand each other: equal majors, or equal minors below 1.0.
    pub fn same_major(&self, other: &Self) -> bool {
        let line = |version: &Version| match version.major {
            0 => (0, version.minor),
            major => (major, 0),
        };
        line(&self.version) == line(&other.version)
    }
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.package, self.name, self.version)
    }
}

impl FromStr for InterfaceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |what| NameError::new(text, what);
        let (path, version) = text
            .split_once('@')
            .ok_or_else(|| wrong("an interface wants a version: `namespace:package/name@1.0.0`"))?;
        let (package, name) = path
            .split_once('/')
            .ok_or_else(|| wrong("an interface wants a package: `namespace:package/name@1.0.0`"))?;
        let (namespace, short) =
            package.split_once(':').ok_or_else(|| wrong("a package wants a namespace: `namespace:package`"))?;
        if ![namespace, short, name].iter().all(|part| is_kebab(part)) {
            return Err(wrong("each part is kebab-case: lower-case words joined by `-`"));
        }
        let version = Version::parse(version).map_err(|_| wrong("the version is not semantic: `1.0.0`"))?;
        Ok(Self { package: package.to_owned(), name: name.to_owned(), version })
    }
}

/// A named, versioned promise of a plugin: `batch@2`.
///
/// ```
/// use jackfield_protocol::Capability;
/// let offered: Capability = "batch@2".parse()?;
/// let wanted: Capability = "batch@1".parse()?;
/// assert!(offered.satisfies(&wanted));
/// # Ok::<(), jackfield_protocol::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Capability {
    /// Kebab-case name.
    pub name: String,
    /// Version, from 1. A higher one includes the lower ones.
    pub version: u32,
}

impl Capability {
    /// Whether a plugin that offers `self` gives what `wanted` asks: same name, same or later version.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.name == wanted.name && self.version >= wanted.version
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for Capability {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::new(text, "a capability is `name@version`, the version from 1");
        let (name, version) = text.split_once('@').ok_or_else(wrong)?;
        let version: u32 = version.parse().map_err(|_| wrong())?;
        if !is_kebab(name) || version == 0 {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), version })
    }
}

/// A name that does not have the form it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a name: {what}")]
pub struct NameError {
    name: String,
    what: &'static str,
}

impl NameError {
    pub(crate) fn new(name: &str, what: &'static str) -> Self {
        Self { name: name.to_owned(), what }
    }
}

macro_rules! as_string {
    ($($name:ty),*) => {$(
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
    )*};
}
as_string!(InterfaceId, Capability);

/// Whether `name` is a WIT label: lower-case words of letters and digits, joined by single `-`,
/// each word starting with a letter.
pub const fn is_kebab(name: &str) -> bool {
    is_kebab_bytes(name.as_bytes())
}

const fn is_kebab_bytes(name: &[u8]) -> bool {
    let (mut at, mut word_starts) = (0, true);
    while at < name.len() {
        match (name[at], word_starts) {
            (b'a'..=b'z', _) => word_starts = false,
            (b'0'..=b'9', false) => {}
            (b'-', false) => word_starts = true,
            _ => return false,
        }
        at += 1;
    }
    !word_starts
}

/// Fails the build when `text` is not `namespace:package/name@version`. Used by generated code;
/// the version is checked in full when the interface describes itself.
#[doc(hidden)]
pub const fn assert_interface_id(text: &str) {
    let (namespace, rest) = split(text.as_bytes(), b':');
    let (package, rest) = split(rest, b'/');
    let (name, version) = split(rest, b'@');
    let named = is_kebab_bytes(namespace) && is_kebab_bytes(package) && is_kebab_bytes(name);
    assert!(
        named && !version.is_empty() && version[0].is_ascii_digit(),
        "an interface is called `namespace:package/name@1.0.0`, each name in kebab-case"
    );
}

/// Fails the build when `text` is not `name@version`. Used by generated code.
#[doc(hidden)]
pub const fn assert_capability(text: &str) {
    let (name, version) = split(text.as_bytes(), b'@');
    let mut at = 0;
    while at < version.len() {
        assert!(version[at].is_ascii_digit(), "the version of a capability is a number");
        at += 1;
    }
    assert!(
        is_kebab_bytes(name) && !version.is_empty() && version[0] != b'0',
        "a capability is `name@version`: the name in kebab-case, the version from 1"
    );
}

/// What stands before and after the first `mark`; nothing after when there is none.
const fn split(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let mut at = 0;
    while at < text.len() {
        if text[at] == mark {
            let (before, after) = text.split_at(at);
            return (before, after.split_at(1).1);
        }
        at += 1;
    }
    (text, &[])
}

/// Whether `written` is the kebab-case `name`, in any of the spellings accepted from plugins:
/// `first-name`, `first_name`, `firstName`. Allocates nothing.
pub(crate) fn spells(written: &str, name: &str) -> bool {
    if written == name {
        return true;
    }
    let mut letters = written.chars().peekable();
    let mut camel = false;
    let mut snake = false;
    let mut expected = name.chars();
    while let Some(want) = expected.next() {
        if want != '-' {
            if letters.next() != Some(want) {
                return false;
            }
            continue;
        }
        match letters.peek() {
            Some('_') => {
                snake = true;
                letters.next();
            }
            Some(upper) if upper.is_ascii_uppercase() => {
                camel = true;
                let next = expected.next().map(|c| c.to_ascii_uppercase());
                if letters.next() != next {
                    return false;
                }
            }
            _ => return false,
        }
    }
    letters.next().is_none() && !(camel && snake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_any_spelling_is_recognised_and_no_other() {
        for (written, name, same) in [
            ("first-name", "first-name", true),
            ("first_name", "first-name", true),
            ("firstName", "first-name", true),
            ("firstname", "first-name", false),
            ("FirstName", "first-name", false),
            ("first-Name", "first-name", false),
            ("first_name_", "first-name", false),
            ("a_bC", "a-b-c", false),
        ] {
            assert_eq!(spells(written, name), same, "{written} as {name}");
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_missing() {
        for (text, reason) in [
            ("greeter", "wants a version"),
            ("greeter@1.0.0", "wants a package"),
            ("demo/greeter@1.0.0", "wants a namespace"),
            ("Demo:greeter/greeter@1.0.0", "kebab-case"),
            ("demo:greeter/greeter@1", "not semantic"),
        ] {
            let error = text.parse::<InterfaceId>().expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        }
        for text in ["batch", "batch@0", "batch@x", "Batch@1", "@1"] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }

    #[test]
    fn below_one_the_minor_is_the_line_of_compatibility() {
        let id = |version: &str| -> InterfaceId { format!("a:b/c@{version}").parse().expect("id") };
        assert!(id("1.0.0").same_major(&id("1.7.2")));
        assert!(!id("1.0.0").same_major(&id("2.0.0")));
        assert!(id("0.3.0").same_major(&id("0.3.9")));
        assert!(!id("0.3.0").same_major(&id("0.4.0")));
    }
}
