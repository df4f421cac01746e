//! What the operating system reports of directories: on Linux, by inotify. Elsewhere nothing is asked for, and it is
//! looked more often.

#[cfg(target_os = "linux")]
pub(super) use inotify::Events;

#[cfg(target_os = "linux")]
mod inotify {
    use std::collections::HashMap;
    use std::ffi::OsStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::thread;

    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};

    use super::super::Signal;

    /// Room for the events of one read; one is at most 272 bytes.
    const BUFFER_BYTES: usize = 16 << 10;

    /// The directories that are reported of.
    #[derive(Debug)]
    pub(in super::super) struct Events {
        shared: Arc<Shared>,
        /// The watch of a directory that nothing happens to. Taking it away wakes the thread that reads.
        last: i32,
    }

    #[derive(Debug)]
    struct Shared {
        inotify: OwnedFd,
        dirs: Mutex<HashMap<i32, PathBuf>>,
    }

    impl Events {
        /// Reports to `signal`, on a thread of its own. None if there can be no more of these for this user.
        pub(in super::super) fn new(signal: Arc<Signal>) -> Option<Self> {
            let inotify = init(CreateFlags::CLOEXEC).ok()?;
            let last = add_watch(&inotify, "/", WatchFlags::DELETE_SELF).ok()?;
            let shared = Arc::new(Shared { inotify, dirs: Mutex::default() });
            let reading = Arc::clone(&shared);
            let reader = thread::Builder::new().name("jackfield-events".to_owned());
            reader.spawn(move || reading.read(last, &signal)).ok()?;
            Some(Self { shared, last })
        }

        pub(in super::super) fn watch(&mut self, dir: &Path) -> io::Result<()> {
            let what = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MODIFY
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            // The lock is held: the first event may come before the number is noted.
            let mut dirs = self.shared.dirs();
            let number = add_watch(&self.shared.inotify, dir, what)?;
            dirs.insert(number, dir.to_owned());
            Ok(())
        }

        pub(in super::super) fn unwatch(&mut self, dir: &Path) {
            let mut dirs = self.shared.dirs();
            let number = dirs.iter().find_map(|(number, watched)| (watched == dir).then_some(*number));
            if let Some(number) = number {
                dirs.remove(&number);
                // One that was deleted is not watched any more.
                let _ = remove_watch(&self.shared.inotify, number);
            }
        }
    }

    impl Drop for Events {
        fn drop(&mut self) {
            let _ = remove_watch(&self.shared.inotify, self.last);
        }
    }

    impl Shared {
        fn dirs(&self) -> MutexGuard<'_, HashMap<i32, PathBuf>> {
            self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn read(&self, last: i32, signal: &Signal) {
            let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(rustix::io::Errno::INTR) => continue,
                    // Nothing that was asked for is an error; without events it is looked all the same.
                    Err(_) => return,
                };
                let (number, what) = (event.wd(), event.events());
                if number == last && what.contains(ReadFlags::IGNORED) {
                    return;
                }
                if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                    signal.lost();
                    continue;
                }
                let mut dirs = self.dirs();
                let Some(dir) = dirs.get(&number).cloned() else { continue };
                if what.contains(ReadFlags::IGNORED) {
                    dirs.remove(&number);
                    signal.unwatched(dir);
                    continue;
                }
                drop(dirs);
                let name = event.file_name().map(|name| dir.join(OsStr::from_bytes(name.to_bytes())));
                let is_over = ReadFlags::CLOSE_WRITE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
                match name {
                    Some(file) if what.contains(ReadFlags::MODIFY) => signal.written(file),
                    Some(file) if what.intersects(is_over) => signal.closed(&file),
                    _ => signal.changed(),
                }
            }
        }
    }
}

/// There are none.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) enum Events {}

#[cfg(not(target_os = "linux"))]
impl Events {
    pub(super) fn new(_: std::sync::Arc<super::Signal>) -> Option<Self> {
        None
    }

    pub(super) fn watch(&mut self, _: &std::path::Path) -> std::io::Result<()> {
        match *self {}
    }

    pub(super) fn unwatch(&mut self, _: &std::path::Path) {
        match *self {}
    }
}
