//! Where sockets are, and whose.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use jackfield_grpc::handshake::variable;
use matrix::pb::{CallBackRequest, Empty};

use crate::suite::grpc::{client, client_of, fixture, languages, program, tool};
use crate::suite::{self, Plugins, in_time, says};

/// Longer than the name of a socket may be.
fn long_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&"long".repeat(30)).tempdir().expect("a directory")
}

fn socket_dir(host: &jackfield::Host, name: &str) -> String {
    let process = host.plugin(name).expect("a plugin").info().process.expect("it runs");
    let variables = fs::read(format!("/proc/{process}/environ")).expect("it runs");
    let prefix = format!("{}=", variable::UNIX_SOCKET_DIR);
    let all = variables.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    all.filter_map(|one| one.strip_prefix(&prefix).map(str::to_owned)).next().expect("a directory")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_their_owners_alone_unless_a_group_is_named() {
    // One that is not our own, where we may give files away.
    let root = rustix::process::geteuid().is_root();
    let group = if root { 1 } else { rustix::process::getegid().as_raw() };
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("private"));
        plugins.add(fixture(language).named("shared").grpc(&format!("socket_group = \"{group}\"")));
        let host = in_time(plugins.host()).await;
        for name in ["private", "shared"] {
            let plugin = host.plugin(name).unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
            let broker = plugin.connection().expect("it runs").broker;
            let mut client = client_of(&plugin);
            let _offered = in_time(client.offer(Empty {})).await.expect("an offer");
            let broker_id = broker.next_id();
            let serving = broker.serve(broker_id, matrix::adder()).expect("a socket");
            let called = in_time(client.call_back(CallBackRequest { broker_id, a: 1, b: 2 })).await;
            assert_eq!(called.expect("an answer").into_inner().sum, 3);

            let dir = socket_dir(&host, name);
            let of = |path: &Path| {
                let metadata = fs::metadata(path).expect("it is there");
                (metadata.mode() & 0o777, metadata.gid(), metadata.file_type().is_socket())
            };
            let sockets: Vec<_> =
                fs::read_dir(&dir).expect("a directory").map(|entry| of(&entry.expect("one").path())).collect();
            assert_eq!(sockets.len(), 3, "{sockets:?}");
            match name {
                "shared" => {
                    assert_eq!(of(Path::new(&dir)), (0o770, group, false));
                    assert_eq!(sockets, [(0o660, group, true); 3], "{language}");
                }
                // Nobody else can look into the directory, whatever the modes of what is in it.
                _ => assert_eq!(of(Path::new(&dir)).0, 0o700),
            }
            serving.stop();
        }
        in_time(host.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_does_not_exist_is_named() {
    let plugins = Plugins::with(fixture("rust").named("shared").grpc("socket_group = \"no-such-group\""));
    let host = in_time(plugins.host()).await;
    says(&suite::refused(&host, "shared"), &["cannot prepare its start: ", "no-such-group"]);
}

#[test]
fn a_temporary_directory_whose_name_is_too_long_is_not_used() {
    if std::env::var_os("JACKFIELD_TEST_LONG").is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(async {
            for language in languages() {
                let plugins = Plugins::with(fixture(language).named("long"));
                let host = in_time(plugins.host()).await;
                in_time(client(&host, "long").version(Empty {})).await.expect("an answer");
                in_time(host.stop()).await;
            }
        });
    }
    let dir = long_dir();
    let mut child = suite::again("sockets::a_temporary_directory_whose_name_is_too_long_is_not_used");
    let output = child.env("TMPDIR", dir.path()).env("JACKFIELD_TEST_LONG", "1").output().expect("a host");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let left: Vec<_> = fs::read_dir(dir.path()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A host in Go leaves the choice to the plugin, which says what is wrong with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_of_a_host_in_go_says_that_the_directory_is_too_long() {
    let Some(host) = tool("matrix-host") else { return };
    let dir = long_dir();
    for language in languages() {
        let mut command = tokio::process::Command::new(&host);
        command.args(["-v", "-scenario", "unary", "-plugin"]).arg(program(language).expect("it is there"));
        command.env("TMPDIR", dir.path()).kill_on_drop(true);
        let output = in_time(command.output()).await.expect("it runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let expected =
            if language == "go" { "bind: invalid argument" } else { "bytes are too many for the name of a socket" };
        assert_eq!(output.status.code(), Some(1), "{said}");
        says(&said, &[expected]);
    }
}
