//! What is said to whoever listens, and to nobody else: the room for it is made when the first one does.

use std::sync::OnceLock;

use tokio::sync::broadcast;

/// A [`broadcast`] that costs nothing as long as nobody has listened. Its room for a thousand lines takes as long to make
/// as a small plugin to start.
#[derive(Debug)]
pub(crate) struct Tap<T> {
    /// What waits for the slowest listener at most.
    kept_max: usize,
    sender: OnceLock<broadcast::Sender<T>>,
}

impl<T: Clone> Tap<T> {
    pub(crate) const fn new(kept_max: usize) -> Self {
        Self { kept_max, sender: OnceLock::new() }
    }

    /// Hears what is said from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<T> {
        self.sender.get_or_init(|| broadcast::Sender::new(self.kept_max)).subscribe()
    }

    /// Whether anybody does.
    pub(crate) fn is_heard(&self) -> bool {
        self.sender.get().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Says something.
    pub(crate) fn say(&self, something: T) {
        if let Some(sender) = self.sender.get() {
            // The last listener may have gone.
            let _ = sender.send(something);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_what_is_said_from_then_on() {
        let tap = Tap::new(4);
        tap.say("nobody");
        assert!(!tap.is_heard() && tap.sender.get().is_none());
        let mut one = tap.listen();
        tap.say("one");
        let mut both = tap.listen();
        tap.say("both");
        assert!(tap.is_heard());
        assert_eq!([one.try_recv(), one.try_recv(), both.try_recv()], [Ok("one"), Ok("both"), Ok("both")]);
        drop((one, both));
        assert!(!tap.is_heard());
        tap.say("nobody");
    }
}
