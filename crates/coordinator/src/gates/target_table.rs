//! Behaviour of a target table beside holding items: the attribute by which they expire, and the indexes that
//! are none of the table's design.

use lockstep_core::Advice::{Backfill, TableTarget};
use lockstep_core::Kind;
use lockstep_dynamo::{Backoff, TableExpiry, UndeclaredIndex};
use lockstep_postgres::TableBinding;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

const EXPIRY: &str = "expiry";

/// Judges by what items expire, and whether it may be switched on. Of a table that is yet to be made, only
/// whether it may.
pub(super) async fn expiry(
    migration: &MigrationContext,
    binding: &TableBinding,
    is_there: bool,
) -> Result<Option<GateResult>> {
    let (target, name) = (&migration.target, &binding.target_name);
    let denied = |message: String, action: &str| {
        Some(GateResult::fail(EXPIRY, message, format!("grant dynamodb:{action} on the table")))
    };
    let mut found = TableExpiry::Off;
    if is_there {
        found = match Backoff::brief().retry(|| target.expiry(name)).await {
            Err(error) if error.kind == Kind::Denied => {
                return Ok(denied(error.message, "DescribeTimeToLive"));
            }
            asked => asked?,
        };
    }
    if let Some((wrong, next)) = found.wrong(name) {
        return Ok(Some(GateResult::fail(EXPIRY, format!("{name}: {wrong}"), next)));
    }
    if !binding.table.expires() {
        return Ok(
            is_there.then(|| GateResult::pass(EXPIRY, "no attribute of another program expires items"))
        );
    }
    if found == TableExpiry::Off {
        match Backoff::brief().retry(|| target.prove_expiry(name)).await {
            Err(error) if error.kind == Kind::Denied => return Ok(denied(error.message, "UpdateTimeToLive")),
            Ok(false) => {
                return Ok(Some(GateResult::fail(
                    EXPIRY,
                    format!(
                        "rows of {name} expire, and the endpoint cannot switch expiry on: it knows no \
                         UpdateTimeToLive"
                    ),
                    format!(
                        "use an endpoint that does; or let rows of {} stay for ever, by its settings, as in \
                         `ttl_days = 0`",
                        binding.name()
                    ),
                )));
            }
            proven => drop(proven?),
        }
        return Ok(Some(GateResult::pass(EXPIRY, "off; it may be switched on")));
    }
    Ok(Some(GateResult::pass(EXPIRY, "on, by the attribute of the rows' own expiry")))
}

/// Checks whether a table whose rows expire has expiry switched on, before it is read.
pub(super) async fn is_expiring(migration: &MigrationContext, binding: &TableBinding) -> Result<GateResult> {
    let name = &binding.target_name;
    let found = Backoff::brief().retry(|| migration.target.expiry(name)).await?;
    let is_on = !binding.table.expires() || found == TableExpiry::Ours;
    let detail =
        if is_on { "as the table says" } else { "its rows expire, and DynamoDB removes none of them" };
    Ok(GateResult::check("expiry is on", is_on, detail, format!("run {Backfill}, which switches it on")))
}

/// Judges the indexes that are none of the table's design. One by an attribute that may be empty, or of
/// another type, refuses rows: in HybridRead each of them would give way to a tombstone and be a dead letter.
/// A local one bounds a partition to 10 GB besides, and cannot be taken off.
pub(super) fn indexes(
    binding: &TableBinding,
    undeclared: &[UndeclaredIndex],
    is_adopted: bool,
) -> GateResult {
    let name = &binding.target_name;
    let wrong = undeclared.iter().filter(|index| index.may_refuse() || index.is_local && !is_adopted);
    let wrong: Vec<String> = wrong.map(UndeclaredIndex::to_string).collect();
    if !wrong.is_empty() {
        return GateResult::fail(
            "indexes of others",
            format!("{name} has {}: rows may be refused for it", wrong.join(" and ")),
            format!(
                "delete a global one, or make it part of the table's design; a local one goes with its \
                 table: choose another with {}",
                TableTarget(binding.name().to_owned())
            ),
        );
    }
    let harmless: Vec<String> = undeclared.iter().map(UndeclaredIndex::to_string).collect();
    let detail = if harmless.is_empty() { "none".to_owned() } else { harmless.join(", ") };
    GateResult::pass("indexes of others", detail)
}
