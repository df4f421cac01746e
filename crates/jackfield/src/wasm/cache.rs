//! Compiled code that is kept on disk: `<cache>/wasm/<key>`.
//!
//! Machine code is run as it is found, so a file is believed only with a MAC over every byte of it, made
//! with a secret that this user alone can read. What is checked and what is run are the same bytes in
//! memory: the file is opened once. Any doubt about a file, its directory or the secret means that the
//! plugin is compiled again, never that it is refused.
//!
//! The key of a file has all that the code was made from: the WebAssembly bytes, the engine's settings,
//! the versions of wasmtime and Jackfield, the machine. A file under another's name fails its MAC.
//!
//! Not here: compiling (`compile.rs`). A cache does I/O and hashes megabytes, and so blocks its thread.

#![expect(unsafe_code, reason = "runs machine code from a file, once its MAC is checked")]

use std::fs::{self, File};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::compile::{Code, Shape};
use crate::private_dir::{self, Closed};

/// Size of a cache, in bytes. A hundred large plugins; more would not be missed.
pub(super) const BYTES_MAX: u64 = 1 << 30;

/// Begins every file; the digit is the version of the format.
const MAGIC: [u8; 8] = *b"jf-code1";

/// `MAGIC`, the payload's length, the MAC.
const HEADER_BYTES: usize = 8 + 8 + 32;

/// Name of the file with the secret.
const SECRET: &str = "key";

/// Ends the names of files with code.
const CODE: &str = "code";

/// Ends the names of files that are being written.
const PARTIAL: &str = "partial";

/// Age at which a file that is being written has been given up.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(3600);

/// A directory with compiled code.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
}

impl Cache {
    /// The cache in `directory`, which is made when it is first used. It keeps about `bytes_max` bytes:
    /// what was not used for the longest time goes first.
    pub(super) fn open(directory: PathBuf, bytes_max: u64) -> Self {
        Self { directory, bytes_max }
    }

    /// The place of what `engine` makes of `wasm`; none if the directory cannot be believed.
    pub(super) fn place(&self, engine: &Engine, shape: Shape, wasm: &[u8]) -> Option<Place> {
        let opened = private_dir::make(&self.directory)
            .and_then(|()| private_dir::check(&self.directory, Closed::ToAll))
            .and_then(|wrong| match wrong {
                Some(why) => Err(io::Error::other(why)),
                None => secret(&self.directory),
            });
        match opened {
            Ok(secret) => {
                let key = key(engine, shape, wasm);
                let file = self.directory.join(format!("{}.{CODE}", key.to_hex()));
                Some(Place { cache: self.clone(), file, shape, key, secret })
            }
            Err(error) => {
                let directory = self.directory.display();
                tracing::warn!(target: "jackfield::wasm", "`{directory}` cannot hold compiled code: {error}");
                None
            }
        }
    }

    /// Removes what was not used for longest until the rest is small enough, and what a writer left.
    fn sweep(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let path = entry.path();
            // A file that has just gone was removed by another host.
            let Ok(seen) = entry.metadata() else { continue };
            let used = seen.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is = |extension: &str| path.extension().is_some_and(|there| there == extension);
            if is(CODE) {
                files.push((used, seen.len(), path));
            } else if is(PARTIAL) && used.elapsed().is_ok_and(|age| age > PARTIAL_AGE_MAX) {
                let _ = fs::remove_file(path);
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, length, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            let _ = fs::remove_file(path);
            bytes -= length;
        }
        Ok(())
    }
}

/// Where the code of one plugin is kept.
#[derive(Clone, Debug)]
pub(super) struct Place {
    cache: Cache,
    file: PathBuf,
    shape: Shape,
    key: blake3::Hash,
    secret: Secret,
}

impl Place {
    /// The code that is kept, if it is there and beyond doubt. `engine` is the one of [`Cache::place`].
    pub(super) fn load(&self, engine: &Engine) -> Option<Code> {
        let (file, bytes) = match self.read() {
            Ok(read) => read,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.doubt(&error);
                }
                return None;
            }
        };
        let Some(payload) = self.believed(&bytes) else {
            self.doubt(&"it is not what was written");
            return None;
        };
        match self.run(engine, payload) {
            Ok(code) => {
                // For the order in which files are removed; one that keeps its old time is only removed earlier.
                let _ = file.set_modified(SystemTime::now());
                Some(code)
            }
            Err(error) => {
                self.doubt(&error);
                None
            }
        }
    }

    /// Keeps `code`. What cannot be kept is compiled again the next time.
    pub(super) fn store(&self, code: &Code) {
        let serialized = match code {
            Code::Module(module) => module.serialize(),
            Code::Component(component) => component.serialize(),
        };
        let stored = serialized.map_err(io::Error::other).and_then(|payload| {
            if payload.len() as u64 + HEADER_BYTES as u64 > self.cache.bytes_max {
                return Err(io::Error::other("larger than the whole cache"));
            }
            let header = self.header(&payload);
            write(&self.cache.directory, &[&header, &payload], |partial| fs::rename(partial, &self.file))?;
            self.cache.sweep()
        });
        if let Err(error) = stored {
            let directory = self.cache.directory.display();
            tracing::debug!(target: "jackfield::wasm", "compiled code is not kept in `{directory}`: {error}");
        }
    }

    fn read(&self) -> io::Result<(File, Vec<u8>)> {
        let mut file = File::open(&self.file)?;
        let mut bytes =
            Vec::with_capacity(usize::try_from(file.metadata()?.len().min(self.cache.bytes_max)).unwrap_or(0));
        (&mut file).take(self.cache.bytes_max).read_to_end(&mut bytes)?;
        Ok((file, bytes))
    }

    /// The code in a file's bytes, if the MAC is right, which only [`Place::store`] can have made.
    fn believed<'a>(&self, bytes: &'a [u8]) -> Option<Believed<'a>> {
        let (header, payload) = bytes.split_at_checked(HEADER_BYTES)?;
        let mac = blake3::Hash::from_bytes(header[16..].try_into().ok()?);
        let said = u64::from_le_bytes(header[8..16].try_into().ok()?);
        let is_whole = header[..8] == MAGIC && said == payload.len() as u64;
        // Hashes are compared in a time that does not tell where they differ.
        (is_whole && mac == self.mac(&header[..16], payload)).then_some(Believed(payload))
    }

    fn header(&self, payload: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        let mac = self.mac(&header[..16], payload);
        header[16..].copy_from_slice(mac.as_bytes());
        header
    }

    /// BLAKE3 with the secret as its key, which makes it a MAC. HMAC-SHA-256 would do as well and takes ten
    /// times as long without special instructions: 1 ms for 300 kB, and loading is to take less than that.
    fn mac(&self, start: &[u8], payload: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret.0);
        hasher.update(start).update(self.key.as_bytes()).update(payload);
        hasher.finalize()
    }

    fn run(&self, engine: &Engine, Believed(payload): Believed<'_>) -> wasmtime::Result<Code> {
        match self.shape {
            Shape::Module => {
                // SAFETY: `deserialize` requires what `Module::serialize` of any wasmtime gave, unmodified.
                // `payload` is a `Believed`: `believed` alone makes one, of bytes with a MAC that takes the
                // secret, which `secret` accepts only where no other user can read it; and `store` alone
                // makes a MAC, of what `serialize` gave it. They are in our memory since before the check.
                // The MAC has the key in it, so that it is code for this shape and these settings, too.
                let module = unsafe { Module::deserialize(engine, payload) };
                module.map(Code::Module)
            }
            Shape::Component => {
                // SAFETY: as above, with `Component::serialize`.
                let component = unsafe { Component::deserialize(engine, payload) };
                component.map(Code::Component)
            }
        }
    }

    fn doubt(&self, why: &dyn std::fmt::Display) {
        tracing::debug!(target: "jackfield::wasm", "`{}` is not used: {why}", self.file.display());
    }
}

/// Serialized code whose MAC was right.
struct Believed<'a>(&'a [u8]);

/// What MACs are made with.
#[derive(Clone)]
struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The secret of a directory, made now or before. One that others could read is replaced, and with it
/// all that was written before.
fn secret(directory: &Path) -> io::Result<Secret> {
    let path = directory.join(SECRET);
    let is_there = match read_secret(&path) {
        Ok(Some(secret)) => return Ok(secret),
        Ok(None) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    write(directory, &[&random::<32>()?], |partial| match is_there {
        true => fs::rename(partial, &path),
        // Unlike a rename, a link does not replace the secret that another host has just made. Where there
        // are no links, the later secret wins, and what the other host writes is compiled once more.
        false => match fs::hard_link(partial, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(partial),
            Err(_) => fs::rename(partial, &path),
            Ok(()) => fs::remove_file(partial),
        },
    })?;
    read_secret(&path)?.ok_or_else(|| io::Error::other("its secret cannot be kept from others"))
}

/// The secret in a file; none in one that is not a secret of ours alone.
fn read_secret(path: &Path) -> io::Result<Option<Secret>> {
    let mut file = File::open(path)?;
    // Asked of the open file, which is the one that is read.
    let seen = file.metadata()?;
    if !seen.is_file() || seen.len() != 32 || private_dir::exposed(&seen, Closed::ToAll).is_some() {
        return Ok(None);
    }
    let mut secret = [0; 32];
    file.read_exact(&mut secret)?;
    Ok(Some(Secret(secret)))
}

/// Writes a file beside its place, where nobody takes it for whole, and lets `publish` put it there.
fn write(directory: &Path, parts: &[&[u8]], publish: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    // Not the number of the process: two of different containers may have one, and this directory in common.
    let unique = u128::from_le_bytes(random()?);
    let partial = directory.join(format!("{unique:032x}.{PARTIAL}"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&partial).and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)));
    let published = written.and_then(|()| publish(&partial));
    if published.is_err() {
        let _ = fs::remove_file(&partial);
    }
    published
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// What names compiled code: all that it was made from.
fn key(engine: &Engine, shape: Shape, wasm: &[u8]) -> blake3::Hash {
    let mut settings = Settings(blake3::Hasher::new());
    // The version of wasmtime is among them.
    engine.precompile_compatibility_hash().hash(&mut settings);
    let mut hasher = blake3::Hasher::new_derive_key("jackfield compiled code 1");
    hasher.update(settings.0.finalize().as_bytes()).update(blake3::hash(wasm).as_bytes());
    let shape = match shape {
        Shape::Module => "module",
        Shape::Component => "component",
    };
    for text in [crate::HOST, std::env::consts::ARCH, std::env::consts::OS, shape] {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize()
}

/// A hasher of 256 bits where std's have 64, for which two engines could be found that are alike.
struct Settings(blake3::Hasher);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.0.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests;
