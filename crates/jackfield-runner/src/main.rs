//! `jackfield-runner MODE ORDERS -- FILE [ARGUMENT …]`: puts this process under limits and into a sandbox,
//! and then becomes the plugin.
//!
//! - `exec` becomes the program `FILE`.
//! - `native` loads the shared library `FILE` and speaks for it on stdin and stdout, as a program with
//!   the SDK would. What goes wrong in the library ends this process and no other.
//!
//! `ORDERS` is JSON (`jackfield_protocol::runner`), as is the report, which is the first line on stderr:
//! what is in force, by which means. What is ordered and cannot be had ends the runner with 125 before
//! anything of the plugin runs, unless the orders say `best_effort`. 126: the program could not be run.
//!
//! Why a program of its own: a host cannot prepare a child without forking its whole memory, which takes
//! 64 ms in a host of 1 GiB where spawning takes a fraction of one; and between fork and exec a process
//! of many threads may not allocate, which Landlock and seccomp do.

mod native;
mod prepare;
mod system;

use std::ffi::OsString;
use std::process::ExitCode;

use jackfield_protocol::runner::{EXIT_NOT_PREPARED, EXIT_NOT_RUN, ORDERS_VERSION, Orders, Report, Unenforced};

const USAGE: &str = "usage: jackfield-runner exec|native ORDERS -- FILE [ARGUMENT …]";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let taken = [arguments.next(), arguments.next(), arguments.next(), arguments.next()];
    let [Some(mode), Some(orders), Some(dashes), Some(file)] = taken else { return usage() };
    let is_native = mode == "native";
    if (mode != "exec" && !is_native) || dashes != "--" {
        return usage();
    }
    let orders = match read(&orders) {
        Ok(orders) => orders,
        Err(why) => return not_prepared(Report::default(), "orders", why),
    };
    let prepared = match prepare::prepare(&orders, &file) {
        Ok(prepared) => prepared,
        Err((report, refused)) => return not_prepared(report, &refused.limit, refused.why),
    };
    eprint!("{}", prepared.report.to_line());
    match is_native {
        true => native::host(&file),
        false => become_program(&file, arguments.collect()),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(EXIT_NOT_PREPARED)
}

fn read(orders: &OsString) -> Result<Orders, String> {
    let text = orders.to_str().ok_or("the orders are not UTF-8")?;
    let orders: Orders = serde_json::from_str(text).map_err(|error| format!("the orders cannot be read: {error}"))?;
    match orders.version {
        ORDERS_VERSION => Ok(orders),
        other => Err(format!("the host gives orders of version {other}, this runner takes {ORDERS_VERSION}")),
    }
}

fn not_prepared(mut report: Report, limit: &str, why: String) -> ExitCode {
    report.version = ORDERS_VERSION;
    report.refused = Some(Unenforced { limit: limit.to_owned(), why });
    eprint!("{}", report.to_line());
    ExitCode::from(EXIT_NOT_PREPARED)
}

/// Time in which whoever else the host was starting has let go of what the host wrote.
#[cfg(unix)]
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);

/// Becomes the program. One that was just copied may still be open for writing, in a child of the host's that is
/// not yet a program of its own.
#[cfg(unix)]
fn become_program(program: &OsString, arguments: Vec<OsString>) -> ExitCode {
    use std::os::unix::process::CommandExt as _;

    let begun = std::time::Instant::now();
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    let error = loop {
        let error = command.exec();
        if error.kind() != std::io::ErrorKind::ExecutableFileBusy || begun.elapsed() > BUSY {
            break error;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    eprintln!("jackfield-runner: cannot run `{}`: {error}", program.to_string_lossy());
    ExitCode::from(EXIT_NOT_RUN)
}

/// Windows has no `exec`. The program runs as a child in the host's job object, which ends with the host.
#[cfg(not(unix))]
fn become_program(program: &OsString, arguments: Vec<OsString>) -> ExitCode {
    match std::process::Command::new(program).args(arguments).status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("jackfield-runner: cannot run `{}`: {error}", program.to_string_lossy());
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}
