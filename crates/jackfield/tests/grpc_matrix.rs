//! Every host with every plugin: {Rust, Go} × {Rust, Go} × {plain, AutoMTLS} × {plain, multiplexed} × what they
//! can do with each other.
//!
//! A host in Rust is ours; one in Go is `fixtures/grpc/go/matrix-host`, which stands on hashicorp/go-plugin, as
//! plugins in Go do. Go with Go is the control: it shows that the rig works.

#![cfg(all(feature = "grpc", target_os = "linux"))]

mod suite;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jackfield::{Host, Plugin};
use jackfield_grpc::Connection;
use jackfield_grpc::handshake::variable;
use jackfield_grpc::tls::Identity;
use matrix::pb::{Blob, CallBackRequest, CountRequest, Empty, PrintRequest};
use suite::grpc::{LANGUAGES, Raw, client_of, program, tool};
use suite::{Fixture, Plugins, chain, eventually, in_time, watch};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What is done in each cell of a row, and the scenario of `matrix-host` that does it.
const SCENARIOS: [&str; 6] = ["unary", "bidirectional", "streaming", "stdio", "negotiation", "reattach"];

/// What a host in Go says of a plugin that speaks TLS, to a connection without.
const NO_PREFACE: &str = "error reading server preface";

/// A row.
#[derive(Clone, Copy)]
struct Setup {
    host: &'static str,
    plugin: &'static str,
    tls: bool,
    mux: bool,
}

/// How a cell ended, if it did not end well.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// What is asked for does not exist in the protocol.
    Refused(String),
    Failed(String),
}

type Outcome = Result<(), Fault>;

impl Setup {
    fn all() -> impl Iterator<Item = Self> {
        LANGUAGES.into_iter().flat_map(|host| {
            LANGUAGES.into_iter().flat_map(move |plugin| {
                [(false, false), (false, true), (true, false), (true, true)].map(|(tls, mux)| Setup {
                    host,
                    plugin,
                    tls,
                    mux,
                })
            })
        })
    }

    fn name(self) -> String {
        let tls = if self.tls { "AutoMTLS" } else { "plain" };
        let mux = if self.mux { "mux" } else { "non-mux" };
        format!("{:<4} host, {:<4} plugin, {tls:<8}, {mux:<7}", self.host, self.plugin)
    }

    /// The protocol has no way to attach to a plugin whose keys another host has, or that has only one connection.
    fn expected(self, scenario: &str) -> Outcome {
        let why = match (self.host, self.mux, self.tls) {
            _ if scenario != "reattach" => return Ok(()),
            (_, false, false) => return Ok(()),
            ("go", true, _) => "gRPC broker multiplexing is not supported with Reattach config",
            ("go", false, true) => NO_PREFACE,
            (_, true, _) => "what is multiplexed belongs to the host that started it",
            (_, false, true) => "it closed the connection; one under TLS takes the host that started it and no other",
        };
        Err(Fault::Refused(why.to_owned()))
    }

    async fn run(self, scenario: &str) -> Outcome {
        match self.host {
            "rust" => self.run_in_rust(scenario).await,
            _ => self.run_in_go(scenario).await,
        }
    }

    /// A scenario of the host in Go.
    async fn run_in_go(self, scenario: &str) -> Outcome {
        let (Some(host), Some(plugin)) = (tool("matrix-host"), program(self.plugin)) else { return Ok(()) };
        let mut command = tokio::process::Command::new(host);
        // go-plugin kills a plugin that it could not attach to, and leaves its sockets and those of its broker.
        let sockets = tempfile::tempdir().expect("a directory");
        command.args(["-scenario", scenario, "-plugin"]).arg(plugin).env("TMPDIR", sockets.path()).kill_on_drop(true);
        command.args(self.tls.then_some("-tls")).args(self.mux.then_some("-mux"));
        let output = in_time(command.output()).await.map_err(|error| failed(&error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) if text.starts_with("ok ") => Ok(()),
            Some(3) => {
                let why = text.trim().trim_start_matches("refused by go-plugin: ");
                // How the connection was closed is a matter of who is quicker: the plugin is seen to be gone by who
                // reads its preface, or by who writes the ping.
                let closed = [NO_PREFACE, "write: broken pipe"].iter().any(|closed| why.contains(closed));
                let why = if closed { NO_PREFACE } else { why };
                Err(Fault::Refused(why.to_owned()))
            }
            _ => Err(Fault::Failed(format!("{}{}", text.trim(), String::from_utf8_lossy(&output.stderr)))),
        }
    }

    async fn run_in_rust(self, scenario: &str) -> Outcome {
        match scenario {
            "unary" => self.with_plugin("unary", unary).await,
            "bidirectional" => self.with_plugin("bidirectional", bidirectional).await,
            "streaming" => self.with_plugin("streaming", streaming).await,
            "stdio" => self.with_plugin("stdio", stdio).await,
            "negotiation" => self.negotiation().await,
            "reattach" => self.reattach().await,
            other => panic!("no scenario {other:?}"),
        }
    }

    fn fixture(self) -> Fixture {
        let tls = if self.tls { "tls = \"auto\"" } else { "tls = \"off\"" };
        Fixture::matrix(self.plugin).grpc(tls).grpc(&format!("multiplex = {}", self.mux))
    }

    /// Does something with a plugin that is started for it, and sees it gone.
    async fn with_plugin(self, what: &str, scenario: impl AsyncFnOnce(&Plugin) -> Outcome) -> Outcome {
        // Lines of the log are told apart by the plugin's name.
        let (tls, mux) = (u8::from(self.tls), u8::from(self.mux));
        let name = format!("{what}-{}-{tls}{mux}", self.plugin);
        let plugins = Plugins::with(self.fixture().grpc("versions = [2, 3]").named(&name));
        let host = in_time(plugins.host()).await;
        let outcome = in_time(scenario(&started(&host, &name)?)).await;
        in_time(host.stop()).await;
        outcome
    }

    /// What comes of each set of versions that a host may have.
    async fn negotiation(self) -> Outcome {
        for (versions, on) in [("[2, 3]", 3), ("[2]", 2), ("[1, 2, 9]", 2), ("[3, 9]", 3)] {
            let plugins = Plugins::with(self.fixture().grpc(&format!("versions = {versions}")).named("negotiates"));
            let host = in_time(plugins.host()).await;
            let plugin = started(&host, "negotiates")?;
            same("version in the handshake", connection(&plugin)?.app_version, on)?;
            let answer = in_time(client_of(&plugin).version(Empty {})).await.map_err(|error| failed(&error))?;
            same("version that serves", answer.into_inner().version, on)?;
            in_time(host.stop()).await;
        }
        let plugins = Plugins::with(self.fixture().grpc("versions = [7]").named("negotiates"));
        let host = in_time(plugins.host()).await;
        match started(&host, "negotiates") {
            Err(Fault::Failed(why))
                if why == "it speaks version 2 of the application's protocol, this host speaks 7" =>
            {
                Ok(())
            }
            other => Err(Fault::Failed(format!("a host of version 7: {:?}", other.map(drop)))),
        }
    }

    /// A host takes over what somebody else started, uses it, and ends it.
    async fn reattach(self) -> Outcome {
        let Some(program) = program(self.plugin) else { return Ok(()) };
        let identity = Identity::generate().expect("a certificate");
        let mut variables = Vec::new();
        if self.tls {
            variables.push((variable::CLIENT_CERT, identity.pem()));
        }
        if self.mux {
            variables.push((variable::MULTIPLEX_GRPC, "true"));
        }
        let mut running = Raw::start(&program, &variables);
        let attaches = self.fixture().grpc("versions = [2, 3]").grpc(&running.reattach());
        let plugins = Plugins::with(attaches.named("attached"));
        let host = in_time(plugins.host()).await;
        let plugin = started(&host, "attached").map_err(|fault| match fault {
            Fault::Failed(why) => match why.split_once("cannot attach to process ") {
                Some((_, why)) => Fault::Refused(why.split_once(": ").map_or(why, |(_, why)| why).to_owned()),
                None => Fault::Failed(why),
            },
            refused => refused,
        })?;
        in_time(unary(&plugin)).await?;
        in_time(bidirectional(&plugin)).await?;
        in_time(streaming(&plugin)).await?;
        in_time(host.stop()).await;
        eventually("the plugin has ended", || running.has_ended());
        Ok(())
    }
}

/// The plugin, or why it was refused.
fn started(host: &Host, name: &str) -> Result<Plugin, Fault> {
    host.plugin(name).map_err(|_| {
        let refused = host.refused();
        let why = refused.iter().find(|refused| refused.name == name).map(|refused| chain(&refused.reason));
        Fault::Failed(why.unwrap_or_else(|| "it is not there".to_owned()))
    })
}

fn connection(plugin: &Plugin) -> Result<Connection, Fault> {
    plugin.connection().ok_or_else(|| Fault::Failed("it does not run".to_owned()))
}

/// Messages of several sizes, none above the 4 MiB that a plugin takes unless told otherwise.
async fn unary(plugin: &Plugin) -> Outcome {
    let mut client = client_of(plugin);
    for size in [0, 16, 64 << 10, 3 << 20] {
        let data = vec![0xA5; size];
        let answer = client.echo(Blob { data: data.clone() }).await.map_err(|error| failed(&error))?;
        if answer.get_ref().data != data {
            return Err(Fault::Failed(format!("an echo of {size} bytes is another one")));
        }
    }
    Ok(())
}

/// Through the broker in either direction, several times.
async fn bidirectional(plugin: &Plugin) -> Outcome {
    let mut client = client_of(plugin);
    let broker = connection(plugin)?.broker;
    for a in 0..5 {
        let broker_id = broker.next_id();
        let serving = broker.serve(broker_id, matrix::adder()).map_err(|error| failed(&error))?;
        let called = client.call_back(CallBackRequest { broker_id, a, b: -7 }).await;
        same("sum of a call-back", called.map_err(|error| failed(&error))?.into_inner().sum, a - 7)?;
        serving.stop();
        let offered = client.offer(Empty {}).await.map_err(|error| failed(&error))?.into_inner();
        let added = matrix::add_through(&broker, offered.broker_id, a, 40).await;
        same("sum of an offer", added.map_err(|error| failed(&*error))?, a + 40)?;
    }
    Ok(())
}

/// A stream from the plugin, and one each way.
async fn streaming(plugin: &Plugin) -> Outcome {
    let mut client = client_of(plugin);
    let counted = client.count(CountRequest { to: 10_000 }).await.map_err(|error| failed(&error))?;
    let mut numbers = counted.into_inner();
    let mut seen = 0;
    while let Some(number) = numbers.message().await.map_err(|error| failed(&error))? {
        seen += 1;
        same("number", number.number, seen)?;
    }
    same("numbers", seen, 10_000)?;

    let (blobs, sent) = mpsc::channel(1);
    // A plugin in Go does not say that it listens before it has heard something.
    blobs.send(Blob { data: b"blob 0".into() }).await.expect("room");
    let mut chat = client.chat(ReceiverStream::new(sent)).await.map_err(|error| failed(&error))?.into_inner();
    for number in 1..=500 {
        let answer = chat.message().await.map_err(|error| failed(&error))?;
        same("blob", answer.map(|blob| blob.data), Some(format!("blob {}", number - 1).into_bytes()))?;
        let sent = blobs.send(Blob { data: format!("blob {number}").into() }).await;
        sent.map_err(|_| Fault::Failed("nobody listens any more".to_owned()))?;
    }
    drop(blobs);
    same(
        "last blob",
        chat.message().await.map_err(|error| failed(&error))?.map(|blob| blob.data),
        Some(b"blob 500".into()),
    )?;
    same("end", chat.message().await.map_err(|error| failed(&error))?, None)
}

/// What the plugin prints is in the log, every line of it.
async fn stdio(plugin: &Plugin) -> Outcome {
    const TIMES: usize = 500;
    let printed = PrintRequest {
        stdout: "out of the plugin\n".to_owned(),
        stderr: "and its errors\n".to_owned(),
        times: u32::try_from(TIMES).expect("few"),
    };
    client_of(plugin).print(printed).await.map_err(|error| failed(&error))?;
    let count = |line: &str| watch::lines(plugin.name()).iter().filter(|seen| *seen == line).count();
    eventually("all is in the log", || count("INFO out of the plugin") + count("INFO and its errors") >= 2 * TIMES);
    same("lines of stdout", count("INFO out of the plugin"), TIMES)?;
    same("lines of stderr", count("INFO and its errors"), TIMES)
}

fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(Fault::Failed(format!("{what}: {got:?}, not {wanted:?}"))) }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::Failed(chain(error))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused(why) => write!(f, "refused: {why}"),
            Fault::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// Whether both sides of a row are there. What is missing is told.
fn is_built(setup: Setup) -> bool {
    let file = |path: Option<std::path::PathBuf>| path.as_deref().is_some_and(Path::is_file);
    file(program(setup.plugin)) && (setup.host == "rust" || file(tool("matrix-host")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_host_and_every_plugin_do_everything_with_each_other() {
    watch::start();
    let mut wrong = Vec::new();
    // Reasons are long: the table has a number, and they stand below it.
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    println!("{:<44} {}", "", SCENARIOS.map(|scenario| format!("{scenario:<14}")).concat());
    for setup in Setup::all().filter(|setup| is_built(*setup)) {
        let mut row = format!("{:<44} ", setup.name());
        for scenario in SCENARIOS {
            let outcome = setup.run(scenario).await;
            let cell = match &outcome {
                Ok(()) => "ok".to_owned(),
                Err(fault) => {
                    let next = reasons.len() + 1;
                    format!("({})", reasons.entry(fault.to_string()).or_insert(next))
                }
            };
            row += &format!("{cell:<14}");
            if outcome != setup.expected(scenario) {
                wrong.push(format!("{}, {scenario}: {outcome:?}, not {:?}", setup.name(), setup.expected(scenario)));
            }
        }
        println!("{}", row.trim_end());
    }
    let mut reasons: Vec<_> = reasons.into_iter().map(|(why, number)| (number, why)).collect();
    reasons.sort_unstable();
    reasons.iter().for_each(|(number, why)| println!("({number}) {why}"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
