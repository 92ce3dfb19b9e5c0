//! DynamoDB's control record, where it alone is to be put right.

use lockstep_core::Advice::Doctor;
use lockstep_core::{Doing, Epoch, Error as StoreError, Kind, Phase, TargetRecord, Truth, Writes, truth};
use lockstep_postgres::Source;
use serde_json::json;

use crate::error::Result;
use crate::options::MigrationContext;
use crate::truth::seed_identities_again;

/// The control table was set back to a DynamoOnly that is over: its record is made to say what PostgreSQL's
/// does. A new epoch and a list of what differs come after: an instance that began while PostgreSQL did not
/// answer has believed it.
pub(super) async fn close(migration: &MigrationContext) -> Result<()> {
    const DOING: &str = "closing the control record of DynamoDB";
    let (source, control) = (&migration.source, migration.target.control());
    let now = source.control_behind_barrier().await?;
    let Some(record) = control.record().await?.filter(TargetRecord::holds_truth) else { return Ok(()) };
    if now.phase == Phase::DynamoOnly || record.epoch > now.epoch {
        let message = format!(
            "PostgreSQL says {} in epoch {}, and DynamoDB that it is the truth in \
                epoch {}; run {Doctor}",
            now.phase, now.epoch, record.epoch
        );
        return Err(StoreError::source(Kind::Refused, DOING, message).into());
    }
    // Writes of such an instance are in DynamoDB alone, and a later repair of something else would put
    // tombstones over it. The epoch that comes next is the first of which a comparison can agree.
    let mut connection = source.pool().acquire().await.doing(DOING)?;
    Source::leave_what_differs(&mut connection, Epoch(now.epoch.0 + 1)).await?;
    drop(connection);
    control.close(now.epoch, now.phase).await?;
    let detail = json!({ "epoch": now.epoch, "said": record });
    Ok(source.journal_note(&migration.actor, "close the control record", &detail).await?)
}

/// A pause was left behind by a step that the journal knows nothing of: writes go on, once ids are counted
/// above all that PostgreSQL knows.
pub(super) async fn let_go_on(migration: &MigrationContext) -> Result<()> {
    const DOING: &str = "letting writes go on";
    let (source, control) = (&migration.source, migration.target.control());
    let (now, record) = (source.control_behind_barrier().await?, control.record().await?);
    let (Truth::InTarget, Some(record)) = (truth(&now, record.as_ref()), record) else { return Ok(()) };
    if record.writes == Writes::Open {
        return Ok(());
    }
    let mut connection = source.pool().acquire().await.doing(DOING)?;
    seed_identities_again(&mut connection, &control, &migration.tables).await?;
    control.open_writes(record.epoch).await?;
    Ok(source.journal_note(&migration.actor, "let writes go on", &json!({ "epoch": record.epoch })).await?)
}
