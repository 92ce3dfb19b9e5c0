//! Totals of the rows of one side: the business rules they break, what they add up to, how many there are a
//! day (R25).
//!
//! A pass judges each row while it has it at hand, so nothing is read for this. Everything adds up in any
//! order: each worker has a [`Judgement`] of its own, and they are merged. Sums are exact integers at the
//! values' scale, so two sides that hold the same rows have the same sums to the last digit. Memory is
//! bounded by `GROUPS_MAX` and `KEYS_MAX`, not by rows.

mod judged_row;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use rust_decimal::Decimal;

use judged_row::JudgedRow;

/// Most groups of one table that are added up one by one, all its sums together; what comes after is in the
/// totals only.
pub(crate) const GROUPS_MAX: usize = 100_000;
/// Most keys that are named for a rule that is broken.
pub(crate) const KEYS_MAX: usize = 10;
/// Between the parts of a group: a control character, which no code or status has.
const SEPARATOR: char = '\u{1f}';

/// A business rule of a table: a name, and a check that says what is wrong.
pub struct Rule<R> {
    /// Name of what must hold, in snake case.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: fn(&R) -> bool,
}

/// A sum that both sides must agree on, group by group.
pub struct Aggregate<R> {
    /// Name of what is added up.
    pub name: &'static str,
    /// Names of the parts of a group, in order.
    pub by: &'static [&'static str],
    /// Function that says which group a row belongs to.
    pub group: fn(&R, &mut Group),
    /// Value of a row that is added up; without it rows are only counted.
    pub value: Option<fn(&R) -> Decimal>,
}

/// A group, as it is being named.
#[derive(Debug, Default)]
pub struct Group(String);

impl Group {
    /// Adds a part.
    pub fn push(&mut self, part: &str) {
        if !self.0.is_empty() {
            self.0.push(SEPARATOR);
        }
        // An empty part would make two groups one.
        self.0.push_str(if part.is_empty() { "(empty)" } else { part });
    }

    /// Adds a UTC day.
    pub fn push_day(&mut self, at: chrono::DateTime<chrono::Utc>) {
        match crate::fixed_width(at) {
            Ok(text) => self.push(&text[..10]),
            Err(_) => self.push("(no day)"),
        }
    }

    /// Returns the parts of a group's name.
    pub fn parts(name: &str) -> Vec<String> {
        name.split(SEPARATOR).map(str::to_owned).collect()
    }
}

/// An exact decimal sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSum {
    mantissa: i128,
    scale: u32,
    overflowed: bool,
}

impl ExactSum {
    fn of(value: Decimal) -> Self {
        Self { mantissa: value.mantissa(), scale: value.scale(), overflowed: false }
    }

    /// Returns a number as it is written, without an exponent; one of more than 38 digits says nothing.
    pub fn of_digits(text: &str) -> Self {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let scale = u32::try_from(fraction.len()).ok();
        match (format!("{whole}{fraction}").parse(), scale) {
            (Ok(mantissa), Some(scale)) => Self { mantissa, scale, overflowed: false },
            _ => Self { overflowed: true, ..Self::default() },
        }
    }

    /// Tells whether 38 digits were not enough, so that the sum says nothing.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn add(&mut self, other: Self) {
        let scale = self.scale.max(other.scale);
        let at_scale = |sum: Self| {
            10_i128.checked_pow(scale - sum.scale).and_then(|power| sum.mantissa.checked_mul(power))
        };
        let added = at_scale(*self).zip(at_scale(other)).and_then(|(a, b)| a.checked_add(b));
        *self = match added {
            Some(mantissa) => Self { mantissa, scale, overflowed: self.overflowed || other.overflowed },
            None => Self { overflowed: true, ..*self },
        };
    }
}

impl fmt::Display for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.overflowed {
            return f.write_str("more than 38 digits");
        }
        let (sign, scale) = (if self.mantissa < 0 { "-" } else { "" }, self.scale as usize);
        let digits = format!("{:0>width$}", self.mantissa.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}")?;
        if scale > 0 { write!(f, ".{fraction}") } else { Ok(()) }
    }
}

/// Rows of a group, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Number of rows.
    pub rows: u64,
    /// Sum of their values; zero where only rows are counted.
    pub sum: ExactSum,
}

impl Total {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum.add(other.sum);
    }
}

/// Rows that break a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// Number of rows.
    pub rows: u64,
    /// The least keys of them, as JSON arrays.
    pub keys: BTreeSet<String>,
}

impl Broken {
    fn name(&mut self, key: String) {
        self.keys.insert(key);
        if self.keys.len() > KEYS_MAX {
            self.keys.pop_last();
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Rows that were judged.
    pub rows: u64,
    /// Rows that could not be: they do not decode, or the target cannot hold them.
    pub unreadable: u64,
    /// Rows that break at least one rule.
    pub rows_broken: u64,
    /// Rows that break a rule, by rule.
    pub broken: BTreeMap<&'static str, Broken>,
    /// Totals of all rows together, by aggregate.
    pub totals: BTreeMap<&'static str, Total>,
    /// Totals of groups, by aggregate and group.
    pub groups: HashMap<(&'static str, String), Total>,
    /// Whether there were more groups than are kept.
    pub groups_cut: bool,
    /// Rows of each UTC day, where the table has one.
    pub days: BTreeMap<String, u64>,
    /// Rows whose expiry is not after this moment, in seconds since 1970, are in no sum and no day: their
    /// items may be gone already. Both sides must be judged as of the same moment.
    pub as_of_s: i64,
    /// The last row's, whose memory serves for the next one.
    spare: JudgedRow,
}

impl Judgement {
    /// Makes an empty one, as of a moment.
    pub fn as_of(as_of_s: i64) -> Self {
        Self { as_of_s, ..Self::default() }
    }

    /// Gives the name back where it was not needed.
    fn add_to_group(&mut self, group: (&'static str, String), total: Total) -> Option<String> {
        let room = self.groups.len() < GROUPS_MAX;
        match self.groups.get_mut(&group) {
            Some(so_far) => so_far.add(total),
            None if room => {
                self.groups.insert(group, total);
                return None;
            }
            None => self.groups_cut = true,
        }
        Some(group.1)
    }

    /// Takes over what another worker judged.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.unreadable += other.unreadable;
        self.rows_broken += other.rows_broken;
        self.groups_cut |= other.groups_cut;
        for (rule, broken) in other.broken {
            let mine = self.broken.entry(rule).or_default();
            mine.rows += broken.rows;
            broken.keys.into_iter().for_each(|key| mine.name(key));
        }
        for (name, total) in other.totals {
            self.totals.entry(name).or_default().add(total);
        }
        for (group, total) in other.groups {
            self.add_to_group(group, total);
        }
        for (day, rows) in other.days {
            *self.days.entry(day).or_default() += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[&str]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(ExactSum::of(value.parse().expect("a decimal"))));
        sum
    }

    #[track_caller]
    fn check(values: &[&str], expected: &str) {
        assert_eq!(sum(values).to_string(), expected);
        let backwards: Vec<&str> = values.iter().rev().copied().collect();
        assert_eq!(sum(&backwards), sum(values), "the order does not matter");
    }

    #[test]
    fn sums_are_exact_at_any_scale_and_in_any_order() {
        check(&[], "0");
        check(&["0.10", "0.20"], "0.30");
        check(&["-0.01"], "-0.01");
        check(&["1", "0.005", "-1"], "0.005");
        // More digits than a decimal has: it would round, and the two sides would agree by chance.
        check(&["79228162514264337593543950335", "0.01"], "79228162514264337593543950335.01");
    }

    #[test]
    fn a_sum_of_digits_is_that_of_decimals_and_has_more_of_them() {
        for text in ["0", "-0.05", "12.30", "79228162514264337593543950335"] {
            assert_eq!(ExactSum::of_digits(text), sum(&[text]), "{text}");
        }
        let nines = "9".repeat(38);
        assert_eq!(ExactSum::of_digits(&nines).to_string(), nines);
        assert!(ExactSum::of_digits(&"9".repeat(40)).overflowed() && ExactSum::of_digits("1e9").overflowed());
    }

    #[test]
    fn a_sum_that_does_not_fit_says_so() {
        let mut large = sum(&["79228162514264337593543950335"]);
        for _ in 0..40 {
            large.add(large);
        }
        assert!(large.overflowed());
    }

    #[test]
    fn groups_with_empty_parts_are_not_mixed_up() {
        let named = |parts: &[&str]| {
            let mut group = Group::default();
            parts.iter().for_each(|part| group.push(part));
            group.0
        };
        assert_ne!(named(&["", "a"]), named(&["a", ""]));
        assert_eq!(Group::parts(&named(&["EUR", "Completed"])), ["EUR", "Completed"]);
    }

    #[test]
    fn groups_beyond_the_bound_are_in_the_totals() {
        let aggregate = Aggregate {
            name: "n",
            by: &["n"],
            group: |row: &u64, group| group.push(&row.to_string()),
            value: Some(|n| Decimal::from(*n)),
        };
        let mut judgement = Judgement::default();
        for n in 0..GROUPS_MAX as u64 + 5 {
            let judged = judgement.judge(&n, &[], std::slice::from_ref(&aggregate), None);
            judgement.count(judged, None, String::new);
        }
        assert!(judgement.groups_cut && judgement.groups.len() == GROUPS_MAX);
        assert_eq!(judgement.totals["n"].rows, GROUPS_MAX as u64 + 5);
    }
}
