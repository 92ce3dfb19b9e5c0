//! A cursor over JSON, for the plain kind of it that pages consist of.
//!
//! It must never accept what serde_json refuses, or read it as something else. The other way round does no
//! harm: where it answers `None`, serde_json reads the same bytes again and judges them (see `plain_item`).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Position in a text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Text of a string with escapes, while it is read. One buffer for all of them, so that none has to grow.
    unescaped: String,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, unescaped: String::new() }
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn pass_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.next() {
            self.at += 1;
        }
    }

    /// Goes behind `byte` if it comes next, white space aside.
    pub(super) fn passes(&mut self, byte: u8) -> bool {
        self.pass_space();
        let is_next = self.next() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Goes behind `byte`, which must come next.
    pub(super) fn pass(&mut self, byte: u8) -> Option<()> {
        self.passes(byte).then_some(())
    }

    /// Goes behind exactly these bytes if they come next, with no white space before them.
    pub(super) fn passes_text(&mut self, text: &str) -> bool {
        let is_next =
            self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// Tells whether a list or an object ends here with `end`; if not, there must be a comma, and another
    /// part behind it.
    pub(super) fn is_last(&mut self, end: u8) -> Option<bool> {
        if self.passes(b',') {
            return Some(false);
        }
        self.pass(end).map(|()| true)
    }

    /// Tells whether nothing is left but white space.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.pass_space();
        self.at == self.text.len()
    }

    pub(super) fn boolean(&mut self) -> Option<bool> {
        self.pass_space();
        if self.passes_text("true") {
            return Some(true);
        }
        self.passes_text("false").then_some(false)
    }

    /// Returns a string, borrowed where it has no escapes.
    pub(super) fn string(&mut self) -> Option<Cow<'a, str>> {
        self.pass(b'"')?;
        self.rest_of_string()
    }

    /// Returns a string whose first quote was passed.
    pub(super) fn rest_of_string(&mut self) -> Option<Cow<'a, str>> {
        let (text, start) = (self.text, self.at);
        let end = end_of_run(text.as_bytes(), start);
        match text.as_bytes().get(end)? {
            b'"' => {
                self.at = end + 1;
                text.get(start..end).map(Cow::Borrowed)
            }
            b'\\' => self.with_escapes(),
            // A control character, which must not be there as it is.
            _ => None,
        }
    }

    fn with_escapes(&mut self) -> Option<Cow<'a, str>> {
        let text = self.text;
        self.unescaped.clear();
        loop {
            let end = end_of_run(text.as_bytes(), self.at);
            self.unescaped.push_str(text.get(self.at..end)?);
            self.at = end + 1;
            match text.as_bytes().get(end)? {
                b'"' => return Some(Cow::Owned(self.unescaped.clone())),
                b'\\' => {
                    let meant = self.escape()?;
                    self.unescaped.push(meant);
                }
                _ => return None,
            }
        }
    }

    /// Reads the character that an escape stands for, whose backslash was passed.
    fn escape(&mut self) -> Option<char> {
        let kind = self.next()?;
        self.at += 1;
        Some(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return None,
        })
    }

    /// Four hexadecimal digits, or two times four that together stand for one character.
    fn code_point(&mut self) -> Option<char> {
        let unit = self.code_unit()?;
        if !(0xD800..=0xDFFF).contains(&unit) {
            return char::from_u32(unit);
        }
        if !self.passes_text("\\u") {
            return None;
        }
        let units = [u16::try_from(unit).ok()?, u16::try_from(self.code_unit()?).ok()?];
        let mut meant = char::decode_utf16(units);
        meant.next()?.ok().filter(|_| meant.next().is_none())
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..)?.first_chunk::<4>()?;
        self.at += digits.len();
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }

    /// Returns the text of a value of any kind, which serde_json passes over.
    pub(super) fn any(&mut self) -> Option<&'a str> {
        self.pass_space();
        let rest = self.text.get(self.at..)?;
        let value = <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(rest)).ok()?.get();
        self.at += value.len();
        Some(value)
    }
}

/// Finds the first byte, from `at` on, that a string does not have as it is: a quote, a backslash, a control
/// character.
fn end_of_run(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = ends_of_runs(u64::from_le_bytes(*eight));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += eight.len();
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
}

/// Eight bytes at once: the highest bit of the first one that ends a run. Bits above that one say nothing,
/// because what is subtracted there was borrowed from.
fn ends_of_runs(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    let is_zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let quote = is_zero(eight ^ (ONES * u64::from(b'"')));
    let backslash = is_zero(eight ^ (ONES * u64::from(b'\\')));
    let control = eight.wrapping_sub(ONES * 0x20) & !eight;
    (quote | backslash | control) & (ONES << 7)
}

#[cfg(test)]
mod tests;
