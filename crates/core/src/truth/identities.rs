//! Ids that PostgreSQL hands out in its phases and DynamoDB in its own, and none of them twice.
//!
//! On the way there a counter is set above everything that PostgreSQL has handed out or holds; on the way back the sequence
//! is set above the counter. Both only raise, so both may be repeated. Blocks that were taken and not used up stay valid in the
//! process that has them: nobody else will ever be given their ids.

use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::source::TableBinding;
use crate::source::sequences::{highest_id, identity_of, raise_sequence};
use crate::target::TargetControl;

/// Sets the id counters of `tables` above the ids of the source. To be called after the flip to the target and before
/// writes are opened: nothing writes the source then. Tables without an identity or serial key are left alone.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it.
pub async fn seed_identities(connection: &mut PgConnection, control: &TargetControl, tables: &[TableBinding]) -> Result<()> {
    for binding in tables {
        let Some(sequence) = identity_of(connection, binding).await? else { continue };
        let highest = highest_id(connection, binding, &sequence).await?;
        control.raise_ids(binding.name(), highest.saturating_add(1).max(1), true).await?;
    }
    Ok(())
}

/// Sets the sequences of `tables` above the id counters. To be called before the source accepts writes again.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it.
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
