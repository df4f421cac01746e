//! The first exchange: `jackfield/hello`, and what is wrong with a program that does not answer it.

use jackfield_protocol::frame::Piece;
use jackfield_protocol::message::{Hello, HelloAnswer, Message, Meta, feature, method, write_request};
use jackfield_protocol::{Encoding, PROTOCOL};
use tokio::time::timeout;

use super::lines::{Reader, Writer};
use super::{Output, StartError};
use crate::json_rpc::{self, Unbelieved};
use crate::log::PluginLog;
use crate::mechanism::{About, Spec};
use crate::program::{Child, PIPE_GRACE, Pipes, ended};

/// Id of the hello; calls have higher ones. Not 0, which is false in Python and JavaScript.
pub(super) const HELLO_ID: u64 = 1;

/// Bytes of stray output before `hello` is answered, after which the program is given up.
const NOISE_BYTES_MAX: u64 = 64 * 1024;
/// Beginning of stray output that the error shows.
const NOISE_SHOWN: usize = 400;
/// Lines of stderr that the error shows.
const STDERR_SHOWN: usize = 5;

/// Room for the envelope of a line around an answer of the largest size.
const ENVELOPE_BYTES: usize = 4096;

/// A program that answered.
pub(super) struct Greeted {
    pub(super) about: About,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// Whether it knows what spans are.
    pub(super) spans: bool,
}

/// Says hello and waits for the answer, within `start_timeout`.
pub(super) async fn exchange(spec: &Spec, pipes: Pipes, child: &Child, log: &PluginLog) -> Result<Greeted, StartError> {
    let answer_bytes_max = usize::try_from(spec.limits.answer_bytes_max).unwrap_or(usize::MAX);
    let mut reader = Reader::new(pipes.stdout, answer_bytes_max.saturating_add(ENVELOPE_BYTES));
    let writer = Writer::new(pipes.stdin);
    tokio::spawn(writer.clone().drive());
    let hello = Hello {
        protocol: PROTOCOL,
        host: crate::HOST.to_owned(),
        encodings: vec![Encoding::Json, Encoding::Binary],
        features: json_rpc::features(&[feature::FRAMES], log.recorder()),
    };
    let params = serde_json::to_vec(&hello).unwrap_or_default();
    let mut line = Vec::new();
    write_request(&mut line, HELLO_ID, method::HELLO, &params, &Meta::default());
    writer.send(&line, true);

    let mut noise = Noise::default();
    let waited = spec.limits.start_timeout;
    let answered = timeout(waited, wait_for_answer(&mut reader, child, log, &mut noise)).await;
    let output = || Output { stdout: noise.shown(), stderr: log.tail(STDERR_SHOWN) };
    let answer = match answered {
        Err(_) => return Err(StartError::NotReady { waited, output: output() }),
        Ok(Err(Silent::Exited)) => {
            let exit = child.ended_with_stderr().await;
            return Err(StartError::Exited { exit, output: output() });
        }
        Ok(Err(Silent::Closed)) => return Err(StartError::Closed { output: output() }),
        Ok(Err(Silent::Noise)) => return Err(StartError::Noise { bytes: noise.bytes, output: output() }),
        Ok(Err(Silent::Failed(error))) => return Err(error),
        Ok(Ok(answer)) => answer,
    };
    // Only frames carry the binary encoding.
    let binary = answer.encodings.contains(&Encoding::Binary);
    let offers = |feature: &str| answer.features.iter().any(|offered| offered == feature);
    let (frames, spans) = (offers(feature::FRAMES), offers(feature::SPANS));
    let about = json_rpc::believe(*answer, binary && frames).map_err(|unbelieved| match unbelieved {
        Unbelieved::Protocol { plugin, host } => StartError::Protocol { plugin, host },
        Unbelieved::Description(error) => StartError::Hello { what: error.to_string() },
    })?;
    Ok(Greeted { about, reader, writer, spans })
}

/// Why no answer came.
enum Silent {
    Exited,
    Closed,
    Noise,
    Failed(StartError),
}

async fn wait_for_answer(
    reader: &mut Reader,
    child: &Child,
    log: &PluginLog,
    noise: &mut Noise,
) -> Result<Box<HelloAnswer>, Silent> {
    let mut exit = child.exit_receiver();
    let mut exited = false;
    loop {
        while let Some(piece) = reader.next_piece() {
            match piece {
                Piece::Line(line) => match Message::parse(line) {
                    Ok(Message::Answer { id: HELLO_ID, result }) => {
                        let answer = serde_json::from_str(result.get());
                        return answer
                            .map(Box::new)
                            .map_err(|error| Silent::Failed(StartError::Hello { what: error.to_string() }));
                    }
                    Ok(Message::Error { id: Some(HELLO_ID), error }) => {
                        let message = error.message.into_owned();
                        return Err(Silent::Failed(StartError::Refused { code: error.code, message }));
                    }
                    _ => noise.heard(line, line.len() as u64 + 1, log),
                },
                Piece::Frame { header, .. } => noise.heard(b"(a frame)", u64::from(header.body_len), log),
                Piece::TooLong { head, bytes } => noise.heard(&head, bytes, log),
                Piece::Broken => return Err(Silent::Noise),
            }
        }
        // A line without an end is noise too, however long it is going to be.
        if noise.bytes + reader.rest().len() as u64 > NOISE_BYTES_MAX && !plausible(reader.rest()) {
            let rest = reader.rest().to_vec();
            noise.heard(&rest, rest.len() as u64, log);
            return Err(Silent::Noise);
        }
        if noise.bytes > NOISE_BYTES_MAX {
            return Err(Silent::Noise);
        }
        tokio::select! {
            read = reader.fill() => match read {
                Ok(0) | Err(_) => {
                    let rest = reader.rest().to_vec();
                    noise.heard(&rest, rest.len() as u64, log);
                    // The end of stdout and of the program come in any order; the program's says more.
                    let gone = exited || timeout(PIPE_GRACE, child.ended()).await.is_ok();
                    return Err(if gone { Silent::Exited } else { Silent::Closed });
                }
                Ok(_) => {}
            },
            _ = ended(&mut exit), if !exited => exited = true,
            // A grandchild may hold stdout open; what the program wrote has been read by now.
            () = tokio::time::sleep(PIPE_GRACE), if exited => return Err(Silent::Exited),
        }
    }
}

/// Whether an unfinished line may still become the answer to hello.
fn plausible(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') && rest.len() < 16 << 20
}

/// What came on stdout before `hello` was answered, and is no message.
#[derive(Default)]
struct Noise {
    bytes: u64,
    beginning: Vec<u8>,
}

impl Noise {
    fn heard(&mut self, line: &[u8], bytes: u64, log: &PluginLog) {
        self.bytes += bytes;
        if line.is_empty() {
            return;
        }
        let room = NOISE_SHOWN.saturating_sub(self.beginning.len());
        if !self.beginning.is_empty() && room > 0 {
            self.beginning.push(b'\n');
        }
        self.beginning.extend_from_slice(&line[..line.len().min(room)]);
        log.stray(&String::from_utf8_lossy(&line[..line.len().min(NOISE_SHOWN)]));
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.beginning).into_owned()
    }
}
