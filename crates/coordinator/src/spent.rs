//! What is spent, noted where every process sees it (R50).

use std::collections::BTreeMap;

use lockstep_postgres::Source;

use crate::progress::Progress;

/// The name under which write units are counted.
pub const WRITE_UNITS: &str = "spent.write_units";

/// Notes what a run has consumed since it noted last.
#[derive(Debug, Default)]
pub struct Spent(BTreeMap<&'static str, u64>);

impl Spent {
    /// Notes it. What does not work out is noted next time: it is a bill, and no write waits for it.
    ///
    /// # Cancel safety
    /// What was noted and not remembered here is noted twice: a bill that is too high by one second.
    #[crate::boxed]
    pub async fn note(&mut self, source: &Source, progress: &Progress) {
        let now: Vec<(&'static str, u64)> =
            progress.tables.iter().map(|table| (table.name, table.capacity_units())).collect();
        let more: Vec<(&str, &str, u64)> = now
            .iter()
            .map(|(name, units)| {
                (*name, WRITE_UNITS, units.saturating_sub(self.0.get(name).copied().unwrap_or(0)))
            })
            .collect();
        match source.count_up(&more).await {
            Ok(()) => self.0.extend(now),
            Err(error) => tracing::debug!("what was spent was not noted: {error}"),
        }
    }
}
