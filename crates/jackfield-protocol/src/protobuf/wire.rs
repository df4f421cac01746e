//! Protobuf's bytes: varints, tags and the four kinds of values, written and read without a schema.
//!
//! A field is a tag (number and kind) and a value. What reads them reserves nothing, and ends where the bytes
//! do.

/// Kind of a value on the wire, as its tag has it.
pub(super) mod kind {
    pub(in crate::protobuf) const VARINT: u8 = 0;
    pub(in crate::protobuf) const FIXED64: u8 = 1;
    pub(in crate::protobuf) const LEN: u8 = 2;
    pub(super) const GROUP: u8 = 3;
    pub(super) const GROUP_END: u8 = 4;
    pub(in crate::protobuf) const FIXED32: u8 = 5;
}

/// A value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Len(&'a [u8]),
    /// A group, which nobody writes any more. It was passed over.
    Group,
}

impl Wire<'_> {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Wire::Varint(_) => "a varint",
            Wire::Fixed64(_) => "eight bytes",
            Wire::Fixed32(_) => "four bytes",
            Wire::Len(_) => "bytes with a length",
            Wire::Group => "a group",
        }
    }
}

/// Groups in each other that are passed over.
const GROUPS_MAX: usize = 64;

const ENDS: &str = "it ends within a field";

/// Takes the next field off `rest`: its number and value. The error says what is there in place of one.
pub(super) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Wire<'a>)>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (number, kind) = tag(rest)?;
    let wire = match kind {
        kind::GROUP => skip_group(rest, number)?,
        kind::GROUP_END => return Err(format!("group {number} ends and never began")),
        kind => value(rest, kind)?,
    };
    Ok(Some((number, wire)))
}

/// Takes a value of the kind that its tag says.
pub(super) fn value<'a>(rest: &mut &'a [u8], kind: u8) -> Result<Wire<'a>, String> {
    Ok(match kind {
        kind::VARINT => Wire::Varint(varint(rest)?),
        kind::FIXED64 => Wire::Fixed64(u64::from_le_bytes(array(rest)?)),
        kind::FIXED32 => Wire::Fixed32(u32::from_le_bytes(array(rest)?)),
        kind::LEN => {
            let length = varint(rest)?;
            let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
            let (content, after) = rest.split_at(length.ok_or(ENDS)?);
            *rest = after;
            Wire::Len(content)
        }
        other => return Err(format!("there is no wire type {other}")),
    })
}

fn tag(rest: &mut &[u8]) -> Result<(u32, u8), String> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| format!("there is no field number {}", tag >> 3))?;
    Ok((number, (tag & 7) as u8))
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(ENDS)?;
        *rest = after;
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a varint has more than 64 bits".to_owned())
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (bytes, after) = rest.split_first_chunk().ok_or(ENDS)?;
    *rest = after;
    Ok(*bytes)
}

fn skip_group<'a>(rest: &mut &'a [u8], number: u32) -> Result<Wire<'a>, String> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        match tag(rest)? {
            (number, kind::GROUP) if open.len() < GROUPS_MAX => open.push(number),
            (_, kind::GROUP) => return Err(format!("more than {GROUPS_MAX} groups are in each other")),
            (number, kind::GROUP_END) if number == *innermost => {
                open.pop();
            }
            (number, kind::GROUP_END) => return Err(format!("group {number} ends within group {innermost}")),
            (_, kind) => {
                value(rest, kind)?;
            }
        }
    }
    Ok(Wire::Group)
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, kind: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(kind));
}

/// A field of bytes, a string or a message that is there whole.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_tag(out, number, kind::LEN);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Begins a field whose length is known at its end; gives where its content begins.
pub(super) fn open(out: &mut Vec<u8>, number: u32) -> usize {
    put_tag(out, number, kind::LEN);
    out.push(0);
    out.len()
}

/// Ends the field that began at `content`: writes its length before it. What is longer than 127 bytes moves
/// by a few.
pub(super) fn close(out: &mut Vec<u8>, content: usize) {
    let end = out.len();
    let length = end - content;
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out[content - 1] = short;
        return;
    }
    let mut written = Vec::with_capacity(10);
    put_varint(&mut written, length as u64);
    let more = written.len() - 1;
    out.resize(end + more, 0);
    out.copy_within(content..end, content + more);
    out[content - 1..content + more].copy_from_slice(&written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, String> {
        let mut found = Vec::new();
        while let Some(field) = next(&mut bytes)? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn a_length_stands_before_its_content_however_long_it_is() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 100_000] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut out = b"\x08\x01".to_vec();
            let at = open(&mut out, 2);
            out.extend_from_slice(&content);
            close(&mut out, at);
            put_bytes(&mut out, 3, &content);
            let expected = vec![(1, Wire::Varint(1)), (2, Wire::Len(&content)), (3, Wire::Len(&content))];
            assert_eq!(all(&out), Ok(expected), "{length}");
        }
    }

    #[test]
    fn a_varint_has_64_bits_and_no_more() {
        for value in [0, 1, 127, 128, 1 << 35, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(varint(&mut &*out), Ok(value));
        }
        assert!(varint(&mut &[0xff; 10][..]).is_err());
        assert!(varint(&mut &[0xff; 9][..]).is_err());
    }

    #[test]
    fn a_group_is_passed_over_and_what_is_no_field_is_refused() {
        assert_eq!(all(b"\x0b\x10\x01\x13\x14\x0c\x18\x02"), Ok(vec![(1, Wire::Group), (3, Wire::Varint(2))]));
        for (bytes, reason) in [
            (&b"\x0b\x10\x01"[..], "ends within a field"),
            (b"\x0b\x14", "group 2 ends within group 1"),
            (b"\x0c", "never began"),
            (b"\x00\x00", "no field number 0"),
            (b"\x0e", "no wire type 6"),
            (b"\x0a\x05abc", "ends within a field"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends within a field"),
            (&[0x0b; 100], "groups"),
        ] {
            let error = all(bytes).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }
}
