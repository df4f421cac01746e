//! stdout and stderr, left alone.
//!
//! Windows has no safe way to point them elsewhere. A print to stdout lands behind the handshake, where hosts
//! read on and think nothing of it; one to stderr, among the lines of the log.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::windows::io::AsHandle as _;

use super::Prints;

/// Nothing that was taken.
pub(in crate::grpc) struct Captured(Prints);

impl Captured {
    pub(in crate::grpc) fn take(prints: &Prints, _and_stderr: bool) -> io::Result<Self> {
        Ok(Self(prints.clone()))
    }

    /// Prints a line.
    pub(in crate::grpc) fn say(&self, line: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    /// Ends the prints, of which there are none.
    pub(in crate::grpc) fn release(self) {
        self.0.end();
    }
}

/// stderr, for the log.
pub(in crate::grpc) fn real_stderr() -> io::Result<File> {
    Ok(io::stderr().as_handle().try_clone_to_owned()?.into())
}
