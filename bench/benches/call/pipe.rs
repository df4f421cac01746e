//! The physical limit for a program: a line there and a line back, and nothing else.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::Row;

/// The other side: gives back each line.
pub(crate) fn echo() -> Result<(), Box<dyn Error>> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        output.write_all(&line)?;
        output.flush()?;
        line.clear();
    }
    Ok(())
}

#[expect(clippy::zombie_processes, reason = "it ends when this program does, at the end of its stdin")]
pub(crate) fn row(name: &'static str, line: &'static str) -> Row {
    let me = std::env::current_exe().expect("this program has a path");
    let mut child =
        Command::new(me).arg("echo").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs");
    let mut to = child.stdin.take().expect("piped");
    let mut from = BufReader::new(child.stdout.take().expect("piped"));
    let mut answer = Vec::new();
    Row::new(name, 1_000, move || {
        answer.clear();
        to.write_all(line.as_bytes()).expect("written");
        from.read_until(b'\n', &mut answer).expect("read");
        assert_eq!(answer.len(), line.len());
    })
}
