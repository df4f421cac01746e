//! `jackfield run`: a host as a service, from its start to its end.
//!
//! Order of the end: no new requests, the plugins end their calls and are stopped, what is being answered is
//! answered, the sockets are removed. A second signal skips the waiting, not the cleaning.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
#[cfg(feature = "otel")]
use jackfield::Spans;
use jackfield::{Address, Host, LogLevel};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::args;
use crate::config::{Settings, Typed};
use crate::output;
use crate::own::Own;
use crate::service::{Listener, Service, serve};
use crate::session::{Where, trusting};
use crate::token::Token;

/// Time for answers to reach whoever asked, once all plugins are stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Time for the last spans to reach a collector.
#[cfg(feature = "otel")]
const LAST_SPANS: Duration = Duration::from_secs(5);

pub(crate) fn run(run: args::Run, place: Where, state_dir: Option<PathBuf>, verbose: u8) -> Result<Outcome> {
    if place.host.is_some() {
        bail!("`run` is a host itself: it takes `--listen`, not `--host`");
    }
    let typed = Typed {
        plugins: place.plugins,
        listen: run.listen,
        token_file: place.token_file,
        state_dir,
        trust: place.trust,
        watch: run.watch,
        log_level: match verbose {
            0 => None,
            1 => Some(LogLevel::Debug),
            _ => Some(LogLevel::Trace),
        },
    };
    let settings = Settings::read(run.config.as_deref(), typed)?;
    let token = settings.check()?;
    #[cfg(feature = "otel")]
    let telemetry = (crate::telemetry::spans()?, crate::telemetry::meters()?);
    #[cfg(not(feature = "otel"))]
    let telemetry = ();
    output::log_of_service(settings.log_format, settings.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let done = runtime.block_on(live(settings, token, telemetry));
    // What still runs is nobody's any more: a call that a native plugin does not end, say.
    runtime.shutdown_background();
    done
}

/// What is exported: spans, and measurements.
#[cfg(feature = "otel")]
type Telemetry = (Option<Spans>, Option<crate::telemetry::Meters>);
/// Without `otel` nothing is.
#[cfg(not(feature = "otel"))]
type Telemetry = ();

/// Files that are removed at the end.
#[cfg(unix)]
type Sockets = Vec<crate::socket::Socket>;
#[cfg(not(unix))]
type Sockets = ();

/// From the first listener to the last answer.
async fn live(settings: Settings, token: Option<Token>, telemetry: Telemetry) -> Result<Outcome> {
    let mut signals = Signals::new()?;
    // First, since this is what may be wrong, and costs nothing.
    let (listeners, sockets) = listen(&settings.listen, token.as_ref()).await?;
    let mut addresses = Vec::new();
    for (listener, address) in listeners.iter().zip(&settings.listen) {
        addresses.push(match listener {
            // With the port that was chosen, where none was asked for.
            Listener::Tcp(listener, _) => format!("tcp:{}", listener.local_addr()?),
            #[cfg(unix)]
            Listener::Unix(_) => address.to_string(),
        });
    }
    let host = tokio::select! {
        host = build(&settings, &telemetry) => host?,
        () = signals.end() => {
            drop(sockets);
            return Ok(Outcome::Done);
        }
    };
    let (ready, refused) = (host.plugins().len(), host.refused().len());
    #[cfg(feature = "otel")]
    let telemetry = {
        let (spans, meters) = telemetry;
        (spans, meters.map(|meters| meters.export(&host.metrics())).transpose()?)
    };
    let service = Arc::new(Service::new(Own::new(host)));
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(serve(listener, Arc::clone(&service)));
    }
    tracing::info!("{ready} plugins are loaded, {refused} are refused; listening at {}", addresses.join(", "));
    while signals.next().await == Wish::Rescan {
        tracing::info!("looking through the plugin directories again");
        let service = Arc::clone(&service);
        // Beside: whoever wants the end need not wait for it.
        tokio::spawn(async move {
            service.own().rescan().await.text().lines().for_each(|line| tracing::info!("{line}"));
        });
    }
    tracing::info!("ending: no more requests, the plugins end their calls");
    service.stop();
    let in_order = async {
        service.own().host().stop().await;
        let answered = async { while serving.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_ANSWERS, answered).await.is_err() {
            tracing::warn!("somebody did not take their answer within {LAST_ANSWERS:?}");
        }
        #[cfg(feature = "otel")]
        last_words(telemetry).await;
    };
    tokio::select! {
        () = in_order => tracing::info!("ended"),
        () = signals.end() => tracing::warn!("ended at once: plugins got no time"),
    }
    serving.abort_all();
    while serving.join_next().await.is_some() {}
    drop((service, sockets));
    Ok(Outcome::Done)
}

/// Exports what is recorded and measured by now, unless the collector takes too long.
#[cfg(feature = "otel")]
async fn last_words((spans, exported): (Option<Spans>, Option<crate::telemetry::Exported>)) {
    if let Some(exported) = exported {
        // It has a time-out of its own.
        let _ = tokio::task::spawn_blocking(|| exported.end()).await;
    }
    if let Some(spans) = spans
        && tokio::time::timeout(LAST_SPANS, spans.flush()).await.is_err()
    {
        tracing::warn!("the last spans were not exported within {LAST_SPANS:?}");
    }
}

async fn build(settings: &Settings, telemetry: &Telemetry) -> Result<Host> {
    let builder = settings.plugins.iter().fold(Host::builder(), |builder, dir| builder.plugin_dir(dir));
    let builder = trusting(builder, &settings.trust);
    let builder = builder.limits(settings.limits.clone()).lifecycle(settings.lifecycle.clone());
    #[cfg(feature = "metrics")]
    let builder = builder.native_histograms(settings.native_histograms);
    #[cfg(feature = "otel")]
    let builder = match &telemetry.0 {
        Some(spans) => builder.spans(spans.clone()),
        None => builder,
    };
    #[cfg(not(feature = "otel"))]
    let () = telemetry;
    #[cfg(feature = "watch")]
    let builder = builder.watch(settings.watch);
    #[cfg(not(feature = "watch"))]
    if settings.watch {
        bail!("this command was built without `watch`");
    }
    let builder = match &settings.state_dir {
        Some(dir) => builder.state_dir(dir),
        None => builder,
    };
    let builder = match &settings.cache_dir {
        Some(dir) => builder.cache_dir(dir),
        None => builder,
    };
    builder.build().await.context("cannot start the host")
}

async fn listen(addresses: &[Address], token: Option<&Token>) -> Result<(Vec<Listener>, Sockets)> {
    let mut listeners = Vec::new();
    #[cfg(unix)]
    let mut sockets = Sockets::new();
    #[cfg(not(unix))]
    let sockets = ();
    for address in addresses {
        match (address, token) {
            #[cfg(unix)]
            (Address::Unix(path), _) => {
                let (socket, listener) = crate::socket::Socket::bind(path)?;
                listeners.push(Listener::Unix(tokio::net::UnixListener::from_std(listener)?));
                sockets.push(socket);
            }
            #[cfg(not(unix))]
            (Address::Unix(_), _) => bail!("`{address}`: this platform has no such sockets"),
            (Address::Tcp(at), Some(token)) => {
                let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen at `{address}`"))?;
                listeners.push(Listener::Tcp(listener, token.clone()));
            }
            (Address::Tcp(_), None) => bail!("`{address}` needs a token"),
        }
    }
    Ok((listeners, sockets))
}

/// What the operating system or a person at the terminal wants.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            // None of them ever ends.
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hang_up.recv() => Wish::Rescan,
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    End,
    Rescan,
}

/// Elsewhere there is Ctrl-C alone.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Wish {
        // Where it cannot be listened to, it ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Wish::End
    }
}

impl Signals {
    /// Waits until somebody wants the end.
    async fn end(&mut self) {
        while self.next().await != Wish::End {}
    }
}
