//! The plugin over gRPC, started and spoken to as hosts do.

#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use jackfield_grpc::broker::Broker;
use jackfield_grpc::bytes::Bytes;
use jackfield_grpc::channel::Channel;
use jackfield_grpc::handshake::{Cookie, Line, Protocol, variable};
use jackfield_grpc::mux::{Mux, Role};
use jackfield_grpc::net::{self, Address, Place};
use jackfield_grpc::pb::jackfield::channel_request::Kind;
use jackfield_grpc::pb::jackfield::channel_response::Outcome;
use jackfield_grpc::pb::jackfield::plugin_client::PluginClient;
use jackfield_grpc::pb::jackfield::{CapabilitiesRequest, ChannelRequest, ChannelResponse, Encoding};
use jackfield_grpc::pb::plugin::Empty;
use jackfield_grpc::pb::plugin::grpc_controller_client::GrpcControllerClient;
use jackfield_grpc::pb::plugin::grpc_stdio_client::GrpcStdioClient;
use jackfield_grpc::tls::{Identity, Tls};
use jackfield_grpc::tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use jackfield_grpc::tonic::{Code, Request, Status, client::Grpc};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

// ---- Starting -----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    tls: bool,
    multiplexed: bool,
}

const WIRES: [Wire; 4] = [
    Wire { tls: false, multiplexed: false },
    Wire { tls: true, multiplexed: false },
    Wire { tls: false, multiplexed: true },
    Wire { tls: true, multiplexed: true },
];

/// A plugin that printed its line.
struct Started {
    child: Child,
    stdout: BufReader<ChildStdout>,
    line: Line,
    identity: Identity,
    directory: tempfile::TempDir,
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_english-grpc"));
    let cookie = Cookie::jackfield();
    program.env(cookie.key, cookie.value).env(variable::PROTOCOL_VERSIONS, "1");
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

fn start(wire: Wire) -> Started {
    start_as(program(), wire)
}

fn start_as(mut program: Command, wire: Wire) -> Started {
    let directory = tempfile::tempdir().expect("a directory");
    let identity = Identity::generate().expect("a certificate");
    program.env(variable::UNIX_SOCKET_DIR, directory.path());
    if wire.tls {
        program.env(variable::CLIENT_CERT, identity.pem());
    }
    if wire.multiplexed {
        program.env(variable::MULTIPLEX_GRPC, "true");
    }
    let mut child = program.spawn().expect("the program runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let line = Line::parse(&line).unwrap_or_else(|error| panic!("{error}: {}", stderr(&mut child)));
    Started { child, stdout, line, identity, directory }
}

fn stderr(child: &mut Child) -> String {
    child.kill().expect("killed");
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    text
}

impl Started {
    /// Connects as the host, over what the line promises. The broker goes with a multiplexed connection.
    async fn connect(&self) -> (Channel, Broker) {
        let tls = self.line.certificate.as_deref().map(|plugin| Tls::new(&self.identity, plugin).expect("TLS"));
        let stream = net::connect(&self.line.address).await.expect("connected");
        let (stream, broker) = if self.line.multiplex == Some(true) {
            let mux = Mux::new(stream, Role::Host);
            let stream = mux.open().await.expect("opened").stream;
            (stream, Broker::multiplexed(mux, Role::Host, tls.clone()))
        } else {
            (stream, Broker::plain(Place::default(), tls.clone()))
        };
        let stream = match tls {
            Some(tls) => tls.connect(stream).await.expect("secured"),
            None => stream,
        };
        (Channel::connect(stream).await.expect("a channel"), broker)
    }

    /// Waits for the end of the process; how long it took, and whether it said that all was well.
    async fn end(mut self) -> (Duration, bool) {
        let begin = Instant::now();
        let end = timeout(SOON, async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child") {
                    return status.success();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let ended = end.await.expect("it ends");
        (begin.elapsed(), ended)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It is over already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- Calling ------------------------------------------------------------------------------------

/// Messages that are bytes: what protobuf makes of them is written out below.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsItIs;
    type Decoder = AsItIs;
    fn encoder(&mut self) -> AsItIs {
        AsItIs
    }
    fn decoder(&mut self) -> AsItIs {
        AsItIs
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use jackfield_grpc::bytes::BufMut as _;
        into.put(item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use jackfield_grpc::bytes::Buf as _;
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn unary(channel: Channel, path: &'static str, request: &'static [u8]) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.expect("open");
    let path = jackfield_grpc::http::uri::PathAndQuery::from_static(path);
    let answer = timeout(SOON, client.unary(Request::new(Bytes::from_static(request)), path, AsItIs));
    answer.await.expect("an answer").map(|answer| answer.into_inner())
}

async fn shutdown(channel: Channel) {
    timeout(SOON, GrpcControllerClient::new(channel).shutdown(Empty {})).await.expect("soon").expect("an answer");
}

fn greet(id: u64, encoding: Encoding, arguments: &'static [u8]) -> ChannelRequest {
    ChannelRequest { id, encoding: encoding.into(), arguments: arguments.into(), ..ChannelRequest::default() }
}

// ---- What it does -------------------------------------------------------------------------------

#[tokio::test]
async fn a_plugin_is_started_called_and_shut_down_over_every_wire() {
    for wire in WIRES {
        let plugin = start(wire);
        assert_eq!((plugin.line.app_version, plugin.line.protocol), (1, Protocol::Grpc), "{wire:?}");
        assert_eq!(plugin.line.certificate.is_some(), wire.tls, "{wire:?}");
        assert_eq!(plugin.line.multiplex, wire.multiplexed.then_some(true), "{wire:?}");
        let (channel, broker) = plugin.connect().await;
        let attached = tokio::spawn({
            let (broker, channel) = (broker.clone(), channel.clone());
            async move { broker.attach(channel).await }
        });
        let mut prints = GrpcStdioClient::new(channel.clone()).stream_stdio(()).await.expect("prints").into_inner();

        let asked = CapabilitiesRequest { protocol: "1.0".into(), host: "test/1".into(), features: vec![] };
        let about = PluginClient::new(channel.clone()).capabilities(asked).await.expect("about").into_inner();
        assert_eq!((&*about.name, &*about.version), ("english", "1.0.0"));
        assert_eq!(about.capabilities, ["greeting@1", "batch@2", "polite@1"]);
        assert_eq!(about.features, ["channel"]);
        let [offered] = &*about.interfaces else { panic!("one interface: {about:?}") };
        assert!(offered.id.starts_with("demo:greeter/greeter@") && offered.binary, "{offered:?}");
        assert_eq!(offered.service, "demo.greeter.v1.Greeter");
        assert!(offered.description.contains("greet"), "{offered:?}");

        let answer = unary(channel.clone(), "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await;
        assert_eq!(answer.expect("greeted"), &b"\x0a\x0bHello, Ada!"[..]);

        shutdown(channel.clone()).await;
        let socket = plugin.line.address.clone();
        let directory = plugin.directory.path().to_owned();
        let (took, well) = plugin.end().await;
        assert!(well && took < Duration::from_millis(500), "{wire:?}: {took:?}");
        // Streams that are open as long as the plugin runs were ended by it, and not by its death.
        attached.await.expect("no panic").unwrap_or_else(|status| panic!("{wire:?}: {status}"));
        assert_eq!(prints.message().await.expect("the end"), None, "{wire:?}");
        timeout(SOON, channel.closed()).await.expect("closed");
        let Address::Unix(socket) = socket else { panic!("a unix socket") };
        assert!(socket.starts_with(directory) && !socket.exists(), "{wire:?}");
    }
}

#[tokio::test]
async fn failures_of_a_service_are_statuses() {
    let plugin = start(Wire::default());
    let (channel, _broker) = plugin.connect().await;
    let refused = unary(channel.clone(), "/demo.greeter.v1.Greeter/Greet", b"\xff\xff").await.expect_err("junk");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let unknown = unary(channel.clone(), "/demo.greeter.v1.Greeter/Sing", b"").await.expect_err("none");
    assert_eq!(unknown.code(), Code::Unimplemented, "{unknown}");
    let unknown = unary(channel.clone(), "/demo.greeter.v1.Singer/Sing", b"").await.expect_err("none");
    assert_eq!(unknown.code(), Code::Unimplemented, "{unknown}");
    // The plugin's own error is an answer.
    let own = unary(channel, "/demo.greeter.v1.Greeter/Greet", b"\x0a\x00").await.expect("an answer");
    assert_eq!(own[0], 0x12, "the field `err`: {own:?}");
}

#[tokio::test]
async fn calls_of_a_channel_are_answered_by_their_numbers() {
    for wire in WIRES {
        let plugin = start(wire);
        let (channel, _broker) = plugin.connect().await;
        let (to, from) = tokio::sync::mpsc::unbounded_channel();
        let requests = futures(from);
        let mut client = PluginClient::new(channel);
        let mut answers = client.channel(requests).await.expect("a channel").into_inner();
        let mut ask = async |request: ChannelRequest| {
            to.send(request).expect("taken");
            timeout(SOON, answers.message()).await.expect("an answer").expect("no error").expect("not the end")
        };
        let told = |answer: &ChannelResponse| (answer.id, answer.outcome(), answer.value.to_vec());
        let answer = ask(greet(1, Encoding::Binary, b"\x03Ada")).await;
        assert_eq!(told(&answer), (1, Outcome::Ok, b"\x0bHello, Ada!".to_vec()));
        let answer = ask(greet(2, Encoding::Json, br#"{"name": "Ada"}"#)).await;
        assert_eq!(told(&answer), (2, Outcome::Ok, br#""Hello, Ada!""#.to_vec()));
        let answer = ask(greet(3, Encoding::Json, br#"{"name": ""}"#)).await;
        assert_eq!((answer.id, answer.outcome()), (3, Outcome::OwnError));
        let answer = ask(greet(4, Encoding::Binary, b"\xff")).await;
        assert_eq!((answer.id, answer.outcome()), (4, Outcome::Refused));
        assert!(!answer.message.is_empty());
        let answer = ask(ChannelRequest { function: 99, ..greet(5, Encoding::Binary, b"") }).await;
        assert_eq!((answer.id, answer.outcome()), (5, Outcome::Unimplemented));
        let answer = ask(ChannelRequest { interface: 99, ..greet(6, Encoding::Binary, b"") }).await;
        assert_eq!((answer.id, answer.outcome()), (6, Outcome::Unimplemented));
        // A number may be used again, and a cancellation of what is over is nothing.
        to.send(ChannelRequest { kind: Kind::Cancel.into(), id: 1, ..ChannelRequest::default() }).expect("taken");
        let answer = ask(greet(1, Encoding::Binary, b"\x02Bo")).await;
        assert_eq!(told(&answer), (1, Outcome::Ok, b"\x0aHello, Bo!".to_vec()));
        drop(to);
        assert_eq!(timeout(SOON, answers.message()).await.expect("the end").expect("no error"), None);
    }
}

#[tokio::test]
async fn many_calls_are_under_way_at_once() {
    let plugin = start(Wire::default());
    let (channel, _broker) = plugin.connect().await;
    let (to, from) = tokio::sync::mpsc::unbounded_channel();
    for id in 0..1000 {
        to.send(greet(id, Encoding::Binary, b"\x03Ada")).expect("taken");
    }
    let mut client = PluginClient::new(channel.clone());
    let mut answers = client.channel(futures(from)).await.expect("a channel").into_inner();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let answer = timeout(SOON, answers.message()).await.expect("soon").expect("no error").expect("an answer");
        assert!(seen.insert(answer.id) && answer.outcome() == Outcome::Ok);
    }
    // Shut down while the stream is open and nothing is under way.
    shutdown(channel).await;
    assert_eq!(timeout(SOON, answers.message()).await.expect("the end").expect("no error"), None);
    let (took, well) = plugin.end().await;
    assert!(well && took < Duration::from_millis(500), "{took:?}");
}

/// The messages of a receiver, as tonic takes them.
fn futures<T: Send + 'static>(
    mut from: tokio::sync::mpsc::UnboundedReceiver<T>,
) -> impl jackfield_grpc::tonic::IntoStreamingRequest<Message = T> {
    Request::new(jackfield_grpc::stream::poll_fn(move |cx| from.poll_recv(cx)))
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1alpha;

    let plugin = start(Wire::default());
    let (channel, _broker) = plugin.connect().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let asked = tonic_health::pb::HealthCheckRequest { service: "plugin".into() };
    assert_eq!(health.check(asked).await.expect("health").into_inner().status(), ServingStatus::Serving);

    let asked = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let one = jackfield_grpc::stream::iter([asked]);
    let mut told =
        ServerReflectionClient::new(channel.clone()).server_reflection_info(one).await.expect("told").into_inner();
    let told = told.message().await.expect("no error").and_then(|told| told.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = told else { panic!("a list: {told:?}") };
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    for name in [
        "demo.greeter.v1.Greeter",
        "jackfield.plugin.v1.Plugin",
        "plugin.GRPCBroker",
        "plugin.GRPCController",
        "plugin.GRPCStdio",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&name), "`{name}` of {names:?}");
    }
    let asked = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "demo.greeter.v1.Greeter".into(),
        )),
        ..Default::default()
    };
    let one = jackfield_grpc::stream::iter([asked]);
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut told = client.server_reflection_info(one).await.expect("told").into_inner();
    let told = told.message().await.expect("no error").and_then(|told| told.message_response);
    let file = matches!(told, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));
    assert!(file, "{told:?}");
}

#[tokio::test]
async fn a_host_of_another_protocol_is_refused() {
    let plugin = start(Wire::default());
    let (channel, _broker) = plugin.connect().await;
    let asked = CapabilitiesRequest { protocol: "2.0".into(), ..CapabilitiesRequest::default() };
    let refused = PluginClient::new(channel).capabilities(asked).await.expect_err("another protocol");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "the host speaks protocol 2.0, this plugin speaks 1.0");
}

// ---- Who may start it, and who may not speak to it ----------------------------------------------

#[test]
fn without_the_cookie_it_says_what_it_is() {
    let mut program = program();
    program.env(Cookie::jackfield().key, "wrong");
    let ended = program.output().expect("the program runs");
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stdout.is_empty());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("is a plugin: a host starts it and speaks to it"), "{said}");
}

#[test]
fn why_it_cannot_start_is_a_line_of_the_log() {
    let mut program = program();
    program.env(variable::UNIX_SOCKET_DIR, "/tmp/".to_owned() + &"x".repeat(120));
    let ended = program.output().expect("the program runs");
    assert_eq!(ended.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&ended.stderr).expect("a line of JSON");
    assert_eq!(said["@level"], "error");
    assert_eq!(said["@module"], "english");
    let message = said["@message"].as_str().expect("text");
    assert!(message.contains("bytes are too many for the name of a socket"), "{message}");
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let plugin = start(Wire { tls: true, multiplexed: false });
    let certificate = plugin.line.certificate.clone().expect("TLS");
    let stranger = Tls::new(&Identity::generate().expect("one"), &certificate).expect("TLS");
    for tls in [Some(stranger), None] {
        let mut stream = net::connect(&plugin.line.address).await.expect("connected");
        if let Some(tls) = tls {
            // In TLS 1.3 a client knows that it was refused when it reads.
            stream = tls.connect(stream).await.expect("secured, as it thinks");
        }
        let channel = Channel::connect(stream).await.expect("a channel, as it thinks");
        let refused = GrpcControllerClient::new(channel).shutdown(Empty {}).await.expect_err("refused");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
    // It is still there for its host.
    let (channel, _broker) = plugin.connect().await;
    unary(channel, "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await.expect("greeted");
}

// ---- How it ends --------------------------------------------------------------------------------

#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_nothing() {
    let plugin = start(Wire::default());
    for _ in 0..3 {
        drop(net::connect(&plugin.line.address).await.expect("connected"));
    }
    let (channel, _broker) = plugin.connect().await;
    unary(channel, "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await.expect("greeted");
}

#[tokio::test]
async fn one_host_may_come_after_another() {
    let plugin = start(Wire::default());
    for _ in 0..3 {
        let (channel, _broker) = plugin.connect().await;
        unary(channel, "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await.expect("greeted");
    }
}

#[tokio::test]
async fn the_end_of_the_lifeline_is_its_end() {
    for wire in WIRES {
        let mut program = program();
        program.env(variable::LIFELINE, "stdin");
        let mut plugin = start_as(program, wire);
        let (channel, _broker) = plugin.connect().await;
        unary(channel, "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await.expect("greeted");
        drop(plugin.child.stdin.take());
        let (took, well) = plugin.end().await;
        assert!(well && took < Duration::from_millis(500), "{wire:?}: {took:?}");
    }
}

#[tokio::test]
async fn without_a_lifeline_the_end_of_stdin_is_nothing() {
    let mut plugin = start(Wire::default());
    drop(plugin.child.stdin.take());
    let (channel, _broker) = plugin.connect().await;
    unary(channel, "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await.expect("greeted");
}

#[tokio::test]
async fn it_ends_when_its_host_is_gone() {
    let mut host = Command::new("sh");
    // The host ends when its stdin does, without a word to the plugin.
    host.args(["-c", r#""$0" </dev/null & read -r line"#, env!("CARGO_BIN_EXE_english-grpc")]);
    let cookie = Cookie::jackfield();
    host.env(cookie.key, cookie.value);
    host.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut plugin = start_as(host, Wire::default());
    drop(plugin.child.stdin.take());
    plugin.child.wait().expect("the host ends");
    let mut stdout = std::mem::replace(&mut plugin.stdout, BufReader::new(empty_stdout()));
    // The plugin has the other end of this pipe, and nobody else.
    let (tell, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(stdout.read_to_end(&mut Vec::new())));
    timeout(SOON, ended).await.expect("it ends").expect("no panic").expect("read");
    let Address::Unix(socket) = &plugin.line.address else { panic!("a unix socket") };
    assert!(!socket.exists());
}

fn empty_stdout() -> ChildStdout {
    let mut empty = Command::new("true").stdout(Stdio::piped()).spawn().expect("a program");
    let stdout = empty.stdout.take().expect("piped");
    empty.wait().expect("ended");
    stdout
}

#[tokio::test]
async fn an_interrupt_is_the_hosts_business() {
    use rustix::process::{Pid, Signal, kill_process};

    let plugin = start(Wire::default());
    let (channel, _broker) = plugin.connect().await;
    kill_process(Pid::from_child(&plugin.child), Signal::INT).expect("sent");
    unary(channel.clone(), "/demo.greeter.v1.Greeter/Greet", b"\x0a\x03Ada").await.expect("greeted");
    shutdown(channel).await;
    assert!(plugin.end().await.1);
}

/// go-plugin would go on, and then refuse every host, whose certificate it does not have.
#[test]
fn a_certificate_that_is_none_ends_the_plugin_and_is_named() {
    for pem in ["rubbish", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"] {
        let output = program().env(variable::CLIENT_CERT, pem).stdin(Stdio::null()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{said}");
        assert!(said.contains("certificate"), "{said}");
    }
}
