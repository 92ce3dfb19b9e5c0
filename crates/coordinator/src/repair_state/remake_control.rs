//! DynamoOnly, and DynamoDB's control table was lost or set back: it is created again from what PostgreSQL
//! remembers.
//!
//! Nothing that was written is in it alone. *Phase and epoch*: PostgreSQL is told of each epoch before
//! an application may write in it. *Ids*: the reverse feed brings every row that was written, and what was
//! taken and not used yet is passed over. *Places*: a row without one is found by its index. *Leases* are not
//! known any more. 1. An application renews, and the table is lost. 2. The table is created again, and the
//! truth goes back to PostgreSQL; no lease is known that would have to be waited for. 3. Under its lease the
//! application writes DynamoDB, and tells its caller that it did. So the longest lease is waited out first.

use lockstep_core::{Doing, Epoch, Error as StoreError, Kind, Phase, TargetRecord};
use lockstep_postgres::IntentId;

use crate::truth::seed_identities_again;
use serde_json::json;

use crate::error::Result;
use crate::gate::Observer;
use crate::moving::Feed;
use crate::options::MigrationContext;

const DOING: &str = "creating the control table again";

/// Creates it again: first the ids, so that an instance that still has a lease takes none that is in use, and
/// the record last.
pub(super) async fn remake(
    migration: &MigrationContext,
    id: IntentId,
    observer: &dyn Observer,
) -> Result<()> {
    let (source, control, steps) = (&migration.source, migration.target.control(), &migration.options.steps);
    if source.control_behind_barrier().await?.phase != Phase::DynamoOnly {
        // It was made, this repair was broken off, and a step back came before the repair went on.
        return Ok(());
    }
    control.create().await?;
    control.protect().await?;
    let feed = Feed::begin(migration, id).await?;
    let fed = feed.see_through(migration, steps.catch_up_max).await;
    feed.end().await;
    fed?;
    let mut connection = source.pool().acquire().await.doing(DOING)?;
    seed_identities_again(&mut connection, &control, &migration.tables).await?;
    drop(connection);
    observer.note(&format!(
        "waiting {} s: every lease that was lost with the table is over then",
        steps.lease_max.as_secs()
    ));
    tokio::time::sleep(steps.lease_max).await;

    let now = source.control_behind_barrier().await?;
    let record = control.record().await?.filter(TargetRecord::holds_truth);
    if now.phase != Phase::DynamoOnly {
        let message = format!("PostgreSQL says {} by now", now.phase);
        return Err(StoreError::source(Kind::Refused, DOING, message).into());
    }
    let counted = [source.newest_target_epoch().await?, record.map(|record| record.epoch)];
    let newest = counted.into_iter().flatten().fold(now.epoch, Epoch::max);
    // Above whatever the way back counts, too, which PostgreSQL is not told of before it is decided.
    let epoch = Epoch(newest.0 + 2);
    source.note_target_epoch(epoch).await?;
    control.enter_again(epoch, now.epoch).await?;
    Ok(source
        .journal_note(&migration.actor, "create the control table again", &json!({ "epoch": epoch }))
        .await?)
}
