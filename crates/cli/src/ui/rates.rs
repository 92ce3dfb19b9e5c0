//! Rates and an estimate of the end, from counters that grow. Pure: time is handed in.

use super::text::{count, seconds, short};

/// One table at one moment. A field that is `None` is not shown.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The table.
    pub name: String,
    /// Counter of what is being counted.
    pub done: Counter,
    /// Bytes that went with it.
    pub bytes: Option<u64>,
    /// Write units consumed.
    pub capacity_units: Option<u64>,
    /// Pending keys and the age of the oldest in milliseconds.
    pub lag: Option<(u64, u64)>,
    /// Write units a second that are allowed at the moment.
    pub ceiling: Option<u64>,
    /// Items of the target that were read.
    pub items: Option<u64>,
    /// Anything else: dead letters, throttles, why nothing moves.
    pub notes: Vec<String>,
}

/// A count on its way to another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counter {
    /// So far.
    pub now: u64,
    /// Number in the end, as far as is known; 0 if it is not.
    pub end: u64,
    /// Part of `now` that was there before this run, and says nothing of its speed.
    pub before: u64,
}

/// The rates of one table, smoothed.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    last: Option<(f64, Sample)>,
    rows_per_s: f64,
    bytes_per_s: f64,
    units_per_s: f64,
}

/// Weight of what is older than this many seconds falls to a third: steady enough to read, quick enough to
/// show a stall.
const MEMORY_S: f64 = 3.0;

impl Rates {
    /// Takes in `sample`, taken at `at_s` seconds on any clock.
    pub(super) fn update(&mut self, at_s: f64, sample: &Sample) {
        if let Some((last_s, last)) = &self.last {
            let passed_s = at_s - last_s;
            if passed_s <= 0.0 {
                return;
            }
            let first = self.rows_per_s == 0.0 && self.bytes_per_s == 0.0;
            let weight = if first { 1.0 } else { 1.0 - (-passed_s / MEMORY_S).exp() };
            let rate = |old: f64, now: u64, before: u64| {
                old + weight * (now.saturating_sub(before) as f64 / passed_s - old)
            };
            let own = |sample: &Sample| sample.done.now.saturating_sub(sample.done.before);
            self.rows_per_s = rate(self.rows_per_s, own(sample), own(last));
            self.bytes_per_s = rate(self.bytes_per_s, sample.bytes.unwrap_or(0), last.bytes.unwrap_or(0));
            self.units_per_s =
                rate(self.units_per_s, sample.capacity_units.unwrap_or(0), last.capacity_units.unwrap_or(0));
        }
        self.last = Some((at_s, sample.clone()));
    }

    /// Seconds until the end; `None` where that cannot be said.
    fn eta_s(&self, done: Counter) -> Option<f64> {
        let left = done.end.checked_sub(done.now).filter(|left| *left > 0)?;
        (self.rows_per_s >= 1.0).then(|| left as f64 / self.rows_per_s)
    }

    /// Returns everything about `sample` after its name, on one line.
    pub(super) fn line(&self, sample: &Sample) -> String {
        let mut parts = Vec::new();
        parts.push(match sample.done.end {
            0 => format!("{} rows", count(sample.done.now)),
            end => format!("{} of {} rows", count(sample.done.now), count(end.max(sample.done.now))),
        });
        parts.push(format!("{} rows/s", short(self.rows_per_s)));
        if sample.bytes.is_some() {
            parts.push(format!("{:.1} MB/s", self.bytes_per_s / 1e6));
        }
        if let Some(units) = sample.capacity_units {
            parts.push(format!("{} WU ({}/s)", short(units as f64), short(self.units_per_s)));
        }
        if let Some(ceiling) = sample.ceiling {
            parts.push(format!("ceiling {} WU/s", short(ceiling as f64)));
        }
        if let Some((pending, oldest_ms)) = sample.lag {
            let age =
                if pending == 0 { String::new() } else { format!(" ({})", seconds(oldest_ms as f64 / 1e3)) };
            parts.push(format!("lag {}{age}", count(pending)));
        }
        if let Some(eta_s) = self.eta_s(sample.done) {
            parts.push(format!("ETA {}", seconds(eta_s)));
        }
        parts.extend(sample.items.map(|items| format!("{} items", count(items))));
        parts.extend(sample.notes.iter().cloned());
        parts.join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(now: u64, before: u64) -> Sample {
        let done = Counter { now, end: 10_000, before };
        Sample {
            done,
            bytes: Some(now * 600),
            capacity_units: Some(now),
            lag: Some((3, 1_500)),
            ..Sample::default()
        }
    }

    #[test]
    fn a_steady_flow_reads_as_its_rate_and_ends_when_it_should() {
        let mut rates = Rates::default();
        for second in 0..5_u64 {
            rates.update(second as f64, &sample(second * 1_000, 0));
        }
        let line = rates.line(&sample(4_000, 0));
        assert_eq!(
            line,
            "4,000 of 10,000 rows · 1000 rows/s · 0.6 MB/s · 4000 WU (1000/s) · lag 3 (1.5 s) · ETA 6.0 s"
        );
    }

    #[test]
    fn what_an_earlier_run_did_is_not_speed() {
        let mut rates = Rates::default();
        rates.update(0.0, &sample(0, 0));
        rates.update(1.0, &sample(5_000, 5_000));
        assert_eq!(rates.rows_per_s, 0.0);
        assert_eq!(rates.eta_s(Counter { now: 5_000, end: 10_000, before: 5_000 }), None);
    }
}
