//! Messages, clients and servers in Rust, and the descriptors that reflection serves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use prost::Message as _;

/// `.proto` files that are compiled together, and where the code goes. Paths from the root of the repository.
pub(crate) struct Package {
    /// The directory of the files, in which their imports are looked for.
    protos: &'static str,
    files: &'static [&'static str],
    /// Has nothing in it but what is generated.
    generated: &'static str,
    /// The messages whose bytes are slices of what was read, not copies.
    slices: &'static [&'static str],
}

/// All of them.
pub(crate) const PACKAGES: &[Package] = &[
    Package {
        protos: "crates/jackfield-grpc/proto",
        files: &[
            "plugin/broker.proto",
            "plugin/controller.proto",
            "plugin/stdio.proto",
            "jackfield/plugin/v1/plugin.proto",
        ],
        generated: "crates/jackfield-grpc/src/generated",
        slices: &[".jackfield.plugin.v1"],
    },
    Package {
        protos: "examples/kv/proto",
        files: &["kv.proto", "counter.proto"],
        generated: "examples/kv/src/generated",
        slices: &[],
    },
    Package {
        protos: "fixtures/grpc/proto",
        files: &["matrix.proto"],
        generated: "fixtures/grpc/rust/matrix/src/generated",
        slices: &[],
    },
];

/// The descriptors of all files and of what they import, as one encoded `FileDescriptorSet`.
const DESCRIPTORS: &str = "descriptors.bin";

impl Package {
    /// The `.proto` files, compiled. Without protoc, which not every machine has.
    pub(crate) fn described(&self) -> Result<protox::Compiler> {
        let mut compiler = protox::Compiler::new([crate::paths::root().join(self.protos)])?;
        compiler.include_imports(true).include_source_info(true).open_files(self.files)?;
        Ok(compiler)
    }

    fn generated(&self) -> PathBuf {
        crate::paths::root().join(self.generated)
    }

    /// The files that belong into `generated`, by name.
    fn make(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let scratch = std::env::temp_dir().join(format!("jackfield-codegen-{}", std::process::id()));
        crate::paths::make_dir(&scratch)?;
        let made = self.make_in(&scratch);
        crate::paths::remove_dir(&scratch)?;
        made
    }

    fn make_in(&self, scratch: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut compiler = self.described()?;
        let mut build = tonic_prost_build::configure()
            // Connections are made by `jackfield_grpc::channel`, not by tonic.
            .build_transport(false)
            .emit_rerun_if_changed(false)
            .out_dir(scratch);
        for messages in self.slices {
            build = build.bytes(messages);
        }
        build.compile_fds(compiler.file_descriptor_set()).context("cannot generate Rust")?;
        let mut made = read_all(scratch)?;
        // Comments are for readers of the sources; every plugin that serves reflection carries this.
        compiler.include_source_info(false);
        made.insert(DESCRIPTORS.to_owned(), compiler.file_descriptor_set().encode_to_vec());
        Ok(made)
    }
}

/// The files of a directory, by name.
fn read_all(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut read = BTreeMap::new();
    for path in crate::paths::list(directory)? {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        read.insert(name, fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?);
    }
    Ok(read)
}

/// Writes what is checked in.
#[cfg(feature = "codegen")]
pub(crate) fn write() -> Result<()> {
    for package in PACKAGES {
        let into = package.generated();
        crate::paths::remove_dir(&into)?;
        crate::paths::make_dir(&into)?;
        for (name, content) in package.make()? {
            let path = into.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_rust_is_what_the_protos_say() {
        for package in PACKAGES {
            let expected = package.make().expect("code is generated");
            let seen = read_all(&package.generated()).expect("a directory");
            assert_eq!(seen.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (name, content) in &expected {
                assert!(seen[name] == *content, "`{name}` is stale: run `cargo xtask codegen`");
            }
        }
    }
}
