use expect_test::expect;
use std::fs;

use super::exposed::{Place, is_private_by};
use super::*;

#[test]
fn a_plugin_belongs_to_the_directory_that_it_was_found_in() {
    let dirs = ["plugins", "/opt/more"].map(PathBuf::from);
    let paths = ["one", "lib/libtwo.so"].map(PathBuf::from);
    let places = [
        "plugins/english/plugin.toml",
        "plugins/plugin.toml",
        "plugins/libuzbek.so",
        "/opt/more/english/plugin.json",
        "one/plugin.toml",
        "lib/libtwo.so",
    ];
    let of = |source: &str| format!("{source}: {:?}\n", Place::of(&dirs, &paths, Path::new(source)));
    expect![[r#"
        plugins/english/plugin.toml: Place { locked_in: "plugins", inside: "plugins", ours: true }
        plugins/plugin.toml: Place { locked_in: "plugins", inside: "plugins", ours: true }
        plugins/libuzbek.so: Place { locked_in: "plugins", inside: "plugins", ours: true }
        /opt/more/english/plugin.json: Place { locked_in: "/opt/more", inside: "/opt/more", ours: true }
        one/plugin.toml: Place { locked_in: ".", inside: "one", ours: true }
        lib/libtwo.so: Place { locked_in: "lib", inside: "lib", ours: false }
    "#]]
    .assert_eq(&places.map(of).concat());
}

#[test]
fn a_group_is_private_if_it_has_nobody_but_the_owner() {
    let users = "root:x:0:0::/:sh\nada:x:1000:1000::/:sh\nbob:x:1001:1001::/:sh\ncat:x:1002:50::/:sh\n";
    let groups = "root:x:0:\nada:x:1000:ada\nbob:x:1001:ada\nstaff:x:50:\n";
    let private = |group, owner| is_private_by(users, groups, group, owner);
    assert!(private(1000, 1000) && private(0, 0));
    assert!(!private(1001, 1001), "it has a member");
    assert!(!private(50, 1000), "it is another's first group");
    assert!(!private(1000, 0), "its member is not the owner");
    assert!(!private(7, 1000), "nobody knows who is in it");
}

#[test]
fn a_path_is_a_word_of_a_command() {
    let quoted = |path: &str| error::quoted(Path::new(path));
    assert_eq!(["/a/b-c_d.e", "a b", "it's"].map(quoted), ["/a/b-c_d.e", "'a b'", r"'it'\''s'"]);
}

#[test]
fn a_lock_is_read_as_it_was_written_and_refused_where_it_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |text: &str, expected: expect_test::Expect| {
        fs::write(dir.path().join(PluginsLock::FILE), text).expect("written");
        let read = PluginsLock::read(dir.path()).map(|lock| format!("{lock:#?}"));
        let words = read.unwrap_or_else(|error| error.to_string());
        expected.assert_eq(&words.replace(&*dir.path().to_string_lossy(), "DIR"));
    };
    check("format = 2", expect!["`DIR/plugins.lock` cannot be used: it has format 2, this host knows 1"]);
    check(
        "format = 1\n[[plugin]]\nnam = 'x'",
        expect![
            "`DIR/plugins.lock` cannot be used: line 3: unknown field `nam`, expected one of `name`, `version`, `mechanism`, `entry`, `sha256`, `manifest_sha256`"
        ],
    );
    check(
        "format = 1",
        expect![[r#"
        Some(
            PluginsLock {
                plugins: [],
            },
        )"#]],
    );
    let mut manifest = Manifest::bare("a".to_owned(), &dir.path().join("it's \"a\".wasm"));
    manifest.own_sha256 = Some([7; 32]);
    fs::write(&manifest.entry, "bytes").expect("written");
    let lock = PluginsLock { plugins: vec![LockedPlugin::of(dir.path(), &manifest).expect("an entry")] };
    lock.write(dir.path()).expect("written");
    assert_eq!(PluginsLock::read(dir.path()).expect("a lock"), Some(lock));
    expect![[r#"
        # Written by `jackfield lock`; `--locked` refuses what differs.
        format = 1

        [[plugin]]
        name = "a"
        mechanism = "wasm"
        entry = "it's \"a\".wasm"
        sha256 = "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"
        manifest_sha256 = "0707070707070707070707070707070707070707070707070707070707070707"
    "#]]
    .assert_eq(&fs::read_to_string(dir.path().join(PluginsLock::FILE)).expect("read"));
}

/// What minisign itself made, from the documentation of its Rust library.
#[test]
fn a_signature_by_minisign_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (entry, keys) = (dir.path().join("test"), dir.path().join("keys"));
    fs::write(&entry, "test").expect("written");
    fs::write(&keys, "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3").expect("written");
    let signature = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
        wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n";
    fs::write(dir.path().join("test.minisig"), signature).expect("written");
    let verify = |bytes: &[u8]| {
        let verified = signature::verify(bytes, &entry, Signatures::Require, Some((&keys, false)));
        verified.map_err(|error| error.to_string().replace(&*dir.path().to_string_lossy(), "DIR"))
    };
    assert_eq!(verify(b"test"), Ok("E7620F1842B4E81F".to_owned()));
    let wrong = "the signature `DIR/test.minisig` does not hold: `DIR/test` is not what E7620F1842B4E81F signed";
    assert_eq!(verify(b"tesT"), Err(wrong.to_owned()));
}
