//! Strings and bytes as [`Encoding::Binary`](crate::Encoding::Binary) writes them: a length, then the content.
//!
//! Not here: every other value, which postcard writes and reads.

use std::ops::Deref;

/// Most bytes that a length has: so many times seven bits hold one of 64.
const LENGTH_BYTES_MAX: usize = 10;

/// Bytes of a length that are read here. Longer ones are those of 256 MiB and more.
const LENGTH_BYTES_READ: usize = 4;

/// Most bytes that are copied piece by piece.
const SHORT_BYTES: usize = 64;

/// A length, as it is written: in pieces of seven bits, the lowest first.
pub(crate) struct Length {
    bytes: [u8; LENGTH_BYTES_MAX],
    used: usize,
}

impl Length {
    #[inline]
    pub(crate) fn of(mut len: usize) -> Self {
        let (mut bytes, mut used) = ([0; LENGTH_BYTES_MAX], 0);
        while len >= 0x80 {
            bytes[used] = len.to_le_bytes()[0] | 0x80;
            used += 1;
            len >>= 7;
        }
        bytes[used] = len.to_le_bytes()[0];
        Self { bytes, used: used + 1 }
    }
}

impl Deref for Length {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// Appends a string or bytes.
#[inline]
pub(crate) fn write(content: &[u8], out: &mut Vec<u8>) {
    let length = Length::of(content.len());
    out.reserve(length.len() + content.len());
    append(&length, out);
    append(content, out);
}

/// A copy of these bytes.
#[inline]
pub(crate) fn owned(bytes: &[u8]) -> Vec<u8> {
    let mut owned = Vec::with_capacity(bytes.len());
    append(bytes, &mut owned);
    owned
}

/// Appends bytes. In WebAssembly a copy of a length that is not known when it is compiled is an instruction that its
/// runtime makes a call of, which takes longer than to copy a few bytes.
#[inline]
fn append(bytes: &[u8], out: &mut Vec<u8>) {
    if cfg!(target_family = "wasm") && bytes.len() <= SHORT_BYTES {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| out.extend_from_slice(word));
        rest.iter().for_each(|byte| out.push(*byte));
    } else {
        out.extend_from_slice(bytes);
    }
}

/// The content that fills `bytes` exactly, with its length before it. None if it does not, or is very long:
/// whoever reads all values knows what to say or do then.
#[inline]
pub(crate) fn content(bytes: &[u8]) -> Option<&[u8]> {
    let mut len = 0;
    for (at, byte) in bytes.iter().enumerate().take(LENGTH_BYTES_READ) {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let content = &bytes[at + 1..];
            return (content.len() == len).then_some(content);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::Encoding;

    #[test]
    fn what_does_not_fill_its_place_is_left_to_serde_which_says_why() {
        let read = |bytes: &[u8]| Encoding::Binary.decode::<String>(bytes).map_err(|error| error.to_string());
        assert_eq!(read(b"\x03Ada"), Ok("Ada".to_owned()));
        assert_eq!(read(b"\x03Ada!"), Err("1 bytes follow the value".to_owned()));
        for wrong in [&b""[..], b"\x04Ada", b"\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\xff"] {
            assert_eq!(content(wrong).filter(|content| str::from_utf8(content).is_ok()), None);
            assert!(read(wrong).is_err_and(|what| !what.is_empty()));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_here_is_what_postcard_writes(text in ".{0,300}", bytes: Vec<u8>) {
            let mut written = Vec::new();
            write(text.as_bytes(), &mut written);
            prop_assert_eq!(&written, &postcard::to_allocvec(&text).expect("a string"));
            prop_assert_eq!(content(&written), Some(text.as_bytes()));
            prop_assert_eq!(postcard::from_bytes::<String>(&written), Ok(text));
            written.clear();
            write(&bytes, &mut written);
            prop_assert_eq!(content(&written), Some(&*bytes));
        }

        #[test]
        fn what_is_read_here_is_what_postcard_reads(bytes in proptest::collection::vec(0_u8..6, 0..8)) {
            let by_postcard = postcard::take_from_bytes::<String>(&bytes).ok().filter(|(_, rest)| rest.is_empty());
            let here = content(&bytes).and_then(|content| str::from_utf8(content).ok());
            prop_assert_eq!(here, by_postcard.as_ref().map(|(text, _)| &**text));
        }
    }
}
