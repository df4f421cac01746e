use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::io::duplex;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tonic::{Code, Response as Answer, Streaming};

use super::*;
use crate::net::Stream as Connection;
use crate::pb::jackfield::plugin_client::PluginClient;
use crate::pb::jackfield::plugin_server::{Plugin, PluginServer};
use crate::pb::jackfield::{CapabilitiesRequest, CapabilitiesResponse, ChannelRequest, ChannelResponse};
use crate::serve;

const SOON: Duration = Duration::from_secs(10);

/// A service that does what the name in a request says.
struct Peer {
    begun: mpsc::UnboundedSender<()>,
    dropped: mpsc::UnboundedSender<()>,
}

/// Says so when it is dropped.
struct Tell(mpsc::UnboundedSender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

#[tonic::async_trait]
impl Plugin for Peer {
    async fn capabilities(
        &self,
        request: tonic::Request<CapabilitiesRequest>,
    ) -> Result<Answer<CapabilitiesResponse>, Status> {
        let asked = request.into_inner();
        match &*asked.host {
            "echo" => Ok(Answer::new(CapabilitiesResponse { name: asked.protocol, ..Default::default() })),
            "refuse" => Err(Status::permission_denied("not for you")),
            "panic" => panic!("on demand"),
            _ => {
                let _tell = Tell(self.dropped.clone());
                self.begun.send(()).expect("the test waits");
                std::future::pending().await
            }
        }
    }

    type ChannelStream = Pin<Box<dyn Stream<Item = Result<ChannelResponse, Status>> + Send>>;

    /// Answers each request with its number, and holds on to what it was asked with.
    async fn channel(
        &self,
        request: tonic::Request<Streaming<ChannelRequest>>,
    ) -> Result<Answer<Self::ChannelStream>, Status> {
        let tell = Tell(self.dropped.clone());
        let answers = request.into_inner().map(move |request| {
            let _held = &tell;
            request.map(|request| ChannelResponse { id: request.id, ..Default::default() })
        });
        Ok(Answer::new(answers.boxed()))
    }
}

struct Met {
    client: PluginClient<Channel>,
    channel: Channel,
    begun: mpsc::UnboundedReceiver<()>,
    dropped: mpsc::UnboundedReceiver<()>,
    stop: Arc<Notify>,
}

async fn meet() -> Met {
    let (near, far) = duplex(64 * 1024);
    let (begin, begun) = mpsc::unbounded_channel();
    let (drop, dropped) = mpsc::unbounded_channel();
    let service = PluginServer::new(Peer { begun: begin, dropped: drop }).max_decoding_message_size(usize::MAX);
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    tokio::spawn(async move {
        let routes = tonic::service::Routes::new(service);
        // How it ends is what the tests look at from the other side.
        let _ = serve::connection(Connection::new(far), routes, stopped.notified()).await;
    });
    let channel = Channel::connect(Connection::new(near)).await.expect("a channel");
    let client = PluginClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    Met { client, channel, begun, dropped, stop }
}

fn asking(host: &str, protocol: String) -> CapabilitiesRequest {
    CapabilitiesRequest { host: host.to_owned(), protocol, features: Vec::new() }
}

#[tokio::test]
async fn messages_larger_than_every_window_come_and_go() {
    let mut met = meet().await;
    for bytes in [0, 1, 20_000, 9 << 20, 65 << 20] {
        let asked = asking("echo", "x".repeat(bytes));
        let answer = timeout(SOON, met.client.capabilities(asked)).await.expect("soon").expect("an answer");
        assert_eq!(answer.into_inner().name.len(), bytes);
    }
}

#[tokio::test]
async fn a_status_comes_as_it_was_given_and_a_panic_is_one() {
    let mut met = meet().await;
    let refused = met.client.capabilities(asking("refuse", String::new())).await.expect_err("refused");
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "not for you"));
    let panicked = met.client.capabilities(asking("panic", String::new())).await.expect_err("a panic");
    assert_eq!(panicked.code(), Code::Internal);
    assert_eq!(panicked.metadata().get(serve::PANICKED.0).expect("said"), serve::PANICKED.1);
    met.client.capabilities(asking("echo", String::new())).await.expect("the connection goes on");
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled() {
    let mut met = meet().await;
    let mut client = met.client.clone();
    let call = tokio::spawn(async move { client.capabilities(asking("wait", String::new())).await });
    timeout(SOON, met.begun.recv()).await.expect("soon").expect("begun");
    call.abort();
    timeout(SOON, met.dropped.recv()).await.expect("soon").expect("dropped");
    met.client.capabilities(asking("echo", String::new())).await.expect("the connection goes on");
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_cancelled_while_its_requests_go_on() {
    let mut met = meet().await;
    let (to, mut from) = mpsc::unbounded_channel();
    let requests = stream::poll_fn(move |cx| from.poll_recv(cx));
    let mut answers = met.client.channel(requests).await.expect("a stream").into_inner();
    for id in 1..=3 {
        to.send(ChannelRequest { id, ..Default::default() }).expect("taken");
        let answer = timeout(SOON, answers.message()).await.expect("soon").expect("no error").expect("an answer");
        assert_eq!(answer.id, id);
    }
    drop(answers);
    timeout(SOON, met.dropped.recv()).await.expect("soon").expect("dropped");
    // Nobody reads the requests any more.
    timeout(SOON, to.closed()).await.expect("soon");
}

#[tokio::test]
async fn a_stream_of_requests_does_not_run_ahead_of_who_reads_it() {
    /// Takes no message of the stream until it is told to.
    struct Lazy(Arc<Notify>);

    #[tonic::async_trait]
    impl Plugin for Lazy {
        async fn capabilities(
            &self,
            _: tonic::Request<CapabilitiesRequest>,
        ) -> Result<Answer<CapabilitiesResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        type ChannelStream = stream::Once<std::future::Ready<Result<ChannelResponse, Status>>>;

        async fn channel(
            &self,
            request: tonic::Request<Streaming<ChannelRequest>>,
        ) -> Result<Answer<Self::ChannelStream>, Status> {
            self.0.notified().await;
            let count = request.into_inner().count().await;
            let answer = ChannelResponse { id: count as u64, ..Default::default() };
            Ok(Answer::new(stream::once(std::future::ready(Ok(answer)))))
        }
    }

    const PIECE_BYTES: usize = 1 << 20;
    const PIECES: usize = 100;
    let (near, far) = duplex(64 * 1024);
    let go_on = Arc::new(Notify::new());
    let routes = tonic::service::Routes::new(PluginServer::new(Lazy(go_on.clone())));
    tokio::spawn(async move { serve::connection(Connection::new(far), routes, std::future::pending()).await });
    let mut client = PluginClient::new(Channel::connect(Connection::new(near)).await.expect("a channel"));
    let (made, mut pieces) = mpsc::unbounded_channel();
    let requests = stream::iter(0..PIECES).map(move |_| {
        // The test may be over.
        let _ = made.send(());
        ChannelRequest { arguments: vec![0; PIECE_BYTES].into(), ..Default::default() }
    });
    let call = tokio::spawn(async move { client.channel(requests).await });
    // What the windows hold, and what lies about between here and there.
    let held = STREAM_WINDOW_BYTES as usize / PIECE_BYTES + 4;
    let mut seen = 0;
    while let Ok(Some(())) = timeout(Duration::from_millis(200), pieces.recv()).await {
        seen += 1;
    }
    assert!(seen <= held, "{seen} pieces were made, of which {held} have room");
    go_on.notify_one();
    let answer = timeout(SOON, call).await.expect("soon").expect("no panic").expect("a stream");
    assert_eq!(answer.into_inner().message().await.expect("no error").expect("an answer").id, PIECES as u64);
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_calls() {
    let mut met = meet().await;
    let mut client = met.client.clone();
    let call = tokio::spawn(async move { client.capabilities(asking("wait", String::new())).await });
    timeout(SOON, met.begun.recv()).await.expect("soon").expect("begun");
    assert!(!met.channel.is_closed());
    met.channel.close();
    let ended = timeout(SOON, call).await.expect("soon").expect("no panic").expect_err("broken off");
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert_eq!(&*timeout(SOON, met.channel.closed()).await.expect("soon"), "the connection was closed by this side");
    assert!(met.channel.is_closed());
    let later = met.client.capabilities(asking("echo", String::new())).await.expect_err("closed");
    assert_eq!(later.code(), Code::Unavailable, "{later}");
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_it_began() {
    let mut met = meet().await;
    let (to, mut from) = mpsc::unbounded_channel();
    let requests = stream::poll_fn(move |cx| from.poll_recv(cx));
    let mut answers = met.client.channel(requests).await.expect("a stream").into_inner();
    met.stop.notify_one();
    to.send(ChannelRequest { id: 7, ..Default::default() }).expect("taken");
    let answer = timeout(SOON, answers.message()).await.expect("soon").expect("no error").expect("an answer");
    assert_eq!(answer.id, 7);
    drop(to);
    assert_eq!(timeout(SOON, answers.message()).await.expect("soon").expect("no error"), None);
    assert_eq!(&*timeout(SOON, met.channel.closed()).await.expect("soon"), "the connection was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_on_a_sink_come_in_order_whoever_writes_them() {
    let met = meet().await;
    let (opening, sink) = met.channel.with_sink::<Tell>();
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let pumped = Arc::clone(&sink);
    let pump = tokio::spawn(async move { pumped.pump().await });
    let send = |id: u64, bytes: usize, here: bool| {
        let request = ChannelRequest { id, arguments: vec![7; bytes].into(), ..Default::default() };
        sink.send(&request, Tell(dropped.clone()), here);
    };
    // The call has not begun: it waits.
    send(1, 10, true);
    assert!(drops.try_recv().is_err());
    let mut client = PluginClient::new(opening);
    let answers = timeout(SOON, client.channel(stream::empty())).await.expect("soon").expect("an answer");
    let mut answers = answers.into_inner();
    let mut comes = async |id: u64| {
        let answer = timeout(SOON, answers.message()).await.expect("soon").expect("an answer").expect("not the end");
        assert_eq!(answer.id, id);
    };
    comes(1).await;
    for id in 2..1000 {
        send(id, 100, id % 3 > 0);
        comes(id).await;
    }
    // More than every window, and small ones behind it.
    for id in 1000..1010 {
        send(id, if id % 2 == 0 { 20 << 20 } else { 10 }, id % 3 > 0);
    }
    for id in 1000..1010 {
        comes(id).await;
    }
    for _ in 1..1010 {
        timeout(SOON, drops.recv()).await.expect("soon").expect("it is not kept any longer");
    }
    sink.close();
    timeout(SOON, pump).await.expect("soon").expect("it ends");
    send(1010, 10, true);
    timeout(SOON, drops.recv()).await.expect("soon").expect("nobody takes it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_send_on_one_sink() {
    const EACH: u64 = 500;
    let met = meet().await;
    let (opening, sink) = met.channel.with_sink::<()>();
    let pumped = Arc::clone(&sink);
    tokio::spawn(async move { pumped.pump().await });
    let mut client = PluginClient::new(opening);
    let answers = timeout(SOON, client.channel(stream::empty())).await.expect("soon").expect("an answer");
    let mut answers = answers.into_inner();
    let threads = (0..4).map(|thread| {
        let sink = Arc::clone(&sink);
        std::thread::spawn(move || {
            for number in 0..EACH {
                sink.send(&ChannelRequest { id: thread * EACH + number, ..Default::default() }, (), true);
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut next = [0; 4];
    for _ in 0..4 * EACH {
        let answer = timeout(SOON, answers.message()).await.expect("soon").expect("an answer").expect("not the end");
        let (thread, number) = (answer.id / EACH, answer.id % EACH);
        assert_eq!(number, next[thread as usize], "of one thread they come in order");
        next[thread as usize] += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
}
