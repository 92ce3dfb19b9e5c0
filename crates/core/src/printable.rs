//! Text that a terminal may be sent.
//!
//! Keys, names and reasons come from rows, and a row may hold anything: a sequence that sets the window's
//! title or clears the screen, a character that turns the direction of what follows, so that a line reads as
//! another. None of them reaches a terminal or a page; each is shown by its number instead.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::acts::acts;

/// `text` without characters that a terminal acts on, or that change how others are read. Line ends and tabs
/// stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && !matches!(c, '\n' | '\t'), |c, to| to.extend(c.escape_unicode()))
}

/// Returns the same for one cell of a table, or one value in a line: a line end of data would pass for one of
/// ours.
pub fn printable_cell(text: &str) -> Cow<'_, str> {
    escaped(text, acts, |c, to| to.extend(c.escape_default()))
}

/// Returns the same for a JSON text, which stays the same JSON: outside of its strings there are line ends
/// and blanks only.
pub fn printable_json(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |c| acts(c) && c != '\n',
        |c, to| {
            let mut units = [0_u16; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(to, "\\u{unit:04x}");
            }
        },
    )
}

fn escaped(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) { escape(c, &mut shown) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "svc\u{1b}]0;pwn\u{7}\u{9b}2J\u{202e}txt\u{2066}\u{feff}\u{7f}";

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        for shown in [printable(HOSTILE), printable_cell(HOSTILE), printable_json(HOSTILE)] {
            assert!(!shown.chars().any(acts), "{shown:?}");
            assert!(shown.contains("svc") && shown.contains("]0;pwn"), "{shown}");
        }
        assert_eq!(printable("two\nlines\tand ü€→"), "two\nlines\tand ü€→");
        assert_eq!(printable_cell("a\nphase    DynamoOnly"), "a\\nphase    DynamoOnly");
    }

    #[test]
    fn a_report_reads_the_same_after_it() {
        let report = serde_json::json!({ "key": [HOSTILE, "\u{e0041}"] });
        let text = serde_json::to_string_pretty(&report).expect("it is JSON");
        let shown = printable_json(&text);
        assert!(!shown.chars().any(|c| acts(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("it is JSON"), report);
    }
}
