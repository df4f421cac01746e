//! What a command did and what it left out: tests counted, skipped things by name.
//!
//! A test that cannot do its work here appends a line to the file named by `JACKFIELD_SKIPS` and
//! passes. In CI that is a failure, unless the line starts with [`UNAVAILABLE_HERE`]: then it
//! names a thing that no machine of this kind has, and is only listed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::run::in_ci;
use crate::tally::Tally;

/// Begins a line about something that this kind of machine cannot have.
pub(crate) const UNAVAILABLE_HERE: &str = "unavailable-here:";

/// Grows while a command works; [`Report::close`] prints it.
pub(crate) struct Report {
    pub(crate) tests: Tally,
    skipped: Vec<String>,
    skips_file: PathBuf,
}

impl Report {
    pub(crate) fn start() -> Result<Report> {
        paths::make_dir(&paths::target())?;
        let skips_file = paths::target().join("skips.txt");
        fs::write(&skips_file, "").with_context(|| format!("cannot write `{}`", skips_file.display()))?;
        Ok(Report { tests: Tally::default(), skipped: Vec::new(), skips_file })
    }

    /// Where tests tell what they skipped; goes into their environment as `JACKFIELD_SKIPS`.
    pub(crate) fn skips_file(&self) -> &Path {
        &self.skips_file
    }

    pub(crate) fn skip(&mut self, line: impl Into<String>) {
        self.skipped.push(line.into());
    }

    /// How many lines [`Report::skip`] was given. Tests' own lines come in at the end.
    pub(crate) fn skip_count(&self) -> usize {
        self.skipped.len()
    }

    /// Runs `command`, printing its output, and counts the tests in it.
    pub(crate) fn count(&mut self, command: &mut Command) -> Result<()> {
        self.tests.add(command)
    }

    /// Prints what was skipped, then the tests. An error in CI if something was skipped there
    /// that could have been had.
    pub(crate) fn close(mut self) -> Result<()> {
        let told = fs::read_to_string(&self.skips_file)
            .with_context(|| format!("cannot read `{}`", self.skips_file.display()))?;
        self.skipped.extend(told.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
        self.skipped.sort();
        self.skipped.dedup();
        for line in &self.skipped {
            println!("skipped: {line}");
        }
        println!("{}", self.tests);
        let unexcused = self.skipped.iter().filter(|line| !line.starts_with(UNAVAILABLE_HERE)).count();
        ensure!(unexcused == 0 || !in_ci(), "{unexcused} skipped in CI, where nothing may be left out");
        Ok(())
    }
}
