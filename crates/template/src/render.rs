//! Renderer from values to the text of a key.

use std::fmt::{self, Write as _};

use xxhash_rust::xxh3::xxh3_64;

use crate::{Form, Part, Template};

/// The value of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number.
    Integer(i64),
    /// Anything else, as the text that its attribute has.
    Text(&'a str),
}

/// Reason why a value does not fit its place in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The column.
    pub column: String,
    /// Description of what is wrong; never the value.
    pub why: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column `{}` {}", self.column, self.why)
    }
}

impl std::error::Error for Unfit {}

impl Template {
    /// Writes the key of a row. `None` where a column is NULL.
    ///
    /// # Errors
    /// Names the column that does not fit its form: a number that is too wide, or a time without a date.
    pub fn render<'a>(&self, value_of: impl Fn(&str) -> Option<Value<'a>>) -> Result<Option<String>, Unfit> {
        let mut key = String::with_capacity(self.text().len() + 24);
        for part in self.parts() {
            let name = match part {
                Part::Literal(text) => {
                    key.push_str(text);
                    continue;
                }
                Part::Column { name, .. } | Part::Shard { name, .. } => name,
            };
            let Some(value) = value_of(name) else { return Ok(None) };
            let unfit = |why: String| Unfit { column: name.clone(), why };
            match part {
                Part::Literal(_) => {}
                Part::Column { form, .. } => put(&mut key, value, *form).map_err(unfit)?,
                Part::Shard { of, .. } => {
                    // Writing to a string does not fail.
                    let _ = write!(key, "{}", shard(value, of.get()));
                }
            }
        }
        Ok(Some(key))
    }
}

fn put(key: &mut String, value: Value<'_>, form: Form) -> Result<(), String> {
    let mut number = String::new();
    let text = match value {
        Value::Text(text) => text,
        Value::Integer(integer) => {
            let _ = write!(number, "{integer}");
            &number
        }
    };
    match form {
        Form::Plain => key.push_str(text),
        Form::Date => key.push_str(
            date(text).ok_or("is no date or time of the years 0001 to 9999, so it has no day for a key")?,
        ),
        Form::Padded(width) => pad(key, text, usize::from(width))?,
        Form::Upper => key.extend(text.chars().flat_map(char::to_uppercase)),
        Form::Lower => key.extend(text.chars().flat_map(char::to_lowercase)),
        Form::Escaped => escape(key, text),
    }
    Ok(())
}

/// `yyyy-mm-dd` at the front of a text.
fn date(text: &str) -> Option<&str> {
    let day = text.get(..10)?;
    let is_day = day
        .bytes()
        .enumerate()
        .all(|(i, byte)| if i == 4 || i == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    let ends = text[10..].chars().next().is_none_or(|next| !next.is_ascii_digit());
    (is_day && ends).then_some(day)
}

fn pad(key: &mut String, text: &str, width: usize) -> Result<(), String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is no whole number, so it cannot be padded".to_owned());
    }
    let Some(zeros) = width.checked_sub(text.len()) else {
        return Err(format!("has a number of more than {width} characters, for which its key has no room"));
    };
    key.push_str(sign);
    key.extend(std::iter::repeat_n('0', zeros));
    key.push_str(digits);
    Ok(())
}

fn escape(key: &mut String, text: &str) {
    for c in text.chars() {
        if is_escaped(c) {
            let _ = write!(key, "%{:02X}", u32::from(c));
        } else {
            key.push(c);
        }
    }
}

/// Tells whether `:esc` keeps a character out of what it writes; `%` itself it writes only before two digits.
pub(crate) fn is_escaped(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '.' | '~')
}

/// Returns the write shard of a value, from 0. It is the same in every version and on every machine: keys
/// rest on it.
fn shard(value: Value<'_>, of: u32) -> u64 {
    match value {
        // Ids that follow each other go round.
        Value::Integer(integer) => integer.rem_euclid(i64::from(of)).unsigned_abs(),
        Value::Text(text) => xxh3_64(text.as_bytes()) % u64::from(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, value: Value<'_>) -> Result<Option<String>, Unfit> {
        template.parse::<Template>().expect("a template").render(|_| Some(value))
    }

    fn text(template: &str, value: Value<'_>) -> String {
        key(template, value).expect("it fits").expect("not NULL")
    }

    #[test]
    fn every_form_is_written() {
        let at = Value::Text("2026-11-28T06:00:00.000000Z");
        assert_eq!(text("D#{at:date}", at), "D#2026-11-28");
        assert_eq!(text("{id:06}", Value::Integer(42)), "000042");
        assert_eq!(text("{id:06}", Value::Integer(-42)), "-00042");
        assert_eq!(
            text("{id:030}", Value::Text("123456789012345678901234")),
            "000000123456789012345678901234"
        );
        assert_eq!(text("{t:upper}{t:lower}", Value::Text("aBß")), "ABSSabß");
        assert_eq!(text("{t:esc}#", Value::Text("a#b%c-d ä")), "a%23b%25c-d ä#");
        assert_eq!(text("{hash(id) % 4}", Value::Integer(-1)), "3");
    }

    #[test]
    fn a_shard_never_changes() {
        // Rows lie in the target under these.
        assert_eq!(
            text("{hash(t) % 1000}", Value::Text("lockstep")),
            (xxh3_64(b"lockstep") % 1000).to_string()
        );
        assert_eq!(xxh3_64(b""), 0x2D06_8005_38D3_94C2, "the published value of XXH3");
    }

    #[test]
    fn null_has_no_key_and_what_does_not_fit_is_told_without_the_value() {
        let template: Template = "A#{id}".parse().expect("a template");
        assert_eq!(template.render(|_| None), Ok(None));
        for (template, value) in [
            ("{x:03}", Value::Integer(1000)),
            ("{x:03}", Value::Integer(-100)),
            ("{x:03}", Value::Text("7s")),
            ("{x:date}", Value::Text("secret")),
            ("{x:date}", Value::Text("12026-01-01")),
        ] {
            let unfit = key(template, value).expect_err(template);
            assert_eq!(unfit.column, "x");
            assert!(!unfit.to_string().contains("secret") && !unfit.to_string().contains("7s"), "{unfit}");
        }
    }
}
