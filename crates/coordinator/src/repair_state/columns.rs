//! Taking a table with its columns as they are now, and bringing its rows.

use lockstep_core::{Error as StoreError, Kind, Phase};
use lockstep_postgres::{CaptureState, Shape, TableBinding, changes_of_key};
use tokio_util::sync::CancellationToken;

use super::agreeing::{self, Agreeing};
use crate::error::{CoordinatorError, Result, require_shape};
use crate::gate::Observer;
use crate::options::MigrationContext;

/// Takes a table with its columns as they are now. Rows are brought once the epoch is another: until then
/// builds that do not know the columns may write.
pub(super) async fn take(migration: &MigrationContext, binding: &TableBinding) -> Result<()> {
    let (source, doing) = (&migration.source, format!("taking {} as it is now", binding.relation));
    let fingerprint = source.fingerprint(binding).await?;
    let captured =
        source.table_state(binding.name()).await?.map(|state| state.fingerprint).unwrap_or_default();
    let Shape::Columns { came, gone } = Shape::of(&captured, &fingerprint) else {
        return require_shape(binding, &captured, &fingerprint);
    };
    let refused = |why: String| Err(StoreError::source(Kind::Refused, doing.as_str(), why).into());
    let of_key = changes_of_key(binding, &gone, &came);
    if !of_key.is_empty() {
        return refused(format!("the key is made of what changed: {}", of_key.join("; ")));
    }
    let phase = source.control().await?.phase;
    if phase == Phase::DynamoOnly {
        return refused(
            "DynamoDB is the truth: undo the change, and repeat it after the way back".to_owned(),
        );
    }
    let unknown = source.describe(binding).await?.mismatches(binding);
    if !unknown.is_empty() {
        return refused(format!("this build does not know the columns as they are: {}", unknown.join("; ")));
    }
    // 1. Triggers were off as well, and SQL has put rows in. 2. They lie in ranges that are done. 3. Before
    // DualWrite no comparison follows.
    if phase == Phase::PostgresOnly && source.capture_state(binding).await? != CaptureState::On {
        source.forget_ranges(binding.name()).await?;
    }
    // Values that a rewrite has changed beside them are found by the comparison that follows.
    Ok(source.take_columns(binding, &fingerprint).await?)
}

/// Marks the rows that are to be brought: those that have a value in one of `columns`, or each of them. Where
/// what PostgreSQL lost is undecided, only those that agree otherwise.
pub(super) async fn bring(
    migration: &MigrationContext,
    binding: &TableBinding,
    columns: &[String],
    whole: bool,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<()> {
    let source = &migration.source;
    // 1. A repair takes a column, and is broken off. 2. The column is dropped. 3. The next repair takes that,
    // and has to bring the rows all the same.
    let there = source.describe(binding).await?.columns;
    let is_there = |name: &&String| there.iter().any(|(column, ..)| column == *name);
    let columns: Vec<String> = columns.iter().filter(is_there).cloned().collect();
    if columns.is_empty() && !whole {
        // All that came is computed by PostgreSQL, and left out.
        return Ok(());
    }
    if source.is_loss_undecided().await? {
        let Agreeing { marked, left } = agreeing::mark(migration, binding, &columns, cancel).await?;
        observer.note(&format!(
            "{}: {marked} rows are marked, and {left} that differ otherwise, or have no item, are left to be \
             decided about",
            binding.name()
        ));
        return Ok(());
    }
    let having = (!whole).then_some(columns.as_slice());
    let (mut after, mut marked) = (None, 0);
    loop {
        if cancel.is_cancelled() {
            return Err(CoordinatorError::Interrupted);
        }
        let page = source.mark_rows_after(binding, having, after.as_ref()).await?;
        marked += page.len();
        match page.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    let which = if whole { String::new() } else { format!(" with a value of {}", columns.join(" or ")) };
    observer.note(&format!("{}: {marked} rows{which} are marked", binding.name()));
    Ok(())
}
