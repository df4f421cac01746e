//! Takes stdin and stdout away from the rest of the program, so that nothing else reads or writes
//! what belongs to the protocol.

#[cfg(any(unix, windows))]
use std::fs::File;
use std::io;

/// The private ends of stdin and stdout. The programs a plugin starts do not inherit them.
#[cfg(unix)]
pub fn take() -> io::Result<(File, File)> {
    use std::os::fd::AsFd as _;

    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((File::from(input), File::from(output)))
}

/// The private ends of stdin and stdout.
///
/// Windows has no safe way to point stdout elsewhere: a print still lands among the messages, where
/// the host takes a line that is none for a line of the log.
#[cfg(windows)]
pub fn take() -> io::Result<(File, File)> {
    use std::os::windows::io::AsHandle as _;

    let input = io::stdin().as_handle().try_clone_to_owned()?;
    let output = io::stdout().as_handle().try_clone_to_owned()?;
    Ok((File::from(input), File::from(output)))
}

/// stdin and stdout themselves: WASI has no second descriptor for them.
///
/// So a print still lands among the messages, as on Windows.
#[cfg(target_family = "wasm")]
pub fn take() -> io::Result<(io::Stdin, io::Stdout)> {
    Ok((io::stdin(), io::stdout()))
}
