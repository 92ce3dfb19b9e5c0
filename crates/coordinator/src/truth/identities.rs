//! Ids that PostgreSQL hands out in its phases and DynamoDB in its own, and none of them twice.
//!
//! On the way there a counter is set above everything that PostgreSQL has handed out or holds; on the way
//! back the sequence is set above the counter. Both only raise, so both may be repeated. Blocks that were
//! taken and not used up stay valid in the process that has them: no other process is ever given their ids.

use sqlx::postgres::PgConnection;

use lockstep_core::Result;
use lockstep_dynamo::TargetControl;
use lockstep_postgres::sequences::{highest_id, highest_id_in_use, identity_of, raise_sequence};
use lockstep_postgres::{TableBinding, column_types};

/// Sets the id counters of `tables` above the ids of the source, and records the types of their columns. To
/// be called after the flip to the target and before writes are opened: nothing writes the source then.
/// Tables without an identity or serial key are left alone.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn seed_identities(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<()> {
    seed_beyond(connection, control, tables, 0).await
}

/// Number of ids that are passed over where a counter was lost: far more than all processes together have
/// taken in blocks and not used up.
const TAKEN_MAX: i64 = 1 << 20;

/// Sets the id counters of `tables` above every id that was handed out, where that is not known any more. The
/// source must have every row that was written until the counters were lost.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it: it passes over as many ids again, if any was used meanwhile.
#[crate::boxed]
pub async fn seed_identities_again(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<()> {
    seed_beyond(connection, control, tables, TAKEN_MAX).await
}

async fn seed_beyond(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
    taken: i64,
) -> Result<()> {
    for binding in tables {
        // What is written there has to fit PostgreSQL when it comes back.
        control.put_columns(binding.name(), &column_types(connection, binding).await?).await?;
        let Some(sequence) = identity_of(connection, binding).await? else { continue };
        let highest = highest_id(connection, binding, &sequence).await?;
        control
            .raise_ids(binding.name(), highest.saturating_add(taken).saturating_add(1).max(1), true)
            .await?;
    }
    Ok(())
}

/// Names of those of `tables` whose counters would hand out ids that the source knows already: no order of
/// our writes makes that.
///
/// # Errors
/// The drivers'.
#[crate::boxed]
pub async fn set_back(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<Vec<String>> {
    let mut behind = Vec::new();
    for binding in tables {
        if identity_of(connection, binding).await?.is_none() {
            continue;
        }
        // In this order: a counter is raised before its ids are used. The sequence says nothing: a writer
        // whom the trigger refused has taken an id of it all the same.
        let highest = highest_id_in_use(connection, binding).await?;
        if control.next_id(binding.name()).await?.is_some_and(|next| next <= highest) {
            behind.push(binding.name().to_owned());
        }
    }
    Ok(behind)
}

/// Sets the sequences of `tables` above the id counters. To be called before the source accepts writes again.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn raise_source_sequences(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<()> {
    for binding in tables {
        let Some(sequence) = identity_of(connection, binding).await? else { continue };
        if let Some(next) = control.next_id(binding.name()).await? {
            raise_sequence(connection, &sequence, next.saturating_sub(1)).await?;
        }
    }
    Ok(())
}
