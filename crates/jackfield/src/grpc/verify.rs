//! A program that its manifest pins: what is run is what was hashed.
//!
//! On Linux the program is copied into memory while it is hashed, sealed, and run from there: a file that is
//! replaced or written to meanwhile changes nothing. Elsewhere the file is hashed right before it is run.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::Command;

use hmac_sha256::Hash;

use super::GrpcError;

/// The program as it was hashed, kept until it runs.
pub(super) struct Verified {
    #[cfg(target_os = "linux")]
    sealed: File,
}

const CHUNK_BYTES: usize = 64 * 1024;

/// Hashes a program.
pub(super) fn verify(program: &Path, pinned: &[u8; 32]) -> Result<Verified, GrpcError> {
    let failed = |source| GrpcError::Spawn { program: program.to_owned(), source };
    let file = File::open(program).map_err(failed)?;
    let (found, verified) = hash(file).map_err(failed)?;
    // Whoever could learn something from the time this takes knows the file and the pin anyway.
    if found != *pinned {
        let digits = |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(GrpcError::Checksum { program: program.to_owned(), pinned: digits(pinned), found: digits(&found) });
    }
    Ok(verified)
}

#[cfg(target_os = "linux")]
fn hash(mut file: File) -> io::Result<([u8; 32], Verified)> {
    use std::io::Write as _;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let mut sealed = File::from(memfd_create("plugin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    let mut hash = Hash::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        sealed.write_all(&chunk[..read])?;
    }
    fcntl_add_seals(&sealed, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok((hash.finalize(), Verified { sealed }))
}

#[cfg(not(target_os = "linux"))]
fn hash(mut file: File) -> io::Result<([u8; 32], Verified)> {
    let mut hash = Hash::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((hash.finalize(), Verified {})),
            read => hash.update(&chunk[..read]),
        }
    }
}

impl Verified {
    /// `command` with the program that was hashed in place of the file.
    #[cfg(target_os = "linux")]
    pub(super) fn instead_of(&self, command: &Command) -> io::Result<Command> {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::process::CommandExt as _;

        let mut start = [0; 2];
        std::os::unix::fs::FileExt::read_exact_at(&self.sealed, &mut start, 0)?;
        if &start == b"#!" {
            // The interpreter would open the file again, when it is closed already.
            let why = "a script cannot be pinned: its interpreter would read the file anew";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let mut pinned = Command::new(format!("/proc/self/fd/{}", self.sealed.as_raw_fd()));
        pinned.arg0(command.get_program()).args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            pinned.current_dir(directory);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => pinned.env(name, value),
                None => pinned.env_remove(name),
            };
        }
        Ok(pinned)
    }
}
