//! Whether templates keep rows apart.
//!
//! The rule: read a key from its front, part by part. A part can be told from what follows if it has a fixed
//! width, if the literal after it begins with a character that it cannot contain, or if nothing follows. The
//! same from the back. If all parts but one can be told, the one that is left is what remains. So each part
//! is known again, and with the columns of the primary key among them, so is the row: two rows cannot share a
//! key. What the rule cannot follow is refused.

use std::fmt;

use crate::render::is_escaped;
use crate::{Form, Part, Template};

/// Characters of which the text of a column consists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Digits, perhaps after a minus sign: whole numbers.
    Integer,
    /// Always this number of characters: a uuid (36), a date (10), a time of fixed width (27).
    Fixed(usize),
    /// `true` or `false`.
    Boolean,
    /// Anything.
    Text,
}

/// Reason why templates do not keep rows apart, and what does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguity {
    /// The template that is the cause: `partition` or `sort`.
    pub template: &'static str,
    /// The whole sentence.
    pub message: String,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Ambiguity {}

/// Checks that `partition` and `sort` together determine every column of the primary key.
///
/// # Errors
/// Names the template and the columns that it mixes up or leaves out, and what to write instead.
pub fn check(
    partition: &Template,
    sort: Option<&Template>,
    primary_key: &[&str],
    alphabet: impl Fn(&str) -> Alphabet,
) -> Result<(), Ambiguity> {
    let read = |template: &Template| Reading::of(template, &alphabet);
    let first = ("partition", partition, read(partition));
    let told: Vec<(&'static str, &Template, Reading)> =
        std::iter::once(first).chain(sort.map(|sort| ("sort", sort, read(sort)))).collect();
    for column in primary_key {
        let is_known = |reading: &Reading| reading.known.iter().any(|known| known == column);
        if told.iter().any(|(_, _, reading)| is_known(reading)) {
            continue;
        }
        let mut naming = told.iter().filter(|(_, template, _)| template.columns().contains(column));
        if let Some((what, template, (first, last))) =
            naming.clone().find_map(|(what, template, reading)| Some((*what, *template, reading.mixed?)))
        {
            return Err(Ambiguity { template: what, message: mixed(what, template, first, last, &alphabet) });
        }
        let (last, template) = sort.map_or(("partition", partition), |sort| ("sort", sort));
        let repairs = |better: &String| better.parse().is_ok_and(|better| is_known(&read(&better)));
        let plain = format!("{}#{{{column}}}", template.text());
        let escaped = format!("{}#{{{column}:esc}}", template.text());
        let better = if repairs(&plain) || !repairs(&escaped) { plain } else { escaped };
        let (cause, why) = match naming.next() {
            Some((cause, _, _)) => {
                (*cause, "is not determined, because only a part of it is in the templates")
            }
            None => (last, "is in no template, so two rows could share a place"),
        };
        let message = format!("column `{column}` of the primary key {why}; write {last} = \"{better}\"");
        return Err(Ambiguity { template: cause, message });
    }
    Ok(())
}

/// Knowledge of the parts of a key.
struct Reading {
    /// Columns whose value can be told.
    known: Vec<String>,
    /// The first and the last of the parts that cannot be told apart, where there are several.
    mixed: Option<(usize, usize)>,
}

impl Reading {
    fn of(template: &Template, alphabet: &impl Fn(&str) -> Alphabet) -> Self {
        let parts = template.parts();
        let told_before = (0..parts.len()).take_while(|i| ends_by_itself(parts, *i, alphabet)).count();
        let told_after = (0..parts.len()).rev().take_while(|i| begins_by_itself(parts, *i, alphabet)).count();
        let open = told_before..parts.len().saturating_sub(told_after).max(told_before);
        let mixed = (open.len() > 1).then(|| (open.start, open.end - 1));
        let is_known = |i: usize| mixed.is_none() || !open.contains(&i);
        let told = parts.iter().enumerate().filter(|(i, _)| is_known(*i));
        let known = told.filter_map(|(_, part)| lossless(part, alphabet));
        Self { known: known.map(ToOwned::to_owned).collect(), mixed }
    }
}

/// Returns the column of which a part shows everything.
fn lossless<'a>(part: &'a Part, alphabet: &impl Fn(&str) -> Alphabet) -> Option<&'a str> {
    match part {
        Part::Column { name, form: Form::Plain | Form::Escaped } => Some(name),
        // The texts "7" and "07" are two rows, and padded they are one key.
        Part::Column { name, form: Form::Padded(_) } if alphabet(name) == Alphabet::Integer => Some(name),
        _ => None,
    }
}

/// Returns how many characters a part always has.
fn width(part: &Part, alphabet: &impl Fn(&str) -> Alphabet) -> Option<usize> {
    match part {
        Part::Literal(text) => Some(text.chars().count()),
        Part::Column { form: Form::Date, .. } => Some(10),
        Part::Column { form: Form::Padded(width), .. } => Some(usize::from(*width)),
        Part::Column { name, form: Form::Plain } => match alphabet(name) {
            Alphabet::Fixed(width) => Some(width),
            _ => None,
        },
        Part::Shard { of, .. } if of.get() <= 10 => Some(1),
        _ => None,
    }
}

/// Tells whether a part, read from the front, shows where it ends.
fn ends_by_itself(parts: &[Part], i: usize, alphabet: &impl Fn(&str) -> Alphabet) -> bool {
    if width(&parts[i], alphabet).is_some() {
        return true;
    }
    match parts.get(i + 1) {
        None => true,
        Some(Part::Literal(text)) => {
            text.chars().next().is_some_and(|c| !may_contain(&parts[i], c, alphabet))
        }
        Some(_) => false,
    }
}

/// Tells whether a part, read from the back, shows where it begins.
fn begins_by_itself(parts: &[Part], i: usize, alphabet: &impl Fn(&str) -> Alphabet) -> bool {
    if width(&parts[i], alphabet).is_some() {
        return true;
    }
    match i.checked_sub(1).and_then(|before| parts.get(before)) {
        None => true,
        Some(Part::Literal(text)) => {
            text.chars().next_back().is_some_and(|c| !may_contain(&parts[i], c, alphabet))
        }
        Some(_) => false,
    }
}

fn may_contain(part: &Part, c: char, alphabet: &impl Fn(&str) -> Alphabet) -> bool {
    match part {
        Part::Literal(text) => text.contains(c),
        Part::Shard { .. } => c.is_ascii_digit(),
        // `%` begins an escape, so it is in the text, and an escape's digits are letters and digits.
        Part::Column { form: Form::Escaped, .. } => c == '%' || !is_escaped(c),
        Part::Column { name, form } => match (alphabet(name), form) {
            (Alphabet::Integer, _) => c.is_ascii_digit() || c == '-',
            (Alphabet::Boolean, _) => c.is_ascii_alphabetic(),
            (Alphabet::Fixed(_) | Alphabet::Text, _) => true,
        },
    }
}

/// Returns the sentence about two columns that run into each other.
fn mixed(
    what: &str,
    template: &Template,
    first: usize,
    last: usize,
    alphabet: &impl Fn(&str) -> Alphabet,
) -> String {
    let name = |i: usize| match &template.parts()[i] {
        Part::Column { name, .. } | Part::Shard { name, .. } => name.as_str(),
        Part::Literal(_) => "",
    };
    let between = match template.parts().get(first + 1) {
        Some(Part::Literal(text)) if first + 2 == last => text.as_str(),
        _ => "",
    };
    let example = if between.is_empty() {
        "(\"ab\",\"c\") and (\"a\",\"bc\") give one key".to_owned()
    } else {
        format!("(\"a{between}b\",\"c\") and (\"a\",\"b{between}c\") give one key")
    };
    let escaped = format!("{{{}:esc}}", name(first));
    let better = template.text().replacen(&format!("{{{}}}", name(first)), &escaped, 1);
    let better =
        if between.is_empty() { better.replacen(&escaped, &format!("{escaped}#"), 1) } else { better };
    let repairs =
        better.parse::<Template>().is_ok_and(|better| Reading::of(&better, alphabet).mixed.is_none());
    let advice = if repairs {
        format!("write `{better}`, or put one of the two into the other template")
    } else {
        format!(
            "put `{}` and `{}` into different templates, or write `:esc` after each column",
            name(first),
            name(last)
        )
    };
    format!("{what} template `{}` is not injective: {example}; {advice}", template.text())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
