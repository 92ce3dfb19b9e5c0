//! A range of time as both stores understand it: whole microseconds, half open.

use std::ops::{Bound, RangeBounds};

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Timelike, Utc};

use lockstep_core::fixed_width;

/// From a moment, inclusive, to a moment, exclusive; either may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    from: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
}

impl TimeRange {
    /// All time.
    pub const ALL: TimeRange = TimeRange { from: None, before: None };

    /// The range, whatever kind of range it is. Bounds between two microseconds are moved to the next, as
    /// rows are at whole ones: PostgreSQL and DynamoDB would otherwise cut the rest off in different
    /// directions.
    ///
    /// ```
    /// use chrono::{DateTime, TimeDelta, Utc};
    /// use lockstep::store::query::TimeRange;
    ///
    /// let first: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
    /// let next: DateTime<Utc> = "2026-02-01T00:00:00Z".parse()?;
    /// let january = TimeRange::of(first..next);
    /// assert_eq!((january.from(), january.before()), (Some(first), Some(next)));
    /// // An end that belongs to the range is before the next microsecond.
    /// assert_eq!(TimeRange::of(..=next).before(), Some(next + TimeDelta::microseconds(1)));
    /// # Ok::<(), chrono::ParseError>(())
    /// ```
    pub fn of(range: impl RangeBounds<DateTime<Utc>>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(from) => Some(not_before(*from)),
            Bound::Excluded(after) => Some(past(*after)),
            Bound::Unbounded => None,
        };
        let before = match range.end_bound() {
            Bound::Included(last) => Some(past(*last)),
            Bound::Excluded(before) => Some(not_before(*before)),
            Bound::Unbounded => None,
        };
        Self { from, before }.within_years()
    }

    /// Returns the range of one UTC day.
    ///
    /// ```
    /// use chrono::NaiveDate;
    /// use lockstep::store::query::TimeRange;
    ///
    /// let last = NaiveDate::from_ymd_opt(2026, 1, 31).expect("a day");
    /// let range = TimeRange::day(last);
    /// assert_eq!(range.from().map(|at| at.date_naive()), Some(last));
    /// assert_eq!(range.before().map(|at| at.date_naive()), last.succ_opt());
    /// ```
    pub fn day(day: NaiveDate) -> Self {
        let start = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
        Self { from: Some(start(day)), before: day.succ_opt().map(start) }.within_years()
    }

    /// The part of the range that is not before `from`.
    ///
    /// ```
    /// use chrono::{DateTime, Utc};
    /// use lockstep::store::query::TimeRange;
    ///
    /// let new_year: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
    /// assert_eq!(TimeRange::ALL.not_before(new_year), TimeRange::of(new_year..));
    /// # Ok::<(), chrono::ParseError>(())
    /// ```
    #[must_use]
    pub fn not_before(self, from: DateTime<Utc>) -> Self {
        Self { from: self.from.max(Some(not_before(from))), ..self }.within_years()
    }

    /// The first moment of rows that live for `days` and have not expired now. Expiry goes by whole seconds,
    /// as DynamoDB's does.
    ///
    /// ```
    /// use lockstep::store::query::TimeRange;
    ///
    /// // Of a table whose rows live for 90 days: the others need not be read to be left out.
    /// let since = TimeRange::alive_since(90).expect("90 days ago there was a time");
    /// let alive = TimeRange::ALL.not_before(since);
    /// assert!(alive.from().is_some() && alive.before().is_none());
    /// ```
    pub fn alive_since(days: u32) -> Option<DateTime<Utc>> {
        let next_second = Utc::now().with_nanosecond(0)?.checked_add_signed(TimeDelta::seconds(1))?;
        next_second.checked_sub_signed(TimeDelta::days(days.into()))
    }

    /// The first moment; `None` where it is open.
    ///
    /// ```
    /// use lockstep::store::query::TimeRange;
    ///
    /// assert_eq!(TimeRange::of(..chrono::DateTime::UNIX_EPOCH).from(), None);
    /// ```
    pub fn from(&self) -> Option<DateTime<Utc>> {
        self.from
    }

    /// The first moment after it; `None` where it is open.
    ///
    /// ```
    /// use lockstep::store::query::TimeRange;
    ///
    /// assert_eq!(TimeRange::of(chrono::DateTime::UNIX_EPOCH..).before(), None);
    /// ```
    pub fn before(&self) -> Option<DateTime<Utc>> {
        self.before
    }

    /// The UTC days that the range touches, the newest first, if both ends are closed.
    ///
    /// ```
    /// use chrono::{DateTime, Utc};
    /// use lockstep::store::query::TimeRange;
    ///
    /// let from: DateTime<Utc> = "2026-01-31T22:00:00Z".parse()?;
    /// let before: DateTime<Utc> = "2026-02-02T00:00:00Z".parse()?;
    /// let (count, nth) = TimeRange::of(from..before).days().expect("both ends are closed");
    /// let days: Vec<String> = (0..count).map(|n| nth(n).to_string()).collect();
    /// assert_eq!(days, ["2026-02-01", "2026-01-31"]);
    /// # Ok::<(), chrono::ParseError>(())
    /// ```
    pub fn days(&self) -> Option<(usize, impl Fn(usize) -> NaiveDate + Send + Sync + 'static)> {
        let (from, before) = (self.from?, self.before?);
        let last = before.checked_sub_signed(TimeDelta::microseconds(1))?.date_naive();
        let count = (last - from.date_naive()).num_days() + 1;
        let count = if from < before { usize::try_from(count).unwrap_or(0) } else { 0 };
        Some((count, move |nth: usize| last.checked_sub_days(Days::new(nth as u64)).unwrap_or(last)))
    }

    /// Both ends as they compare with sort keys of the form `{fixed width}#…`: no such key equals either.
    pub(super) fn sort_bounds(&self) -> (Option<String>, Option<String>) {
        let text = |at: Option<DateTime<Utc>>| at.and_then(|at| fixed_width(at).ok());
        (text(self.from), text(self.before))
    }

    /// Says whether a sort key of that form lies within it.
    pub(super) fn holds(&self, sort: &str) -> bool {
        let (from, to) = self.sort_bounds();
        from.is_none_or(|from| *sort >= *from) && to.is_none_or(|to| *sort <= *to)
    }

    /// Opens what lies beyond every timestamp that a key can hold, and empties a range that lies there as a
    /// whole.
    fn within_years(self) -> Self {
        let beyond = |at: &DateTime<Utc>| at.year() > 9999;
        let before_all = |at: &DateTime<Utc>| at.year() < 1;
        if self.from.as_ref().is_some_and(beyond) || self.before.as_ref().is_some_and(before_all) {
            let moment = DateTime::UNIX_EPOCH;
            return Self { from: Some(moment), before: Some(moment) };
        }
        Self { from: self.from.filter(|at| !before_all(at)), before: self.before.filter(|at| !beyond(at)) }
    }
}

/// The first whole microsecond that is not before `at`.
fn not_before(at: DateTime<Utc>) -> DateTime<Utc> {
    if at.nanosecond().is_multiple_of(1_000) { at } else { past(at) }
}

/// The first whole microsecond after `at`.
fn past(at: DateTime<Utc>) -> DateTime<Utc> {
    let whole = at - TimeDelta::nanoseconds(i64::from(at.nanosecond() % 1_000));
    whole.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[track_caller]
    fn check(range: TimeRange, from: Option<&str>, before: Option<&str>) {
        assert_eq!((range.from(), range.before()), (from.map(at), before.map(at)));
    }

    #[test]
    fn every_kind_of_range_becomes_whole_microseconds() {
        let (a, b) = (at("2026-01-01T00:00:00.0000005Z"), at("2026-01-02T00:00:00Z"));
        check(TimeRange::of(a..b), Some("2026-01-01T00:00:00.000001Z"), Some("2026-01-02T00:00:00Z"));
        check(TimeRange::of(a..=b), Some("2026-01-01T00:00:00.000001Z"), Some("2026-01-02T00:00:00.000001Z"));
        check(TimeRange::of(..=a), None, Some("2026-01-01T00:00:00.000001Z"));
        check(
            TimeRange::of((Bound::Excluded(b), Bound::Unbounded)),
            Some("2026-01-02T00:00:00.000001Z"),
            None,
        );
        check(TimeRange::of(..), None, None);
        check(TimeRange::of(DateTime::<Utc>::MIN_UTC..DateTime::<Utc>::MAX_UTC), None, None);
        let beyond = TimeRange::of(DateTime::<Utc>::MAX_UTC..);
        assert_eq!(beyond.from(), beyond.before(), "nothing is there");
        check(TimeRange::ALL.not_before(b), Some("2026-01-02T00:00:00Z"), None);
    }

    #[track_caller]
    fn check_days(range: TimeRange, expected: &[&str]) {
        let (count, nth) = range.days().expect("closed");
        let days: Vec<String> = (0..count).map(|n| nth(n).to_string()).collect();
        assert_eq!(days, expected);
    }

    #[test]
    fn a_range_touches_its_days_newest_first() {
        let (a, b) = (at("2026-01-31T23:59:59.999999Z"), at("2026-02-02T00:00:00Z"));
        check_days(TimeRange::of(a..b), &["2026-02-01", "2026-01-31"]);
        check_days(TimeRange::of(a..=b), &["2026-02-02", "2026-02-01", "2026-01-31"]);
        check_days(TimeRange::of(b..a), &[]);
        check_days(TimeRange::day(b.date_naive()), &["2026-02-02"]);
        assert!(TimeRange::of(a..).days().is_none());
    }
}
