//! Whole messages read from a pipe, a thread for each that takes long, and the end.
//!
//! The thread that has read a message answers it; when that takes long, another one reads on (`turns.rs`). It is over
//! when the pipe ends or the host says goodbye. Order then: nothing more is read, calls under way get their time, the
//! plugin is told that no more will come, the process ends.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jackfield_protocol::call::Buffer;
use jackfield_protocol::frame::{Header, Piece, Splitter};

use crate::turns::{Turn, Turns};

/// Longest message taken from a host. The host bounds what it sends; this bounds a broken host.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Bytes asked of the pipe at once: what a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// A message, owned, so that the pipe can go to the next thread.
#[derive(Debug)]
pub enum Work {
    /// A line of JSON, without its end.
    Line(Buffer),
    /// A frame, which is a call.
    Call {
        /// Its head.
        header: Header,
        /// The trace context in it, or nothing.
        trace: Vec<u8>,
        /// The arguments.
        body: Buffer,
    },
}

/// What comes after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next one.
    GoOn,
    /// The end: the host has said goodbye.
    Leave,
}

/// A plugin behind a pipe.
pub trait Serve: Send + Sync + 'static {
    /// Answers a message. Several threads do so at the same time.
    fn answer(&self, work: &Work) -> Then;

    /// Says what is odd.
    fn complain(&self, what: &str);

    /// Tells the plugin that no call will come any more. Called once or twice, and not as long as a call is under way.
    fn stop(&self);
}

/// A plugin and its pipe.
pub struct Server<P> {
    plugin: P,
    input: Mutex<Input>,
    turns: Turns<Work>,
    /// Whether the host has said goodbye.
    leaving: AtomicBool,
    grace: Duration,
}

impl<P> fmt::Debug for Server<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("turns", &self.turns).finish_non_exhaustive()
    }
}

impl<P: Serve> Server<P> {
    /// Serves `plugin` on this thread, and on more as its calls overlap, at most `workers`, until the host is done with
    /// it. Calls that are under way then have `grace` to end; after it, the process ends without them.
    ///
    /// It does not return where the host says goodbye: the process ends with code 0.
    pub fn run(plugin: P, input: Box<dyn Read + Send>, workers: usize, grace: Duration) {
        let input = Input { from: Some(input), splitter: Splitter::new(MESSAGE_BYTES_MAX) };
        let (turns, leaving) = (Turns::new(workers), AtomicBool::new(false));
        let server = Arc::new(Self { plugin, input: Mutex::new(input), turns, leaving, grace });
        server.find_relief();
        server.serve(server.turns.first());
        server.turns.wait_for_end();
        if server.turns.wait_for_relieved(grace) {
            server.plugin.stop();
        }
    }

    /// Starts a thread that takes over when a call takes long.
    fn find_relief(self: &Arc<Self>) {
        if cfg!(target_family = "wasm") {
            // One thread is all there is, and no reason for a warning: calls come one after the other.
            return;
        }
        let server = Arc::clone(self);
        let relief = move || {
            if let Some(turn) = server.turns.relieve() {
                server.find_relief();
                server.serve(turn);
            }
        };
        if thread::Builder::new().name("jackfield".to_owned()).spawn(relief).is_err() {
            self.plugin.complain("no thread for calls that overlap: they are made one after the other");
        }
    }

    /// Reads and answers, until there is no more or another thread has the turn.
    fn serve(&self, mut turn: Turn) {
        loop {
            let Some(work) = self.input().next(&self.plugin) else { return self.end() };
            let Some(work) = self.turns.accept(work) else { continue };
            self.turns.begin(&mut turn);
            self.answer(&work);
            if !self.turns.end(&mut turn) {
                break;
            }
            if self.leaving.load(Ordering::Acquire) {
                self.leave();
            }
        }
        while let Some(work) = self.turns.next_of_backlog() {
            self.answer(&work);
        }
        if self.leaving.load(Ordering::Acquire) {
            self.leave();
        }
    }

    fn answer(&self, work: &Work) {
        if let Then::Leave = self.plugin.answer(work) {
            self.leaving.store(true, Ordering::Release);
        }
    }

    /// What the thread does that sees the end of the pipe. The main thread may be among those that do not come back
    /// from their calls.
    fn end(&self) {
        self.turns.finish();
        if !self.turns.wait_for_relieved(self.grace) {
            self.plugin.complain("ended while calls were unanswered");
            process::exit(0);
        }
    }

    /// Ends the process at the host's word, once the other calls are over.
    ///
    /// Not while that word is being answered: the relief may have taken the turn by then, as it does at once after a
    /// slow call, and this thread would be one of those that it waits for.
    fn leave(&self) -> ! {
        self.turns.finish();
        if self.turns.wait_for_relieved(self.grace) {
            self.plugin.stop();
        }
        process::exit(0);
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Input {
    /// None after its end.
    from: Option<Box<dyn Read + Send>>,
    splitter: Splitter,
}

impl Input {
    fn next(&mut self, plugin: &impl Serve) -> Option<Work> {
        loop {
            self.from.as_ref()?;
            match self.splitter.next_piece() {
                Some(Piece::Line(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
                Some(Piece::Line(line)) => return Some(Work::Line(owned(line))),
                Some(Piece::Frame { header, trace, body }) => {
                    return Some(Work::Call { header, trace: trace.to_vec(), body: owned(body) });
                }
                Some(Piece::TooLong { bytes, .. }) => {
                    plugin.complain(&format!("the host sent a message of {bytes} bytes, which is too long"));
                }
                Some(Piece::Broken) => {
                    plugin.complain("the host sent a frame of an unknown kind");
                    self.from = None;
                }
                None => self.read(),
            }
        }
    }

    fn read(&mut self) {
        let Some(from) = &mut self.from else { return };
        let room = self.splitter.room();
        let filled = room.len();
        room.resize(filled + READ_BYTES, 0);
        let read = loop {
            match from.read(&mut room[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.unwrap_or(0),
            }
        };
        room.truncate(filled + read);
        if read == 0 {
            self.from = None;
        }
    }
}

fn owned(bytes: &[u8]) -> Buffer {
    let mut owned = Buffer::new();
    owned.extend_from_slice(bytes);
    owned
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};

    use jackfield_protocol::frame::Kind;

    use super::*;

    /// Tells what it is asked, one word for each thing.
    struct Told(Sender<String>);

    impl Serve for Told {
        fn answer(&self, work: &Work) -> Then {
            self.complain(&match work {
                Work::Line(line) => String::from_utf8_lossy(line).into_owned(),
                Work::Call { header, body, .. } => format!("call {} of {} bytes", header.id, body.len()),
            });
            Then::GoOn
        }

        fn complain(&self, what: &str) {
            self.0.send(what.to_owned()).expect("somebody listens");
        }

        fn stop(&self) {
            self.complain("stop");
        }
    }

    fn told(bytes: &[u8]) -> Vec<String> {
        let (sender, told) = mpsc::channel();
        Server::run(Told(sender), Box::new(std::io::Cursor::new(bytes.to_vec())), 2, Duration::from_secs(60));
        told.try_iter().collect()
    }

    #[test]
    fn messages_are_answered_in_order_until_the_pipe_ends() {
        let header = Header { kind: Kind::Call, ..Header::answer(Kind::Answer, 7, 3) };
        let call = [&header.to_bytes()[..], b"abc"].concat();
        let bytes = [b"one\n \n\r\ntwo\r\n", &call[..], b"three\nwithout an end"].concat();
        assert_eq!(told(&bytes), ["one", "two", "call 7 of 3 bytes", "three", "stop"]);
        assert_eq!(told(b""), ["stop"]);
    }

    #[test]
    fn after_a_frame_that_is_none_nothing_is_read() {
        let broken = [b"one\n", &[0xf5; 32][..], b"\ntwo\n"].concat();
        assert_eq!(told(&broken), ["one", "the host sent a frame of an unknown kind", "stop"]);
    }
}
