//! Splits what comes from a pipe into lines and binary frames, within bounds.
//!
//! A frame starts with the byte `0xF5`, which no UTF-8 text contains, so frames and lines share a
//! pipe. Frames carry calls and answers in the binary encoding; everything else stays a line. A
//! piece longer than the bound is passed over, not kept, and reported with its head.
//!
//! Not here: reading. The host feeds it from tokio, the SDK from a blocking read.

use memchr::memchr;

use crate::encoding::Encoding;
use crate::trace::TraceContext;

/// First byte of a frame.
pub const MAGIC: u8 = 0xF5;

/// Bytes of a frame before its body.
pub const HEADER_LEN: usize = 24;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host → plugin: a call; the body is the arguments.
    Call = 1,
    /// Plugin → host: a success; the body is the value.
    Answer = 2,
    /// Plugin → host: the plugin's own error; the body is its value.
    OwnError = 3,
}

/// The head of a frame, all integers little-endian:
///
/// | bytes | field |
/// |---|---|
/// | 0 | `0xF5` |
/// | 1 | kind: 1 call, 2 answer, 3 the plugin's own error |
/// | 2–3 | interface, position in the plugin's `hello`; 0 in answers |
/// | 4–5 | function, position in the description; 0 in answers |
/// | 6–7 | length of the trace context that precedes the body |
/// | 8–15 | id |
/// | 16–19 | milliseconds left for the call; 0 is no deadline |
/// | 20–23 | length of the body |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The interface called.
    pub interface: u16,
    /// The function called.
    pub function: u16,
    /// Length of the trace context that precedes the body.
    pub trace_len: u16,
    /// The caller's number.
    pub id: u64,
    /// Milliseconds that are left for the call; 0 is no deadline.
    pub deadline_ms: u32,
    /// Length of the body.
    pub body_len: u32,
}

impl Header {
    /// A head for an answer.
    pub fn answer(kind: Kind, id: u64, body_len: u32) -> Self {
        Self { kind, interface: 0, function: 0, trace_len: 0, id, deadline_ms: 0, body_len }
    }

    /// Writes it.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = MAGIC;
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.interface.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.function.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.trace_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.deadline_ms.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_len.to_le_bytes());
        bytes
    }

    /// Reads it; none if the kind is unknown.
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let kind = match bytes[1] {
            1 => Kind::Call,
            2 => Kind::Answer,
            3 => Kind::OwnError,
            _ => return None,
        };
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        Some(Self {
            kind,
            interface: u16_at(2),
            function: u16_at(4),
            trace_len: u16_at(6),
            id: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            deadline_ms: u32_at(16),
            body_len: u32_at(20),
        })
    }

    /// The encoding of every body.
    pub const ENCODING: Encoding = Encoding::Binary;
}

/// The trace context of a frame: a `traceparent`, and its `tracestate` on a second line, which only goes to a plugin that
/// offered [`SPANS`](crate::message::feature::SPANS).
pub fn split_trace(trace: &[u8]) -> (Option<TraceContext>, &str) {
    let (context, state) = match trace.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&trace[..end], &trace[end + 1..]),
        None => (trace, &[][..]),
    };
    (TraceContext::parse(context), std::str::from_utf8(state).unwrap_or_default())
}

/// Something complete that came from the pipe.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// A frame.
    Frame {
        /// Its head.
        header: Header,
        /// W3C `traceparent`, or empty. See [`split_trace`].
        trace: &'a [u8],
        /// Its body.
        body: &'a [u8],
    },
    /// Something that was longer than the bound and was passed over.
    TooLong {
        /// The first bytes of a line, or the header of a frame.
        head: Vec<u8>,
        /// How long it was.
        bytes: u64,
    },
    /// A frame of a kind unknown here. What follows cannot be trusted; nothing more comes.
    Broken,
}

/// Bytes kept of a piece that is passed over: enough for its id.
const HEAD_LEN: usize = 256;

enum Mode {
    /// Between pieces, or within one that still fits.
    Reading,
    /// Within a line that is too long.
    PassingLine { head: Vec<u8>, bytes: u64 },
    /// Within a frame that is too long.
    PassingFrame { head: Vec<u8>, bytes: u64, left: u64 },
    /// Given up.
    Broken,
}

/// Collects bytes and gives pieces.
pub struct Splitter {
    buffer: Vec<u8>,
    start: usize,
    scanned: usize,
    bytes_max: usize,
    mode: Mode,
}

impl Splitter {
    /// Keeps at most `bytes_max` bytes of a piece.
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, bytes_max, mode: Mode::Reading }
    }

    /// Takes bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.room().extend_from_slice(bytes);
    }

    /// The buffer to append to: what a read fills directly. Only append.
    pub fn room(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            if self.start == self.buffer.len() {
                self.buffer.clear();
            } else {
                self.buffer.drain(..self.start);
            }
            self.scanned -= self.start;
            self.start = 0;
        }
        &mut self.buffer
    }

    /// The next complete piece, if there is one.
    pub fn next_piece(&mut self) -> Option<Piece<'_>> {
        match std::mem::replace(&mut self.mode, Mode::Reading) {
            Mode::Reading => {}
            Mode::Broken => {
                self.mode = Mode::Broken;
                self.consume(self.buffer.len());
                return None;
            }
            Mode::PassingLine { head, bytes } => return self.pass_line(head, bytes),
            Mode::PassingFrame { head, bytes, left } => return self.pass_frame(head, bytes, left),
        }
        if *self.buffer.get(self.start)? == MAGIC { self.frame() } else { self.line() }
    }

    /// What has arrived of a piece that is not complete; at the end of the stream it never will be.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn line(&mut self) -> Option<Piece<'_>> {
        let Some(found) = memchr(b'\n', &self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            if self.buffer.len() - self.start <= self.bytes_max {
                return None;
            }
            let head = self.head();
            return self.pass_line(head, 0);
        };
        let (start, end) = (self.start, self.scanned + found);
        if end - start > self.bytes_max {
            let head = self.head();
            self.consume(end + 1 - start);
            return Some(Piece::TooLong { head, bytes: (end - start) as u64 });
        }
        self.start = end + 1;
        self.scanned = end + 1;
        let line = &self.buffer[start..end];
        Some(Piece::Line(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    fn frame(&mut self) -> Option<Piece<'_>> {
        let start = self.start;
        let head: &[u8; HEADER_LEN] = self.buffer[start..].first_chunk()?;
        let Some(header) = Header::from_bytes(head) else {
            self.mode = Mode::Broken;
            return Some(Piece::Broken);
        };
        let content = u64::from(header.trace_len) + u64::from(header.body_len);
        if content > self.bytes_max as u64 {
            let head = head.to_vec();
            self.consume(HEADER_LEN);
            return self.pass_frame(head, content, content);
        }
        let trace_end = start + HEADER_LEN + usize::from(header.trace_len);
        let end = trace_end + header.body_len as usize;
        if self.buffer.len() < end {
            // The length is known and allowed: make the room once.
            self.buffer.reserve(end - self.buffer.len());
            return None;
        }
        self.start = end;
        self.scanned = end;
        let trace = &self.buffer[start + HEADER_LEN..trace_end];
        Some(Piece::Frame { header, trace, body: &self.buffer[trace_end..end] })
    }

    fn pass_line(&mut self, head: Vec<u8>, passed: u64) -> Option<Piece<'_>> {
        let rest = &self.buffer[self.start..];
        match memchr(b'\n', rest) {
            Some(end) => {
                self.consume(end + 1);
                Some(Piece::TooLong { head, bytes: passed + end as u64 })
            }
            None => {
                let bytes = passed + rest.len() as u64;
                self.consume(rest.len());
                self.mode = Mode::PassingLine { head, bytes };
                None
            }
        }
    }

    fn pass_frame(&mut self, head: Vec<u8>, bytes: u64, left: u64) -> Option<Piece<'_>> {
        let here = (self.buffer.len() - self.start) as u64;
        if here < left {
            self.consume(self.buffer.len() - self.start);
            self.mode = Mode::PassingFrame { head, bytes, left: left - here };
            return None;
        }
        self.consume(usize::try_from(left).unwrap_or(usize::MAX));
        Some(Piece::TooLong { head, bytes })
    }

    fn head(&self) -> Vec<u8> {
        let end = self.buffer.len().min(self.start + HEAD_LEN);
        self.buffer[self.start..end].to_vec()
    }

    fn consume(&mut self, bytes: usize) {
        self.start = self.buffer.len().min(self.start + bytes);
        self.scanned = self.start;
    }
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splitter").field("waiting", &self.rest().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(bytes_max: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::new(bytes_max);
        let mut seen = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk);
            while let Some(piece) = splitter.next_piece() {
                seen.push(match piece {
                    Piece::Line(line) => format!("line {}", String::from_utf8_lossy(line)),
                    Piece::Frame { header, body, .. } => format!("frame {} {body:?}", header.id),
                    Piece::TooLong { bytes, .. } => format!("too long {bytes}"),
                    Piece::Broken => "broken".to_owned(),
                });
            }
        }
        seen
    }

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).expect("short");
        [&Header::answer(Kind::Answer, id, len).to_bytes(), body].concat()
    }

    #[test]
    fn lines_and_frames_share_a_pipe_however_they_are_cut() {
        let stream = [b"one\r\n".to_vec(), frame(7, b"\n\xF5"), b"\ntwo\n".to_vec()].concat();
        let whole = ["line one", "frame 7 [10, 245]", "line ", "line two"];
        assert_eq!(pieces(100, &[&stream]), whole);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(pieces(100, &bytes), whole);
    }

    #[test]
    fn what_is_too_long_is_passed_over_and_what_follows_is_read() {
        let stream = [vec![b'x'; 50], b"\nok\n".to_vec(), frame(1, &[0; 50]), b"end\n".to_vec()].concat();
        let expected = ["too long 50", "line ok", "too long 50", "line end"];
        assert_eq!(pieces(10, &[&stream]), expected);
        let bytes: Vec<&[u8]> = stream.chunks(3).collect();
        assert_eq!(pieces(10, &bytes), expected);
    }

    #[test]
    fn a_frame_of_an_unknown_kind_ends_the_stream() {
        let mut stream = frame(1, b"");
        stream[1] = 9;
        stream.extend_from_slice(b"line\n");
        assert_eq!(pieces(100, &[&stream, b"more\n"]), ["broken"]);
    }

    proptest! {
        #[test]
        fn memory_stays_bounded_whatever_comes(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..64)) {
            let mut splitter = Splitter::new(32);
            for chunk in chunks {
                splitter.feed(&chunk);
                while splitter.next_piece().is_some() {}
                prop_assert!(splitter.rest().len() <= 32 + HEADER_LEN + 64);
            }
        }
    }
}
