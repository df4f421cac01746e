//! What holds for the mechanisms whose plugins make several calls at once: `native` and `process`. An
//! instance of a WebAssembly plugin makes one at a time.

use std::time::Duration;

use jackfield::Encoding;

use crate::conformance::each_mechanism;
use crate::suite::{Run, ended, in_time, misbehave, says};

each_mechanism! {
    async fn a_call_that_takes_its_time_keeps_nobody_waiting_after_a_panic(run) {
        let host = run.host("misbehave").await;
        let rascal = misbehave(&host, "misbehave");
        let slow = rascal.blocking();
        // A thread that nobody waits for: its call never ends.
        std::thread::spawn(move || slow.wait("for ever".into(), vec![]));
        while rascal.waiting().await != Ok(1) {}
        says(&ended(rascal.panic("no".into()).await), &["panicked"]);
        let next = tokio::time::timeout(Duration::from_secs(10), async move {
            // A native call blocks its thread.
            tokio::spawn(async move { rascal.echo("next".into()).await }).await.expect("it ran")
        });
        assert_eq!(next.await.expect("an answer in time"), Ok("next".into()));
    }
}
