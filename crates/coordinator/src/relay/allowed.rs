//! Whether what was read may be written: by the operators' settings, by its age, and by the relay's share.

use lockstep_core::{Error as StoreError, Item, Kind};
use lockstep_dynamo::ReadAt;
use lockstep_postgres::TableBinding;

use super::pace::TUNED_EVERY;
use super::run::Run;

impl Run<'_> {
    /// Takes the settings over, at most once a second. While they cannot be read, those of before hold.
    pub(super) async fn follow_settings(self) {
        if !self.pace.is_due() {
            return;
        }
        let Ok(tuning) = self.migration.source.tuning().await else { return };
        // A row of zero was made by hand: a setting is at least one.
        let whole = |units: Option<i64>| units.and_then(|units| u64::try_from(units).ok()).filter(|u| *u > 0);
        let configured = self.migration.options.backfill.write_units_per_s_max;
        let why = self.pace.set(
            whole(tuning.relay_write_units_per_s_max),
            whole(tuning.write_units_per_s_max).or(configured),
        );
        self.progress.tables.iter().for_each(|table| table.slow(why.clone()));
        self.pace.pause(tuning.relay_paused);
    }

    /// Waits until these items may be written, and goes by the settings meanwhile: one that was mistyped must
    /// not hold up for hours what waits for it, once it is taken back.
    ///
    /// # Errors
    /// [`Kind::Fenced`] where what was read then may not leave any more: it would be refused when it is sent,
    /// and its units are those of a key that may; or where the share that it is of is over.
    /// [`Kind::Unavailable`] where the relay is told to stop.
    pub(super) async fn may_write(
        self,
        read_at: ReadAt,
        binding: &TableBinding,
        items: &[Item],
    ) -> Result<(), StoreError> {
        if !self.pace.is_bounded() {
            return Ok(());
        }
        if !read_at.may_leave() {
            return Err(StoreError::target(Kind::Fenced, "delivering", "it was read too long ago"));
        }
        if !self.shares.may_send() {
            return Err(StoreError::target(Kind::Fenced, "delivering", "another relay has its key by now"));
        }
        let indexes = binding.table.target().indexes;
        let units: u64 = items.iter().map(|item| item.write_units_with(indexes) as u64).sum();
        let mut paid = std::pin::pin!(self.pace.wait_for(units));
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    let message = "it waited for its turn under a rate";
                    return Err(StoreError::target(Kind::Unavailable, "delivering, and told to stop", message));
                }
                () = &mut paid => break,
                () = tokio::time::sleep(TUNED_EVERY) => self.follow_settings().await,
            }
        }
        self.pace.spend(units);
        Ok(())
    }
}
