//! Notices that the host is gone, without having said a word.
//!
//! A host that is killed tells nobody. Its children are given to another process then, which is looked for twice a
//! second; and where the host gave us a pipe as stdin for this purpose, that ends at once. stdin is not read
//! otherwise: hosts in Go hand on their own, whose words are not for us and whose end means nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the parent is looked at.
const TICK: Duration = Duration::from_millis(500);

/// Cancels `stop` when the host is gone.
pub(super) fn begin(lifeline: bool, stop: &CancellationToken) -> std::io::Result<()> {
    if lifeline {
        hold(stop.clone())?;
    }
    // Who the host is has to be known before it is told that we are here, and may be gone.
    #[cfg(unix)]
    tokio::spawn(look_at_parent(rustix::process::getppid(), stop.clone()));
    Ok(())
}

/// Waits in a thread for the end of stdin.
fn hold(stop: CancellationToken) -> std::io::Result<()> {
    let mut input = take_stdin()?;
    let wait = move || {
        // Nothing comes, and if it does, it is not for us.
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        stop.cancel();
    };
    std::thread::Builder::new().name("jackfield-host".to_owned()).spawn(wait).map(drop)
}

/// stdin, which is empty for everyone else from here on.
#[cfg(unix)]
fn take_stdin() -> std::io::Result<std::fs::File> {
    use std::os::fd::AsFd as _;

    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(input.into())
}

#[cfg(not(unix))]
fn take_stdin() -> std::io::Result<std::io::Stdin> {
    Ok(std::io::stdin())
}

#[cfg(unix)]
async fn look_at_parent(host: Option<rustix::process::Pid>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(TICK);
    while rustix::process::getppid() == host {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
    }
    stop.cancel();
}

/// Ignores interrupts: Ctrl-C in a terminal reaches every process there, and the host may still need the plugin.
pub(super) fn ignore_interrupts() {
    #[cfg(unix)]
    if let Ok(mut interrupts) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()) {
        tokio::spawn(async move {
            let mut count = 0_u64;
            while interrupts.recv().await.is_some() {
                count += 1;
                crate::log::log(crate::log::Level::Trace, &format!("ignored an interrupt, the {count}. one"));
            }
        });
    }
}
