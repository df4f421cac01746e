//! The token of a host that listens on TCP: read from a file, since what stands in a command line is seen by every
//! user of the machine.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use http::HeaderValue;
use subtle::ConstantTimeEq as _;

use crate::fault::Kind;
use crate::report::Told;

/// Shortest token. Half as long would take years to guess; nobody types it anyway.
const LENGTH_MIN: usize = 16;

/// What a request must carry: `Authorization: Bearer TOKEN`.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Reads a file with a token alone. One that others can read is refused.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let shown = file.display();
        let wrong = |what: String| Told::new(Kind::Internal, format!("the token file `{shown}` {what}"));
        let seen = fs::metadata(file).with_context(|| format!("cannot read the token file `{shown}`"))?;
        if let Some(mode) = open_to_others(&seen) {
            let told = wrong(format!("can be read by others (mode {mode:o})"));
            return Err(told.hint(format!("keep it to yourself: `chmod 600 {shown}`")).into());
        }
        let text = fs::read_to_string(file).with_context(|| format!("cannot read the token file `{shown}`"))?;
        let token = text.trim();
        if token.len() < LENGTH_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let hint = "make one: `head -c 32 /dev/urandom | base64 > FILE`";
            let what = format!("has no token: one of at least {LENGTH_MIN} letters, digits or signs without spaces");
            return Err(wrong(what).hint(hint).into());
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether a request that carries `authorization` may come in. Takes as long for every wrong token of
    /// the same length.
    pub(crate) fn admits(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|value| value.as_bytes().split_at_checked(7)) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(self.0.as_bytes().ct_eq(token.trim_ascii()))
    }

    pub(crate) fn header(&self) -> Result<HeaderValue> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", self.0))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(unix)]
fn open_to_others(seen: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;

    Some(seen.mode() & 0o7777).filter(|mode| mode & 0o077 != 0)
}

#[cfg(not(unix))]
fn open_to_others(_: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_comes_in() {
        let token = Token("0123456789abcdef".to_owned());
        let admits = |value: &'static str| token.admits(Some(&HeaderValue::from_static(value)));
        assert!(admits("Bearer 0123456789abcdef") && admits("bearer  0123456789abcdef"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeg", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
        {
            assert!(!admits(wrong), "{wrong}");
        }
        assert!(!token.admits(None));
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[cfg(unix)]
    #[test]
    fn a_token_that_others_can_read_is_none() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        let read = |text: &str, mode| {
            fs::write(&file, text).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
            Token::read(&file).map_err(|error| error.to_string().replace(&*file.to_string_lossy(), "FILE"))
        };
        assert!(read("0123456789abcdef\n", 0o600).is_ok());
        let open = read("0123456789abcdef\n", 0o640).expect_err("it is open");
        assert_eq!(open, "the token file `FILE` can be read by others (mode 640)");
        assert!(read("short", 0o600).is_err() && read("0123456789 abcdefg", 0o600).is_err());
    }
}
