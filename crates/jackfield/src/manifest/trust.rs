//! `[trust]` of `jackfield.toml`: what of a plugin is checked before it is loaded.
//!
//! Not of a manifest: what a plugin says of itself vouches for nothing. Of a manifest is `sha256`, which only keeps
//! manifest and entry together.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::document::{Keys, Table};
use super::error::Fault;
use super::service::path;
use crate::lifecycle::{UnknownSetting, named};

/// `[trust]` of a configuration.
///
/// ```toml
/// [trust]
/// locked = true
/// signatures = "require"
/// trusted_keys = "/etc/jackfield/keys"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustSpec {
    /// `locked`: whether only plugins are loaded that are in the `plugins.lock` of their directory, as they are there.
    /// Default: no.
    pub locked: Option<bool>,
    /// `signatures`: `"off"`, `"warn"` or `"require"`. Default: off.
    pub signatures: Option<Signatures>,
    /// `trusted_keys`: a file with the public keys of minisign whose signatures count, one a line. Default: none.
    pub trusted_keys: Option<PathBuf>,
    /// `allow`: what is let pass that is refused otherwise: `"writable"`, `"links"`. Default: nothing.
    pub allow: Vec<Exposure>,
}

/// What a signature is needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signatures {
    /// `"off"`: none is looked at.
    #[default]
    Off,
    /// `"warn"`: one that is missing or does not hold is told, in the log and by
    /// [`Trusted::let_pass`](crate::Trusted::let_pass).
    Warn,
    /// `"require"`: a plugin without one that holds is refused.
    Require,
}

/// Something about the place of a plugin for which it is refused, unless it is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// `"writable"`: its files or directories can be written by others, or belong to others than this user and root.
    Writable,
    /// `"links"`: a symbolic link leads out of the plugin directory.
    Links,
}

impl Signatures {
    const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Require];

    /// `off`, `warn`, `require`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Require => "require",
        }
    }
}

impl Exposure {
    const ALL: [Self; 2] = [Self::Writable, Self::Links];

    /// `writable`, `links`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Links => "links",
        }
    }
}

impl FromStr for Signatures {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        named(text, Self::ALL, Self::as_str)
    }
}

impl FromStr for Exposure {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        named(text, Self::ALL, Self::as_str)
    }
}

impl TrustSpec {
    pub(super) fn read(table: Table, directory: &Path) -> Result<Self, Fault> {
        let mut keys = Keys::new("trust.", table, &["locked", "signatures", "trusted_keys", "allow"])?;
        Ok(Self {
            locked: keys.take("locked").map(|locked| locked.boolean()).transpose()?,
            signatures: keys.take("signatures").map(|signatures| signatures.parsed()).transpose()?,
            trusted_keys: keys.take("trusted_keys").map(|keys| path(directory, &keys)).transpose()?,
            allow: super::list(keys.take("allow"), |item| item.parsed())?,
        })
    }
}
