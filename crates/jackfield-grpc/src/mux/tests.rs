use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn pair() -> (Mux, Mux) {
    let (near, far) = duplex(1 << 20);
    (Mux::new(Stream::new(near), Role::Host), Mux::new(Stream::new(far), Role::Plugin))
}

/// Opens a connection from one side; a word goes there and back.
async fn round_trip(from: &Mux, to: &Mux) {
    let Opened { mut stream, taken } = from.open().await.expect("opened");
    stream.write_all(b"ask").await.expect("written");
    stream.flush().await.expect("flushed");
    let mut there = timeout(SOON, to.accept()).await.expect("soon").expect("a connection");
    let mut word = [0; 3];
    there.read_exact(&mut word).await.expect("read");
    assert_eq!(&word, b"ask");
    there.write_all(b"yes").await.expect("written");
    there.flush().await.expect("flushed");
    stream.read_exact(&mut word).await.expect("read");
    assert_eq!(&word, b"yes");
    timeout(SOON, taken).await.expect("soon").expect("taken");
}

#[tokio::test]
async fn either_side_opens_connections() {
    let (host, plugin) = pair();
    round_trip(&host, &plugin).await;
    round_trip(&plugin, &host).await;
    round_trip(&host, &plugin).await;
}

#[tokio::test]
async fn more_is_carried_than_a_window_holds() {
    let (host, plugin) = pair();
    let mut opened = host.open().await.expect("opened").stream;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        opened.write_all(&sent).await.expect("written");
        opened.shutdown().await.expect("closed");
    });
    let mut arrived = Vec::new();
    let mut stream = plugin.accept().await.expect("a connection");
    timeout(SOON, stream.read_to_end(&mut arrived)).await.expect("soon").expect("read");
    assert!(arrived == expected);
    writing.await.expect("no panic");
}

#[tokio::test]
async fn closing_one_side_closes_the_other() {
    let (host, plugin) = pair();
    round_trip(&host, &plugin).await;
    host.close();
    timeout(SOON, plugin.closed()).await.expect("soon");
    timeout(SOON, host.closed()).await.expect("soon");
    assert!(plugin.accept().await.is_none());
    host.open().await.expect_err("closed");
}

#[tokio::test]
async fn it_is_closed_when_the_last_handle_and_connection_are_gone() {
    let (host, plugin) = pair();
    let mut opened = host.open().await.expect("opened").stream;
    drop(host);
    opened.write_all(b"still here").await.expect("written");
    opened.flush().await.expect("flushed");
    let mut there = timeout(SOON, plugin.accept()).await.expect("soon").expect("a connection");
    let mut word = [0; 10];
    there.read_exact(&mut word).await.expect("read");
    drop(opened);
    timeout(SOON, plugin.closed()).await.expect("soon");
}
