//! A plugin that tries to get out of its sandbox, and of its limits: each attempt is denied, and what it tried
//! is in the host's log. The attempts are in `suite/escape.py`.

#![cfg(all(feature = "process", target_os = "linux"))]

mod suite;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use jackfield::{Host, Plugin};
use serde_json::{Value, json};
use suite::{Plugins, ended, fixtures, in_time, says};

struct Prison {
    _plugins: Plugins,
    home: PathBuf,
    host: Host,
    plugin: Plugin,
}

/// The plugin, with these lines in its manifest.
async fn prison(manifest: &str) -> Prison {
    let plugins = Plugins::new();
    let home = plugins.path().join("escape");
    fs::create_dir(&home).expect("made");
    // A link, and not written here: see `Plugins::add`.
    let script = suite::root().join("crates/jackfield/tests/suite/escape.py");
    if fs::hard_link(&script, home.join("escape.py")).is_err() {
        fs::copy(&script, home.join("escape.py")).expect("a copy");
    }
    fs::write(home.join("plugin.toml"), format!("name = 'escape'\nentry = 'escape.py'\n{manifest}")).expect("written");
    let host = in_time(plugins.builder().runner(fixtures::runner()).build()).await.expect("a host");
    let plugin = host.plugin("escape").unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
    Prison { _plugins: plugins, home, host, plugin }
}

impl Prison {
    async fn tries(&self, what: &str, arguments: Value) -> String {
        match in_time(self.plugin.call(what, arguments)).await {
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(error) => ended::<Value, Value>(Err(error)),
        }
    }

    /// It is denied with this error, and the log has it.
    async fn is_denied(&self, what: &str, arguments: Value, error: &str) {
        let denied = format!("{what}: {error}");
        assert_eq!(self.tries(what, arguments).await, denied);
        let line = format!("denied: {denied}");
        suite::eventually("it is logged", || self.plugin.log_tail(100).iter().any(|logged| logged.contains(&line)));
    }
}

const DEFAULT: &str = "[sandbox]\nprofile = 'default'\n";

#[tokio::test]
async fn the_hosts_environment_memory_and_files_are_closed() {
    let prison = prison(DEFAULT).await;
    for what in ["host-environment", "host-memory-file", "host-maps", "host-files"] {
        prison.is_denied(what, json!({}), "EACCES").await;
    }
    prison.is_denied("host-memory", json!({}), "EPERM").await;
    prison.is_denied("ptrace", json!({}), "EPERM").await;
}

#[tokio::test]
async fn it_sees_none_of_the_hosts_variables_but_those_that_are_granted() {
    let prison = prison("[env]\nGIVEN = 'by the manifest'\n[sandbox]\nenv = ['CARGO_MANIFEST_DIR']\n").await;
    let seen = in_time(prison.plugin.call("variables", json!({}))).await.expect("variables");
    let seen = seen.as_object().expect("an object");
    assert_eq!(seen["GIVEN"], "by the manifest");
    let there = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs tests");
    assert_eq!(seen["CARGO_MANIFEST_DIR"], there);
    assert!(!seen.contains_key("CARGO_PKG_NAME") && !seen.contains_key("USER"), "{seen:?}");
    let known = ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "HOME", "GIVEN", "CARGO_MANIFEST_DIR"];
    for name in seen.keys() {
        assert!(known.contains(&&**name) || name == "JACKFIELD_GUARD", "{name}");
    }
}

#[tokio::test]
async fn files_outside_are_neither_read_nor_written() {
    let prison = prison(DEFAULT).await;
    let outside = fixtures::scratch_dir();
    let file = outside.path().join("file");
    fs::write(&file, "content").expect("written");
    prison.is_denied("shadow", json!({}), "EACCES").await;
    prison.is_denied("read", json!({ "path": file }), "EACCES").await;
    prison.is_denied("write", json!({ "path": file }), "EACCES").await;
    // Its own directory is there to be read.
    let own = prison.home.join("plugin.toml");
    assert_eq!(prison.tries("read", json!({ "path": own })).await, "done");
    prison.is_denied("write", json!({ "path": own }), "EACCES").await;
    assert_eq!(fs::read_to_string(&file).expect("read"), "content");
    // Where it works is its own.
    let directory = prison.tries("directory", json!({})).await;
    assert_eq!(prison.tries("write", json!({ "path": format!("{directory}/file") })).await, "done");
    in_time(prison.host.stop()).await;
    drop(prison);
    let gone = async {
        while Path::new(&directory).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    in_time(gone).await;
}

#[tokio::test]
async fn what_the_manifest_grants_is_reached() {
    let outside = fixtures::scratch_dir();
    let (read, write) = (outside.path().join("read"), outside.path().join("write"));
    fs::create_dir(&read).and_then(|()| fs::create_dir(&write)).expect("made");
    fs::write(read.join("file"), "content").expect("written");
    let prison = prison(&format!("[sandbox]\nfs.read = [{read:?}]\nfs.write = [{write:?}]\n")).await;
    assert_eq!(prison.tries("read", json!({ "path": read.join("file") })).await, "done");
    prison.is_denied("write", json!({ "path": read.join("file") }), "EACCES").await;
    assert_eq!(prison.tries("write", json!({ "path": write.join("file") })).await, "done");
}

#[tokio::test]
async fn there_is_no_network_and_no_abstract_socket() {
    let prison = prison(DEFAULT).await;
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    prison.is_denied("tcp", json!({ "port": tcp.local_addr().expect("an address").port() }), "EPERM").await;
    prison.is_denied("udp", json!({ "port": udp.local_addr().expect("an address").port() }), "EPERM").await;
    let name = format!("jackfield-test-{}", std::process::id());
    let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address.expect("an address")).expect("a socket");
    prison.is_denied("abstract", json!({ "name": name }), "EPERM").await;
}

#[tokio::test]
async fn what_is_not_shut_in_gets_out() {
    // What makes the tests above tests: the same attempts, without a sandbox.
    let prison = prison("").await;
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = tcp.local_addr().expect("an address").port();
    for (what, arguments) in [
        ("host-environment", json!({})),
        ("host-files", json!({})),
        ("tcp", json!({ "port": port })),
        ("signal", json!({})),
    ] {
        assert_eq!(prison.tries(what, arguments).await, "done", "{what}");
    }
}

#[tokio::test]
async fn it_signals_nobody_and_leaves_no_group_namespace_or_root() {
    let prison = prison(DEFAULT).await;
    for what in ["signal", "continue", "leave-group", "unshare", "mount", "chroot"] {
        prison.is_denied(what, json!({}), "EPERM").await;
    }
}

#[tokio::test]
async fn a_fork_bomb_does_not_get_off_under_strict_and_is_ended_where_processes_are_limited() {
    let strict = prison("[sandbox]\nprofile = 'strict'\n").await;
    strict.is_denied("fork-bomb", json!({}), "EPERM").await;
    let prison = prison("[sandbox]\nprofile = 'default'\n[limits]\nprocesses = 16\n").await;
    let enforced = prison.plugin.info().enforced.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let died = prison.tries("fork-bomb", json!({})).await;
    // By the cgroup, where one is delegated: then the fork fails; else the watcher ends them all.
    match enforced.contains("processes 16 by cgroup") {
        true => says(&died, &["fork-bomb: EAGAIN"]),
        false => says(&died, &["limit: ", "`processes`", "of 16 allowed"]),
    }
}

#[tokio::test]
async fn the_disk_is_not_filled_by_a_file_and_no_file_is_opened_beyond_the_limit() {
    let prison = prison("[sandbox]\nprofile = 'default'\n[limits]\nfile_size = '1MiB'\nfiles = 64\n").await;
    prison.is_denied("fill-disk", json!({}), "EFBIG").await;
    prison.is_denied("open-files", json!({}), "EMFILE").await;
}

#[tokio::test]
async fn a_long_answer_ends_its_call() {
    let prison = prison("[sandbox]\nprofile = 'default'\n[limits]\nanswer_bytes = '64KiB'\n").await;
    says(&prison.tries("long-answer", json!({ "bytes": 1 << 20 })).await, &["limit: ", "`answer_bytes`"]);
}

/// What RLIMIT_DATA does not count, and RLIMIT_AS would, with which many runtimes do not start.
#[tokio::test]
async fn shared_memory_beyond_the_limit_is_seen_by_the_watcher() {
    let prison = prison("[limits]\nmemory = '64MiB'\n").await;
    let died = prison.tries("share-memory", json!({})).await;
    says(&died, &["limit: ", "`memory`"]);
}

#[tokio::test]
async fn what_is_in_force_is_said_one_by_one() {
    let prison = prison(DEFAULT).await;
    let enforced = prison.plugin.info().enforced;
    let of = |limit: &str| enforced.iter().find(|enforced| enforced.limit == limit).map(ToString::to_string);
    let by = |limit: &str| of(limit).unwrap_or_else(|| panic!("no `{limit}` in {enforced:?}"));
    says(&by("fs"), &["fs default by landlock"]);
    assert_eq!(by("net"), "net none by seccomp");
    assert_eq!(by("system_calls"), "system_calls default by seccomp");
    assert_eq!(by("capabilities"), "capabilities none by capset (and no new privileges)");
    assert_eq!(by("signals"), "signals own processes by landlock");
    assert_eq!(by("parent_death"), "parent_death kill by prctl");
}
