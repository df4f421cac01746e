//! A client's only argument is passed as it is to a caller that takes it so, and encoded for one that does
//! not; its answer likewise.

use std::sync::Arc;

use fixtures_api::misbehave::MisbehaveClient;
use jackfield_protocol::call::{Answer, Buffer, Caller, Cause, Failure, Outgoing, Reply};
use jackfield_protocol::{DecodeError, Encoding};

/// Answers `echo`, and takes its argument as it is or not.
struct Echo {
    takes_whole: bool,
}

impl Caller for Echo {
    fn call(&self, outgoing: Outgoing<'_>) -> Reply {
        let whole = if self.takes_whole { (outgoing.take)() } else { None };
        let answer = match whole {
            Some(whole) => Answer::whole(true, whole),
            None => {
                let mut bytes = Buffer::new();
                (outgoing.arguments)(Encoding::Binary, &mut bytes).expect("arguments");
                Answer::encoded(true, Encoding::Binary, bytes)
            }
        };
        Reply::Ready(Ok(answer))
    }

    fn answered(&self, _: usize, ok: bool) {
        assert!(ok);
    }

    fn undecodable(&self, _: usize, error: DecodeError) -> Failure {
        Failure::new("echo", "echo", Cause::Protocol { what: format!("encoded: {error}") })
    }

    fn may_block(&self, _: usize) -> Result<(), Failure> {
        Ok(())
    }
}

fn client(takes_whole: bool) -> MisbehaveClient {
    let caller: Arc<dyn Caller> = Arc::new(Echo { takes_whole });
    caller.into()
}

#[test]
fn a_text_that_is_passed_as_it_is_is_never_copied() {
    let text = "a 🦀".repeat(1000);
    let (at, copy) = (text.as_ptr(), text.clone());
    let back = client(true).blocking().echo(text).expect("an answer");
    assert_eq!((back.as_ptr(), back), (at, copy));
}

#[test]
fn a_caller_that_takes_nothing_as_it_is_has_it_encoded() {
    assert_eq!(client(false).blocking().echo("Ada".to_owned()), Ok("Ada".to_owned()));
}

#[test]
fn nothing_but_a_text_or_bytes_alone_is_taken_as_it_is() {
    let client = client(true);
    let client = client.blocking();
    // What is not taken comes back encoded, and is of another type than the answers of these.
    for (function, failed) in [
        ("hang", client.hang(7).map_err(|error| error.to_string())),
        ("wait", client.wait("key".to_owned(), vec![1]).map(|_| ()).map_err(|error| error.to_string())),
        ("waiting", client.waiting().map(|_| ()).map_err(|error| error.to_string())),
    ] {
        let failed = failed.expect_err(function);
        assert!(failed.contains("encoded"), "{function}: {failed}");
    }
}
