//! Rights in DynamoDB, each asked for by a call that changes nothing (R51).

use lockstep_core::Advice::Rights;
use lockstep_core::{Error, Retry};
use lockstep_dynamo::{Denied, NOT_DRY};
use lockstep_postgres::TableBinding;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

const NAME: &str = "rights in DynamoDB";

/// Judges the rights on a target table, its indexes and its stream. It may be yet to be made; then it has no
/// stream to be asked.
pub(super) async fn of_table(migration: &MigrationContext, binding: &TableBinding) -> Result<GateResult> {
    let (target, name) = (&migration.target, &binding.target_name);
    let mut denied = match target.denied_rights(name, &binding.table.target()).await {
        Ok(denied) => denied,
        Err(error) => return unanswered(error),
    };
    let mut of_stream = "no stream yet";
    if !denied.iter().any(|right| right.action.ends_with("DescribeTable")) {
        match target.denied_rights_on_stream(name).await {
            Ok(Some(found)) => {
                of_stream = "its stream as well";
                denied.extend(found);
            }
            Ok(None) => {}
            // Nothing reads a stream before the step to DynamoOnly, whose feed asks again and waits.
            Err(error) => {
                tracing::debug!("rights on the stream of {name} are not known: {error}");
                of_stream = "its stream did not answer";
            }
        }
    }
    Ok(judge(&denied, of_stream))
}

/// Judges those on the control table, which may be yet to be made as well.
pub(super) async fn of_control(migration: &MigrationContext) -> Result<GateResult> {
    match migration.target.denied_rights_on_control().await {
        Ok(denied) => Ok(judge(&denied, "the control table")),
        Err(error) => unanswered(error),
    }
}

/// Judges a call that had no answer. It says nothing of a right, and ends no step by itself: 1. A table
/// throttles. 2. One of a score of calls has no answer in half a second. 3. A step that would have waited for
/// DynamoDB is refused.
fn unanswered(error: Error) -> Result<GateResult> {
    if error.kind.retry() == Retry::Never {
        return Err(error.into());
    }
    Ok(GateResult::pass(NAME, format!("not all are known, as a call had no answer: {error}")))
}

fn judge(denied: &[Denied], what: &str) -> GateResult {
    if denied.is_empty() {
        let found = format!(
            "each proven by a call that changes nothing ({what}); not to be proven so: {}",
            NOT_DRY.join(", ")
        );
        return GateResult::pass(NAME, found);
    }
    let found = denied.iter().map(|Denied { action, on, why }| format!("{action} on {on}: {why}"));
    let actions = denied.iter().map(|Denied { action, on, .. }| format!("{action} on {on}"));
    let next = format!("grant {}; {Rights} prints the whole policy", actions.collect::<Vec<_>>().join(", "));
    GateResult::fail(NAME, found.collect::<Vec<_>>().join("; "), next)
}
