use std::collections::HashSet;

use tokio::time::{Instant, timeout};
use tonic::service::Routes;
use tonic::{Code, Request, Response};

use super::*;
use crate::net::{self, Address, Listener};
use crate::pb::plugin::conn_info::Knock;
use crate::pb::plugin::grpc_controller_client::GrpcControllerClient;
use crate::pb::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use crate::pb::plugin::{ConnInfo, Empty};
use crate::serve;
use crate::tls::Identity;

const SOON: Duration = Duration::from_secs(10);

/// A service to be served and called: the broker does not care which.
struct Answers;

#[tonic::async_trait]
impl GrpcController for Answers {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

fn answers() -> Routes {
    Routes::new(GrpcControllerServer::new(Answers))
}

async fn ask(channel: Channel) -> Result<(), Status> {
    let mut client = GrpcControllerClient::new(channel);
    timeout(SOON, client.shutdown(Empty {})).await.expect("an answer").map(drop)
}

#[derive(Clone, Copy, Debug)]
struct Wire {
    tls: bool,
    multiplexed: bool,
}

fn each_wire() -> impl Iterator<Item = Wire> {
    let both = [false, true];
    both.into_iter().flat_map(move |tls| both.map(|multiplexed| Wire { tls, multiplexed }))
}

/// Both brokers, attached to each other over a socket.
struct Pair {
    host: Broker,
    plugin: Broker,
    directory: tempfile::TempDir,
    certificates: Option<(Identity, Identity)>,
}

async fn pair(wire: Wire) -> Pair {
    let directory = tempfile::tempdir().expect("a directory");
    let place = Place::Directory(directory.path().to_owned(), None);
    let certificates = wire.tls.then(|| (Identity::generate().expect("one"), Identity::generate().expect("one")));
    let tls = certificates.as_ref().map(|(host, plugin)| {
        let tls = |own: &Identity, other: &Identity| Tls::new(own, other.der()).expect("TLS");
        (tls(host, plugin), tls(plugin, host))
    });
    let (tls_host, tls_plugin) = tls.map_or((None, None), |(host, plugin)| (Some(host), Some(plugin)));
    let listener = Listener::bind(&place).expect("a socket");
    let (near, far) = tokio::join!(net::connect(listener.address()), listener.accept());
    let (near, far) = (near.expect("connected"), far.expect("accepted"));
    let (host, plugin, near, far) = if wire.multiplexed {
        let (near, far) = (Mux::new(near, Role::Host), Mux::new(far, Role::Plugin));
        let host = Broker::multiplexed(near.clone(), Role::Host, tls_host.clone());
        let plugin = Broker::multiplexed(far, Role::Plugin, tls_plugin.clone());
        let near = near.open().await.expect("opened").stream;
        let from = plugin.clone();
        (host, plugin, near, tokio::spawn(async move { from.accept_main().await.expect("the main connection") }))
    } else {
        let host = Broker::plain(place.clone(), tls_host.clone());
        (host, Broker::plain(place, tls_plugin.clone()), near, tokio::spawn(async { far }))
    };
    let routes = Routes::new(plugin.service());
    let stop = plugin.shared.stop.clone();
    tokio::spawn(async move {
        let mut far = far.await.expect("no panic");
        if let Some(tls) = tls_plugin {
            far = tls.accept(far).await.expect("secured");
        }
        // How it ends depends on who is dropped first.
        let _ = serve::connection(far, routes, stop.cancelled_owned()).await;
    });
    let near = match tls_host {
        Some(tls) => tls.connect(near).await.expect("secured"),
        None => near,
    };
    let channel = Channel::connect(near).await.expect("a channel");
    let attaching = host.clone();
    tokio::spawn(async move { attaching.attach(channel).await });
    Pair { host, plugin, directory, certificates }
}

#[test]
fn numbers_are_counted_from_one_by_each_side() {
    let broker = Broker::plain(Place::default(), None);
    assert_eq!([broker.next_id(), broker.clone().next_id(), broker.next_id()], [1, 2, 3]);
    assert_eq!(Broker::plain(Place::default(), None).next_id(), 1);
}

#[tokio::test]
async fn either_side_serves_what_the_other_dials() {
    for wire in each_wire() {
        let Pair { host, plugin, .. } = &pair(wire).await;
        for (server, client) in [(host, plugin), (plugin, host), (host, plugin)] {
            let id = server.next_id();
            server.serve(id, answers()).expect("served");
            let channel = client.dial(id).await.unwrap_or_else(|error| panic!("{wire:?}: {error}"));
            ask(channel).await.unwrap_or_else(|error| panic!("{wire:?}: {error}"));
        }
    }
}

#[tokio::test]
async fn the_same_number_in_both_directions_is_two_connections() {
    for wire in each_wire() {
        let Pair { host, plugin, .. } = &pair(wire).await;
        host.serve(7, answers()).expect("served");
        plugin.serve(7, answers()).expect("served");
        let (one, other) = tokio::join!(host.dial(7), plugin.dial(7));
        ask(one.expect("dialled")).await.expect("answered");
        ask(other.expect("dialled")).await.expect("answered");
    }
}

#[tokio::test]
async fn many_numbers_are_dialled_at_once() {
    for wire in each_wire() {
        let Pair { host, plugin, directory: _directory, .. } = pair(wire).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            for (server, client) in [(&host, &plugin), (&plugin, &host)] {
                let id = server.next_id();
                server.serve(id, answers()).expect("served");
                let client = client.clone();
                calls.spawn(async move { ask(client.dial(id).await.expect("dialled")).await });
            }
        }
        while let Some(done) = calls.join_next().await {
            done.expect("no panic").unwrap_or_else(|error| panic!("{wire:?}: {error}"));
        }
    }
}

#[tokio::test]
async fn a_number_may_be_dialled_before_it_is_accepted() {
    for wire in each_wire() {
        let Pair { host, plugin, .. } = &pair(wire).await;
        let serving = async {
            // Long enough that the other side asks first, as it does when this side is told the number late.
            while !asked_for(plugin, host, 5) {
                tokio::task::yield_now().await;
            }
            plugin.serve(5, answers()).expect("served");
        };
        let (channel, ()) = tokio::join!(host.dial(5), serving);
        ask(channel.expect("dialled")).await.expect("answered");
    }
}

/// Whether `client` waits for number `id`, and `server` knows, if it is told.
fn asked_for(server: &Broker, client: &Broker, id: u32) -> bool {
    match &server.shared.transport {
        Transport::Plain(_) => client.shared.dials.awaits(id),
        Transport::Multiplexed(doors) => client.shared.dials.awaits(id) && doors.waits_for_acceptance(),
    }
}

#[tokio::test]
async fn a_number_that_nobody_accepts_is_refused_when_multiplexed() {
    let Pair { host, plugin, .. } = &pair(Wire { tls: false, multiplexed: true }).await;
    for side in [host, plugin] {
        let error = side.dial(9).await.expect_err("nobody");
        assert_eq!(error.to_string(), "the other side does not take connection 9: no listener for id 9");
    }
    // The next one is not taken for that one.
    let id = plugin.next_id();
    plugin.serve(id, answers()).expect("served");
    ask(host.dial(id).await.expect("dialled")).await.expect("answered");
}

/// A broker whose other side says what the test says.
fn alone() -> Broker {
    Broker::plain(Place::Ports(0, 0), None)
}

fn says(broker: &Broker, id: u32, address: &Address) {
    broker.shared.dials.answered(ConnInfo {
        service_id: id,
        network: address.network().to_owned(),
        address: address.location(),
        knock: None,
    });
}

#[tokio::test(start_paused = true)]
async fn a_number_of_which_nothing_is_heard_is_given_up_after_five_seconds() {
    let begin = Instant::now();
    let error = alone().dial(3).await.expect_err("nobody");
    assert_eq!(error.to_string(), "the other side did not say within 5s where connection 3 is");
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_number_is_forgotten_after_five_seconds() {
    let broker = alone();
    says(&broker, 3, &Address::Unix("/nowhere".into()));
    tokio::time::advance(Duration::from_millis(4900)).await;
    assert!(matches!(broker.dial(3).await, Err(BrokerError::Connect { id: 3, .. })), "it is known");
    says(&broker, 4, &Address::Unix("/nowhere".into()));
    tokio::time::advance(Duration::from_millis(5100)).await;
    assert!(matches!(broker.dial(4).await, Err(BrokerError::NoAddress { id: 4, .. })), "it is forgotten");
}

#[tokio::test(start_paused = true)]
async fn the_first_word_about_a_number_counts() {
    let broker = alone();
    says(&broker, 3, &Address::Unix("/first".into()));
    broker.shared.dials.answered(ConnInfo { service_id: 3, network: "junk".into(), ..ConnInfo::default() });
    assert!(matches!(broker.dial(3).await, Err(BrokerError::Connect { id: 3, .. })));
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let broker = alone();
    broker.shared.dials.answered(ConnInfo { service_id: 3, network: "junk".into(), ..ConnInfo::default() });
    let Err(BrokerError::Address { source, .. }) = broker.dial(3).await else { panic!("no such network") };
    assert_eq!(source.to_string(), r#"unknown kind of address "junk", which is neither `unix` nor `tcp`"#);
}

#[tokio::test]
async fn a_number_is_dialled_by_one_at_a_time() {
    let broker = alone();
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.dial(3).await }
    });
    while !broker.shared.dials.awaits(3) {
        tokio::task::yield_now().await;
    }
    assert!(matches!(broker.dial(3).await, Err(BrokerError::InUse { id: 3 })));
    broker.close();
    assert!(matches!(waiting.await.expect("no panic"), Err(BrokerError::Closed { id: 3 })));
    assert!(matches!(broker.dial(3).await, Err(BrokerError::Closed { id: 3 })));
    assert!(matches!(broker.accept(3), Err(BrokerError::Closed { id: 3 })));
}

#[tokio::test]
async fn a_stranger_is_refused_on_the_sockets_of_a_broker() {
    let Pair { plugin, directory, certificates, .. } = &pair(Wire { tls: true, multiplexed: false }).await;
    plugin.serve(1, answers()).expect("served");
    let (_, of_plugin) = certificates.as_ref().expect("TLS");
    let stranger = Identity::generate().expect("one");
    let wrong = Tls::new(&stranger, of_plugin.der()).expect("TLS");
    for tls in [Some(wrong), None] {
        let path = sockets(directory).into_iter().next().expect("a socket");
        let mut stream = net::connect(&Address::Unix(directory.path().join(path))).await.expect("connected");
        if let Some(tls) = tls {
            stream = match tls.connect(stream).await {
                Ok(stream) => stream,
                Err(_) => continue,
            };
        }
        let refused = match Channel::connect(stream).await {
            Ok(channel) => ask(channel).await.map_err(|status| status.code()),
            Err(_) => Err(Code::Unavailable),
        };
        assert_eq!(refused, Err(Code::Unavailable));
    }
}

fn sockets(directory: &tempfile::TempDir) -> HashSet<std::ffi::OsString> {
    let entries = std::fs::read_dir(directory.path()).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}

#[tokio::test]
async fn files_of_sockets_go_with_the_broker() {
    let Pair { host, directory, plugin, .. } = pair(Wire { tls: false, multiplexed: false }).await;
    let before = sockets(&directory).len();
    host.serve(1, answers()).expect("served");
    let other = host.serve(2, answers()).expect("served");
    assert_eq!(sockets(&directory).len(), before + 2);
    ask(plugin.dial(1).await.expect("dialled")).await.expect("answered");
    other.stop();
    host.close();
    timeout(SOON, host.closed()).await.expect("soon");
    assert_eq!(sockets(&directory).len(), before);
}

#[tokio::test]
async fn calls_under_way_are_finished_when_the_broker_is_closed() {
    struct Slow(tokio::sync::mpsc::UnboundedSender<()>, std::sync::Arc<tokio::sync::Notify>);

    #[tonic::async_trait]
    impl GrpcController for Slow {
        async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
            self.0.send(()).expect("the test waits");
            self.1.notified().await;
            Ok(Response::new(Empty {}))
        }
    }

    for wire in each_wire() {
        let Pair { host, plugin, directory: _directory, .. } = pair(wire).await;
        let (begun, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
        plugin.serve(1, Routes::new(GrpcControllerServer::new(Slow(begun, go_on.clone())))).expect("served");
        let call = tokio::spawn(ask(host.dial(1).await.expect("dialled")));
        calls.recv().await.expect("a call");
        plugin.close();
        go_on.notify_one();
        call.await.expect("no panic").unwrap_or_else(|error| panic!("{wire:?}: {error}"));
    }
}

#[tokio::test]
async fn a_side_that_does_not_multiplex_says_so_to_a_knock() {
    let broker = alone();
    broker.shared.take_message(ConnInfo {
        service_id: 4,
        knock: Some(Knock { knock: true, ack: false, error: String::new() }),
        ..ConnInfo::default()
    });
    let said = broker.shared.messages.waiting();
    let knock = said[0].knock.as_ref().expect("an answer");
    assert!(knock.ack && knock.error == "this side does not multiplex its connections", "{said:?}");
}
