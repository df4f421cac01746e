//! Who can change a plugin's files beside us, and where its links lead.
//!
//! Looked at are the manifest, the entry, and every directory from them up to the plugin directory, as they are
//! written and with links followed: none may be writable by others, and each must belong to this user or to root.
//! A group that has nobody in it but the owner is nobody else. Above the plugin directory only what everybody can
//! write to is refused, unless it is sticky, as `/tmp` is: there nobody can move what is another's.
//!
//! Not here: access lists (a mode shows the most that they give), groups that `/etc/group` does not have (they have
//! others in them), and what else a plugin reads. Nothing of this is looked at where there are no modes (Windows).

use std::path::{Path, PathBuf};

use super::TrustError;
use crate::manifest::Exposure;

/// Where a plugin lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory whose `plugins.lock` speaks of it.
    pub(super) locked_in: PathBuf,
    /// What its files must not leave.
    inside: PathBuf,
    /// Whether `inside` holds plugins alone, and not whatever else somebody puts beside a file that was named.
    ours: bool,
}

impl Place {
    /// The place of the plugin with this manifest, or of this file without one, in a host with plugins in `dirs` and
    /// at `paths`.
    pub(super) fn of(dirs: &[PathBuf], paths: &[PathBuf], source: &Path) -> Self {
        let above = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => path.to_owned(),
        };
        let parent = above(source);
        let within = |dir: &&PathBuf| [Some(&*parent), parent.parent()].contains(&Some(dir.as_path()));
        let is_manifest = source.file_name().is_some_and(|name| name == "plugin.toml" || name == "plugin.json");
        // Those that are named come first, as they do when plugins are looked for.
        if paths.contains(&parent) {
            return Self { locked_in: above(&parent), inside: parent, ours: true };
        }
        if paths.iter().any(|path| path == source) && !is_manifest {
            let inside = above(&source.canonicalize().unwrap_or_else(|_| source.to_owned()));
            return Self { locked_in: parent, inside, ours: false };
        }
        let inside = dirs.iter().find(within).cloned().unwrap_or(parent);
        Self { locked_in: inside.clone(), inside, ours: true }
    }

    /// Checks what lies here; `let_pass` gets what is allowed all the same.
    pub(super) fn check(
        &self,
        source: &Path,
        entry: &Path,
        allow: &[Exposure],
        let_pass: &mut Vec<String>,
    ) -> Result<(), TrustError> {
        let mut found = |exposure: Exposure, error: TrustError| match allow.contains(&exposure) {
            true => {
                let why = super::error::in_full(&error);
                if !let_pass.contains(&why) {
                    let_pass.push(why);
                }
                Ok(())
            }
            false => Err(error),
        };
        let resolved =
            |path: &Path| path.canonicalize().map_err(|source| TrustError::Read { path: path.to_owned(), source });
        let home = resolved(&self.inside)?;
        // The ways of manifest and entry have most of their directories in common.
        let mut seen: Vec<PathBuf> = Vec::new();
        for file in [source, entry] {
            let target = resolved(file)?;
            if !target.starts_with(&home) {
                let (path, directory) = (file.to_owned(), self.inside.clone());
                found(Exposure::Links, TrustError::Outside { path, directory, target: target.clone() })?;
            }
            // The way as it is written, and the way to where it leads.
            let written = file.ancestors().take_while(|path| path.starts_with(&self.inside));
            let way = written.chain(target.ancestors().take_while(|path| path.starts_with(&home)));
            // Of what was let out, the directory that it lies in.
            let way = way.chain(target.parent().filter(|_| !target.starts_with(&home)));
            for path in way.chain([file, &*target]) {
                let is_home = path == self.inside || path == home;
                if (!self.ours && is_home) || seen.iter().any(|seen| seen == path) {
                    continue;
                }
                seen.push(path.to_owned());
                if let Some(error) = exposed(path)? {
                    found(Exposure::Writable, error)?;
                }
            }
            for path in home.ancestors().chain(target.ancestors()).filter(|path| !path.starts_with(&home)) {
                if path == target || seen.iter().any(|seen| seen == path) {
                    continue;
                }
                seen.push(path.to_owned());
                if let Some(error) = open_to_all(path)? {
                    found(Exposure::Writable, error)?;
                }
            }
            if !self.ours
                && let Some(error) = open_to_all(&home)?
            {
                found(Exposure::Writable, error)?;
            }
        }
        Ok(())
    }
}

/// What is wrong with a file or directory, if others than this user and root can change it.
#[cfg(unix)]
pub(super) fn exposed(path: &Path) -> Result<Option<TrustError>, TrustError> {
    use std::os::unix::fs::MetadataExt as _;

    let seen = look(path)?;
    let me = rustix::process::geteuid().as_raw();
    let mode = seen.mode() & 0o7777;
    let wrong = |why: String, mend: String| {
        let mend = format!("{mend} {}", super::error::quoted(path));
        Ok(Some(TrustError::Exposed { path: path.to_owned(), why, mend }))
    };
    if seen.uid() != me && seen.uid() != 0 {
        let why = format!("it belongs to user {}, this host runs as {me}", seen.uid());
        return wrong(why, format!("chown {me}"));
    }
    if mode & 0o002 != 0 {
        return wrong(format!("everybody can write to it (mode {mode:o})"), "chmod go-w".to_owned());
    }
    if mode & 0o020 != 0 && !is_private(seen.gid(), seen.uid()) {
        return wrong(format!("group {} can write to it (mode {mode:o})", seen.gid()), "chmod g-w".to_owned());
    }
    Ok(None)
}

/// What is wrong with a directory, if everybody can move what is in it.
#[cfg(unix)]
fn open_to_all(path: &Path) -> Result<Option<TrustError>, TrustError> {
    use std::os::unix::fs::MetadataExt as _;

    let mode = look(path)?.mode() & 0o7777;
    Ok((mode & 0o1002 == 0o002).then(|| TrustError::Exposed {
        path: path.to_owned(),
        why: format!("everybody can write to it, and so replace what is in it (mode {mode:o})"),
        mend: format!("chmod o-w {}", super::error::quoted(path)),
    }))
}

#[cfg(unix)]
fn look(path: &Path) -> Result<std::fs::Metadata, TrustError> {
    std::fs::metadata(path).map_err(|source| TrustError::Read { path: path.to_owned(), source })
}

/// Whether a group has nobody in it but its owner, as far as the files of the system say.
#[cfg(unix)]
fn is_private(group: u32, owner: u32) -> bool {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    is_private_by(&read("/etc/passwd"), &read("/etc/group"), group, owner)
}

#[cfg(unix)]
pub(super) fn is_private_by(users: &str, groups: &str, group: u32, owner: u32) -> bool {
    fn records(text: &str) -> Vec<Vec<&str>> {
        text.lines().map(|line| line.split(':').collect()).collect()
    }
    let number = |record: &[&str], at: usize| record.get(at).and_then(|field| field.parse::<u32>().ok());
    let users = records(users);
    let name = users.iter().find(|user| number(user, 2) == Some(owner)).and_then(|user| user.first());
    let others = users.iter().any(|user| number(user, 3) == Some(group) && number(user, 2) != Some(owner));
    let groups = records(groups);
    let members = groups.iter().find(|line| number(line, 2) == Some(group)).and_then(|line| line.get(3));
    match (name, members) {
        (Some(name), Some(members)) if !others => {
            members.split(',').map(str::trim).all(|member| member.is_empty() || member == *name)
        }
        _ => false,
    }
}

#[cfg(not(unix))]
pub(super) fn exposed(_: &Path) -> Result<Option<TrustError>, TrustError> {
    Ok(None)
}

#[cfg(not(unix))]
fn open_to_all(_: &Path) -> Result<Option<TrustError>, TrustError> {
    Ok(None)
}
