//! Words of a panic: where, and never a value.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;

use crate::ui::printable;

/// Has panics of this process say where they were. 1. The code of a table unwraps the error of a parser. 2.
/// It quotes the value that it read, and the log has it. A message that is written in the source is said; one
/// that was put together is not.
pub(crate) fn say_where() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "a place not known".to_owned(), ToString::to_string);
        let mut text = format!("error: a bug: panicked at {place}{}\n", words(panic.payload()));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text += &format!("{trace}\n");
        }
        // Nothing else can be done about it.
        let _ = std::io::stderr().write_all(printable(&text).as_bytes());
    }));
}

fn words(payload: &(dyn Any + Send)) -> String {
    payload.downcast_ref::<&'static str>().map_or_else(String::new, |words| format!(": {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_put_together_is_not_said() {
        let payload = |value: &'static str| {
            std::panic::catch_unwind(|| {
                if value.is_empty() {
                    panic!("no value");
                }
                panic!("{value} is none");
            })
            .expect_err("it panics")
        };
        assert_eq!(words(payload("").as_ref()), ": no value");
        assert_eq!(words(payload("s3cret").as_ref()), "");
    }
}
