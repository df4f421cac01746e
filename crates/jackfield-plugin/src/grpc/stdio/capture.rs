//! stdout and stderr, pointed at pipes to ourselves.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::{self, JoinHandle};

use jackfield_grpc::bytes::Bytes;
use jackfield_grpc::pb::plugin::stdio_data::Channel;

use super::Prints;

/// Bytes asked of a pipe at once: what a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// stdout and perhaps stderr, taken away from the process until [`Captured::release`].
pub(in crate::grpc) struct Captured {
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    readers: Vec<JoinHandle<()>>,
    prints: Prints,
}

impl Captured {
    /// Takes stdout, and stderr if it is wanted.
    ///
    /// What is in Rust's buffer of stdout goes where stdout went before; nothing should be.
    pub(in crate::grpc) fn take(prints: &Prints, and_stderr: bool) -> io::Result<Self> {
        io::stdout().flush()?;
        let mut captured = Self {
            stdout: io::stdout().as_fd().try_clone_to_owned()?,
            stderr: None,
            readers: Vec::new(),
            prints: prints.clone(),
        };
        let (from, to) = io::pipe()?;
        captured.read(Channel::Stdout, from)?;
        rustix::stdio::dup2_stdout(to)?;
        if and_stderr {
            captured.stderr = Some(io::stderr().as_fd().try_clone_to_owned()?);
            let (from, to) = io::pipe()?;
            captured.read(Channel::Stderr, from)?;
            rustix::stdio::dup2_stderr(to)?;
        }
        Ok(captured)
    }

    fn read(&mut self, channel: Channel, mut from: PipeReader) -> io::Result<()> {
        let prints = self.prints.clone();
        let read = move || {
            let mut buffer = vec![0; READ_BYTES];
            loop {
                match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => prints.push(channel, Bytes::copy_from_slice(&buffer[..count])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        };
        let named = thread::Builder::new().name("jackfield-prints".to_owned());
        self.readers.push(named.spawn(read)?);
        Ok(())
    }

    /// Prints a line where stdout went before.
    pub(in crate::grpc) fn say(&self, line: &str) -> io::Result<()> {
        File::from(self.stdout.try_clone()?).write_all(format!("{line}\n").as_bytes())
    }

    /// Gives stdout and stderr back, and ends the prints once all that was printed is read.
    ///
    /// A program that the plugin started may still hold the pipes. It is not waited for: whoever calls this has a
    /// deadline.
    pub(in crate::grpc) fn release(self) {
        // Nothing can be done about one that fails: then prints go on into the pipe.
        let _ = io::stdout().flush();
        let _ = rustix::stdio::dup2_stdout(&self.stdout);
        if let Some(stderr) = &self.stderr {
            let _ = rustix::stdio::dup2_stderr(stderr);
        }
        for reader in self.readers {
            // A reader does not panic.
            let _ = reader.join();
        }
        self.prints.end();
    }
}

/// stderr as it is now, for the log.
pub(in crate::grpc) fn real_stderr() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}
