//! Gives out numbers, no number twice: a plugin whose state must outlive a reload.

use std::sync::atomic::{AtomicU64, Ordering};

use jackfield_plugin::{Life, StateSnapshot};

pub mod tickets {
    //! The interface. In a crate of its own if a host in Rust is to know it, as `examples/greeter-api` is.

    /// A machine that gives out numbers.
    #[jackfield_plugin::interface("demo:counter/tickets@1.0.0")]
    pub trait Tickets {
        /// The next number, which nobody had before.
        fn next(&self) -> u64;
        /// The last number that was given out.
        #[jackfield(idempotent)]
        fn last(&self) -> u64;
    }
}

use tickets::Tickets;

/// The form of the state: the last number, in decimal.
const SCHEMA: u32 = 1;

/// The plugin.
#[derive(Debug, Default)]
pub struct Counter {
    last: AtomicU64,
}

impl Tickets for Counter {
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

// `health` is left as it is: this plugin is always well.
impl Life for Counter {
    fn export_state(&self) -> Result<Option<StateSnapshot>, String> {
        Ok(Some(StateSnapshot { schema_version: SCHEMA, data: self.last().to_string().into_bytes() }))
    }

    fn import_state(&self, state: StateSnapshot) -> Result<(), String> {
        if state.schema_version != SCHEMA {
            return Err(format!("this version reads states of schema {SCHEMA}, not {}", state.schema_version));
        }
        let text = String::from_utf8(state.data).map_err(|error| error.to_string())?;
        let last = text.parse().map_err(|_| format!("the state is no number: {text:?}"))?;
        // Not less than what this generation gave out itself, if it was asked before.
        self.last.fetch_max(last, Ordering::Relaxed);
        Ok(())
    }
}

jackfield_plugin::export!(Counter::default(): Tickets + Life);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_generation_goes_on_where_this_one_was() {
        let (old, new) = (Counter::default(), Counter::default());
        assert_eq!([old.next(), old.next()], [1, 2]);
        let state = old.export_state().expect("no error").expect("a state");
        assert_eq!(new.import_state(state), Ok(()));
        assert_eq!([new.last(), new.next()], [2, 3]);
    }

    #[test]
    fn a_state_that_it_does_not_know_is_refused_and_changes_nothing() {
        let counter = Counter::default();
        counter.next();
        for (schema_version, data) in [(2, "7"), (1, "seven"), (1, "-7")] {
            let state = StateSnapshot { schema_version, data: data.into() };
            counter.import_state(state).expect_err("a state it does not know");
        }
        assert_eq!(counter.last(), 1);
    }
}
