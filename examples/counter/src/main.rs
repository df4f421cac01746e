//! The same plugin as a program.

fn main() -> std::process::ExitCode {
    counter::serve()
}
