//! Gate of what others have made of schema `lockstep`.

use lockstep_postgres::Source;

use crate::error::Result;
use crate::gate::GateResult;

/// Checks that nothing goes with schema `lockstep` that Lockstep did not make: 1. A role that may read has
/// made a table with a column of a type of the schema. 2. The schema is dropped with what depends on it. 3. The
/// column is gone, with what was in it.
pub(crate) async fn nothing_else_depends(source: &Source) -> Result<GateResult> {
    let others = source.dependents_on_schema().await?;
    Ok(GateResult::check(
        "nothing else depends on Lockstep's schema",
        others.is_empty(),
        if others.is_empty() { "only what is Lockstep's".to_owned() } else { others.join(", ") },
        "drop that first: it is not Lockstep's, and would go with the schema",
    ))
}
