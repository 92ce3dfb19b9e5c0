//! Findings of a search for repairs and of a comparison of single keys, which are like those of any
//! comparison.

use lockstep_core::{Epoch, Error as StoreError, Kind};
use lockstep_validator::Report;
use serde_json::json;

use crate::error::Result;
use crate::options::MigrationContext;

/// Most findings of a table that are kept in the record: what a gate asks is whether there are any.
const RECORDED_MAX: usize = 100;

/// Records what was found, if anything was: until a comparison of everything that began afterwards finds
/// nothing, no gate opens.
///
/// 1. A verdict is consistent. 2. An item is lost, and a search names it. 3. It stays as it is, and a step
/// goes by the verdict, over what is known to be missing.
///
/// `migration` has the tables of the report, in its order.
///
/// # Errors
/// The stores'.
pub async fn record_found(migration: &MigrationContext, report: &Report) -> Result<()> {
    let (Some(epoch), true) = (report.epoch, report.is_found()) else { return Ok(()) };
    let (source, target, tables) = (&migration.source, &migration.target, &migration.tables);
    let recording = async {
        source.migrate_schema().await?;
        lockstep_validator::record_found(source, tables, report).await?;
        let kept = json!(report.clone().without_values().shortened(RECORDED_MAX));
        source.record_verdict(Epoch(epoch), false, &kept).await?;
        lockstep_validator::record_base(source, target, tables, report).await?;
        Ok::<(), StoreError>(())
    };
    match recording.await {
        // A reader looks as well, and no gate is its business.
        Err(error) if error.kind == Kind::Denied => {
            tracing::warn!("could not record the findings: {error}");
            Ok(())
        }
        done => Ok(done?),
    }
}
