//! What need not be made again: a file whose sources and command are those it was made with.
//!
//! Told by their contents, not by their times, which git sets anew. cargo and go know this by
//! themselves and are always asked.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::Run as _;

/// Runs `command`, which makes `made` out of `sources`, unless it did before and nothing has changed.
///
/// The note of what `made` was made with lies beside it.
pub(crate) fn follow(command: &mut Command, sources: &[PathBuf], made: &Path) -> Result<()> {
    let recipe = recipe(command, sources)?;
    let note = made.with_added_extension("recipe");
    if made.is_file() && fs::read_to_string(&note).is_ok_and(|noted| noted == recipe) {
        return Ok(());
    }
    // Without this a failure would leave the old file with a note that fits it no longer.
    let _ = fs::remove_file(&note);
    command.run_quietly()?;
    fs::write(&note, recipe).with_context(|| format!("cannot write `{}`", note.display()))
}

/// The command in words, then each source with its hash.
fn recipe(command: &Command, sources: &[PathBuf]) -> Result<String> {
    let mut text = format!("{command:?}\n");
    for source in sources {
        let bytes = fs::read(source).with_context(|| format!("cannot read `{}`", source.display()))?;
        let mut hash = DefaultHasher::new();
        bytes.hash(&mut hash);
        text += &format!("{:016x} {}\n", hash.finish(), source.display());
    }
    Ok(text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn a_file_is_made_again_when_its_source_or_its_command_has_changed_and_only_then() {
        let dir = std::env::temp_dir().join(format!("xtask-recipe-{}", std::process::id()));
        paths::make_dir(&dir).expect("a directory");
        let (source, made, count) = (dir.join("source"), dir.join("made"), dir.join("count"));
        let follow = |word: &str| {
            let mut sh = Command::new("sh");
            sh.current_dir(&dir).args(["-c", "cat source > made; echo made >> count", word]);
            follow(&mut sh, std::slice::from_ref(&source), &made).expect("it runs");
            let times = fs::read_to_string(&count).expect("a count").lines().count();
            (fs::read_to_string(&made).expect("what was made"), times)
        };

        fs::write(&source, "one").expect("a source");
        assert_eq!(follow("a"), ("one".to_owned(), 1));
        assert_eq!(follow("a"), ("one".to_owned(), 1));
        fs::write(&source, "two").expect("a source");
        assert_eq!(follow("a"), ("two".to_owned(), 2));
        assert_eq!(follow("b"), ("two".to_owned(), 3));
        fs::remove_file(&made).expect("it was there");
        assert_eq!(follow("b"), ("two".to_owned(), 4));
        paths::remove_dir(&dir).expect("no directory");
    }
}
