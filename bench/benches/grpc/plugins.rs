//! The plugins that are called, each under the name that says how.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use jackfield::Host;
use tempfile::TempDir;

/// A directory with all of them.
pub(super) struct Plugins(TempDir);

const MATRIX: &str = "cookie = { key = \"MATRIX_PLUGIN\", value = \"interoperability\" }\nversions = [2, 3]";

/// Name, program, and what is said in `[grpc]`.
const PLUGINS: [(&str, &str, &str, &str); 7] = [
    ("matrix-rust", "matrix-rust", MATRIX, "tls = \"off\""),
    ("matrix-rust-tls", "matrix-rust", MATRIX, ""),
    ("matrix-go", "matrix-go", MATRIX, "tls = \"off\""),
    ("matrix-go-tls", "matrix-go", MATRIX, ""),
    ("zoo", "zoo-grpc", "", "tls = \"off\""),
    ("zoo-tls", "zoo-grpc", "", ""),
    ("zoo-unary", "zoo-grpc", "calls = \"unary\"", "tls = \"off\""),
];

/// Where `cargo xtask plugins` puts fixtures.
pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fixtures")
}

impl Plugins {
    pub(super) fn new() -> Result<Self, Box<dyn Error>> {
        let dir = TempDir::new()?;
        for (name, program, grpc, more) in PLUGINS {
            let (from, to) = (fixtures().join(program).join(program), dir.path().join(name));
            fs::create_dir(&to)?;
            fs::copy(&from, to.join(program)).map_err(|error| format!("{}: {error}", from.display()))?;
            let manifest =
                format!("name = \"{name}\"\nmechanism = \"grpc\"\nentry = \"{program}\"\n[grpc]\n{grpc}\n{more}\n");
            fs::write(to.join("plugin.toml"), manifest)?;
        }
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) async fn host(&self) -> Result<Host, Box<dyn Error>> {
        let host = Host::builder().plugin_dir(self.path()).build().await?;
        match &*host.refused() {
            [] => Ok(host),
            [refused, ..] => Err(refused.to_string().into()),
        }
    }
}
