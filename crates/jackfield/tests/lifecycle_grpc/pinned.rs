//! A program whose bytes the manifest pins.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use matrix::pb::Empty;

use crate::suite::grpc::{client, fixture, languages, program};
use crate::suite::{Plugins, in_time, refused, says};

/// Starts while the file is replaced.
const STARTS: usize = 20;

fn sha256(file: &Path) -> String {
    let bytes = fs::read(file).expect("a program");
    <sha2::Sha256 as sha2::Digest>::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_that_is_pinned_runs_and_no_other() {
    for language in languages() {
        let pin = format!("sha256 = {:?}", sha256(&program(language).expect("it is there")));
        let plugins = Plugins::with(fixture(language).manifest(&pin).named("pinned"));
        let host = in_time(plugins.host()).await;
        let answer = in_time(client(&host, "pinned").version(Empty {})).await.expect("it runs");
        assert_eq!(answer.into_inner().version, 3);
        in_time(host.stop()).await;

        // A link elsewhere: the file itself stays as it is.
        let file = plugins.path().join(format!("pinned/matrix-{language}"));
        let mut changed = fs::read(&file).expect("a program");
        changed.push(0);
        fs::remove_file(&file).expect("a file");
        fs::write(&file, changed).expect("a file");
        let host = in_time(plugins.host()).await;
        says(&refused(&host, "pinned"), &["is not what its manifest pins: its SHA-256 is ", "the manifest says "]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_program_runs_in_a_sandbox() {
    for language in languages() {
        let pin = format!("sha256 = {:?}", sha256(&program(language).expect("it is there")));
        for profile in ["default", "strict"] {
            let boxed = fixture(language).manifest(&pin).sandbox(&format!("profile = {profile:?}")).named("pinned");
            let plugins = Plugins::with(boxed);
            let host = in_time(plugins.host()).await;
            let answer = in_time(client(&host, "pinned").version(Empty {})).await.expect("it runs");
            assert_eq!(answer.into_inner().version, 3);
            let info = host.plugin("pinned").expect("a plugin").info();
            assert_eq!(info.trusted.to_string(), "pinned");
            let fs = info.enforced.iter().find(|enforced| enforced.limit == "fs").expect("it is shut in");
            says(&fs.to_string(), &[&format!("fs {profile} by landlock")]);
            in_time(host.stop()).await;
        }
    }
}

/// Whatever is seen of the file while it is hashed, what runs is what was hashed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_replaced_meanwhile_is_not_run() {
    for language in languages() {
        let pin = format!("sha256 = {:?}", sha256(&program(language).expect("it is there")));
        let plugins = Plugins::with(fixture(language).manifest(&pin).named("pinned"));
        let dir = plugins.path().join("pinned");
        let (good, entry) = (dir.join("good"), dir.join(format!("matrix-{language}")));
        fs::hard_link(&entry, &good).expect("a link");
        let marker = dir.join("it-ran");
        let evil = dir.join("evil");
        fs::write(&evil, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).expect("a script");
        fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).expect("a mode");

        let over = AtomicBool::new(false);
        let replaced = AtomicU32::new(0);
        let (mut ran, mut not) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let beside = dir.join("beside");
                while !over.load(Ordering::Relaxed) {
                    for now in [&evil, &good] {
                        fs::hard_link(now, &beside).expect("a link");
                        fs::rename(&beside, &entry).expect("in its place");
                        // A rename between two links of one file leaves both.
                        let _ = fs::remove_file(&beside);
                    }
                    replaced.fetch_add(1, Ordering::Relaxed);
                }
            });
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| {
                for _ in 0..STARTS {
                    let host = runtime.block_on(in_time(plugins.host()));
                    match host.plugin("pinned") {
                        Ok(_) => ran += 1,
                        Err(_) => {
                            says(&refused(&host, "pinned"), &["is not what its manifest pins"]);
                            not += 1;
                        }
                    }
                    runtime.block_on(in_time(host.stop()));
                }
            });
            over.store(true, Ordering::Relaxed);
        });
        println!("{language}: replaced {replaced:?} times, {ran} starts of the right one, {not} refused");
        assert!(!marker.exists(), "{language}: what was not pinned ran");
        assert_eq!(ran + not, STARTS);
    }
}
