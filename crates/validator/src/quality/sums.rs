//! Sums and daily counts of both sides, held against each other. Pure.
//!
//! A sum of few rows gives away their values, and so does the difference of two sums. So in a report that is
//! masked a sum is shown only where both sides agree and it is of many rows; elsewhere the report says how
//! many rows, and that they differ. A group of few rows is not named either.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{ExactSum, Group, Judgement, Total};
use serde::{Deserialize, Serialize};

use crate::options::ValidateOptions;

/// Rows from which on a sum gives away nothing of one of them.
const SHOWN_ROWS_MIN: u64 = 10;
/// Most days that are listed one by one; more are listed by month.
const DAYS_MAX: usize = 1_000;

/// One aggregate of both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumCheck {
    /// Name of what is added up.
    pub name: String,
    /// Names of the parts of a group.
    pub by: Vec<String>,
    /// All rows of the source.
    pub source: SumTotal,
    /// All rows of the target.
    pub target: SumTotal,
    /// Whether the totals are equal to the last digit.
    pub totals_agree: bool,
    /// Groups on either side.
    pub groups: u64,
    /// Groups that are not equal to the last digit.
    pub groups_differing: u64,
    /// The first of them.
    pub differing: Vec<GroupDifference>,
    /// Whether there were too many groups to compare each; the totals are of all rows nevertheless.
    pub groups_cut: bool,
}

impl SumCheck {
    /// Tells whether both sides have the same sums.
    pub fn agrees(&self) -> bool {
        self.totals_agree && (self.groups_differing == 0 || self.groups_cut)
    }

    /// Without what would give away the values of a few rows.
    #[must_use]
    pub(crate) fn masked(mut self) -> Self {
        let agree = self.totals_agree;
        (self.source, self.target) = (self.source.masked(agree), self.target.masked(agree));
        for of in &mut self.differing {
            if of.source.rows.max(of.target.rows) < SHOWN_ROWS_MIN {
                // A value that only a few rows have in common may be anything, also what should not be there.
                of.group.iter_mut().for_each(|part| "masked".clone_into(part));
            }
            (of.source.sum, of.target.sum) = (None, None);
        }
        self
    }
}

impl SumTotal {
    fn masked(self, agrees: bool) -> Self {
        Self { sum: self.sum.filter(|_| agrees && self.rows >= SHOWN_ROWS_MIN), ..self }
    }
}

/// Rows and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumTotal {
    /// Number of rows.
    pub rows: u64,
    /// Sum of their values, exact; `None` where rows are only counted, or where it is masked.
    pub sum: Option<String>,
}

/// A group whose sums differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDifference {
    /// Parts of the group.
    pub group: Vec<String>,
    /// Total in the source.
    pub source: SumTotal,
    /// Total in the target.
    pub target: SumTotal,
}

/// Rows of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCount {
    /// `2026-01-31`, or `2026-01` for a month.
    pub day: String,
    /// Rows in the source.
    pub source: u64,
    /// Rows in the target.
    pub target: u64,
}

pub(super) fn compare(
    aggregates: &[(&'static str, &'static [&'static str])],
    source: &Judgement,
    target: &Judgement,
    options: &ValidateOptions,
) -> Vec<SumCheck> {
    aggregates.iter().map(|(name, by)| one(name, by, source, target, options)).collect()
}

fn one(
    name: &'static str,
    by: &[&str],
    source: &Judgement,
    target: &Judgement,
    options: &ValidateOptions,
) -> SumCheck {
    let total = |side: &Judgement| side.totals.get(name).copied().unwrap_or_default();
    let (of_source, of_target) = (total(source), total(target));
    let totals_agree = same(of_source, of_target);
    let of_name = |side: &'_ Judgement| -> BTreeSet<String> {
        side.groups.keys().filter(|(of, _)| *of == name).map(|(_, group)| group.clone()).collect()
    };
    let groups: BTreeSet<String> = of_name(source).union(&of_name(target)).cloned().collect();
    let of_group = |side: &Judgement, group: &str| {
        side.groups.get(&(name, group.to_owned())).copied().unwrap_or_default()
    };
    let differing = groups.iter().map(|group| (group, of_group(source, group), of_group(target, group)));
    let differing: Vec<_> = differing.filter(|(_, a, b)| !same(*a, *b)).collect();
    // Where rows are only counted every sum is zero, and says nothing.
    let has_sums = [of_source, of_target].iter().any(|total| total.sum != ExactSum::default());
    let show = |total: Total| SumTotal { rows: total.rows, sum: has_sums.then(|| total.sum.to_string()) };
    let check = SumCheck {
        name: name.to_owned(),
        by: by.iter().map(|part| (*part).to_owned()).collect(),
        source: show(of_source),
        target: show(of_target),
        totals_agree,
        groups: groups.len() as u64,
        groups_differing: differing.len() as u64,
        differing: differing
            .into_iter()
            .take(options.settings.findings_max)
            .map(|(group, a, b)| GroupDifference {
                group: Group::parts(group),
                source: show(a),
                target: show(b),
            })
            .collect(),
        groups_cut: source.groups_cut || target.groups_cut,
    };
    if options.unmasked { check } else { check.masked() }
}

/// Equal to the last digit. A sum that does not fit is equal to nothing.
fn same(a: Total, b: Total) -> bool {
    a.rows == b.rows && a.sum.to_string() == b.sum.to_string() && !a.sum.overflowed() && !b.sum.overflowed()
}

pub(super) fn days(source: &Judgement, target: &Judgement) -> Vec<DayCount> {
    let days: BTreeSet<&String> = source.days.keys().chain(target.days.keys()).collect();
    let width = if days.len() > DAYS_MAX { "2026-01".len() } else { "2026-01-31".len() };
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for day in days {
        let of = |side: &Judgement| side.days.get(day).copied().unwrap_or(0);
        let count = counts.entry(day.chars().take(width).collect()).or_default();
        *count = (count.0 + of(source), count.1 + of(target));
    }
    counts.into_iter().map(|(day, (source, target))| DayCount { day, source, target }).collect()
}
