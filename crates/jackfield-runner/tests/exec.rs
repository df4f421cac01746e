//! The runner as a host uses it.

#![cfg(unix)]

use std::process::Command;

fn runner(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_jackfield-runner")).args(arguments).output().expect("the runner runs")
}

#[test]
fn it_becomes_the_program_with_its_arguments_and_exit_status() {
    let output = runner(&["exec", "sh", "-c", "echo $0 $1; exit 7", "one", "two"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one two\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn the_program_leads_a_session_and_leaves_no_core() {
    let script = "ps -o sid= -p $$ | tr -d ' '; echo $$; ulimit -c";
    let output = runner(&["exec", "sh", "-c", script]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines[0], lines[1], "the session has the program's number");
    assert_eq!(lines[2], "0");
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let output = runner(&["exec", "/no/such/program"]);
    assert_eq!(output.status.code(), Some(126));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot run `/no/such/program`: No such file"), "{said}");
}
