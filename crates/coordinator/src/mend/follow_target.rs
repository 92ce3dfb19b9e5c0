//! DynamoOnly, and PostgreSQL was set back: it is made to say DynamoOnly again, and to take everything that
//! DynamoDB holds.

use lockstep_postgres::{KnownMarks, Source, flip_phase_at_least, read_control, take_exclusive};

use lockstep_core::{Doing, Epoch, Error as StoreError, Kind, Phase, Result as StoreResult, TargetRecord};
use serde_json::json;

use crate::error::Result;
use crate::history;
use crate::loss::{Found, Histories};
use crate::options::Migration;

const DOING: &str = "making PostgreSQL follow DynamoDB again";

/// Makes the source's record follow the target's. The reverse backfill that comes after fills the rows.
pub(super) async fn follow(migration: &Migration) -> Result<()> {
    let steps = &migration.options.steps;
    let histories = history::look(&migration.source, &migration.target, &migration.tables).await?;
    let record = migration.target.control().record().await?.filter(TargetRecord::holds_truth);
    let record = record.ok_or_else(|| {
        StoreError::target(Kind::Refused, DOING, "DynamoDB does not say that it is the truth")
    })?;
    let server = migration.source.history().await?;
    steps.while_busy(|| try_follow(migration, &histories, &record, server.as_deref())).await?;
    let detail = json!({ "epoch": record.epoch, "server": server, "lost": histories.losses() });
    migration.source.journal_note(&migration.actor, "follow the target", &detail).await?;
    history::mark_now(migration).await
}

async fn try_follow(
    migration: &Migration,
    histories: &Histories,
    record: &TargetRecord,
    server: Option<&str>,
) -> StoreResult<()> {
    let mut transaction = migration.source.begin(DOING).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    let now = read_control(&mut transaction).await?;
    if now.epoch > record.epoch {
        let message = format!(
            "PostgreSQL is in epoch {}, above DynamoDB's {}: it was not set back",
            now.epoch, record.epoch
        );
        return Err(StoreError::source(Kind::Refused, DOING, message));
    }
    for table in &histories.tables {
        let found = match &table.found {
            Found::There { mark: Some(mark), .. } => mark.number,
            _ => table.known.marked,
        };
        let marks =
            KnownMarks { marking: table.known.marking.max(found), marked: found.min(table.known.marked) };
        Source::accept_marks(&mut transaction, &table.name, marks).await?;
    }
    Source::accept_history(&mut transaction, server, Epoch::FIRST).await?;
    if now.phase != Phase::DynamoOnly {
        let epoch = flip_phase_at_least(&mut transaction, Phase::DynamoOnly, record.epoch).await?;
        if epoch != record.epoch {
            let message =
                format!("PostgreSQL would begin epoch {epoch}, and DynamoDB is in {}", record.epoch);
            return Err(StoreError::source(Kind::Refused, DOING, message));
        }
    }
    // Whatever was written since the moment that PostgreSQL remembers is news to it, whichever process wrote
    // it then.
    Source::follow_target(&mut transaction, now.epoch, record.epoch).await?;
    transaction.commit().await.doing(DOING)
}
