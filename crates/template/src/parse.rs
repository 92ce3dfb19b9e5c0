//! Parser from text to [`Template`].

use std::fmt;
use std::str::FromStr;

use crate::{Form, Part, Template};

/// Reason why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The text.
    pub template: String,
    /// The character at which it stops to make sense, counted from 1.
    pub at: usize,
    /// Description of what is wrong there, and what is expected.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template `{}`, character {}: {}", self.template, self.at, self.message)
    }
}

impl std::error::Error for ParseError {}

impl FromStr for Template {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |at: usize, message: String| ParseError {
            template: text.to_owned(),
            at: text[..at].chars().count() + 1,
            message,
        };
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            if text[at..].starts_with("{{") || text[at..].starts_with("}}") {
                literal.push(next);
                at += 2;
            } else if next == '}' {
                return Err(error(at, "`}` closes nothing; write `}}` for the character itself".to_owned()));
            } else if next == '{' {
                let Some(length) = text[at..].find('}') else {
                    return Err(error(
                        at,
                        "`{` is never closed; write `{{` for the character itself".to_owned(),
                    ));
                };
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                let inside = &text[at + 1..at + length];
                parts.push(part(inside).map_err(|message| error(at + 1, message))?);
                at += length + 1;
            } else {
                literal.push(next);
                at += next.len_utf8();
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.is_empty() {
            return Err(error(0, "it is empty; a key needs at least one column, as in `{id}`".to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// Parses what stands between braces.
fn part(inside: &str) -> Result<Part, String> {
    let inside = inside.trim();
    if let Some(rest) = inside.strip_prefix("hash(") {
        return shard(inside, rest);
    }
    let (name, form) = match inside.rsplit_once(':') {
        None => (inside, Form::Plain),
        Some((name, form)) => (name.trim_end(), self::form(form.trim())?),
    };
    column(name).map(|name| Part::Column { name, form })
}

fn shard(inside: &str, rest: &str) -> Result<Part, String> {
    let wrong = || format!("`{inside}` is no shard; write `{{hash(column) % 16}}`");
    let (name, rest) = rest.split_once(')').ok_or_else(wrong)?;
    let of = rest.trim().strip_prefix('%').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
    Ok(Part::Shard { name: column(name.trim())?, of })
}

fn form(text: &str) -> Result<Form, String> {
    match text {
        "date" => Ok(Form::Date),
        "upper" => Ok(Form::Upper),
        "lower" => Ok(Form::Lower),
        "esc" => Ok(Form::Escaped),
        _ => {
            let width = text
                .strip_prefix('0')
                .and_then(|digits| digits.parse::<u8>().ok())
                .filter(|width| (1..=40).contains(width));
            width.map(Form::Padded).ok_or_else(|| {
                format!("`{text}` is no form; there are `date`, `upper`, `lower`, `esc`, and `020` for 20 digits (01 to 040)")
            })
        }
    }
}

fn column(name: &str) -> Result<String, String> {
    match name {
        "" => Err("a column's name is expected, as in `{id}`".to_owned()),
        name if name.contains('{') => Err("`{` inside braces; close the first with `}`".to_owned()),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Part> {
        text.parse::<Template>().expect("a template").parts().to_vec()
    }

    fn column_as(name: &str, form: Form) -> Part {
        Part::Column { name: name.to_owned(), form }
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(
            parsed("LOAN#{loan_id}"),
            [Part::Literal("LOAN#".to_owned()), column_as("loan_id", Form::Plain)]
        );
        assert_eq!(
            parsed("{at:date}{n:020}{t:esc}{t:upper}{t:lower}"),
            [
                column_as("at", Form::Date),
                column_as("n", Form::Padded(20)),
                column_as("t", Form::Escaped),
                column_as("t", Form::Upper),
                column_as("t", Form::Lower),
            ]
        );
        let of = std::num::NonZeroU32::new(16).expect("not zero");
        assert_eq!(parsed("{hash(id) % 16}"), [Part::Shard { name: "id".to_owned(), of }]);
        assert_eq!(parsed("{{x}}{ a b }"), [Part::Literal("{x}".to_owned()), column_as("a b", Form::Plain)]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, at, part) in [
            ("", 1, "empty"),
            ("ä{id", 2, "never closed"),
            ("id}", 3, "closes nothing"),
            ("A#{}", 4, "a column's name is expected"),
            ("{id:hex}", 2, "`hex` is no form"),
            ("{id:00}", 2, "is no form"),
            ("{id:099}", 2, "is no form"),
            ("{hash(id)}", 2, "is no shard"),
            ("{hash(id) % 0}", 2, "is no shard"),
            ("{a{b}", 2, "inside braces"),
        ] {
            let error = text.parse::<Template>().expect_err(text);
            assert_eq!(error.at, at, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
    }
}
