//! Time until an initial load is copied, by what is recorded of its ranges, whichever processes copy (R46).
//! Pure.
//!
//! What is left is reckoned by the ranges that are done, and the rate by the rows of the last minutes. The
//! band is what the rate was at its best and at its worst within these minutes: a load that is held back for
//! half of the time shows it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lockstep_coordinator::TableStatus;

/// Time by whose rows the rate is reckoned.
const WINDOW: Duration = Duration::from_mins(5);
/// Shortest time that says anything: workers note their rows every few seconds.
const LEAST: Duration = Duration::from_secs(20);
/// Parts of the window that are held against each other for the band.
const SLICES: u32 = 4;
/// Most readings that are kept; the page has one read each second.
const READINGS_MAX: usize = 600;

/// Readings of one table.
#[derive(Debug, Default)]
pub(crate) struct Copying {
    readings: VecDeque<(Instant, u64)>,
}

/// Seconds until it is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Eta {
    pub(crate) likely_s: f64,
    pub(crate) least_s: f64,
    /// `None` where a part of the window saw no row at all.
    pub(crate) most_s: Option<f64>,
}

impl Copying {
    /// Notes a reading, and says when the table will be copied; `None` where nothing is left, where nothing
    /// moves, and before enough is known.
    pub(crate) fn note(&mut self, now: Instant, table: &TableStatus) -> Option<Eta> {
        // A plan that is made again begins with nothing.
        if self.readings.back().is_some_and(|(_, rows)| *rows > table.rows_backfilled) {
            self.readings.clear();
        }
        self.readings.push_back((now, table.rows_backfilled));
        while self.readings.len() > READINGS_MAX
            || self.readings.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.readings.pop_front();
        }
        let left = left(table)?;
        let (first_at, first) = *self.readings.front()?;
        let passed = now.duration_since(first_at);
        let rows = table.rows_backfilled.saturating_sub(first);
        if passed < LEAST || rows == 0 {
            return None;
        }
        let likely_s = left * passed.as_secs_f64() / rows as f64;
        let rates = self.rates(first_at, passed / SLICES);
        let best = rates.iter().copied().fold(0.0, f64::max);
        let worst = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most_s = (worst > 0.0 && worst.is_finite()).then(|| (left / worst).max(likely_s));
        let least_s = if best > 0.0 { (left / best).min(likely_s) } else { likely_s };
        Some(Eta { likely_s, least_s, most_s })
    }

    /// Rows a second of each part of the window of this length.
    fn rates(&self, from: Instant, slice: Duration) -> Vec<f64> {
        let at_or_before =
            |until: Instant| self.readings.iter().take_while(|(at, _)| *at <= until).last().copied();
        let mut rates = Vec::new();
        for nth in 0..SLICES {
            let (begun, ended) = (at_or_before(from + slice * nth), at_or_before(from + slice * (nth + 1)));
            if let (Some((begun_at, begun)), Some((ended_at, ended))) = (begun, ended)
                && ended_at > begun_at
            {
                rates.push(ended.saturating_sub(begun) as f64 / (ended_at - begun_at).as_secs_f64());
            }
        }
        rates
    }
}

/// Rows that are left, if the ranges that are not done have as many each as those that are.
fn left(table: &TableStatus) -> Option<f64> {
    if table.ranges_done == 0 || table.ranges_done >= table.ranges {
        return None;
    }
    let of_range = table.rows_of_done_ranges as f64 / table.ranges_done as f64;
    let open = (table.ranges - table.ranges_done) as f64;
    let moved = table.rows_backfilled.saturating_sub(table.rows_of_done_ranges) as f64;
    // The last ranges may have more than their share, and are not done for it.
    Some((of_range * open - moved).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ranges_done: u64, rows_of_done_ranges: u64, rows_backfilled: u64) -> TableStatus {
        TableStatus {
            name: "payments".to_owned(),
            capture: "on".to_owned(),
            target: "payments (ACTIVE)".to_owned(),
            ranges_done,
            ranges: 10,
            rows_backfilled,
            rows_of_done_ranges,
            pending: 0,
            oldest_s: 0.0,
            dead_letters: 0,
            dead_letters_unacknowledged: 0,
            relayed: 0,
            reverse_feed: None,
            reverse_alarm: None,
        }
    }

    #[test]
    fn what_is_left_is_reckoned_by_ranges_that_are_done_and_rows_of_the_last_minutes() {
        let (mut copying, begun) = (Copying::default(), Instant::now());
        let at = |s: u64| begun + Duration::from_secs(s);
        assert_eq!(copying.note(at(0), &table(2, 2_000, 2_000)), None, "nothing to go by yet");
        assert_eq!(copying.note(at(10), &table(2, 2_000, 2_500)), None, "too little");
        // A hundred rows a second for ten seconds and more, of ten ranges of a thousand each.
        let eta = copying.note(at(20), &table(3, 3_000, 4_000)).expect("known");
        assert_eq!(eta.likely_s, 60.0, "six thousand are left, at a hundred a second");
        assert!(eta.least_s <= eta.likely_s && eta.most_s.is_some_and(|most_s| most_s >= 60.0), "{eta:?}");
        // Three quarters of the window at rest: what it may be is told as wide as that.
        for s in [30, 40, 50, 60, 70, 80] {
            copying.note(at(s), &table(3, 3_000, 4_000));
        }
        let eta = copying.note(at(81), &table(3, 3_000, 4_001)).expect("known");
        assert!(
            eta.least_s < eta.likely_s && eta.most_s.is_none_or(|most_s| most_s > eta.likely_s),
            "{eta:?}"
        );
        assert_eq!(copying.note(at(90), &table(10, 10_000, 10_000)), None, "all is copied");
        assert_eq!(copying.note(at(91), &table(0, 0, 0)), None, "a new plan begins");
    }

    #[test]
    fn what_does_not_move_has_no_end() {
        let (mut copying, begun) = (Copying::default(), Instant::now());
        for s in 0..60 {
            assert_eq!(copying.note(begun + Duration::from_secs(s * 10), &table(3, 3_000, 3_500)), None);
        }
        assert!(copying.readings.len() <= 32, "older than the window is forgotten");
    }
}
