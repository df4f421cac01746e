//! With real files. When something is over is tested in `settle.rs`, with a clock of its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// Time in which anything that is waited for happens. Only a broken build needs it.
const DEADLINE: Duration = Duration::from_secs(60);

/// So fast that tests need not wait, and with so few looks without a reason that events are what is noticed.
fn pace() -> Pace {
    let [quiet, between, broken, held, idle] = [50, 20, 200, 600_000, 600_000].map(Duration::from_millis);
    Pace { quiet, between, broken, held, idle }
}

/// A plugin that was told of: the name of its directory or file, and what its program was then, if it was there.
#[derive(Debug, PartialEq)]
struct Told(String, Option<String>);

fn told(name: &str, content: &str) -> Told {
    Told(name.to_owned(), Some(content.to_owned()))
}

fn gone(name: &str) -> Told {
    Told(name.to_owned(), None)
}

/// `outer/plugins`, watched.
struct Watched {
    outer: TempDir,
    told: Receiver<Vec<Told>>,
    watcher: Option<Watcher>,
}

impl Watched {
    /// Watches what `prepare` has put there.
    fn new(pace: Pace, prepare: impl FnOnce(&Path)) -> Self {
        Self::with(pace, |begun| begun, prepare)
    }

    fn with(pace: Pace, how: impl FnOnce(Beginning) -> Beginning, prepare: impl FnOnce(&Path)) -> Self {
        let outer = tempfile::tempdir().expect("a directory");
        let plugins = outer.path().join("plugins");
        fs::create_dir(&plugins).expect("a directory");
        prepare(&plugins);
        let (tell, told) = mpsc::channel();
        let begun = how(begin(vec![plugins.clone()], Vec::new(), pace));
        let on_settled = move |settled: &Settled| {
            let seen = settled.0.iter().map(|source| {
                let inner = source.strip_prefix(&plugins).expect("one of ours");
                let name = inner.components().next().expect("a name").as_os_str();
                let program = if *name == *inner { source.clone() } else { source.with_file_name("current/run") };
                Told(name.to_string_lossy().into_owned(), fs::read_to_string(program).ok())
            });
            let _ = tell.send(seen.collect());
        };
        let watcher = Some(begun.tell(on_settled).expect("a thread"));
        Self { outer, told, watcher }
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.outer.path().join("plugins").join(inner)
    }

    /// The next that is told.
    #[track_caller]
    fn next(&self) -> Vec<Told> {
        self.told.recv_timeout(DEADLINE).expect("told in time")
    }

    /// Changes a plugin that nothing else is done with, and waits until that is told. What was quiet before has been
    /// quiet for long enough then.
    #[track_caller]
    fn in_between(&self, content: &str) {
        write(&self.path("other"), content);
        assert_eq!(self.next(), [told("other", content)]);
    }
}

/// Writes a program in place.
fn write(path: &Path, content: &str) {
    open(path).write_all(content.as_bytes()).expect("written");
}

/// Opens a program to be written in place, from the beginning.
fn open(path: &Path) -> fs::File {
    fs::File::options().write(true).create(true).truncate(true).mode(0o755).open(path).expect("opened")
}

/// Two plugins of one file each, `it` and `other`.
fn two(plugins: &Path) {
    write(&plugins.join("it"), "old");
    write(&plugins.join("other"), "old");
}

/// A plugin with a manifest, whose entry is reached through the link `current`.
fn linked(plugin: &Path) {
    for (version, content) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir_all(plugin.join(version)).expect("a directory");
        write(&plugin.join(version).join("run"), content);
    }
    symlink("v1", plugin.join("current")).expect("a link");
    let name = plugin.file_name().expect("a name");
    write(&plugin.join("plugin.toml"), &format!("name = {name:?}\nentry = 'current/run'"));
}

/// Sets a link to another target, as it is done where nobody may see it missing.
fn swap(link: &Path, target: &str) {
    let beside = link.with_file_name("new-link");
    symlink(target, &beside).expect("a link");
    fs::rename(beside, link).expect("renamed");
}

#[test]
fn a_half_written_file_is_not_told_of() {
    let watched = Watched::new(pace(), two);
    for file in ["it", "new"] {
        let mut writing = open(&watched.path(file));
        watched.in_between("1");
        writing.write_all(b"half ").expect("written");
        watched.in_between("2");
        writing.write_all(b"and ").expect("written");
        watched.in_between("3");
        writing.write_all(b"half").expect("written");
        drop(writing);
        assert_eq!(watched.next(), [told(file, "half and half")]);
    }
}

#[test]
fn fifty_writes_in_a_second_are_one_change() {
    let watched = Watched::new(Pace::default(), two);
    let mut times = Vec::new();
    let mut seen = Vec::new();
    for number in 1..=50 {
        times.push(Instant::now());
        write(&watched.path("it"), &number.to_string());
        // A storm has its own pace.
        seen.extend(watched.told.recv_timeout(Duration::from_millis(20)));
    }
    while seen.last() != Some(&vec![told("it", "50")]) {
        seen.push(watched.next());
    }
    watched.in_between("after");
    // A machine with other things to do may write more slowly than a storm.
    let pauses = times.windows(2).filter(|pair| pair[1] - pair[0] > Pace::default().quiet).count();
    assert!(seen.len() <= 1 + pauses, "{pauses} pauses: {seen:?}");
}

#[test]
fn a_file_renamed_over_another_is_told_of_once() {
    let watched = Watched::new(pace(), two);
    for content in ["new", "newer"] {
        write(&watched.path(".beside"), content);
        fs::rename(watched.path(".beside"), watched.path("it")).expect("renamed");
        assert_eq!(watched.next(), [told("it", content)]);
    }
    watched.in_between("after");
}

#[test]
fn a_link_set_to_another_version_is_told_of() {
    let watched = Watched::new(pace(), |plugins| {
        two(plugins);
        linked(&plugins.join("it-linked"));
        linked(&plugins.with_file_name("v1"));
        linked(&plugins.with_file_name("v2"));
        write(&plugins.with_file_name("v2").join("v1/run"), "deep");
        symlink("../v1", plugins.join("linked-itself")).expect("a link");
    });
    swap(&watched.path("it-linked/current"), "v2");
    assert_eq!(watched.next(), [told("it-linked", "two")]);
    // The directory that is current now is watched, too.
    write(&watched.path("it-linked/v2/run"), "three");
    assert_eq!(watched.next(), [told("it-linked", "three")]);
    swap(&watched.path("linked-itself"), "../v2");
    assert_eq!(watched.next(), [told("linked-itself", "deep")]);
    // The same content, in another version, whose other files nobody looks at.
    write(&watched.path("it-linked/v1/run"), "three");
    watched.in_between("1");
    swap(&watched.path("it-linked/current"), "v1");
    assert_eq!(watched.next(), [told("it-linked", "three")]);
}

#[test]
fn a_file_deleted_and_made_again_was_never_gone() {
    let watched = Watched::new(pace(), two);
    fs::remove_file(watched.path("it")).expect("removed");
    // Long enough for a change to be over, and not for a plugin to be gone.
    let mut writing = open(&watched.path("it"));
    watched.in_between("1");
    writing.write_all(b"new").expect("written");
    drop(writing);
    assert_eq!(watched.next(), [told("it", "new")]);
}

#[test]
fn new_plugins_are_told_of_and_removed_ones() {
    let watched = Watched::new(pace(), two);
    linked(&watched.path("new"));
    assert_eq!(watched.next(), [told("new", "one")]);
    swap(&watched.path("new/current"), "v2");
    assert_eq!(watched.next(), [told("new", "two")]);
    fs::remove_dir_all(watched.path("new")).expect("removed");
    assert_eq!(watched.next(), [gone("new")]);
    // In its place another: what was watched there is watched anew.
    linked(&watched.path("new"));
    assert_eq!(watched.next(), [told("new", "one")]);
    write(&watched.path("new/v1/run"), "changed");
    assert_eq!(watched.next(), [told("new", "changed")]);
    fs::remove_file(watched.path("it")).expect("removed");
    assert_eq!(watched.next(), [gone("it")]);
}

#[test]
fn what_lies_beside_a_plugins_files_may_change() {
    let watched = Watched::new(pace(), |plugins| {
        two(plugins);
        linked(&plugins.join("it-linked"));
    });
    let mut log = fs::File::create(watched.path("it-linked/log.txt")).expect("made");
    log.write_all(b"a line\n").expect("written");
    watched.in_between("1");
    // An open log keeps nobody waiting.
    log.write_all(b"another\n").expect("written");
    write(&watched.path("it-linked/v1/run"), "new");
    assert_eq!(watched.next(), [told("it-linked", "new")]);
    // Nor does a file that is looked at and stays the same.
    write(&watched.path("it-linked/v1/run"), "new");
    watched.in_between("2");
    watched.in_between("3");
}

#[test]
fn a_manifest_that_cannot_be_read_is_told_of_after_a_while() {
    let watched = Watched::new(pace(), |plugins| {
        two(plugins);
        linked(&plugins.join("it-linked"));
    });
    write(&watched.path("it-linked/plugin.toml"), "name = ");
    watched.in_between("1");
    assert_eq!(watched.next(), [told("it-linked", "one")]);
    write(&watched.path("it-linked/plugin.toml"), "name = 'it-linked'\nentry = 'v2/run'");
    assert_eq!(watched.next(), [told("it-linked", "one")]);
    write(&watched.path("it-linked/v2/run"), "new");
    assert_eq!(watched.next(), [told("it-linked", "one")], "the manifest names another program");
}

#[test]
fn the_whole_directory_may_be_replaced() {
    // Its parent is watched for the sake of a link, or it is seen at the next look.
    let watched = Watched::new(Pace { idle: Duration::from_millis(100), ..pace() }, two);
    let plugins = watched.outer.path().join("plugins");
    fs::rename(&plugins, watched.outer.path().join("old")).expect("renamed");
    fs::create_dir(&plugins).expect("made");
    write(&plugins.join("it"), "new");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(watched.next());
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(seen, [told("it", "new"), gone("other")]);
    write(&plugins.join("it"), "newer");
    assert_eq!(watched.next(), [told("it", "newer")]);
}

#[test]
fn where_nothing_is_reported_it_is_looked() {
    let blind = |mut begun: Beginning| {
        begun.places.close_eyes();
        begun
    };
    let watched = Watched::with(Pace { idle: Duration::from_millis(200), ..pace() }, blind, two);
    write(&watched.path("it"), "new");
    assert_eq!(watched.next(), [told("it", "new")]);
    fs::remove_file(watched.path("it")).expect("removed");
    assert_eq!(watched.next(), [gone("it")]);
}

#[test]
fn a_watch_that_is_dropped_ends() {
    let mut watched = Watched::new(pace(), two);
    watched.in_between("1");
    let signal = Arc::downgrade(&watched.watcher.take().expect("a watch").signal);
    // The thread that looks has gone, with what it told to; then the one that is told of events.
    let ended = watched.told.recv_timeout(DEADLINE);
    assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
    let deadline = Instant::now() + DEADLINE;
    while signal.strong_count() > 0 {
        assert!(Instant::now() < deadline, "a thread is left");
        thread::yield_now();
    }
}

#[test]
fn a_plugin_is_known_by_its_manifest_its_directory_or_its_file() {
    let settled = Settled(["/p/a/plugin.toml", "/p/b"].map(PathBuf::from).into());
    let concerned = ["/p/a/plugin.toml", "/p/a", "/p/b", "/p", "/p/c", "/p/a/plugin.json"];
    let concerned = concerned.map(|path| settled.concerns(Path::new(path)));
    assert_eq!(concerned, [true, true, true, false, false, false]);
}
