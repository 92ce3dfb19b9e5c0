//! Counting a whole table.

use lockstep_core::{MigratableTable, Phase, Result};
use lockstep_dynamo::{Backoff, CountWhat};

use super::Store;

impl<T: MigratableTable> Store<T> {
    /// Counts the rows of the table. Up to HybridRead PostgreSQL counts them, for it has every write; in
    /// DynamoOnly the whole table is scanned, strongly consistent, and takes the read units of that. A
    /// query's own count is [`Selection::count`](super::Selection::count).
    ///
    /// A row past its expiry is counted for as long as the store has it.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Events: MigratableTable>(events: Store<Events>) -> Result<()> {
    /// println!("{} events", events.count().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the store that is asked; [`Kind::Fenced`](lockstep_core::Kind::Fenced) when the instance's
    /// lease is over.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn count(&self) -> Result<u64> {
        self.shared.phase.serve(|control| self.count_in_phase(control.phase)).await
    }

    async fn count_in_phase(&self, phase: Phase) -> Result<u64> {
        if phase == Phase::DynamoOnly { self.count_in_target().await } else { self.count_in_source().await }
    }

    async fn count_in_source(&self) -> Result<u64> {
        self.shared.source.count_rows(&self.shared.binding).await
    }

    async fn count_in_target(&self) -> Result<u64> {
        let (what, name) = (CountWhat::default(), &self.shared.binding.target_name);
        let (mut counted, mut start) = (0, None);
        loop {
            let page = || self.shared.target.count_page(name, (0, 1), &what, start.clone());
            let page = Backoff::brief().retry(page).await?;
            counted += page.items;
            match page.next {
                Some(next) => start = Some(next),
                None => return Ok(counted),
            }
        }
    }
}
