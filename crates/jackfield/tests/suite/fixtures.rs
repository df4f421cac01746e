//! Where built fixtures are, and how they come there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::{Mechanism, root};

/// The directory of a built fixture: its file, and its `plugin.toml`.
pub(crate) fn built(mechanism: Mechanism, fixture: &str) -> PathBuf {
    let name = match mechanism {
        Mechanism::Native | Mechanism::Isolated => fixture.to_owned(),
        Mechanism::Process => format!("{fixture}-process"),
        Mechanism::Grpc | Mechanism::GrpcUnary if fixture.starts_with("matrix-") => fixture.to_owned(),
        Mechanism::Grpc | Mechanism::GrpcUnary => format!("{fixture}-grpc"),
        Mechanism::Extism => format!("{fixture}-wasm"),
        Mechanism::Component => format!("{fixture}-component"),
        Mechanism::Command => format!("{fixture}-wasi"),
    };
    match mechanism {
        Mechanism::Native | Mechanism::Isolated | Mechanism::Process => all_built().join(name),
        _ => built_by_xtask().join(name),
    }
}

/// WebAssembly needs a compiler that cargo alone does not bring, and so does Go.
fn built_by_xtask() -> PathBuf {
    let dir = match std::env::var_os("JACKFIELD_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => root().join("target/fixtures"),
    };
    assert!(dir.is_dir(), "the fixtures are not built: `cargo xtask plugins` does that");
    dir
}

/// A directory for one test, on the disk that the fixtures are on, so that they can be linked.
pub(crate) fn scratch_dir() -> TempDir {
    fs::create_dir_all(scratch()).expect("a scratch directory");
    TempDir::new_in(scratch()).expect("a scratch directory")
}

/// Where hosts in tests keep their private copies of libraries: not at home.
pub(crate) fn cache_dir() -> PathBuf {
    scratch().join("cache")
}

fn scratch() -> PathBuf {
    all_built().parent().unwrap_or(all_built()).join("scratch")
}

/// Compiles `fixtures/c/<name>.c` into the shared library `to`.
#[cfg(unix)]
pub(crate) fn compile_c(name: &str, to: &Path) {
    compile_c_with(name, &[], to);
}

/// [`compile_c`] with further arguments of the compiler.
#[cfg(unix)]
pub(crate) fn compile_c_with(name: &str, arguments: &[String], to: &Path) {
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"]);
    cc.arg(root().join("crates/jackfield-plugin/include")).args(arguments).arg("-o").arg(to);
    cc.arg(root().join(format!("fixtures/c/{name}.c")));
    // Rust itself links with `cc`, so there is one where this test was built.
    let output = cc.output().expect("cc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Packages of `fixtures/`, and whether each is also a program.
const PACKAGES: [(&str, bool); 5] =
    [("zoo", true), ("misbehave", true), ("skewed", true), ("versioned", true), ("panics", false)];

fn all_built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| match std::env::var_os("JACKFIELD_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => build(),
    })
}

/// Builds the fixtures. Always, since nothing else knows whether they are up to date.
fn build() -> PathBuf {
    let built = Built::of(&PACKAGES.map(|(package, _)| package));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
    for (package, is_program) in PACKAGES {
        put(package, package, &built.library(package), &dir);
        if is_program {
            put(package, &format!("{package}-process"), &built.program(package), &dir);
        }
    }
    dir
}

/// `jackfield-runner`: what `JACKFIELD_RUNNER` names, else built by cargo.
pub(crate) fn runner() -> &'static Path {
    static RUNNER: OnceLock<PathBuf> = OnceLock::new();
    RUNNER.get_or_init(|| match std::env::var_os("JACKFIELD_RUNNER") {
        Some(runner) => PathBuf::from(runner),
        None => Built::of(&["jackfield-runner"]).program("jackfield-runner"),
    })
}

/// What cargo built.
pub(crate) struct Built(Vec<Value>);

impl Built {
    /// Builds packages in the profile of the tests, so that what they depend on is built already.
    pub(crate) fn of(packages: &[&str]) -> Self {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--message-format=json"]).current_dir(root());
        cargo.args(packages.iter().flat_map(|package| ["-p", package]));
        let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("cargo runs");
        assert!(output.status.success(), "{packages:?} do not build");
        let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        Self(messages.map(|message| message.expect("JSON")).collect())
    }

    /// The shared library of a package.
    pub(crate) fn library(&self, package: &str) -> PathBuf {
        let is_library = |file: &&Path| file.extension().is_some_and(|end| end == std::env::consts::DLL_EXTENSION);
        let files = self.made(package).flat_map(|message| message["filenames"].as_array().into_iter().flatten());
        let library = files.filter_map(Value::as_str).map(Path::new).find(is_library);
        library.unwrap_or_else(|| panic!("`{package}` makes no library")).to_owned()
    }

    /// The program of a package.
    pub(crate) fn program(&self, package: &str) -> PathBuf {
        let program = self.made(package).find_map(|message| message["executable"].as_str());
        program.unwrap_or_else(|| panic!("`{package}` makes no program")).into()
    }

    fn made(&self, package: &str) -> impl Iterator<Item = &Value> {
        let of_package =
            move |message: &&Value| message["reason"] == "compiler-artifact" && message["target"]["name"] == package;
        self.0.iter().filter(of_package)
    }
}

/// Puts a fixture and its manifest where xtask would. Another test may do the same at this moment.
fn put(package: &str, name: &str, file: &Path, fixtures: &Path) {
    let dir = fixtures.join(name);
    fs::create_dir_all(&dir).expect("a directory for the fixture");
    let manifest = root().join(format!("fixtures/{package}/{name}.plugin.toml"));
    for (from, to) in [(file, dir.join(file.file_name().expect("a name"))), (&manifest, dir.join("plugin.toml"))] {
        let beside = dir.join(format!("new-{}", std::process::id()));
        let _ = fs::remove_file(&beside);
        if fs::hard_link(from, &beside).is_err() {
            fs::copy(from, &beside).expect("a copy");
        }
        fs::rename(&beside, &to).expect("in its place");
        // A rename between two links of one file does nothing, and leaves both.
        let _ = fs::remove_file(&beside);
    }
}

/// Tells what was not tested, so that no run looks greener than it was; without a place to tell it to,
/// the test fails.
pub(crate) fn skip(what: &str) {
    use std::io::Write as _;

    let file = std::env::var_os("JACKFIELD_SKIPS").unwrap_or_else(|| panic!("{what}"));
    eprintln!("{what}");
    let mut file = fs::File::options().create(true).append(true).open(file).expect("the file of skips");
    writeln!(file, "{what}").expect("the file of skips");
}
