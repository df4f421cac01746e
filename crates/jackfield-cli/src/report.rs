//! Errors, as a person reads them: the whole chain once, then what may help.

use std::error::Error;
use std::fmt;
use std::path::Path;

use jackfield::{Cause, Failure, FileError, LoadError};

use crate::fault::Kind;
use crate::output::{Paint, plain};

/// An error in words that may come with advice. Only this command gives advice; the library says what
/// was seen.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
    pub(crate) source: Option<Box<Told>>,
}

impl Told {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), hint: None, source: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The words of an error that belongs to somebody else, and of its causes.
    pub(crate) fn copy_of(error: &dyn Error) -> Self {
        let source = error.source().map(|source| Box::new(Told::copy_of(source)));
        Self { source, ..Self::new(Kind::Internal, error.to_string()) }
    }

    /// What helps against `reason` of the plugin at `path`.
    pub(crate) fn hint_for(reason: &LoadError, path: &Path) -> Option<String> {
        match reason {
            LoadError::File(FileError::NotExecutable) => {
                Some(format!("make it executable: `chmod +x {}`", path.display()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error with its causes and hints, ready to be written.
pub(crate) fn text(error: &anyhow::Error, paint: Paint) -> String {
    let mut text = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let label = if depth == 0 { "error:" } else { "  caused by:" };
        text += &format!("{} {}\n", paint.red(label), plain(&cause.to_string()));
    }
    let mut hints = error.chain().filter_map(hint).peekable();
    if hints.peek().is_some() {
        text.push('\n');
    }
    for hint in hints {
        text += &format!("  {} {}\n", paint.green("hint:"), plain(&hint));
    }
    text
}

fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let more_time = || Some("give it more time with `--timeout`".to_owned());
    if let Some(told) = error.downcast_ref::<Told>() {
        // A call that a running host made failed there, and is told here.
        return told.hint.clone().or_else(|| if told.kind == Kind::Timeout { more_time() } else { None });
    }
    match &error.downcast_ref::<Failure>()?.cause {
        Cause::Timeout { .. } => more_time(),
        _ => None,
    }
}

/// The words of an error, then those of its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(|cause| plain(&cause.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_whole_chain_is_told_once_and_the_hints_last() {
        let io = Told::new(Kind::Internal, "permission denied");
        let refused = Told::new(Kind::PluginRefused, "plugin `resize` was refused").hint("make it executable");
        let refused = Told { source: Some(Box::new(io)), ..refused };
        let error = anyhow::Error::from(refused).context("cannot\x1b[31m call");
        expect![[r#"
            error: cannot\u{1b}[31m call
              caused by: plugin `resize` was refused
              caused by: permission denied

              hint: make it executable
        "#]]
        .assert_eq(&text(&error, Paint::PLAIN));
    }

    #[test]
    fn a_call_that_took_too_long_is_told_how_to_get_more_time() {
        let cause = Cause::Timeout { after: std::time::Duration::from_secs(1) };
        let error = anyhow::Error::from(Failure::new("english", "greet", cause));
        expect![[r#"
            error: call of `greet` of plugin `english`: no answer after 1s

              hint: give it more time with `--timeout`
        "#]]
        .assert_eq(&text(&error, Paint::PLAIN));
    }
}
