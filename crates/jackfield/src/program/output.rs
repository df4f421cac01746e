//! What a program writes to stderr: line by line into the log.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::runner::Report;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{oneshot, watch};

use super::child::ended;
use crate::log::PluginLog;
use crate::mechanism::Exit;

/// Longest line kept in one piece, as in go-plugin.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Time that a pipe is read on after its program ended: a grandchild may keep it open for ever.
pub(crate) const PIPE_GRACE: Duration = Duration::from_millis(200);

/// Reads stderr until it ends, or until the program has ended and nothing more comes. `done` is
/// dropped then. Of a program that goes through the runner, the first line is its `report`.
pub(super) async fn forward_stderr(
    mut stderr: impl AsyncRead + Unpin,
    log: Arc<PluginLog>,
    mut exit: watch::Receiver<Option<Exit>>,
    done: watch::Sender<()>,
    report: Option<oneshot::Sender<Report>>,
) {
    let report = Cell::new(report);
    let mut lines = Lines::default();
    let mut chunk = vec![0; LINE_BYTES_MAX];
    let mut exited = false;
    loop {
        let read = tokio::select! {
            read = stderr.read(&mut chunk) => read.unwrap_or(0),
            _ = ended(&mut exit), if !exited => {
                exited = true;
                continue;
            }
            () = tokio::time::sleep(PIPE_GRACE), if exited => 0,
        };
        if read == 0 {
            break;
        }
        lines.take(&chunk[..read], |line| told(line, &report, &log));
    }
    lines.end(|line| told(line, &report, &log));
    drop(done);
}

fn told(line: &str, report: &Cell<Option<oneshot::Sender<Report>>>, log: &PluginLog) {
    // The first line and no other: what a plugin writes later may look like a report, and is none.
    match report.take().map(|to| (to, Report::from_line(line))) {
        Some((to, Some(report))) => drop(to.send(report)),
        Some((_, None)) | None => log.stderr(line),
    }
}

/// Pieces of what is printed, put together to lines. A line that is longer than 64 KiB is several.
#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes a piece, and tells the lines that it ends.
    pub(crate) fn take(&mut self, piece: &[u8], tell: impl Fn(&str)) {
        self.0.extend_from_slice(piece);
        let mut start = 0;
        while let Some(end) = memchr(b'\n', &self.0[start..]) {
            tell_line(&self.0[start..start + end], &tell);
            start += end + 1;
        }
        self.0.drain(..start);
        if self.0.len() >= LINE_BYTES_MAX {
            self.end(tell);
        }
    }

    /// Tells what is left.
    pub(crate) fn end(&mut self, tell: impl Fn(&str)) {
        tell_line(&std::mem::take(&mut self.0), &tell);
    }
}

fn tell_line(line: &[u8], tell: &impl Fn(&str)) {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    if !line.is_empty() {
        tell(line);
    }
}
