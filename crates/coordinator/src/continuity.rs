//! A store that lost history is noticed, and nothing is moved until it is repaired.
//!
//! A source that was restored to a moment, or failed over to a replica that lagged, hands out versions again
//! that the target has seen: newer states would be refused as delivered. A target that was restored or
//! created again lacks what was acknowledged. In reading order: `loss` (what the stores say of each other,
//! and what is lost by that; pure), `watch` (when to ask), this file (asking).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use lockstep_core::{Error as StoreError, Kind, Retry};
use lockstep_dynamo::{Backoff, ContinuityMark, TableStanding, Target};
use lockstep_postgres::{KnownMarks, Source, TableBinding, TableState};

use crate::asked::{ANSWER_WITHIN, ASKED_AT_ONCE};
use crate::error::{CoordinatorError, Result};
use crate::loss::{Continuity, Found, Loss, TableContinuity};
use crate::options::MigrationContext;
use crate::watch::Ask;

/// Age that the newest mark may reach while versions are handed out. A loss within a shorter time than this
/// shows only by the timeline of the source, or by the id of the target table.
const MARK_CHANGED_EVERY: Duration = Duration::from_secs(5);
/// The same while none are.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// Asks both stores. A target that does not answer is no loss, and no error either: going back to PostgreSQL
/// must not depend on it.
///
/// # Errors
/// The source's.
pub(crate) async fn look(source: &Source, target: &Target, bindings: &[TableBinding]) -> Result<Continuity> {
    look_for(Ask::Everything, source, Ok(target), bindings, None).await
}

/// Returns the same, for who has read the records of the tables already. `target` may be why it is known not
/// to answer: it is waited for no second time, and the source alone may tell of a loss.
///
/// # Errors
/// The source's.
pub(crate) async fn look_beside(
    source: &Source,
    target: std::result::Result<&Target, &str>,
    bindings: &[TableBinding],
    states: BTreeMap<String, TableState>,
) -> Result<Continuity> {
    look_for(Ask::Everything, source, target, bindings, Some(states)).await
}

async fn look_for(
    ask: Ask,
    source: &Source,
    target: std::result::Result<&Target, &str>,
    bindings: &[TableBinding],
    states: Option<BTreeMap<String, TableState>>,
) -> Result<Continuity> {
    if !source.keeps_history().await? {
        return Ok(Continuity::default());
    }
    let states = match states {
        Some(states) => states,
        None => source.table_states().await?,
    };
    let known = source.marks_known().await?;
    // All at once: 1. A target is silent. 2. Fifty tables are asked one after the other, and each is waited
    // for. 3. The way back to PostgreSQL takes an hour.
    let mut asked: Vec<BoxFuture<'_, Result<TableContinuity>>> = Vec::new();
    for binding in bindings {
        // Before it was adopted there is nothing to ask, and where another one was, that is a mistake of the
        // configuration, which gates name.
        let Some(state) = states.get(binding.name()) else { continue };
        if state.target_name.as_deref() == Some(&binding.target_name) {
            let known = known.get(binding.name()).copied().unwrap_or_default();
            asked.push(Box::pin(of_table(ask, target, binding, state, known)));
        }
    }
    let mut tables: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
    // Others make marks meanwhile, and what is read first must not be held against what is newer. 1. We read
    // that the source is at version 7. 2. It hands out 8, and a relay marks 8 in the target. 3. We read the
    // mark: nothing is lost. So what the target is to have is read before the target, and what the source has
    // made after it.
    let mut marking = source.marks_known().await?;
    for table in &mut tables {
        table.known.marking = marking.remove(&table.name).unwrap_or_default().marking;
    }
    Ok(Continuity { source: source.source_continuity().await?, tables })
}

async fn of_table(
    ask: Ask,
    target: std::result::Result<&Target, &str>,
    binding: &TableBinding,
    state: &TableState,
    known: KnownMarks,
) -> Result<TableContinuity> {
    Ok(TableContinuity {
        name: binding.name().to_owned(),
        target_name: binding.target_name.clone(),
        known,
        known_id: state.target_id.clone(),
        found: match target {
            Ok(target) => look_at(ask, target, binding, known).await?,
            Err(why) => Found::Unknown(why.to_owned()),
        },
    })
}

/// Reads the marks of a target table, or why it does not tell them.
async fn look_at(ask: Ask, target: &Target, binding: &TableBinding, known: KnownMarks) -> Result<Found> {
    let found = tokio::time::timeout(ANSWER_WITHIN, found(ask, target, binding, known)).await;
    match found {
        Err(_) => Ok(Found::Unknown(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
        Ok(Err(error)) if error.kind.retry() != Retry::Never || error.kind == Kind::Denied => {
            Ok(Found::Unknown(error.to_string()))
        }
        Ok(found) => Ok(found?),
    }
}

async fn found(
    ask: Ask,
    target: &Target,
    binding: &TableBinding,
    known: KnownMarks,
) -> Result<Found, StoreError> {
    let (name, schema) = (&binding.target_name, binding.table.target());
    let mark = target.continuity_mark(name, &schema).await?;
    if ask == Ask::Mark && mark.is_some() {
        return Ok(Found::There { id: None, mark });
    }
    let is_newest = mark.as_ref().is_some_and(|mark| mark.number >= known.marked);
    // No table that was created again or restored within five seconds has the newest mark.
    let standing = if is_newest {
        target.describe_lately(name, &schema).await?
    } else {
        target.describe(name, &schema).await?
    };
    Ok(match standing {
        TableStanding::Missing => Found::Gone,
        TableStanding::There(there) if !there.active => Found::Unknown(format!("{name} is not ACTIVE")),
        TableStanding::There(there) => Found::There { id: there.id, mark },
    })
}

/// Returns what the stores say is lost of their histories. A target that does not answer says nothing.
///
/// # Errors
/// The source's.
#[crate::boxed]
pub async fn lost_history(source: &Source, target: &Target, bindings: &[TableBinding]) -> Result<Vec<Loss>> {
    Ok(look(source, target, bindings).await?.losses())
}

/// Refuses to go on where a store has lost history.
///
/// # Errors
/// [`CoordinatorError::HistoryLost`]; the source's.
pub(crate) async fn require_kept(migration: &MigrationContext) -> Result<()> {
    require(Ask::Everything, migration).await?;
    migration.watch.asked(Ask::Everything);
    Ok(())
}

/// Refuses where the marks tell of a loss, for a caller that looks at the id of the target tables as well.
///
/// # Errors
/// As for [`require_kept`].
pub(crate) async fn require_marks(migration: &MigrationContext) -> Result<()> {
    require(Ask::Mark, migration).await
}

async fn require(ask: Ask, migration: &MigrationContext) -> Result<()> {
    let losses =
        look_for(ask, &migration.source, Ok(&migration.target), &migration.tables, None).await?.losses();
    if losses.is_empty() { Ok(()) } else { Err(CoordinatorError::HistoryLost(losses)) }
}

/// Makes a mark in every adopted table that needs one. History must have been found kept just before.
///
/// # Errors
/// The source's. That a target was not to be reached is none: the mark before stands.
pub(crate) async fn mark(migration: &MigrationContext) -> Result<()> {
    mark_every(migration, MARK_CHANGED_EVERY, MARK_EVERY).await
}

/// Makes a mark in every adopted table, whatever the age of the one before.
///
/// # Errors
/// As for [`mark`].
pub(crate) async fn mark_now(migration: &MigrationContext) -> Result<()> {
    mark_every(migration, Duration::ZERO, Duration::ZERO).await
}

async fn mark_every(migration: &MigrationContext, changed_every: Duration, every: Duration) -> Result<()> {
    let source = &migration.source;
    let asked: Vec<(&str, &str)> =
        migration.tables.iter().map(|binding| (binding.name(), binding.target_name.as_str())).collect();
    let begun = source.begin_marks(&asked, changed_every, every).await?;
    let mut made = Vec::new();
    for binding in &migration.tables {
        let Some(begun) = begun.get(binding.name()) else { continue };
        let mark = ContinuityMark {
            number: begun.number,
            version: begun.version,
            server: begun.server.clone(),
            at: Utc::now(),
        };
        let (name, target_name, schema) = (binding.name(), &binding.target_name, binding.table.target());
        let set =
            Backoff::brief().retry(|| migration.target.set_continuity_mark(target_name, &schema, &mark));
        match tokio::time::timeout(ANSWER_WITHIN, set).await {
            Ok(Ok(())) => made.push((name, begun.number)),
            Ok(Err(error)) if !matches!(error.kind, Kind::Unavailable | Kind::Unknown) => {
                tracing::debug!(table = name, "no mark of history: {error}");
            }
            // It takes no mark of another table either, and each would be waited for.
            unheard => {
                let why = unheard.ok().and_then(Result::err).map_or_else(String::new, |e| e.to_string());
                tracing::debug!(
                    table = name,
                    "no marks of history are made, as the target does not answer: {why}"
                );
                break;
            }
        }
    }
    // What is not noted may be there all the same, and its next mark is made at the next turn.
    if made.is_empty() { Ok(()) } else { Ok(source.end_marks(&made).await?) }
}

/// Does nothing until it is time to ask; then asks, and makes marks. For what runs long.
///
/// # Errors
/// [`CoordinatorError::HistoryLost`]; the source's.
#[crate::boxed]
pub async fn turn(migration: &MigrationContext) -> Result<()> {
    let Some(ask) = migration.watch.due() else { return Ok(()) };
    // Before the answer: others need not ask the same meanwhile.
    migration.watch.asked(ask);
    if let Err(error) = require(ask, migration).await {
        migration.watch.forget();
        return Err(error);
    }
    mark(migration).await
}

/// Interval at which one mark is looked at while nothing is written: one a second for all tables, so that
/// fifty cost no more than five.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same for one table, where there are few.
const LOOK_AT_EACH: Duration = Duration::from_secs(5);

/// The marks of target tables as they were seen while nothing was written, looked at in turn.
#[derive(Debug, Default)]
pub(crate) struct MarksLooked {
    looked_at: Option<Instant>,
    next: usize,
    newest: BTreeMap<&'static str, i64>,
}

impl MarksLooked {
    /// Looks at the next mark, if it is time to. Says no where it is older than one that was seen, or gone:
    /// then both stores are to be asked. A table that cannot be asked now shows nothing.
    pub(crate) async fn are_kept(&mut self, migration: &MigrationContext) -> bool {
        let tables = &migration.tables;
        let every = LOOK_EVERY.max(LOOK_AT_EACH / tables.len().max(1) as u32);
        if tables.is_empty() || self.looked_at.is_some_and(|at| at.elapsed() < every) {
            return true;
        }
        self.looked_at = Some(Instant::now());
        self.next = (self.next + 1) % tables.len();
        let binding = &tables[self.next];
        match migration.target.continuity_mark(&binding.target_name, &binding.table.target()).await {
            Ok(found) => self.saw(binding.name(), found.map(|mark| mark.number)),
            Err(error) => error.kind.retry() != Retry::Never || error.kind == Kind::Denied,
        }
    }

    fn saw(&mut self, table: &'static str, found: Option<i64>) -> bool {
        let newest = self.newest.get(table).copied();
        if let Some(found) = found {
            self.newest.insert(table, found);
        } else {
            self.newest.remove(table);
        }
        // Others make marks as well, and each is newer than the one before.
        newest.is_none_or(|newest| found.is_some_and(|found| found >= newest))
    }
}

#[cfg(test)]
mod tests {
    use super::MarksLooked;

    #[test]
    fn a_mark_that_is_gone_or_older_is_no_history_that_was_kept() {
        let mut looked = MarksLooked::default();
        let seen = [
            ("payments", None, true),
            ("payments", Some(3), true),
            ("payments", Some(3), true),
            ("logs", Some(1), true),
            ("payments", Some(5), true),
            ("payments", Some(4), false),
            // It was told of once, and the turn has asked.
            ("payments", Some(4), true),
            ("payments", None, false),
            ("payments", None, true),
            ("logs", Some(1), true),
        ];
        for (n, (table, found, kept)) in seen.into_iter().enumerate() {
            assert_eq!(looked.saw(table, found), kept, "look {n}");
        }
    }
}
