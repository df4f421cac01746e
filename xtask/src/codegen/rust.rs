//! Messages, clients and servers in Rust, and the descriptors that reflection serves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use prost::Message as _;

/// The `.proto` files, below [`protos`].
const FILES: &[&str] =
    &["plugin/broker.proto", "plugin/controller.proto", "plugin/stdio.proto", "jackfield/plugin/v1/plugin.proto"];

/// The descriptors of all files and of what they import, as one encoded `FileDescriptorSet`.
const DESCRIPTORS: &str = "descriptors.bin";

fn protos() -> PathBuf {
    crate::paths::root().join("crates/jackfield-grpc/proto")
}

fn generated() -> PathBuf {
    crate::paths::root().join("crates/jackfield-grpc/src/generated")
}

/// The `.proto` files, compiled. Without protoc, which not every machine has.
pub(crate) fn described() -> Result<protox::Compiler> {
    let mut compiler = protox::Compiler::new([protos()])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    Ok(compiler)
}

/// The files that belong into [`generated`], by name.
fn make() -> Result<BTreeMap<String, Vec<u8>>> {
    let scratch = std::env::temp_dir().join(format!("jackfield-codegen-{}", std::process::id()));
    crate::paths::make_dir(&scratch)?;
    let made = make_in(&scratch);
    crate::paths::remove_dir(&scratch)?;
    made
}

fn make_in(scratch: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut compiler = described()?;
    tonic_prost_build::configure()
        // Connections are made by `jackfield_grpc::channel`, not by tonic.
        .build_transport(false)
        // Arguments and answers are slices of what was read, not copies.
        .bytes(".jackfield.plugin.v1")
        .emit_rerun_if_changed(false)
        .out_dir(scratch)
        .compile_fds(compiler.file_descriptor_set())
        .context("cannot generate Rust")?;
    let mut made = BTreeMap::new();
    for path in crate::paths::list(scratch)? {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        made.insert(name, fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?);
    }
    // Comments are for readers of the sources; every plugin that serves reflection carries this.
    compiler.include_source_info(false);
    made.insert(DESCRIPTORS.to_owned(), compiler.file_descriptor_set().encode_to_vec());
    Ok(made)
}

/// Writes what is checked in.
#[cfg(feature = "codegen")]
pub(crate) fn write() -> Result<()> {
    let into = generated();
    crate::paths::remove_dir(&into)?;
    crate::paths::make_dir(&into)?;
    for (name, content) in make()? {
        let path = into.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_rust_is_what_the_protos_say() {
        let expected = make().expect("code is generated");
        let mut seen = BTreeMap::new();
        for path in crate::paths::list(&generated()).expect("a directory") {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            seen.insert(name, fs::read(&path).expect("a file that can be read"));
        }
        assert_eq!(seen.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, content) in &expected {
            assert!(seen[name] == *content, "`{name}` is stale: run `cargo xtask codegen`");
        }
    }
}
