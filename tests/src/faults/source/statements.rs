//! SQL that a client's message runs. A prepared statement is named when it is parsed and run by its name, so
//! names are remembered, a connection at a time.

use std::collections::HashMap;

use super::frames::Frame;

/// The prepared statements of one connection.
#[derive(Debug, Default)]
pub(super) struct Statements(HashMap<Vec<u8>, String>);

impl Statements {
    /// The SQL that this message runs; `None` if it runs none.
    pub(super) fn run_by(&mut self, frame: &Frame) -> Option<String> {
        let body = frame.body();
        match frame.kind {
            b'Q' => text(body).map(|(sql, _)| sql),
            b'P' => {
                let (name, rest) = split(body)?;
                self.0.insert(name.to_vec(), text(rest)?.0);
                None
            }
            // A portal's name, then the statement's.
            b'B' => self.0.get(split(split(body)?.1)?.0).cloned(),
            _ => None,
        }
    }
}

/// Whether the server says that it is ready once it has answered this message.
pub(super) fn is_answered_ready(frame: &Frame) -> bool {
    matches!(frame.kind, b'Q' | b'S')
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    split(bytes).map(|(text, rest)| (String::from_utf8_lossy(text).into_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::super::frames::frame;
    use super::*;

    #[test]
    fn what_is_run_is_told_by_the_query_or_by_the_name_of_what_was_prepared() {
        let mut statements = Statements::default();
        assert_eq!(statements.run_by(&frame(b'Q', b"COMMIT\0")).as_deref(), Some("COMMIT"));
        assert_eq!(statements.run_by(&frame(b'P', b"s1\0SELECT 1\0\0\0")), None, "parsing runs nothing");
        assert_eq!(statements.run_by(&frame(b'P', b"s2\0SELECT 2\0\0\0")), None);
        assert_eq!(statements.run_by(&frame(b'B', b"\0s1\0\0\0")).as_deref(), Some("SELECT 1"));
        assert_eq!(statements.run_by(&frame(b'B', b"portal\0s2\0\0\0")).as_deref(), Some("SELECT 2"));
        assert_eq!(statements.run_by(&frame(b'B', b"\0s3\0\0\0")), None);
        assert_eq!(statements.run_by(&frame(b'S', b"")), None);
    }
}
