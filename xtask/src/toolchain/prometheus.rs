//! Prometheus and promtool, for the tests that look at `deploy/` and scrape a host: Debian's package, unpacked into the
//! cache and not installed, since an installed one starts a service.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{apt, once};
use crate::paths;
use crate::run::{find_program, say};

/// Names the directory with both programs to tests.
pub(crate) const VARIABLE: &str = "JACKFIELD_PROMETHEUS";

/// The directory with `prometheus` and `promtool`: the machine's, or that of the unpacked package.
pub(crate) fn programs() -> Result<PathBuf> {
    if let (Some(_), Some(promtool)) = (find_program(&["prometheus"]), find_program(&["promtool"])) {
        return promtool.parent().map(ToOwned::to_owned).context("promtool lies nowhere");
    }
    ensure!(apt::at_hand(), "this is no Debian to fetch prometheus from");
    let dir = paths::toolchains()?.join(format!("prometheus-{}", apt::newest_version("prometheus")?.replace(':', "-")));
    once(&dir, |dir| {
        say(format_args!("fetching prometheus"));
        apt::download(&["prometheus"], dir)?;
        let debs = paths::list(dir)?;
        let deb = debs.iter().find(|file| file.extension().is_some_and(|end| end == "deb"));
        apt::extract(deb.context("the package of prometheus was not fetched")?, dir)
    })?;
    Ok(dir.join("usr/bin"))
}
