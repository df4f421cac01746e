//! What a component says of itself: the custom section `jackfield:about`, which `jackfield pack` writes.
//!
//! It holds the answer to `hello` of the process protocol: name, version, capabilities, and descriptions
//! with documentation and maps, none of which a component's own types can say.

use jackfield_protocol::PROTOCOL;
use jackfield_protocol::message::HelloAnswer;

/// Name of the section.
pub(super) const SECTION: &str = "jackfield:about";

/// Reads the section of a component, if it has one.
pub(super) fn read(bytes: &[u8]) -> Result<Option<HelloAnswer>, String> {
    let Some(section) = section(bytes) else { return Ok(None) };
    let answer: HelloAnswer = serde_json::from_slice(section)
        .map_err(|error| format!("its section `{SECTION}` is not a plugin's description of itself: {error}"))?;
    if answer.protocol.major != PROTOCOL.major {
        let plugin = answer.protocol;
        return Err(format!("its section `{SECTION}` is of protocol {plugin}, this host speaks {PROTOCOL}"));
    }
    Ok(Some(answer))
}

/// The custom section of our name at the top of the component. What is inside of others is theirs.
///
/// The bytes have been validated by then; where they end in the middle of something, there is no section.
fn section(bytes: &[u8]) -> Option<&[u8]> {
    const CUSTOM: u8 = 0;
    let mut rest = bytes.get(8..)?;
    while let [id, after @ ..] = rest {
        let (length, after) = length(after)?;
        let (content, after) = after.split_at_checked(length)?;
        if *id == CUSTOM {
            let (length, content) = self::length(content)?;
            let (name, data) = content.split_at_checked(length)?;
            if name == SECTION.as_bytes() {
                return Some(data);
            }
        }
        rest = after;
    }
    None
}

/// A length as WebAssembly writes it: seven bits a byte, the lowest first, at most 32 of them.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let length = u32::try_from(length).ok()?;
            return Some((usize::try_from(length).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(sections: &[(u8, &[u8])], cut: usize, expected: Expect) {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for (id, content) in sections {
            let length = content.len();
            bytes.extend([*id, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
            bytes.extend_from_slice(content);
        }
        bytes.truncate(bytes.len() - cut);
        expected.assert_eq(&match read(&bytes) {
            Ok(None) => "no section".to_owned(),
            Ok(Some(answer)) => format!("{} {}", answer.plugin.name, answer.plugin.version),
            Err(error) => error,
        });
    }

    #[test]
    fn the_section_is_found_among_others_and_only_at_the_top() {
        let ours = b"\x0fjackfield:about{\"protocol\":\"1.0\",\"plugin\":{\"name\":\"x\"},\"interfaces\":[]}";
        check(&[(0, b"\x04name"), (0, ours), (0, b"\x01x")], 0, expect!["x 0.0.0"]);
        check(&[(1, ours), (4, ours)], 0, expect!["no section"]);
        check(&[(0, ours)], 1, expect!["no section"]);
        check(&[(0, b"\x7fjackfield:about")], 0, expect!["no section"]);
        check(&[], 8, expect!["no section"]);
    }

    #[test]
    fn a_section_that_is_no_description_is_refused() {
        check(
            &[(0, b"\x0fjackfield:about{}")],
            0,
            expect![
                "its section `jackfield:about` is not a plugin's description of itself: missing field `protocol` at line 1 column 2"
            ],
        );
        check(
            &[(0, b"\x0fjackfield:about{\"protocol\":\"2.0\",\"plugin\":{\"name\":\"x\"},\"interfaces\":[]}")],
            0,
            expect!["its section `jackfield:about` is of protocol 2.0, this host speaks 1.0"],
        );
    }
}
