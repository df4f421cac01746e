//! Programs that want to be gRPC plugins and are none: each is refused by name, in time, with what it said and
//! how it ended; nothing of it is left; and what else lies in the directory is loaded.

#![cfg(all(feature = "grpc", target_os = "linux"))]

mod suite;

use expect_test::{Expect, expect};
use suite::processes::Mark;
use suite::{Fixture, Plugins, chain, in_time};

/// Time that a plugin of these tests has, where it has to run out.
const START_TIMEOUT: &str = "\"700ms\"";

/// Loads a good plugin and one that is none. Gives the reason why the latter was refused.
async fn refusal(fixture: Fixture) -> String {
    let mark = Mark::new();
    let plugins = Plugins::with(go("good"));
    plugins.add(fixture.env(Mark::VARIABLE, mark.value()));
    let host = plugins.host().await;
    assert!(host.plugin("good").is_ok(), "{:?}", host.refused());
    let all = host.refused();
    let [refused] = &*all else { panic!("one is refused: {:?}", host.refused()) };
    assert_eq!(mark.running(), [0; 0], "a refused program is left behind");
    chain(&refused.reason)
}

fn go(name: &str) -> Fixture {
    Fixture::matrix("go").named(name).grpc("versions = [2, 3]")
}

async fn check(fixture: Fixture, expected: Expect) {
    let why = in_time(refusal(fixture)).await;
    // What the plugin logs has names of sockets in it, and comes when it comes.
    let why = why.split("; on stderr: ").next().unwrap_or_default();
    let socket = |word: &&str| word.contains("/jackfield-");
    let words = why.split(' ').map(|word| if socket(&word) { "(a socket)" } else { word });
    expected.assert_eq(&words.collect::<Vec<_>>().join(" "));
}

/// A plugin whose handshake is this line; `{line}` is go-plugin's own, `{4}` its fourth field.
async fn says(line: &str, expected: Expect) {
    check(go("odd").grpc("tls = \"off\"").env("MATRIX_LINE", line), expected).await;
}

macro_rules! tests {
    ($(async fn $name:ident() $body:block)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() $body
    )*};
}

tests! {
    async fn a_program_that_is_asked_for_another_cookie() {
        let cookie = "cookie = { key = \"NO_SUCH\", value = \"x\" }\nversions = [2]";
        let stranger = Fixture::new(suite::Mechanism::Grpc, "matrix-go").named("stranger").grpc(cookie);
        let why = refusal(stranger).await;
        suite::says(&why, &["it ended before its handshake: exit status 1", "on stderr: ", "This binary is a plugin"]);
    }

    async fn a_program_of_another_version_of_the_application() {
        // go-plugin takes its lowest version where none fits, and leaves the refusal to us.
        let other = Fixture::matrix("go").named("other").grpc("versions = [9]");
        check(other, expect!["it speaks version 2 of the application's protocol, this host speaks 9"]).await;
    }

    async fn a_program_that_does_not_serve_what_its_manifest_says() {
        let description = suite::root().join("examples/greeter-api/greeter.json");
        let more = "interfaces = [\"demo:greeter/greeter@1.0.0\"]\ndescriptions = [\"greeter.json\"]";
        let fixture = go("liar").manifest(more);
        let plugins = Plugins::with(go("good"));
        plugins.add(fixture);
        std::fs::copy(description, plugins.path().join("liar/greeter.json")).expect("a copy");
        let host = in_time(plugins.host()).await;
        let why = suite::refused(&host, "liar");
        suite::says(&why, &["its manifest says `demo:greeter/greeter@1.0.0`", "`demo.greeter.v1.Greeter`"]);
        suite::says(&why, &["it serves jackfield.matrix.v1.Matrix"]);
        in_time(host.stop()).await;
    }

    async fn a_program_that_ends_with_success_and_without_a_line() {
        check(go("gone").env("MATRIX_START", "exit:0"), expect!["it ended before its handshake: exit status 0"]).await;
    }

    async fn a_program_that_dies_at_the_start() {
        check(go("killed").env("MATRIX_START", "kill"), expect!["it ended before its handshake: signal 9 (SIGKILL)"]).await;
        let why = refusal(go("panics").env("MATRIX_START", "panic")).await;
        suite::says(&why, &["it ended before its handshake: exit status 2; on stderr: ", "goroutine 1"]);
    }

    async fn a_program_that_never_says_where_it_listens() {
        check(
            go("silent").env("MATRIX_START", "hang").limit("start_timeout", START_TIMEOUT),
            expect!["it was not ready within 700ms: no handshake on stdout"],
        ).await;
    }

    async fn a_line_that_is_no_handshake() {
        says("Welcome!", expect![[r#"its handshake cannot be taken: the first line of stdout is no handshake, but "Welcome!""#]]).await;
        says("{long}", expect![[r#"its handshake cannot be taken: the first line of stdout is no handshake, but "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… (69632 bytes)"#]]).await;
        says("1|2|unix", expect![[r#"its handshake cannot be taken: the first line of stdout is no handshake, but "1|2|unix""#]]).await;
        says("x|{2}|{3}|{4}|grpc", expect![[r#"its handshake cannot be taken: the version of the handshake is no number, but "x""#]]).await;
        says("2|{2}|{3}|{4}|grpc", expect!["its handshake cannot be taken: the plugin's handshake has version 2, this host understands version 1"]).await;
        says("1|two|{3}|{4}|grpc", expect![[r#"its handshake cannot be taken: the application's version is no number, but "two""#]]).await;
        says("1|9|{3}|{4}|grpc", expect!["it speaks version 9 of the application's protocol, this host speaks 2, 3"]).await;
        says("1|{2}|udp|{4}|grpc", expect![[r#"its handshake cannot be taken: unknown kind of address "udp", which is neither `unix` nor `tcp`"#]]).await;
        says("1|{2}|tcp|{4}|grpc", expect!["its handshake cannot be taken: (a socket) is no tcp address"]).await;
        says("1|{2}|{3}|{4}|soap", expect![[r#"its handshake cannot be taken: the plugin speaks "soap", which is neither `grpc` nor `netrpc`"#]]).await;
        says("1|{2}|{3}|{4}|netrpc|", expect!["it speaks `netrpc`, this host speaks `grpc`"]).await;
        // Four fields are a plugin from before there was gRPC.
        says("1|{2}|{3}|{4}", expect!["it speaks `netrpc`, this host speaks `grpc`"]).await;
        says("1|{2}|{3}|/tmp/nobody-is-here|grpc", expect!["cannot connect to `unix:/tmp/nobody-is-here`, where it says it listens: No such file or directory (os error 2)"]).await;
    }

    async fn a_certificate_is_sent_when_it_is_asked_for_and_only_then() {
        says("1|{2}|{3}|{4}|grpc|{cert}", expect![[r#"it sent a certificate, and the manifest says `tls = "off"`"#]]).await;
        let none = go("none").env("MATRIX_LINE", "1|{2}|{3}|{4}|grpc|");
        check(none, expect![[r#"it sent no certificate, and the manifest does not say `tls = "off"`"#]]).await;
        let foreign = go("foreign").env("MATRIX_LINE", "1|{2}|{3}|{4}|grpc|{cert}");
        let why = refusal(foreign).await;
        suite::says(&why, &["cannot connect to `unix:", "certificate"]);
    }

    async fn a_plugin_that_cannot_multiplex() {
        let multiplex = |line: &str| go("mux").grpc("multiplex = true").env("MATRIX_LINE", line);
        check(multiplex("1|{2}|{3}|{4}|grpc|{6}"), expect!["it does not multiplex, and the manifest says `multiplex = true`"]).await;
        check(multiplex("1|{2}|{3}|{4}|grpc|{6}|false"), expect!["it does not multiplex, and the manifest says `multiplex = true`"]).await;
        check(multiplex("1|{2}|{3}|{4}|grpc|{6}|perhaps"), expect![[r#"its handshake cannot be taken: whether the plugin multiplexes is neither true nor false, but "perhaps""#]]).await;
    }

    async fn a_program_that_is_not_the_one_that_was_pinned() {
        let pin = "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"";
        let why = refusal(go("pinned").manifest(pin)).await;
        suite::says(&why, &["is not what its manifest pins: its SHA-256 is ", "the manifest says 00000000"]);
    }
}

/// Lines that are odd and good: fields that old plugins leave out, or put something else into.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_may_leave_out_what_nobody_needs() {
    for line in ["1|{2}|{3}|{4}|grpc", "  {line}  ", "1|{2}|{3}|{4}|grpc|junk"] {
        let plugins = Plugins::with(go("odd").grpc("tls = \"off\"").env("MATRIX_LINE", line));
        let host = in_time(plugins.host()).await;
        assert!(host.refused().is_empty(), "{line}: {:?}", host.refused());
        in_time(host.stop()).await;
    }
}
