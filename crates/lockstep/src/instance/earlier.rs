//! Judgement whether this process is of a migration that is complete, while PostgreSQL is another one's.

use lockstep_core::Result;
use lockstep_dynamo::TargetControl;
use lockstep_postgres::{Completed, Whose};

/// Returns the completion of the migration of `control`, among those that schema `lockstep` knows of; `None`
/// where it is not complete, and the schema is its own.
///
/// One that an earlier version completed has no name in PostgreSQL: it is the one whose record says the epoch
/// of that completion.
///
/// # Errors
/// The target's, where only its record can tell.
#[doc(hidden)]
pub async fn completion_of(whose: &Whose, control: &TargetControl) -> Result<Option<Completed>> {
    if let Some(done) = whose.named(control.table()) {
        return Ok(Some(done.clone()));
    }
    if !whose.has_unnamed() {
        return Ok(None);
    }
    let Some((record, owner)) = control.record_of_any().await? else { return Ok(None) };
    let done = record.completed_at.and_then(|_| whose.unnamed(record.epoch, owner.as_deref()));
    Ok(done.cloned())
}
