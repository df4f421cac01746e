//! What a program writes to stderr: line by line into the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

use super::child::{Exit, ended};
use crate::log::PluginLog;

/// Longest line kept in one piece, as in go-plugin.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Time that a pipe is read on after its program ended: a grandchild may keep it open for ever.
pub(crate) const PIPE_GRACE: Duration = Duration::from_millis(200);

/// Reads stderr until it ends, or until the program has ended and nothing more comes. `done` is
/// dropped then.
pub(super) async fn forward_stderr(
    mut stderr: impl AsyncRead + Unpin,
    log: Arc<PluginLog>,
    mut exit: watch::Receiver<Option<Exit>>,
    done: watch::Sender<()>,
) {
    let mut waiting = Vec::new();
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
        waiting.extend_from_slice(&chunk[..read]);
        let mut start = 0;
        while let Some(end) = waiting[start..].iter().position(|byte| *byte == b'\n') {
            log_line(&log, &waiting[start..start + end]);
            start += end + 1;
        }
        waiting.drain(..start);
        if waiting.len() >= LINE_BYTES_MAX {
            log_line(&log, &waiting);
            waiting.clear();
        }
    }
    log_line(&log, &waiting);
    drop(done);
}

fn log_line(log: &PluginLog, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    if !line.is_empty() {
        log.stderr(line);
    }
}
