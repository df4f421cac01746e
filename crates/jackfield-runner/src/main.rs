//! `jackfield-runner exec PROGRAM [ARGUMENT …]`: prepares this process, then becomes the program.
//!
//! A host cannot prepare a child itself without forking its whole memory, which takes 64 ms in a host
//! of 1 GiB where spawning takes a fraction of one. So it spawns this, which is small, and which
//! - leads a session of its own, so that signals of the host's terminal are the host's,
//! - dies when its parent thread dies (Linux), so that a killed host leaves nothing behind,
//! - leaves no core dump, whose content nobody asked for.
//!
//! The host spawns it from a thread that lives as long as the plugin, since it is the thread whose
//! death counts. Exit status 126: the program could not be run; 125: it could not be prepared.
//!
//! Not here yet: limits, sandbox, native libraries.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(mode), Some(program)) if mode == "exec" => become_program(&program, arguments.collect()),
        _ => {
            eprintln!("usage: jackfield-runner exec PROGRAM [ARGUMENT …]");
            ExitCode::from(125)
        }
    }
}

#[cfg(unix)]
fn become_program(program: &OsString, arguments: Vec<OsString>) -> ExitCode {
    use std::os::unix::process::CommandExt as _;

    if let Err(error) = prepare() {
        eprintln!("jackfield-runner: cannot prepare the process: {error}");
        return ExitCode::from(125);
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    eprintln!("jackfield-runner: cannot run `{}`: {error}", program.to_string_lossy());
    ExitCode::from(126)
}

#[cfg(unix)]
fn prepare() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

    // A leader of a process group cannot lead a new session; then the group is as good.
    match setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};

        let parent = getppid();
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that died before the line above has sent no signal.
        if getppid() != parent {
            std::process::exit(125);
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn become_program(program: &OsString, _: Vec<OsString>) -> ExitCode {
    eprintln!("jackfield-runner: cannot become `{}` on this platform", program.to_string_lossy());
    ExitCode::from(125)
}
