//! Units that comparisons take of DynamoDB, noted where every process sees it, and the cap on dollars (R50).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_postgres::{Cap, READ_UNITS, Source, Spending};

/// The name under which it is counted what DynamoDB asked comparisons to slow down for.
const THROTTLED: &str = "spent.throttled.comparison";
/// Interval at which it is noted.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// Bill of one validation.
#[derive(Debug)]
pub(crate) struct Bill {
    /// Dollars that may be spent; `None` for a comparison that ends, whatever it costs.
    spending: Option<Spending>,
    state: Mutex<State>,
    cap: tokio::sync::Mutex<Cap>,
}

#[derive(Debug)]
struct State {
    /// Units and throttles that are not noted yet, by table.
    taken: BTreeMap<&'static str, Taken>,
    noted_at: Instant,
    /// Reason why nothing is read, as it was told.
    told: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Taken {
    units: f64,
    throttles: u64,
}

impl Bill {
    pub(crate) fn new(spending: Option<Spending>) -> Self {
        let state = State { taken: BTreeMap::new(), noted_at: Instant::now(), told: None };
        Self { spending, state: Mutex::new(state), cap: tokio::sync::Mutex::default() }
    }

    /// Adds what a request took.
    pub(crate) fn take(&self, table: &'static str, units: f64) {
        self.lock().taken.entry(table).or_default().units += units;
    }

    /// Adds that one was asked to slow down.
    pub(crate) fn throttled(&self, table: &'static str) {
        self.lock().taken.entry(table).or_default().throttles += 1;
    }

    /// Notes it now and then.
    pub(crate) async fn note_if_due(&self, source: &Source) {
        if self.lock().noted_at.elapsed() >= NOTED_EVERY {
            self.note(source).await;
        }
    }

    /// Notes what was taken since it was noted last. What does not work out is noted next time: it is a bill,
    /// and no comparison fails for it.
    ///
    /// # Cancel safety
    /// What is under way may be noted or not.
    pub(crate) async fn note(&self, source: &Source) {
        let due = self.lock().due();
        let counted: Vec<(&str, &str, u64)> = due
            .iter()
            .flat_map(|(table, taken)| {
                [(*table, READ_UNITS, taken.units as u64), (*table, THROTTLED, taken.throttles)]
            })
            .collect();
        if let Err(error) = source.count_up(&counted).await {
            tracing::debug!("could not note what was read: {error}");
            for (table, taken) in due {
                self.take(table, taken.units);
                self.lock().taken.entry(table).or_default().throttles += taken.throttles;
            }
        }
    }

    /// Tells whether the cap is reached. `set` is what operators have set.
    ///
    /// 1. A comparison of every item costs more than was planned. 2. The cap is met, and copying stops.
    /// 3. It reads on through the night. So it waits, as copying does, until more is allowed.
    pub(crate) async fn is_over(&self, source: &Source, set: Option<f64>) -> bool {
        let Some(spending) = &self.spending else { return false };
        let over = self.cap.lock().await.over(source, spending, set).await;
        let mut state = self.lock();
        match (&over, &state.told) {
            (Some(why), None) => tracing::warn!("nothing is compared: {why}"),
            (None, Some(_)) => tracing::warn!("comparing goes on: more may be spent"),
            _ => {}
        }
        state.told = over;
        state.told.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out the whole units; parts of one stay until they are one.
    fn due(&mut self) -> BTreeMap<&'static str, Taken> {
        self.noted_at = Instant::now();
        let mut due = BTreeMap::new();
        for (table, taken) in &mut self.taken {
            let whole = Taken { units: taken.units.floor(), throttles: taken.throttles };
            *taken = Taken { units: taken.units - whole.units, throttles: 0 };
            due.insert(*table, whole);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_unit_are_kept_until_they_are_one_and_nothing_is_noted_twice() {
        let bill = Bill::new(None);
        bill.take("logs", 0.5);
        bill.take("payments", 7.25);
        bill.throttled("logs");
        let due = |bill: &Bill| {
            let due = bill.lock().due();
            due.into_iter().map(|(table, taken)| (table, taken.units, taken.throttles)).collect::<Vec<_>>()
        };
        assert_eq!(due(&bill), [("logs", 0.0, 1), ("payments", 7.0, 0)]);
        bill.take("logs", 0.5);
        assert_eq!(due(&bill), [("logs", 1.0, 0), ("payments", 0.0, 0)]);
        assert_eq!(due(&bill), [("logs", 0.0, 0), ("payments", 0.0, 0)]);
    }
}
