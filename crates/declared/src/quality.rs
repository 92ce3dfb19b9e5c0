//! Rules that every row keeps, and sums that both sides agree on, as a declaration has them.
//!
//! A rule is one condition on one column, as a CHECK has it: where the column is NULL it is not broken,
//! unless it says `is not null`.

use std::cmp::Ordering;

use lockstep_core::{AttributeValue, ExactSum, Group};

use crate::kind::Kind;
use crate::numbers::of_numbers;

/// A column, as far as a rule asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) sql_type: &'a str,
}

/// The values of a row in the order of its columns, `None` for NULL.
type Values = [Option<AttributeValue>];

/// Question of a rule to its column.
#[derive(Debug)]
enum Check {
    Present,
    Filled,
    Compared(&'static str, AttributeValue),
    Among(Vec<AttributeValue>),
}

/// A rule, resolved.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    place: usize,
    check: Check,
}

/// A sum, resolved.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) name: &'static str,
    /// Column that is added up; without one rows are only counted.
    pub(crate) value: Option<usize>,
    /// Columns that make the groups, and whether only the day of each counts.
    pub(crate) by: Vec<(usize, bool)>,
    /// The same, as they are told.
    pub(crate) names: &'static [&'static str],
}

/// Comparisons, the longer ones first: `>=` begins as `>` does.
const COMPARISONS: [&str; 6] = [">=", "<=", "!=", "=", "<", ">"];
/// Characters of a day, at the beginning of each time.
const DAY: usize = 10;

impl Rule {
    /// Reads `amount > 0`, `name is not empty`, `currency in ('EUR', 'USD')`, `paid_at is not null`.
    ///
    /// # Errors
    /// What is wrong, and what can be written.
    pub(crate) fn parse(name: &'static str, text: &str, columns: &[Judged<'_>]) -> Result<Self, String> {
        let text = text.trim();
        let (column, rest) = match text.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
            Some((column, rest)) => (column, rest),
            None => text.split_at(text.find([' ', '=', '!', '<', '>']).unwrap_or(text.len())),
        };
        let place = columns
            .iter()
            .position(|other| other.name == column)
            .ok_or_else(|| format!("there is no column `{column}` that is moved"))?;
        let (kind, sql_type) = (columns[place].kind, columns[place].sql_type);
        let value = |literal: &str| {
            kind.of_text(literal).map_err(|why| format!("`{literal}` is no {sql_type}: {}", why.reason))
        };
        let check = match rest.trim() {
            "is not null" => Check::Present,
            "is not empty" if kind == Kind::Text => Check::Filled,
            "is not empty" => return Err(format!("`{column}` is {sql_type}, and only a text is empty")),
            rest => {
                if let Some(list) = rest.strip_prefix("in ").and_then(|list| in_brackets(list.trim())) {
                    let literals = literals(list)?;
                    Check::Among(literals.iter().map(|literal| value(literal)).collect::<Result<_, _>>()?)
                } else {
                    let compared =
                        COMPARISONS.iter().find_map(|sign| Some((*sign, rest.strip_prefix(sign)?)));
                    let Some((sign, literal)) = compared else {
                        return Err(format!("`{rest}` is no condition; {FORMS}"));
                    };
                    if !matches!(sign, "=" | "!=") && !is_ordered(kind) {
                        return Err(format!(
                            "`{column}` is {sql_type}, which has no order here; write = or !="
                        ));
                    }
                    match &literals(literal)?[..] {
                        [literal] => Check::Compared(sign, value(literal)?),
                        _ => return Err(format!("one value follows `{sign}`; {FORMS}")),
                    }
                }
            }
        };
        Ok(Self { name, place, check })
    }

    /// Tells whether a row keeps it.
    pub(crate) fn holds(&self, row: &Values) -> bool {
        let Some(value) = &row[self.place] else { return !matches!(self.check, Check::Present) };
        match &self.check {
            Check::Present => true,
            Check::Filled => matches!(value, AttributeValue::S(text) if !text.trim().is_empty()),
            Check::Among(all) => all.iter().any(|one| ordering(one, value) == Some(Ordering::Equal)),
            Check::Compared(sign, other) => matches!(
                (ordering(value, other), *sign),
                (Some(Ordering::Equal), "=" | "<=" | ">=")
                    | (Some(Ordering::Less), "<" | "<=" | "!=")
                    | (Some(Ordering::Greater), ">" | ">=" | "!=")
                    | (None, "!=")
            ),
        }
    }
}

/// Forms that can be written, for people.
const FORMS: &str = "write a column with > 0, = 'text', in ('a', 'b'), is not null or is not empty";

fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('(')?.strip_suffix(')')
}

/// Reads values with commas between them; texts stand in single quotes, each quote within twice.
fn literals(text: &str) -> Result<Vec<String>, String> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    loop {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (mut literal, mut end) = (String::new(), None);
            let mut characters = quoted.char_indices().peekable();
            while let Some((at, c)) = characters.next() {
                match c {
                    '\'' if characters.next_if(|(_, next)| *next == '\'').is_some() => literal.push('\''),
                    '\'' => {
                        end = Some(at + 1);
                        break;
                    }
                    c => literal.push(c),
                }
            }
            let end = end.ok_or_else(|| format!("a text is not closed in `{text}`"))?;
            found.push(literal);
            rest = quoted[end..].trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let literal = rest[..end].trim();
            if literal.is_empty() || literal.contains(char::is_whitespace) {
                return Err(format!("`{literal}` is no value; {FORMS}"));
            }
            found.push(literal.to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Ok(found),
            None => return Err(format!("`{rest}` is left over; {FORMS}")),
        }
    }
}

/// Tells whether values of a kind are ordered as their attributes are.
fn is_ordered(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Integer
            | Kind::Scaled(_)
            | Kind::Numeric
            | Kind::Number
            | Kind::Real
            | Kind::Double
            | Kind::Text
            | Kind::Date
            | Kind::Time
            | Kind::Timestamp
            | Kind::Instant
    )
}

fn ordering(one: &AttributeValue, other: &AttributeValue) -> Option<Ordering> {
    match (one, other) {
        (AttributeValue::N(one), AttributeValue::N(other)) => Some(of_numbers(one, other)),
        (AttributeValue::S(one), AttributeValue::S(other)) => Some(one.cmp(other)),
        (one, other) => (one == other).then_some(Ordering::Equal),
    }
}

impl Sum {
    /// Returns the group of a row, and what it adds.
    pub(crate) fn of(&self, row: &Values) -> (&'static str, Group, ExactSum) {
        let mut group = Group::default();
        for (place, is_day) in &self.by {
            match &row[*place] {
                None => group.push("(null)"),
                Some(AttributeValue::S(text) | AttributeValue::N(text)) => {
                    group.push(if *is_day { text.get(..DAY).unwrap_or(text) } else { text });
                }
                Some(AttributeValue::Bool(is)) => group.push(if *is { "true" } else { "false" }),
                Some(_) => group.push("(other)"),
            }
        }
        let value = match self.value.and_then(|place| row[place].as_ref()) {
            Some(AttributeValue::N(digits)) => ExactSum::of_digits(digits),
            _ => ExactSum::default(),
        };
        (self.name, group, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Judged<'static>> {
        let column = |name, kind, sql_type| Judged { name, kind, sql_type };
        vec![
            column("amount", Kind::Scaled(2), "numeric(38,2)"),
            column("name", Kind::Text, "text"),
            column("a b", Kind::Boolean, "boolean"),
            column("day", Kind::Date, "date"),
            column("shape", Kind::Other, "point"),
        ]
    }

    fn row(values: [Option<&str>; 5]) -> Vec<Option<AttributeValue>> {
        let columns = columns();
        let value =
            |(at, text): (usize, Option<&str>)| text.map(|text| columns[at].kind.of_text(text).expect("one"));
        values.into_iter().enumerate().map(value).collect()
    }

    #[test]
    fn a_rule_is_kept_or_broken_to_the_last_digit_and_null_breaks_only_what_asks_for_a_value() {
        let full =
            row([Some("12345678901234567890123456789.10"), Some("o'x"), Some("t"), Some("2026-02-03"), None]);
        let none = row([None; 5]);
        for (text, holds, holds_of_null) in [
            ("amount > 0", true, true),
            ("amount < 12345678901234567890123456789.10", false, true),
            ("amount<=12345678901234567890123456789.1", true, true),
            ("amount > -12345678901234567890123456790", true, true),
            ("amount != 12345678901234567890123456789.1", false, true),
            ("name is not empty", true, true),
            ("name in ('a', 'o''x')", true, true),
            ("name in ('a,b', 'c')", false, true),
            ("name >= 'o'", true, true),
            ("\"a b\" = true", true, true),
            ("\"a b\" != true", false, true),
            ("day > '2026-01-31'", true, true),
            ("day < '2026-01-31'", false, true),
            ("amount is not null", true, false),
            ("shape is not null", false, false),
        ] {
            let rule = Rule::parse("r", text, &columns()).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((rule.holds(&full), rule.holds(&none)), (holds, holds_of_null), "{text}");
        }
        let blank = row([Some("-0.00"), Some(" "), None, None, None]);
        let of = |text| Rule::parse("r", text, &columns()).expect("a rule").holds(&blank);
        assert!(!of("name is not empty") && of("amount = 0") && of("amount >= 0") && !of("amount < 0"));
    }

    #[test]
    fn what_is_no_rule_says_what_can_be_written() {
        for (text, part) in [
            ("total > 0", "no column `total`"),
            ("amount", "is no condition; write a column with"),
            ("amount above 3", "is no condition"),
            ("amount > many", "`many` is no numeric(38,2)"),
            ("amount > 1, 2", "one value follows"),
            ("amount is not empty", "only a text is empty"),
            ("name = 'a", "not closed"),
            ("name = 'a' b", "left over"),
            ("\"a b\" < true", "no order"),
            ("shape < '(1,2)'", "no order"),
        ] {
            let why = Rule::parse("r", text, &columns()).expect_err("it is refused");
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
