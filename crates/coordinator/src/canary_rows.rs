//! Canary reads of a table that an application has a handle on: by key of some of its rows, and whatever else
//! its [`CanaryQueries`](lockstep::store::CanaryQueries) name of them.

use lockstep::store::CanaryStore;
use lockstep_core::Result;
use lockstep_dynamo::Target;
use lockstep_postgres::{Source, TableBinding};

use crate::canary::{BY_KEY, CanaryRead};
use crate::canary_bound::canary_reads_of_binding;
use crate::canary_choice::reads_of_some_rows;

/// Makes the reads of one table: of its first row, its last one and one between, of those that can be held.
/// None for a table that has no row, or is not there yet; that is for other gates to say. A table of whose
/// rows none can be asked for gets one read, which fails with the reason: nothing passes unasked.
///
/// # Errors
/// When the source does not answer.
///
/// # Cancel safety
/// Reading has no effect.
#[crate::boxed]
pub async fn canary_reads_of(
    store: &dyn CanaryStore,
    source: &Source,
    binding: &TableBinding,
) -> Result<Vec<CanaryRead>> {
    let named = |read| CanaryRead::of(binding.name(), read);
    reads_of_some_rows(source, binding, |row| Ok(store.reads_of(row)?.into_iter().map(named).collect())).await
}

/// The same, and of a table that names no query of its own each of its indexes, as they are declared: none of
/// them moves untried.
///
/// # Errors
/// When the source does not answer.
///
/// # Cancel safety
/// Reading has no effect.
#[crate::boxed]
pub async fn canary_reads_with_indexes(
    store: &dyn CanaryStore,
    source: &Source,
    target: &Target,
    binding: &TableBinding,
) -> Result<Vec<CanaryRead>> {
    let mut reads = canary_reads_of(store, source, binding).await?;
    if reads.iter().all(|read| read.query == BY_KEY) {
        let declared = canary_reads_of_binding(binding, source, target).await?;
        reads.extend(declared.into_iter().filter(|read| read.query != BY_KEY));
    }
    Ok(reads)
}
