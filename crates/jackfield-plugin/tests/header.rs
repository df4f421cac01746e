//! `jackfield.h` is C11 and C++11, its example is true, and it says the same as
//! `jackfield_protocol::native`: a C program prints every size, offset and constant of the header.

#![allow(missing_docs, reason = "tests are sentences")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jackfield_protocol::Encoding;
use jackfield_protocol::native::{self, level, status};

const C11: [&str; 6] = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-xc"];
const CPP11: [&str; 6] = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-xc++"];

#[test]
fn the_header_and_its_example_compile_as_c11_and_as_cpp11() {
    let example = example_of(&fs::read_to_string(include_dir().join("jackfield.h")).expect("jackfield.h"));
    for source in ["#include \"jackfield.h\"\n#include \"jackfield.h\"\n", &example] {
        compile("cc", &C11, &["-c"], source);
        compile("c++", &CPP11, &["-c"], source);
    }
}

#[test]
fn the_name_of_the_sdk_may_fill_its_field_and_no_more() {
    let define = |len: usize| format!("#include \"jackfield.h\"\nJF_DEFINE_HEADER(\"{}\");\n", "x".repeat(len));
    compile("cc", &C11, &["-c"], &define(31));
    for (compiler, flags) in [("cc", &C11), ("c++", &CPP11)] {
        let Some((output, _)) = run(compiler, flags, &["-c"], &define(32)) else { continue };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{compiler} takes a name that is too long");
        assert!(said.contains("at most 31 bytes"), "{said}");
    }
}

#[test]
fn c_and_rust_agree_on_every_size_offset_and_constant() {
    let (probe, expected) = Facts::of_both_sides();
    for (compiler, flags) in [("cc", &C11), ("c++", &CPP11)] {
        let Some(program) = compile(compiler, flags, &[], &probe) else { continue };
        let output = Command::new(&program.path).output().expect("the probe runs");
        assert!(output.status.success(), "{output:?}");
        // Line by line: the first difference is the answer.
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        for (c, rust) in said.lines().zip(expected.lines()) {
            assert_eq!(c, rust, "left is jackfield.h under {compiler}, right is native.rs");
        }
        assert_eq!(said.lines().count(), expected.lines().count());
    }
}

#[test]
fn the_header_that_c_exports_is_read_by_rust() {
    let probe = "#include <stdio.h>\n#include \"jackfield.h\"\nJF_DEFINE_HEADER(\"by hand\");\n\
        int main(void) { return fwrite(&jackfield_header, sizeof(jackfield_header), 1, stdout) != 1; }\n";
    for (compiler, flags) in [("cc", &C11), ("c++", &CPP11)] {
        let Some(program) = compile(compiler, flags, &[], probe) else { continue };
        let written = Command::new(&program.path).output().expect("the probe runs").stdout;
        let ours = native::Header::new("by hand", false);
        let theirs = native::Header::read(&written).expect("a header");
        assert_eq!(written.len(), size_of::<native::Header>());
        assert_eq!(format!("{theirs:?}"), format!("{ours:?}"));
    }
}

/// A C program that prints one fact a line, and what it should print.
#[derive(Default)]
struct Facts {
    prints: String,
    expected: String,
}

impl Facts {
    fn of_both_sides() -> (String, String) {
        let mut facts = Facts::default();
        macro_rules! table {
            ($c:ident is $rust:ident { $($member:ident),* }) => {
                facts.fact(concat!("sizeof(", stringify!($c), ")"), size_of::<native::$rust>());
                $(facts.fact(
                    concat!("offsetof(", stringify!($c), ", ", stringify!($member), ")"),
                    offset_of!(native::$rust, $member),
                );)*
                // A member that only one side has would go unseen: here Rust's must all be named.
                #[allow(unused)]
                let all_named = |native::$rust { $($member: _),* }: native::$rust| ();
            };
        }
        table!(jf_str is Str { data, len });
        table!(jf_header is Header { magic, size, abi_major, abi_minor, flags, reserved, target, sdk });
        table!(jf_host is Host { size, abi_major, abi_minor, context, log, span });
        table!(jf_registry is Registry { size, reserved, context, about, add });
        table!(jf_about is About { size, reserved, name, version, capabilities });
        table!(jf_interface is Table { size, flags, id, description, state, call, stop });
        table!(jf_call is Call {
            size, encoding, function, index, reserved, arguments, deadline_us, traceparent, tracestate
        });
        table!(jf_sink is Sink { size, reserved, context, write });

        macro_rules! constants {
            ($($c:ident is $rust:expr;)*) => { $(facts.fact(stringify!($c), $rust as u64);)* };
        }
        constants! {
            JF_ABI_MAJOR is native::ABI_MAJOR;
            JF_ABI_MINOR is native::ABI_MINOR;
            JF_OK is status::OK;
            JF_OWN_ERROR is status::OWN_ERROR;
            JF_UNIMPLEMENTED is status::UNIMPLEMENTED;
            JF_BAD_ARGUMENTS is status::BAD_ARGUMENTS;
            JF_PANICKED is status::PANICKED;
            JF_ANSWER_TOO_LARGE is status::ANSWER_TOO_LARGE;
            JF_FAILED is status::FAILED;
            JF_LOG_ERROR is level::ERROR;
            JF_LOG_WARN is level::WARN;
            JF_LOG_INFO is level::INFO;
            JF_LOG_DEBUG is level::DEBUG;
            JF_LOG_TRACE is level::TRACE;
            JF_ENCODING_JSON is Encoding::Json;
            JF_ENCODING_BINARY is Encoding::Binary;
            JF_INTERFACE_ANY_THREAD is native::TABLE_ANY_THREAD;
            JF_INTERFACE_BINARY is native::TABLE_BINARY;
            JF_HEADER_PANIC_ABORT is native::HEADER_PANIC_ABORT;
            JF_NO_INDEX is native::NO_INDEX;
            JF_NO_DEADLINE is native::NO_DEADLINE;
        }
        facts.finish()
    }

    fn fact(&mut self, c: &str, rust: impl std::fmt::Display) {
        // `%ju`: a size_t of a 32-bit target and an unsigned long long are printed alike.
        writeln!(self.prints, "    printf(\"{c} = %ju\\n\", (uintmax_t)({c}));").expect("to memory");
        writeln!(self.expected, "{c} = {rust}").expect("to memory");
    }

    fn finish(self) -> (String, String) {
        let prints = self.prints;
        (format!("#include <stdio.h>\n#include \"jackfield.h\"\nint main(void) {{\n{prints}}}\n"), self.expected)
    }
}

/// The smallest plugin, from the comment at the head of the file.
fn example_of(header: &str) -> String {
    let mut example = String::new();
    let indented = |line: &str| line.starts_with(" *     ") || line == " *";
    let lines = header.lines().skip_while(|line| *line != " *     #include \"jackfield.h\"");
    for line in lines.take_while(|line| indented(line)) {
        example.push_str(line.strip_prefix(" *     ").unwrap_or_default());
        example.push('\n');
    }
    assert!(example.contains("jackfield_register"), "the example is not where it was:\n{example}");
    example
}

/// What a compiler made; the directory goes with it.
struct Built {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// Compiles `source`, which must succeed without a warning. None, and told so, without a compiler.
fn compile(compiler: &str, flags: &[&str], more: &[&str], source: &str) -> Option<Built> {
    let (output, built) = run(compiler, flags, more, source)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {flags:?}:\n{said}\n{source}");
    Some(built)
}

fn run(compiler: &str, flags: &[&str], more: &[&str], source: &str) -> Option<(Output, Built)> {
    let dir = tempfile::tempdir().expect("a directory");
    let (input, path) = (dir.path().join("source"), dir.path().join("built"));
    fs::write(&input, source).expect("written");
    let include = include_dir();
    let paths: [&OsStr; 5] = ["-I".as_ref(), include.as_ref(), "-o".as_ref(), path.as_ref(), input.as_ref()];
    let mut command = Command::new(compiler);
    command.args(flags).args(more).args(paths);
    match command.output() {
        Ok(output) => Some((output, Built { path, _dir: dir })),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(&format!("jackfield.h is not checked: no `{compiler}` on PATH"));
            None
        }
        Err(error) => panic!("cannot run `{compiler}`: {error}"),
    }
}

/// Tells what was not tested, so that no run looks greener than it was; without a place to tell it
/// to, the test fails.
fn skip(what: &str) {
    let file = std::env::var_os("JACKFIELD_SKIPS").unwrap_or_else(|| panic!("{what}"));
    eprintln!("{what}");
    let mut file = fs::File::options().create(true).append(true).open(file).expect("the file of skips");
    writeln!(file, "{what}").expect("the file of skips");
}

fn include_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}
