//! A socket in the file system: for its owner alone, one host at a time, and gone when the host is.
//!
//! A host that was killed leaves its socket behind. It is told from that of a host that lives by knocking: nobody
//! answers at it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::fault::Kind;
use crate::report::Told;

/// A socket that is listened at. Dropped, its file is removed, unless it is somebody else's by now.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
}

impl Socket {
    /// Makes a socket and listens at it. Its directory is made if it is missing, open to its owner alone.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener)> {
        let shown = path.display();
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("`{shown}` is no path of a socket");
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make the directory of the socket `{shown}`"))?;
        check_directory(directory)?;
        // Held until the socket is there, so that of two hosts that begin at once one sees the other.
        let turn = File::open(directory).and_then(|directory| directory.lock().map(|()| directory));
        let _turn = turn.with_context(|| format!("cannot lock the directory of the socket `{shown}`"))?;
        clear(path)?;
        // Under another name first: at its own, it never has another mode than the one it keeps.
        let mut early = name.to_owned();
        early.push(format!(".{}", std::process::id()));
        let early = directory.join(early);
        let _ = fs::remove_file(&early);
        let bound = UnixListener::bind(&early).and_then(|listener| {
            fs::set_permissions(&early, fs::Permissions::from_mode(0o600))?;
            let seen = fs::symlink_metadata(&early)?;
            fs::rename(&early, path)?;
            listener.set_nonblocking(true)?;
            Ok((listener, (seen.dev(), seen.ino())))
        });
        match bound {
            Ok((listener, file)) => Ok((Self { path: path.to_owned(), file }, listener)),
            Err(error) => {
                let _ = fs::remove_file(&early);
                Err(error).with_context(|| format!("cannot listen at `unix:{shown}`"))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|seen| (seen.dev(), seen.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the socket `{}`: {error}", self.path.display());
        }
    }
}

/// Whoever may write to the directory of a socket may put another one in its place.
fn check_directory(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let seen = fs::metadata(directory).with_context(|| format!("cannot look at `{shown}`"))?;
    let what = if !seen.is_dir() {
        "is no directory".to_owned()
    } else if let Some(owner) = stranger(&seen) {
        format!("belongs to user {owner}")
    } else if seen.mode() & 0o022 != 0 && seen.mode() & 0o1000 == 0 {
        format!("can be written to by others (mode {:o})", seen.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(Told::new(Kind::Internal, format!("the directory of the socket, `{shown}`, {what}"))
        .hint("put the socket into a directory of your own")
        .into())
}

/// Makes sure that nothing is at the place of a socket.
fn clear(path: &Path) -> Result<()> {
    let shown = path.display();
    let seen = match fs::symlink_metadata(path) {
        Ok(seen) => seen,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at `{shown}`")),
    };
    if !seen.file_type().is_socket() {
        bail!("`{shown}` is there already, and no socket");
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            let text = format!("a host listens at `unix:{shown}` already");
            Err(Told::new(Kind::Internal, text).hint(format!("ask it: `jackfield --host unix:{shown} list`")).into())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!("`{shown}` was left behind by a host that is gone");
            fs::remove_file(path).with_context(|| format!("cannot remove the socket `{shown}` of a host that is gone"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot tell whose the socket `{shown}` is")),
    }
}

/// Whether a socket is one that we may trust: in a directory that everybody can write to, another user could have
/// put it there.
pub(crate) fn check_owner(path: &Path) -> Result<()> {
    // What cannot be looked at cannot be reached either, which is said in better words then.
    match fs::metadata(path).ok().as_ref().and_then(stranger) {
        Some(owner) => bail!("the socket `{}` belongs to user {owner}", path.display()),
        None => Ok(()),
    }
}

/// The owner, if it is neither us nor root. To root, nobody is a stranger.
fn stranger(seen: &Metadata) -> Option<u32> {
    let me = rustix::process::geteuid().as_raw();
    Some(seen.uid()).filter(|owner| *owner != 0 && *owner != me && me != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(result: Result<(Socket, UnixListener)>, directory: &Path) -> String {
        let error = result.map(drop).expect_err("it is refused");
        format!("{error:#}").replace(&*directory.to_string_lossy(), "DIR")
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_gone_with_its_host() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("run/host.sock");
        let (socket, listener) = Socket::bind(&path).expect("bound");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(root.path().join("run")).expect("a directory").mode() & 0o7777, 0o700);
        UnixStream::connect(&path).expect("somebody listens");
        drop((socket, listener));
        assert_eq!(fs::read_dir(root.path().join("run")).expect("a directory").count(), 0);
    }

    #[test]
    fn what_a_dead_host_left_is_replaced_and_a_living_host_is_not() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("host.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "it is left behind");
        let (_socket, _listener) = Socket::bind(&path).expect("bound");
        assert_eq!(words(Socket::bind(&path), root.path()), "a host listens at `unix:DIR/host.sock` already");
        UnixStream::connect(&path).expect("the first one listens still");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("notes");
        fs::write(&path, "milk").expect("written");
        assert_eq!(words(Socket::bind(&path), root.path()), "`DIR/notes` is there already, and no socket");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "milk");
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let open = root.path().join("open");
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("set");
        let said = words(Socket::bind(&open.join("host.sock")), root.path());
        assert_eq!(said, "the directory of the socket, `DIR/open`, can be written to by others (mode 777)");
        // As the temporary directory is: what is there is its owner's to remove.
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).expect("set");
        Socket::bind(&open.join("host.sock")).expect("bound");
    }
}
