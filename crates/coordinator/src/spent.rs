//! Spending, noted where every process sees it (R50).

use std::collections::BTreeMap;

use lockstep_postgres::{INITIAL_LOAD_ROWS, INITIAL_LOAD_UNITS, Source, WRITE_UNITS};

use crate::progress::Progress;

const THROTTLED_RELAY: &str = "spent.throttled.relay";
const THROTTLED_BACKFILL: &str = "spent.throttled.backfill";
const THROTTLED_FEED: &str = "spent.throttled.feed";

/// Notes what a run has consumed since it noted last.
#[derive(Debug, Default)]
pub struct Spent {
    noted: BTreeMap<(&'static str, &'static str), u64>,
    of_initial_load: bool,
}

impl Spent {
    /// Returns what a run of the backfill spent: beside all write units those of the initial load, and its
    /// rows. Units that an earlier run on the same counters consumed are noted already.
    pub(crate) fn of_initial_load(progress: &Progress) -> Self {
        let mut spent = Self { of_initial_load: true, ..Self::default() };
        spent.noted = spent.now(progress).collect();
        spent
    }

    fn now<'a>(
        &self,
        progress: &'a Progress,
    ) -> impl Iterator<Item = ((&'static str, &'static str), u64)> + use<'a> {
        let of_initial_load = self.of_initial_load;
        progress.tables.iter().flat_map(move |table| {
            let of_relay = table.throttles().saturating_sub(table.history_throttles());
            let all = [
                ((table.name, WRITE_UNITS), table.capacity_units()),
                ((table.name, THROTTLED_RELAY), of_relay),
            ];
            let initial_load = [
                ((table.name, THROTTLED_BACKFILL), table.history_throttles()),
                ((table.name, INITIAL_LOAD_UNITS), table.initial_load_units()),
                ((table.name, INITIAL_LOAD_ROWS), table.rows_written()),
            ];
            all.into_iter().chain(initial_load.into_iter().filter(move |_| of_initial_load))
        })
    }

    /// Notes it. A note that does not work out is made next time: it is a bill, and no write waits for it.
    ///
    /// # Cancel safety
    /// What was noted and not remembered here is noted twice: a bill that is too high by one second.
    #[crate::boxed]
    pub async fn note(&mut self, source: &Source, progress: &Progress) {
        let now: Vec<_> = self.now(progress).collect();
        self.note_all(source, now).await;
    }

    /// Notes how often streams asked a feed to slow down, by table.
    ///
    /// # Cancel safety
    /// As [`Spent::note`].
    #[crate::boxed]
    pub async fn note_feed(&mut self, source: &Source, throttles: Vec<(&'static str, u64)>) {
        let now = throttles.into_iter().map(|(table, count)| ((table, THROTTLED_FEED), count)).collect();
        self.note_all(source, now).await;
    }

    async fn note_all(&mut self, source: &Source, now: Vec<((&'static str, &'static str), u64)>) {
        let more: Vec<(&str, &str, u64)> = now
            .iter()
            .map(|(of, count)| (of.0, of.1, count.saturating_sub(self.noted.get(of).copied().unwrap_or(0))))
            .collect();
        match source.count_up(&more).await {
            Ok(()) => self.noted.extend(now),
            Err(error) => tracing::debug!("could not note what was spent: {error}"),
        }
    }
}
