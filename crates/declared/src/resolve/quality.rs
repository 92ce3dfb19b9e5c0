//! Rules, sums and references of a declared table.

use lockstep_core::Reference;

use super::{Problems, Resolver, leak, leak_text};
use crate::kind::Kind;
use crate::quality::{Judged, Rule, Sum};
use crate::shape::Column;

/// Ending of a column of a group of which only the day counts.
const DAY: &str = ":day";

impl Resolver<'_> {
    pub(super) fn rules<'a>(&self, columns: &'a [Column], problems: &mut Problems) -> Vec<Rule> {
        let judged =
            |column: &'a Column| Judged { name: column.name, kind: column.kind, sql_type: &column.sql_type };
        let judged: Vec<Judged<'a>> = columns.iter().map(judged).collect();
        let mut rules = Vec::new();
        for (name, text) in &self.declaration.rules {
            match Rule::parse(leak_text(name), text, &judged) {
                Ok(rule) => rules.push(rule),
                Err(why) => problems.push(format!("rules.{name}: {why}")),
            }
        }
        rules
    }

    pub(super) fn sums(&self, columns: &[Column], problems: &mut Problems) -> Vec<Sum> {
        let mut sums = Vec::new();
        for (name, sum) in &self.declaration.sums {
            let what = format!("sums.{name}");
            let place = |column: &str, problems: &mut Problems| {
                let place = columns.iter().position(|other| other.name == column);
                if place.is_none() {
                    problems.push(self.no_column(&what, column));
                }
                place
            };
            let value = sum.value.as_deref().and_then(|column| place(column, problems));
            if let Some(column) = value.map(|place| &columns[place])
                && !matches!(column.kind, Kind::Integer | Kind::Scaled(_) | Kind::Number)
            {
                problems.push(format!(
                    "{what} adds up `{}`, which is {}: only whole numbers and numeric with a scale, or \
                     held as a number, have exact sums",
                    column.name, column.sql_type
                ));
            }
            let mut by = Vec::new();
            for part in &sum.by {
                let (column, is_day) =
                    part.strip_suffix(DAY).map_or((part.as_str(), false), |name| (name, true));
                let Some(place) = place(column, problems) else { continue };
                let kind = columns[place].kind;
                if is_day && !matches!(kind, Kind::Date | Kind::Timestamp | Kind::Instant) {
                    let sql_type = &columns[place].sql_type;
                    problems.push(format!("{what} goes by the day of `{column}`, which is {sql_type}"));
                }
                if kind.has_no_text() || matches!(kind, Kind::Bytes | Kind::UuidBytes) {
                    problems.push(format!("{what} goes by `{column}`, of which groups have no name"));
                }
                by.push((place, is_day));
            }
            let names: Vec<&'static str> = sum.by.iter().map(|part| leak_text(part)).collect();
            sums.push(Sum { name: leak_text(name), value, by, names: leak(names) });
        }
        sums
    }

    pub(super) fn references(&self, columns: &[Column], problems: &mut Problems) -> Vec<Reference> {
        let mut references = Vec::new();
        for (column, to) in &self.declaration.references {
            if !columns.iter().any(|other| other.name == *column) {
                problems.push(self.no_column("references", column));
                continue;
            }
            let Some((to_table, to_column)) = to.rsplit_once('.').filter(|(table, _)| !table.is_empty())
            else {
                problems.push(format!(
                    "references.{column}: write the table and its column, as \"customers.{column}\""
                ));
                continue;
            };
            let (to_table, to_column) = (leak_text(to_table), leak_text(to_column));
            references.push(Reference { column: leak_text(column), to_table, to_column });
        }
        references
    }
}
