//! Takes stdin and stdout away from the library, so that what it prints cannot land among the messages.

use std::fs::File;
use std::io;

/// The private ends. What the library prints goes to stderr, and so to the host's log.
#[cfg(unix)]
pub(super) fn take() -> io::Result<(File, File)> {
    use std::os::fd::AsFd as _;

    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((File::from(input), File::from(output)))
}

/// The private ends. Windows has no safe way to point stdout elsewhere: a print still lands among the
/// messages, where the host takes a line that is none for a line of the log.
#[cfg(windows)]
pub(super) fn take() -> io::Result<(File, File)> {
    use std::os::windows::io::AsHandle as _;

    let input = io::stdin().as_handle().try_clone_to_owned()?;
    let output = io::stdout().as_handle().try_clone_to_owned()?;
    Ok((File::from(input), File::from(output)))
}
