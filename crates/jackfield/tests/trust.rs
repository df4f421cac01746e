//! Which plugins are not loaded since nothing vouches for them, or since others could change them; and that what is
//! loaded is what was checked.

#![cfg(all(feature = "native", feature = "process", target_os = "linux"))]

mod suite;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, Seed};
use expect_test::{Expect, expect};
use fixtures_api::misbehave::Misbehave;
use fixtures_api::zoo::Zoo;
use jackfield::{Client, Exposure, Host, HostBuilder, Manifest, PluginsLock, ReloadError, Signatures};
use serde_json::json;
use suite::{Fixture, Mechanism, Plugins, chain, fixtures, in_time, refused, says, versions};

/// Loads while the file is replaced.
const LOADS: u32 = 1000;

/// A plugin in a shell, which answers every call with its own text.
fn script(text: &str) -> String {
    let hello = r#"{"id":1,"result":{"protocol":"1.0","plugin":{"name":"script","version":"1.0.0"},"interfaces":["test:script/script@1.0.0"]}}"#;
    format!(
        "#!/bin/sh\nread -r hello\necho '{hello}'\nwhile read -r line; do\n\
         id=${{line#*'\"id\":'}}\nid=${{id%%[!0-9]*}}\necho '{{\"id\":'\"$id\"',\"result\":\"{text}\"}}'\ndone\n"
    )
}

fn sha256(bytes: &[u8]) -> String {
    <sha2::Sha256 as sha2::Digest>::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts another file in the place of one, which stays as it is where it is linked elsewhere.
fn put(file: &Path, bytes: &[u8]) {
    let beside = file.with_file_name(".beside");
    fs::write(&beside, bytes).expect("written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(&beside, file).expect("in its place");
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// A plugin directory with `script` and, beside it, a plugin that is well.
fn with_script() -> (Plugins, PathBuf) {
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "zoo"));
    let dir = plugins.path().join("script");
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("plugin.toml"), "name = 'script'\nentry = 'run'\n").expect("written");
    put(&dir.join("run"), script("good").as_bytes());
    (plugins, dir)
}

async fn build(builder: HostBuilder) -> Host {
    in_time(builder.build()).await.expect("a host")
}

/// The host is alive and serves others.
async fn serves(host: &Host) {
    let zoo: Client<dyn Zoo> = host.get("zoo").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(in_time(zoo.join("a".into(), 1, Some("b".into()))).await, Ok("ab".into()));
}

async fn answer(host: &Host) -> String {
    let plugin = host.plugin("script").unwrap_or_else(|error| panic!("{error}"));
    in_time(plugin.call("script.say", json!({}))).await.expect("an answer").as_str().expect("a text").to_owned()
}

/// What vouches for a plugin, as `inspect` shows it.
fn trust(host: &Host, name: &str) -> String {
    host.plugin(name).unwrap_or_else(|error| panic!("{error}")).info().trusted.to_string()
}

/// `name` is refused with these words, in which the plugin directory is DIR and each text has its name.
#[track_caller]
fn check(host: &Host, name: &str, dir: &Path, texts: &[(&str, &str)], expected: Expect) {
    let mut words = refused(host, name);
    for (text, named) in texts {
        words = words.replace(*text, named);
    }
    expected.assert_eq(&words.replace(&*dir.to_string_lossy(), "DIR"));
}

// ---- Pins -------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flipped_byte_is_refused_in_every_mechanism_and_the_others_are_loaded() {
    let mut mechanisms = vec![Mechanism::Isolated];
    mechanisms.extend(versions::mechanisms());
    for mechanism in mechanisms {
        let built = Manifest::read(&fixtures::built(mechanism, "misbehave").join("plugin.toml")).expect("a manifest");
        let good = fs::read(&built.entry).expect("the fixture");
        let pin = sha256(&good);
        let plugins = Plugins::with(Fixture::new(mechanism, "misbehave").manifest(&format!("sha256 = {pin:?}")));
        plugins.add(Fixture::new(Mechanism::Process, "zoo"));
        let host = build(plugins.builder()).await;
        let rascal: Client<dyn Misbehave> = suite::misbehave(&host, "misbehave");
        assert_eq!(in_time(rascal.echo("a".into())).await, Ok("a".into()), "{mechanism:?}");
        let info = host.plugin("misbehave").expect("a plugin").info();
        assert_eq!((info.trusted.to_string(), info.hash), ("pinned".to_owned(), Some(pin.clone())), "{mechanism:?}");
        in_time(host.stop()).await;

        let bad = flipped(&good);
        put(&versions::entry(&plugins, "misbehave"), &bad);
        let host = build(plugins.builder()).await;
        let file = format!("misbehave/{}", built.entry.file_name().expect("a name").display());
        let found = sha256(&bad);
        check(
            &host,
            "misbehave",
            plugins.path(),
            &[(&*pin, "PINNED"), (&*found, "FOUND"), (&*file, "FILE")],
            expect![["`DIR/FILE` is not what its manifest pins: its SHA-256 is FOUND, the manifest says PINNED"]],
        );
        serves(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_script_runs_from_its_copy_within_a_sandbox_and_limits_too() {
    let manifests = [
        "",
        "[sandbox]\nprofile = 'default'\n",
        "[sandbox]\nprofile = 'strict'\n[limits]\nfiles = 64\n",
        "[limits]\nfiles = 64\n",
    ];
    for more in manifests {
        let (plugins, dir) = with_script();
        let manifest =
            format!("name = 'script'\nentry = 'run'\nsha256 = '{}'\n{more}", sha256(script("good").as_bytes()));
        fs::write(dir.join("plugin.toml"), manifest).expect("written");
        let host = build(plugins.builder().runner(fixtures::runner())).await;
        assert!(host.refused().is_empty(), "{:?}", host.refused());
        assert_eq!((answer(&host).await, trust(&host, "script")), ("good".to_owned(), "pinned".to_owned()));
    }
}

// ---- What is loaded is what was checked -----------------------------------------------------------------

/// Loads `name` many times while its entry is now `good`, now `bad`. How often it was loaded, and refused; and how
/// often the file was replaced.
fn race(plugins: &Plugins, name: &str, entry: &Path, [good, bad]: [&Path; 2]) -> (u32, u32, u32) {
    let over = AtomicBool::new(false);
    let replaced = AtomicU32::new(0);
    let (mut loaded, mut not) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let beside = entry.with_file_name(".beside");
            while !over.load(Ordering::Relaxed) {
                for now in [bad, good] {
                    fs::hard_link(now, &beside).expect("a link");
                    fs::rename(&beside, entry).expect("in its place");
                    // A rename between two links of one file leaves both.
                    let _ = fs::remove_file(&beside);
                    replaced.fetch_add(1, Ordering::Relaxed);
                    // Each stays for a while, or only luck would bring the good one through.
                    std::thread::yield_now();
                }
            }
        });
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            for _ in 0..LOADS {
                let host = runtime.block_on(build(plugins.builder()));
                match host.plugin(name) {
                    Ok(_) => loaded += 1,
                    Err(_) => {
                        says(&refused(&host, name), &["is not what its manifest pins"]);
                        not += 1;
                    }
                }
                runtime.block_on(in_time(host.stop()));
            }
        });
        over.store(true, Ordering::Relaxed);
    });
    (loaded, not, replaced.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_that_is_swapped_between_check_and_load_never_runs() {
    let plugins = Plugins::new();
    let dir = plugins.path().join("raced");
    fs::create_dir(&dir).expect("made");
    let (good, bad, entry, marker) = (dir.join(".good"), dir.join(".bad"), dir.join("libraced.so"), dir.join("it-ran"));
    fixtures::compile_c("lies", &good);
    fixtures::compile_c_with("marks", &[format!("-DMARKER={:?}", marker.to_str().expect("UTF-8"))], &bad);
    let pin = sha256(&fs::read(&good).expect("the library"));
    fs::write(dir.join("plugin.toml"), format!("name = 'raced'\nentry = 'libraced.so'\nsha256 = '{pin}'"))
        .expect("written");
    fs::hard_link(&good, &entry).expect("a link");
    let (loaded, not, replaced) = race(&plugins, "raced", &entry, [&good, &bad]);
    println!("replaced {replaced} times: {loaded} loads of the good one, {not} refused");
    assert!(!marker.exists(), "what was not pinned ran");
    assert_eq!(loaded + not, LOADS);
    assert!(loaded > 0 && not > 0, "both were met: {loaded} and {not}");

    // What makes this a test: without a pin, the bad one runs.
    fs::write(dir.join("plugin.toml"), "name = 'raced'\nentry = '.bad'\nmechanism = 'native'").expect("written");
    build(plugins.builder()).await.plugin("raced").expect("it is loaded");
    assert!(marker.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_is_swapped_between_check_and_start_never_runs() {
    let plugins = Plugins::new();
    let dir = plugins.path().join("script");
    fs::create_dir(&dir).expect("made");
    let (good, bad, entry, marker) = (dir.join(".good"), dir.join(".bad"), dir.join("run"), dir.join("it-ran"));
    put(&good, script("good").as_bytes());
    let evil = script("bad").replacen('\n', &format!("\ntouch '{}'\n", marker.display()), 1);
    put(&bad, evil.as_bytes());
    let pin = sha256(script("good").as_bytes());
    fs::write(dir.join("plugin.toml"), format!("name = 'script'\nentry = 'run'\nsha256 = '{pin}'")).expect("written");
    fs::hard_link(&good, &entry).expect("a link");
    let (loaded, not, replaced) = race(&plugins, "script", &entry, [&good, &bad]);
    println!("replaced {replaced} times: {loaded} starts of the good one, {not} refused");
    assert!(!marker.exists(), "what was not pinned ran");
    assert_eq!(loaded + not, LOADS);
    assert!(loaded > 0 && not > 0, "both were met: {loaded} and {not}");

    fs::write(dir.join("plugin.toml"), "name = 'script'\nentry = '.bad'").expect("written");
    let host = build(plugins.builder()).await;
    assert_eq!((answer(&host).await, marker.exists()), ("bad".to_owned(), true));
}

// ---- The lock -------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_drifts_from_the_lock_is_refused_with_both_hashes_and_the_command_that_accepts_it() {
    let (plugins, dir) = with_script();
    let root = plugins.path();
    let locked = |host: HostBuilder| build(host.locked(true));
    let host = locked(plugins.builder()).await;
    let nothing =
        expect!["plugin `script` is not locked: there is no `DIR/plugins.lock`; `jackfield lock DIR` makes it"];
    check(&host, "script", root, &[], nothing);

    let (lock, not) = PluginsLock::of(root).expect("the directory");
    assert_eq!((lock.plugins.len(), not.len()), (2, 0));
    lock.write(root).expect("written");
    let host = locked(plugins.builder()).await;
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    assert_eq!((answer(&host).await, trust(&host, "script")), ("good".to_owned(), "locked".to_owned()));
    assert_eq!(trust(&host, "zoo"), "locked");

    // A changed entry. A running host keeps what it has, and says at which step.
    let (was, now) = (sha256(script("good").as_bytes()), sha256(script("new").as_bytes()));
    put(&dir.join("run"), script("new").as_bytes());
    match in_time(host.reload("script")).await {
        Err(ReloadError::Failed { step, kept, source, .. }) => {
            assert_eq!((step.as_str(), kept), ("trust", Some(1)));
            says(&chain(&source), &[&was, &now, "`jackfield lock "]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(answer(&host).await, "good");
    let other = locked(plugins.builder()).await;
    let texts = [(&*was, "LOCKED"), (&*now, "FOUND")];
    check(
        &other,
        "script",
        root,
        &texts,
        expect![
            "plugin `script` has changed: the SHA-256 of `DIR/script/run` is FOUND, `DIR/plugins.lock` says LOCKED; `jackfield lock DIR` accepts that"
        ],
    );
    serves(&other).await;
    // It is accepted, and then taken by a host that runs.
    PluginsLock::of(root).expect("the directory").0.write(root).expect("written");
    let rescanned = in_time(host.rescan()).await;
    assert_eq!(rescanned.reloaded.len(), 1, "{rescanned:?}");
    assert_eq!(answer(&host).await, "new");

    // A changed manifest.
    let manifest = dir.join("plugin.toml");
    let was = fs::read(&manifest).expect("read");
    let now = [&was[..], b"args = ['--evil']\n"].concat();
    fs::write(&manifest, &now).expect("written");
    let other = locked(plugins.builder()).await;
    check(
        &other,
        "script",
        root,
        &[(&*sha256(&was), "LOCKED"), (&*sha256(&now), "FOUND")],
        expect![
            "plugin `script` has changed: the SHA-256 of `DIR/script/plugin.toml` is FOUND, `DIR/plugins.lock` says LOCKED; `jackfield lock DIR` accepts that"
        ],
    );
    fs::write(&manifest, &was).expect("written");

    // One that was added.
    put(&root.join("stranger"), script("strange").as_bytes());
    let other = locked(plugins.builder()).await;
    check(
        &other,
        "stranger",
        root,
        &[(&*sha256(script("strange").as_bytes()), "FOUND")],
        expect![
            "plugin `stranger` was added: the SHA-256 of `DIR/stranger` is FOUND, `DIR/plugins.lock` has none; `jackfield lock DIR` accepts that"
        ],
    );
    assert_eq!(answer(&other).await, "new");
    fs::remove_file(root.join("stranger")).expect("removed");

    // One that is missing.
    fs::remove_dir_all(&dir).expect("removed");
    let other = locked(plugins.builder()).await;
    check(
        &other,
        "script",
        root,
        &[(&*sha256(script("new").as_bytes()), "LOCKED")],
        expect![
            "plugin `script` is missing: `DIR/plugins.lock` says LOCKED for `DIR/script/run`, and there is none; `jackfield lock DIR` accepts that"
        ],
    );
    serves(&other).await;
}

// ---- Signatures -----------------------------------------------------------------------------------------

/// A key, and signatures in the form of minisign: over a hash, and then over signature and comment.
struct Signer {
    keys: KeyPair,
    number: [u8; 8],
}

impl Signer {
    fn new(number: u64) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let seed = Seed::new(seed);
        Self { keys: KeyPair::from_seed(seed), number: number.to_le_bytes() }
    }

    fn public_key(&self) -> String {
        STANDARD.encode([b"Ed", &self.number[..], &*self.keys.pk].concat())
    }

    fn sign(&self, bytes: &[u8], file: &Path) {
        self.sign_as(self.number, bytes, file);
    }

    fn sign_as(&self, number: [u8; 8], bytes: &[u8], file: &Path) {
        let comment = "timestamp:1764460800";
        let signature = self.keys.sk.sign(blake2b_simd::blake2b(bytes).as_bytes(), None);
        let whole = self.keys.sk.sign([&*signature, comment.as_bytes()].concat(), None);
        let (first, second) = (STANDARD.encode([b"ED", &number[..], &*signature].concat()), STANDARD.encode(*whole));
        let text = format!("untrusted comment: signature\n{first}\ntrusted comment: {comment}\n{second}\n");
        fs::write(file, text).expect("written");
    }

    /// As minisign shows it.
    fn shown(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.number))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_is_wanted_by_a_trusted_key_and_over_these_bytes() {
    let (plugins, dir) = with_script();
    let (root, keys) = (plugins.path(), fixtures::scratch_dir());
    let file = keys.path().join("keys");
    let (ours, another, stranger) = (Signer::new(0x1234_5678_90AB_CDEF), Signer::new(2), Signer::new(3));
    fs::write(
        &file,
        format!("# Ours.\nuntrusted comment: minisign public key\n{}\n\n{}\n", another.public_key(), ours.public_key()),
    )
    .expect("written");
    let signature = dir.join("run.minisig");
    let builder = || plugins.builder().trusted_keys(&file);
    let required = || build(builder().signatures(Signatures::Require));
    let [our, other, strange] = [&ours, &another, &stranger].map(Signer::shown);
    let keys_dir = keys.path().to_string_lossy();
    let texts = [(&*our, "OURS"), (&*other, "ANOTHER"), (&*strange, "STRANGER"), (&*keys_dir, "KEYS")];
    // One of its own beside it serves all the while.
    let zoo = versions::entry(&plugins, "zoo");
    ours.sign(&fs::read(&zoo).expect("read"), &zoo.with_added_extension("minisig"));

    let host = required().await;
    check(
        &host,
        "script",
        root,
        &texts,
        expect!["`DIR/script/run` is not signed: there is no `DIR/script/run.minisig`"],
    );
    serves(&host).await;
    // To be warned is not to be kept from it.
    let host = build(builder().signatures(Signatures::Warn)).await;
    assert_eq!(answer(&host).await, "good");
    let trusted = host.plugin("script").expect("a plugin").info().trusted;
    assert_eq!((trusted.signed_by, trusted.let_pass.len()), (None, 1));
    says(&trusted.let_pass[0], &["is not signed: there is no "]);

    stranger.sign(script("good").as_bytes(), &signature);
    let host = required().await;
    check(
        &host,
        "script",
        root,
        &texts,
        expect!["`DIR/script/run` is signed by STRANGER, which is not trusted; `KEYS/keys` has ANOTHER, OURS"],
    );
    // The right key over other bytes.
    ours.sign(script("other").as_bytes(), &signature);
    let host = required().await;
    check(
        &host,
        "script",
        root,
        &texts,
        expect!["the signature `DIR/script/run.minisig` does not hold: `DIR/script/run` is not what OURS signed"],
    );
    // A key that says it is ours.
    stranger.sign_as(ours.number, script("good").as_bytes(), &signature);
    let host = required().await;
    check(
        &host,
        "script",
        root,
        &texts,
        expect!["the signature `DIR/script/run.minisig` does not hold: `DIR/script/run` is not what OURS signed"],
    );
    fs::write(&signature, "no signature").expect("written");
    let host = required().await;
    check(
        &host,
        "script",
        root,
        &texts,
        expect!["the signature `DIR/script/run.minisig` does not hold: it is none of minisign"],
    );
    serves(&host).await;

    ours.sign(script("good").as_bytes(), &signature);
    let host = required().await;
    assert_eq!((answer(&host).await, trust(&host, "script")), ("good".to_owned(), format!("signed by {our}")));
    // A reload asks the same: what is put there is not signed.
    put(&dir.join("run"), script("new").as_bytes());
    says(
        &chain(&in_time(host.reload("script")).await.expect_err("refused")),
        &["the new build is not trusted; generation 1 goes on", "does not hold"],
    );
    assert_eq!(answer(&host).await, "good");
    another.sign(script("new").as_bytes(), &signature);
    in_time(host.reload("script")).await.expect("reloaded");
    assert_eq!((answer(&host).await, trust(&host, "script")), ("new".to_owned(), format!("signed by {other}")));

    set_mode(&file, 0o666);
    let host = build(plugins.builder().trusted_keys(&file).signatures(Signatures::Require)).await;
    check(
        &host,
        "script",
        root,
        &texts,
        expect![
            "`KEYS/keys` cannot be trusted: everybody can write to it (mode 666); `chmod go-w KEYS/keys` mends that"
        ],
    );
}

// ---- Who can write there ------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_can_write_to_is_refused_with_the_command_that_mends_it() {
    let (plugins, dir) = with_script();
    let root = plugins.path().to_owned();
    for (path, mode, normal, expected) in [
        (
            root.clone(),
            0o777,
            0o755,
            expect![["`DIR` cannot be trusted: everybody can write to it (mode 777); `chmod go-w DIR` mends that"]],
        ),
        (
            root.clone(),
            0o1777,
            0o755,
            expect![["`DIR` cannot be trusted: everybody can write to it (mode 1777); `chmod go-w DIR` mends that"]],
        ),
        (
            dir.clone(),
            0o757,
            0o755,
            expect![[
                "`DIR/script` cannot be trusted: everybody can write to it (mode 757); `chmod go-w DIR/script` mends that"
            ]],
        ),
        (
            dir.join("plugin.toml"),
            0o646,
            0o644,
            expect![[
                "`DIR/script/plugin.toml` cannot be trusted: everybody can write to it (mode 646); `chmod go-w DIR/script/plugin.toml` mends that"
            ]],
        ),
        (
            dir.join("run"),
            0o757,
            0o755,
            expect![[
                "`DIR/script/run` cannot be trusted: everybody can write to it (mode 757); `chmod go-w DIR/script/run` mends that"
            ]],
        ),
    ] {
        set_mode(&path, mode);
        let host = build(plugins.builder()).await;
        check(&host, "script", &root, &[], expected);
        if path != root {
            serves(&host).await;
        }
        // Mended, it is taken by the host that refused it.
        set_mode(&path, normal);
        in_time(host.rescan()).await;
        assert_eq!(answer(&host).await, "good");
        set_mode(&path, mode);
        let host = build(plugins.builder().allow(Exposure::Writable)).await;
        assert_eq!(answer(&host).await, "good");
        says(
            &host.plugin("script").expect("a plugin").info().trusted.let_pass.join("\n"),
            &["everybody can write to it"],
        );
        set_mode(&path, normal);
    }
    let host = build(plugins.builder()).await;
    assert_eq!((answer(&host).await, trust(&host, "script")), ("good".to_owned(), "nothing vouches for it".to_owned()));
    assert_eq!(host.plugin("script").expect("a plugin").info().trusted.let_pass, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_somebody_else_is_refused() {
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).ok() != Some(0) {
        fixtures::skip(
            "only root can give a file away: whether one that belongs to somebody else is refused was not tested",
        );
        return;
    }
    let (plugins, dir) = with_script();
    std::os::unix::fs::chown(dir.join("run"), Some(4711), None).expect("given away");
    let host = build(plugins.builder()).await;
    check(
        &host,
        "script",
        plugins.path(),
        &[],
        expect![
            "`DIR/script/run` cannot be trusted: it belongs to user 4711, this host runs as 0; `chown 0 DIR/script/run` mends that"
        ],
    );
    serves(&host).await;
    // A group with others in it: this user's number is nobody's, and so is the group's.
    std::os::unix::fs::chown(dir.join("run"), Some(0), Some(4711)).expect("given back");
    set_mode(&dir.join("run"), 0o775);
    let host = build(plugins.builder()).await;
    check(
        &host,
        "script",
        plugins.path(),
        &[],
        expect![
            "`DIR/script/run` cannot be trusted: group 4711 can write to it (mode 775); `chmod g-w DIR/script/run` mends that"
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_out_of_the_plugin_directory_is_refused_and_one_within_is_followed() {
    let (plugins, dir) = with_script();
    let root = plugins.path();
    let outside = fixtures::scratch_dir();
    let away = outside.path().to_string_lossy();
    put(&outside.path().join("run"), script("outside").as_bytes());
    fs::write(outside.path().join("plugin.toml"), "name = 'linked'\nentry = 'run'\n").expect("written");

    // A file without a manifest, and a directory with one.
    put(&outside.path().join("bare"), script("outside").as_bytes());
    symlink(outside.path().join("bare"), root.join("bare")).expect("a link");
    symlink(outside.path(), root.join("linked")).expect("a link");
    let host = build(plugins.builder()).await;
    check(&host, "bare", root, &[(&*away, "OUTSIDE")], expect!["`DIR/bare` leads out of `DIR`, to `OUTSIDE/bare`"]);
    check(
        &host,
        "linked",
        root,
        &[(&*away, "OUTSIDE")],
        expect!["`DIR/linked/plugin.toml` leads out of `DIR`, to `OUTSIDE/plugin.toml`"],
    );
    serves(&host).await;
    let host = build(plugins.builder().allow(Exposure::Links)).await;
    says(&host.plugin("bare").expect("a plugin").info().trusted.let_pass.join("\n"), &["leads out of"]);

    // An entry, in its manifest.
    fs::remove_file(dir.join("run")).expect("removed");
    symlink(outside.path().join("run"), dir.join("run")).expect("a link");
    let host = build(plugins.builder().allow(Exposure::Links)).await;
    check(
        &host,
        "script",
        root,
        &[(&*away, "OUTSIDE")],
        expect![
            "DIR/script/plugin.toml:2:9: `entry`: `run` leads out of the directory of the manifest, to `OUTSIDE/run`"
        ],
    );
    // Versions beside each other, and a link to the one that counts.
    fs::create_dir(dir.join("v1")).and_then(|()| fs::create_dir(dir.join("v2"))).expect("made");
    put(&dir.join("v1/run"), script("one").as_bytes());
    put(&dir.join("v2/run"), script("two").as_bytes());
    fs::remove_file(dir.join("run")).expect("removed");
    symlink("v1/run", dir.join("run")).expect("a link");
    let host = build(plugins.builder()).await;
    assert_eq!(answer(&host).await, "one");
    symlink("v2/run", dir.join(".next")).and_then(|()| fs::rename(dir.join(".next"), dir.join("run"))).expect("set");
    in_time(host.reload("script")).await.expect("reloaded");
    assert_eq!(answer(&host).await, "two");
    set_mode(&dir.join("v2"), 0o777);
    says(
        &chain(&in_time(host.reload("script")).await.expect_err("refused")),
        &["the new build is not trusted", "/script/v2` cannot be trusted"],
    );
    assert_eq!(answer(&host).await, "two");
}
