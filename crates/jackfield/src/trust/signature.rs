//! Signatures by minisign: `<entry>.minisig`, beside the entry with links followed.
//!
//! A signature says who made the bytes of the entry. It says nothing of the manifest, nor that the bytes are this
//! plugin's newest, nor this plugin's at all: any entry that a trusted key has signed passes for any other. What
//! ties name, manifest and bytes together is the lock.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{PublicKey, Signature};

use super::TrustError;
use crate::manifest::Signatures;
use crate::regular_file;

/// Largest signature, and file of keys, that is read, in bytes.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// Where the signature of an entry is.
pub(super) fn beside(entry: &Path) -> PathBuf {
    let entry = entry.canonicalize().unwrap_or_else(|_| entry.to_owned());
    let mut path = entry.into_os_string();
    path.push(".minisig");
    path.into()
}

/// The number of the trusted key that has signed `bytes`. `keys`: the file of trusted keys, and whether others may
/// be able to write to it. Nothing is looked at where signatures are off.
pub(super) fn verify(
    bytes: &[u8],
    entry: &Path,
    signatures: Signatures,
    keys: Option<(&Path, bool)>,
) -> Result<String, TrustError> {
    if signatures == Signatures::Off {
        return Ok(String::new());
    }
    let file = beside(entry);
    let failed = |why: String| TrustError::Signature { signature: file.clone(), why };
    let text = match read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(TrustError::Unsigned { path: entry.to_owned(), signature: file });
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let signature = Signature::decode(&text).map_err(|_| failed("it is none of minisign".to_owned()))?;
    // The second line: two bytes for the algorithm, eight for the key's number, and the signature.
    let number = text.lines().nth(1).and_then(key_number);
    let number = number.ok_or_else(|| failed("it is none of minisign".to_owned()))?;
    let unknown = |trusted: String| Err(TrustError::UnknownKey { path: entry.to_owned(), key: shown(number), trusted });
    let Some((path, may_be_exposed)) = keys else { return unknown("no file of trusted keys is named".to_owned()) };
    let trusted = trusted(path, may_be_exposed)?;
    let candidates: Vec<_> = trusted.iter().filter(|(other, _)| *other == number).collect();
    if candidates.is_empty() {
        let numbers: Vec<_> = trusted.iter().map(|(number, _)| shown(*number)).collect();
        return unknown(format!("`{}` has {}", path.display(), numbers.join(", ")));
    }
    let mut why = String::new();
    for (_, key) in candidates {
        match key.verify(bytes, &signature, false) {
            Ok(()) => return Ok(shown(number)),
            Err(minisign_verify::Error::UnexpectedAlgorithm) => {
                why = "it is of the old kind, without a hash".to_owned()
            }
            Err(_) => why = format!("`{}` is not what {} signed", entry.display(), shown(number)),
        }
    }
    Err(failed(why))
}

/// The keys in a file: one a line, as in minisign's own files, whose comments are passed over.
fn trusted(path: &Path, may_be_exposed: bool) -> Result<Vec<(u64, PublicKey)>, TrustError> {
    let failed = |what: String| TrustError::Keys { path: path.to_owned(), what };
    let text = read(path).map_err(|error| failed(error.to_string()))?;
    if !may_be_exposed && let Some(error) = super::exposed::exposed(path)? {
        return Err(error);
    }
    let is_key = |line: &str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("untrusted comment:");
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| is_key(line));
    let keys: Result<Vec<_>, _> = lines
        .map(|(at, line)| {
            let key = PublicKey::from_base64(line).ok().and_then(|key| Some((key_number(line)?, key)));
            key.ok_or_else(|| failed(format!("line {} is no public key of minisign", at + 1)))
        })
        .collect();
    match keys? {
        none if none.is_empty() => Err(failed("there are none".to_owned())),
        keys => Ok(keys),
    }
}

/// The number in the first bytes of a key or of a signature.
fn key_number(line: &str) -> Option<u64> {
    let bytes = STANDARD.decode(line.trim()).ok()?;
    Some(u64::from_le_bytes(bytes.get(2..10)?.try_into().ok()?))
}

/// As minisign shows it.
fn shown(number: u64) -> String {
    format!("{number:016X}")
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    regular_file::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
