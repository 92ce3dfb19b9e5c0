//! JSON documents, compared by meaning without recursion: in time and stack that grow with their size and not
//! with their depth.
//!
//! PostgreSQL takes a document that is thousands of arrays deep. Taken apart level by level, each level would
//! be parsed once for every level above it, and each would be a frame on the stack.

use std::collections::{BTreeMap, HashMap};

/// Documents that are compared with each other: values of one meaning have one number.
#[derive(Default)]
pub(super) struct Documents {
    numbers: HashMap<Meaning, u32>,
}

/// The meaning by which two values are the same, as `jsonb` sees it.
#[derive(PartialEq, Eq, Hash)]
enum Meaning {
    /// `true`, `false`, `null`, and what is none of the others.
    Word(String),
    Text(String),
    Number((bool, String, i64)),
    Array(Vec<u32>),
    Object(Vec<(String, u32)>),
}

/// A document taken apart.
pub(super) struct Document<'a> {
    values: Vec<Value<'a>>,
}

struct Value<'a> {
    text: &'a str,
    meaning: u32,
    parts: Parts,
}

/// Parts of a value, as indices of values in the document.
#[derive(Clone)]
pub(super) enum Parts {
    /// It has none.
    None,
    /// Elements.
    Array(Vec<usize>),
    /// Members; of a repeated one the last.
    Object(BTreeMap<String, usize>),
}

/// An array or an object whose end is still to come.
struct Open {
    from: usize,
    parts: Parts,
    /// The name of the member whose value comes next.
    name: Option<String>,
}

impl Documents {
    /// Takes a document apart; `None` where it is none.
    pub(super) fn read<'a>(&mut self, text: &'a str) -> Option<Document<'a>> {
        #[cfg(test)]
        tests::READ.with(|read| read.set(read.get() + text.len()));
        let bytes = text.as_bytes();
        let mut values: Vec<Value<'a>> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        let mut whole = false;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let (from, ended) = match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {
                    at += 1;
                    continue;
                }
                b'{' | b'[' => {
                    let parts =
                        if byte == b'{' { Parts::Object(BTreeMap::new()) } else { Parts::Array(Vec::new()) };
                    open.push(Open { from: at, parts, name: None });
                    at += 1;
                    continue;
                }
                b'}' | b']' => {
                    at += 1;
                    let Open { from, parts, .. } = open.pop()?;
                    (from, parts)
                }
                b'"' => {
                    let from = at;
                    at = end_of_string(bytes, at)?;
                    if let Some(Open { parts: Parts::Object(_), name: name @ None, .. }) = open.last_mut() {
                        *name = Some(unescaped(&text[from..at]));
                        continue;
                    }
                    (from, Parts::None)
                }
                _ => {
                    let from = at;
                    let ends =
                        |byte: &u8| matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
                    at += bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
                    (from, Parts::None)
                }
            };
            let text = &text[from..at];
            let meaning = self.number(meaning(text, &ended, &values));
            values.push(Value { text, meaning, parts: ended });
            let index = values.len() - 1;
            match open.last_mut() {
                Some(Open { parts: Parts::Array(elements), .. }) => elements.push(index),
                Some(Open { parts: Parts::Object(members), name, .. }) => {
                    members.insert(name.take()?, index);
                }
                _ if whole => return None,
                _ => whole = true,
            }
        }
        (whole && open.is_empty()).then_some(Document { values })
    }

    fn number(&mut self, meaning: Meaning) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(meaning).or_insert(next)
    }
}

impl Document<'_> {
    /// Returns the index of the whole document.
    pub(super) fn root(&self) -> usize {
        self.values.len() - 1
    }

    /// Returns the meaning of a value; the same number for the same meaning in documents that were read
    /// together.
    pub(super) fn meaning(&self, index: usize) -> u32 {
        self.values[index].meaning
    }

    /// Returns a value as it is written.
    pub(super) fn text(&self, index: usize) -> &str {
        self.values[index].text
    }

    /// Returns the parts of a value.
    pub(super) fn parts(&self, index: usize) -> &Parts {
        &self.values[index].parts
    }
}

fn meaning(text: &str, parts: &Parts, values: &[Value<'_>]) -> Meaning {
    match parts {
        Parts::Array(elements) => {
            Meaning::Array(elements.iter().map(|index| values[*index].meaning).collect())
        }
        Parts::Object(members) => Meaning::Object(
            members.iter().map(|(name, index)| (name.clone(), values[*index].meaning)).collect(),
        ),
        Parts::None => match text.as_bytes().first() {
            Some(b'"') => Meaning::Text(unescaped(text)),
            Some(b'-' | b'0'..=b'9') => Meaning::Number(normal_number(text)),
            _ => Meaning::Word(text.to_owned()),
        },
    }
}

/// Returns the text of a string; one that says nothing that Rust can hold, as half a character, as it is
/// written.
fn unescaped(quoted: &str) -> String {
    serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned())
}

/// Returns the index after the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns a number as sign, digits without leading or trailing zeros, and the power of ten of the last
/// digit.
pub(crate) fn normal_number(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let power = exponent.parse::<i64>().unwrap_or(i64::MAX / 2) - fraction.len() as i64
        + (digits.len() - trimmed.len()) as i64;
    match trimmed.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        significant => (negative, significant.to_owned(), power),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::{Column, Json};

    thread_local! {
        /// Bytes of documents that this thread has taken apart.
        pub(super) static READ: Cell<usize> = const { Cell::new(0) };
    }

    /// A frame for each level, however small, is more than that.
    const STACK_BYTES: usize = 128 * 1024;

    fn compare_deep_documents() {
        let shapes = [("[", "]", 100_000), ("{\"a\":", "}", 10_000), ("[1,{\"b\":[0],\"a\":", "}]", 10_000)];
        for (open, close, levels) in shapes {
            let deep = |within: &str| {
                let text = format!("{}{within}{}", open.repeat(levels), close.repeat(levels));
                Json::parse(&text).expect("a document")
            };
            let (a, same, other) = (deep("1"), deep(" 1.0 "), deep("2"));
            READ.set(0);
            assert!(a.same(&same) && !a.same(&other));
            assert_eq!(a.difference(&same), None);
            let found = a.difference(&other).expect("they differ");
            assert_eq!(found.source.to_string(), "`1`");
            assert!(found.path.is_some_and(|path| path.starts_with('$') && path.len() < 2_000));
            // Each of these calls reads both documents once to say whether they differ, and the last once
            // more for where. Read again for each level, it would be thousands of times as much.
            assert!(READ.get() <= 5 * (a.as_str().len() + same.as_str().len()), "{} bytes", READ.get());
        }
    }

    #[test]
    fn documents_a_hundred_thousand_levels_deep_are_compared_in_bounded_time_and_stack() {
        let compared = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(compare_deep_documents);
        compared.expect("a thread").join().expect("they are compared");
    }

    #[test]
    fn what_is_no_document_is_the_same_as_nothing_else() {
        let mut documents = super::Documents::default();
        for text in ["", "[", "]", "{\"a\"", "1 2", "\"", "{1}"] {
            assert!(documents.read(text).is_none(), "{text}");
        }
    }
}
