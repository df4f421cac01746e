//! W3C trace context: which span of whose trace a call is made in. As text it is a `traceparent`.
//!
//! Not here: spans themselves (`span.rs`).

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// The span a call is made in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace. Never all zero.
    pub trace_id: [u8; 16],
    /// The span in it. Never all zero.
    pub span_id: [u8; 8],
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// Length of a `traceparent` of version 00.
const LEN: usize = 55;

/// A context as text.
#[derive(Clone, Copy)]
pub struct TraceText([u8; LEN]);

impl TraceContext {
    /// Reads a `traceparent`. None if it is not valid: then there is no context. Of a later version, what this one
    /// knows is read.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LEN)?;
        if [known[2], known[35], known[52]] != [b'-'; 3] {
            return None;
        }
        let [version] = hex(&known[..2])?;
        // 255 is forbidden; the first version has nothing behind it.
        let fits = version != 0xff && (rest.is_empty() || (version > 0 && rest[0] == b'-'));
        let (trace_id, span_id, [flags]) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
        let names = trace_id != [0; 16] && span_id != [0; 8];
        (fits && names).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// It as text, without an allocation.
    pub fn text(&self) -> TraceText {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id, &mut text[3..35]);
        write_hex(&self.span_id, &mut text[36..52]);
        text[54] = if self.sampled { b'1' } else { b'0' };
        TraceText(text)
    }
}

impl Deref for TraceText {
    type Target = str;

    fn deref(&self) -> &str {
        // Digits and dashes.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a `traceparent`")]
pub struct NoTraceContext;

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        Self::parse(text.as_bytes()).ok_or(NoTraceContext)
    }
}

pub(crate) fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    // Capital letters are not allowed.
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

pub(crate) fn write_hex(bytes: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(to.as_chunks_mut::<2>().0) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_and_written() {
        let context: TraceContext = TEXT.parse().expect("a context");
        assert_eq!((context.trace_id[0], context.span_id[7], context.sampled), (0x4b, 0xb7, true));
        assert_eq!(context.to_string(), TEXT);
        let unsampled = TEXT.replace("-01", "-00");
        assert_eq!(unsampled.parse::<TraceContext>().map(|context| context.to_string()), Ok(unsampled));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        assert!(TraceContext::parse(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more").is_some());
    }

    #[test]
    fn what_is_not_valid_is_no_context() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
    }
}
