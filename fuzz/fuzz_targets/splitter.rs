//! Lines and frames from a pipe: the same pieces however the stream is cut, within bounded memory.

#![no_main]

use jackfield_protocol::frame::{HEADER_LEN, Splitter};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 64;

fn pieces(stream: &[u8], chunk: usize) -> Vec<String> {
    let mut splitter = Splitter::new(BYTES_MAX);
    let mut seen = Vec::new();
    for part in stream.chunks(chunk) {
        splitter.feed(part);
        while let Some(piece) = splitter.next_piece() {
            seen.push(match piece {
                // How much of a long line is kept as its head depends on how it came.
                jackfield_protocol::frame::Piece::TooLong { bytes, .. } => format!("too long: {bytes}"),
                other => format!("{other:?}"),
            });
        }
        assert!(splitter.rest().len() <= BYTES_MAX + HEADER_LEN + chunk);
    }
    seen
}

fuzz_target!(|input: &[u8]| {
    let Some((chunk, stream)) = input.split_first() else { return };
    assert_eq!(pieces(stream, 1), pieces(stream, usize::from(*chunk) + 1));
});
