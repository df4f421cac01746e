//! Counting tests: the sum of the `test result:` lines of several runs of libtest.

use std::fmt;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::run::{self, Run as _};

/// How many tests passed, failed and were ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Runs `command`, printing its output, and adds the tests in it, also when it fails.
    pub(crate) fn add(&mut self, command: &mut Command) -> Result<()> {
        let status = command.each_line(|line| {
            println!("{line}");
            self.read(line);
        })?;
        ensure!(status.success(), "{}", run::failed(command, status));
        Ok(())
    }

    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(number, word)| (number.parse::<u64>(), word)) {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// In the form that CI services look for, alone on a line.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.ignored {
            0 => Ok(()),
            ignored => write!(f, ", {ignored} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, want: &str) {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        assert_eq!(tally.to_string(), want);
    }

    #[test]
    fn the_results_of_several_test_binaries_add_up() {
        check(
            "running 3 tests\n\
             test a ... ok\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 1.5s\n",
            "7 passed, 1 failed, 2 skipped",
        );
    }

    #[test]
    fn a_test_that_prints_something_similar_is_not_counted() {
        check("the test result: ok. 3 passed; 0 failed", "0 passed, 0 failed");
    }
}
