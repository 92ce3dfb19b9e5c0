//! An error of a driver, kept where it is not shown by chance.
//!
//! 1. An application returns an error of ours from `main`, or logs it with all that caused it. 2. The
//! driver's own says the server's DETAIL: the row that failed, whole. So neither `Display` nor `Debug` nor
//! the chain of causes tells it; a program that wants it has to ask.

use std::error::Error;
use std::fmt;

/// The driver's error.
pub(super) struct Withheld {
    pub(super) error: Box<dyn Error + Send + Sync>,
    /// The SQLSTATE, where PostgreSQL gave one.
    pub(super) sqlstate: Option<String>,
}

impl Withheld {
    pub(super) fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self { error: Box::new(error), sqlstate: None }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the driver's message is withheld, as it may hold values of rows")
    }
}

impl fmt::Debug for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Withheld")
    }
}

impl Error for Withheld {}
