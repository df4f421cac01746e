//! Where a conversion failed. The errors of the encodings hold no path, and those of one of them no text, so
//! both are kept beside them: what is wrong where it is seen, the path on the way back.

use std::cell::RefCell;
use std::fmt::{self, Display};

use crate::dynamic::ValueError;

#[derive(Debug, Default)]
pub(super) struct Trail(RefCell<Option<ValueError>>);

/// Says that the error is kept.
pub(super) struct Noted;

impl Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value is not of its type")
    }
}

impl Trail {
    /// Keeps what is wrong.
    pub(super) fn note(&self, what: String) -> Noted {
        self.0.borrow_mut().get_or_insert(ValueError { path: String::new(), what });
        Noted
    }

    /// Passes a result on; the path of an error begins with `segment` then.
    pub(super) fn at<T, E: Display>(&self, segment: impl FnOnce() -> String, result: Result<T, E>) -> Result<T, E> {
        if let Err(error) = &result {
            let mut kept = self.0.borrow_mut();
            let kept = kept.get_or_insert_with(|| ValueError { path: String::new(), what: error.to_string() });
            kept.path.insert_str(0, &segment());
        }
        result
    }

    /// The error that ended a conversion.
    pub(super) fn end(self, error: impl Display) -> ValueError {
        let kept = self.0.into_inner();
        kept.unwrap_or_else(|| ValueError { path: String::new(), what: error.to_string() })
    }
}
