//! One row on its way into a judgement.

use super::{Aggregate, ExactSum, Group, Judgement, Rule, Total};

/// Judgement of one row, before it is known whether the row counts: a row is judged before it is encoded,
/// which takes it apart, and one that cannot be encoded counts as unreadable and as nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct JudgedRow {
    /// The rules that it breaks.
    broken: Vec<&'static str>,
    /// Whether it is past its expiry, and so in no sum and no day.
    is_past: bool,
    /// Each aggregate, with the row's group and what it adds.
    sums: Vec<(&'static str, String, Total)>,
}

impl Judgement {
    /// Judges a row that may yet turn out not to count.
    pub(crate) fn judge<R>(
        &mut self,
        row: &R,
        rules: &[Rule<R>],
        aggregates: &[Aggregate<R>],
        expires_at_s: Option<i64>,
    ) -> JudgedRow {
        let mut judged = std::mem::take(&mut self.spare);
        judged.broken.clear();
        judged.broken.extend(rules.iter().filter(|rule| !(rule.holds)(row)).map(|rule| rule.name));
        judged.is_past = expires_at_s.is_some_and(|at_s| at_s <= self.as_of_s);
        judged.sums.resize_with(if judged.is_past { 0 } else { aggregates.len() }, Default::default);
        for (sum, aggregate) in judged.sums.iter_mut().zip(aggregates) {
            let value = aggregate.value.map_or_else(ExactSum::default, |value| ExactSum::of(value(row)));
            let mut group = Group(std::mem::take(&mut sum.1));
            group.0.clear();
            (aggregate.group)(row, &mut group);
            *sum = (aggregate.name, group.0, Total { rows: 1, sum: value });
        }
        judged
    }

    /// Counts a row that was judged; `key` names it as a JSON array, and is asked for only if it breaks a
    /// rule.
    pub(crate) fn count(&mut self, mut judged: JudgedRow, day: Option<&str>, key: impl FnOnce() -> String) {
        self.rows += 1;
        if !judged.broken.is_empty() {
            self.rows_broken += 1;
            let key = key();
            for rule in &judged.broken {
                let broken = self.broken.entry(rule).or_default();
                broken.rows += 1;
                broken.name(key.clone());
            }
        }
        if let Some(day) = day.filter(|_| !judged.is_past) {
            self.count_day(day);
        }
        for (name, group, one) in &mut judged.sums {
            self.totals.entry(name).or_default().add(*one);
            // Nearly every row is of a group that is known: its name was only looked up, and its memory
            // serves for the next one.
            *group = self.add_to_group((name, std::mem::take(group)), *one).unwrap_or_default();
        }
        self.spare = judged;
    }

    /// Counts a row whose table has rules and sums, and no type in Rust: those that it breaks, the group of
    /// each sum and what it adds. `day` is a timestamp of fixed width; `key` names the row as a JSON array.
    pub fn count_told(
        &mut self,
        broken: Vec<&'static str>,
        sums: impl Iterator<Item = (&'static str, Group, ExactSum)>,
        expires_at_s: Option<i64>,
        day: Option<&str>,
        key: impl FnOnce() -> String,
    ) {
        let is_past = expires_at_s.is_some_and(|at_s| at_s <= self.as_of_s);
        let sums = sums.filter(|_| !is_past);
        let sums = sums.map(|(name, group, sum)| (name, group.0, Total { rows: 1, sum })).collect();
        self.count(JudgedRow { broken, is_past, sums }, day, key);
    }

    /// Counts a row of a table that has neither rules nor sums; `day` is a timestamp of fixed width.
    pub fn count_row(&mut self, expires_at_s: Option<i64>, day: Option<&str>) {
        self.rows += 1;
        let is_past = expires_at_s.is_some_and(|at_s| at_s <= self.as_of_s);
        if let Some(day) = day.filter(|_| !is_past) {
            self.count_day(day);
        }
    }

    /// Counts a row that cannot be read or held.
    pub fn count_unreadable(&mut self) {
        self.unreadable += 1;
    }

    fn count_day(&mut self, fixed_width: &str) {
        let Some(day) = fixed_width.get(..10) else { return };
        match self.days.get_mut(day) {
            Some(rows) => *rows += 1,
            None => drop(self.days.insert(day.to_owned(), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_only_once_it_is_counted_and_one_past_its_expiry_is_in_no_sum() {
        let aggregate = Aggregate {
            name: "n",
            by: &["n"],
            group: |row: &u64, group| group.push(&row.to_string()),
            value: None,
        };
        let rules = [Rule { name: "is_small", holds: |row: &u64| *row < 10 }];
        let aggregates = std::slice::from_ref(&aggregate);
        let mut judgement = Judgement::as_of(100);
        drop(judgement.judge(&11, &rules, aggregates, None));
        assert_eq!((judgement.rows, judgement.rows_broken, judgement.totals.len()), (0, 0, 0));
        for (row, expires_at_s) in [(11, Some(101)), (12, Some(100)), (3, None)] {
            let judged = judgement.judge(&row, &rules, aggregates, expires_at_s);
            judgement.count(judged, Some("2026-01-31T"), || format!("[{row}]"));
        }
        assert_eq!((judgement.rows, judgement.rows_broken, judgement.broken["is_small"].rows), (3, 2, 2));
        assert_eq!(judgement.broken["is_small"].keys, ["[11]", "[12]"].map(str::to_owned).into());
        assert_eq!((judgement.totals["n"].rows, judgement.days["2026-01-31"]), (2, 2));
        let mut groups: Vec<&str> = judgement.groups.keys().map(|(_, group)| group.as_str()).collect();
        groups.sort_unstable();
        assert_eq!(groups, ["11", "3"]);
    }
}
