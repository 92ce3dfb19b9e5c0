//! The coordinated check (R26): one marked row a table is written through the stores that applications use, looked for in both
//! stores, and removed again.
//!
//! Keys are reserved, so a run that was broken off is cleaned up by the next one: its write replaces the row.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lockstep::store::Store;
use lockstep_core::{Control, MigratableTable, Phase, Side, is_tombstone};
use lockstep_dynamo::Target;
use lockstep_postgres::EntryKind;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::Migration;

/// Name in the journal.
const STEP: &str = "test operation";
/// How long a relay may take with a write that was deferred; its idle pause is a small part of it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What a store holds at the place of a marked row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The row as PostgreSQL returned it.
    Same,
    /// Another state.
    Different,
    /// No row.
    Absent,
}

/// The marked row of one table, and the store it is written through. Calls come one after the other.
#[async_trait]
pub trait MarkedRow: Send + Sync {
    /// The table.
    fn table(&self) -> &'static str;
    /// Writes the row, whatever was there, and says in which phase.
    ///
    /// # Errors
    /// The store's.
    async fn write(&self) -> lockstep_core::Result<Control>;
    /// Removes it, and says in which phase.
    ///
    /// # Errors
    /// The store's.
    async fn remove(&self) -> lockstep_core::Result<Control>;
    /// Looks for it in one store, past every cache and fallback.
    ///
    /// # Errors
    /// That store's.
    async fn look(&self, side: Side) -> lockstep_core::Result<Presence>;
}

/// The marked row of a table whose primary key is one number.
pub struct Marked<T: MigratableTable> {
    store: Store<T>,
    target: Target,
    target_name: String,
    id: i64,
    row: T::Row,
    written: Mutex<Option<T::Row>>,
}

impl<T: MigratableTable> Marked<T> {
    /// `row`, whose primary key is `id`, to be written through `store` into the target table `target_name`.
    pub fn new(store: Store<T>, target: Target, target_name: String, id: i64, row: T::Row) -> Self {
        Self { store, target, target_name, id, row, written: Mutex::default() }
    }

    fn expected(&self) -> T::Row {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_else(|| self.row.clone())
    }
}

#[async_trait]
impl<T: MigratableTable> MarkedRow for Marked<T> {
    fn table(&self) -> &'static str {
        T::NAME
    }

    async fn write(&self) -> lockstep_core::Result<Control> {
        let outcome = self.store.put(&self.row).await?;
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = outcome.row;
        Ok(outcome.control)
    }

    async fn remove(&self) -> lockstep_core::Result<Control> {
        Ok(self.store.delete(self.id).await?.control)
    }

    async fn look(&self, side: Side) -> lockstep_core::Result<Presence> {
        let expected = self.expected();
        let found = match side {
            Side::Source => self.store.get_source(self.id).await?.map(|row| row == expected),
            Side::Target => {
                let place = self.store.table().target_key(&T::key(&expected));
                let place = place.map_err(|reason| lockstep_core::Error::unholdable(T::NAME, &reason))?;
                let item = self.target.get(&self.target_name, &place).await?.filter(|item| !is_tombstone(item));
                item.map(|item| T::decode(&item).is_ok_and(|row| row == expected))
            }
        };
        Ok(found.map_or(Presence::Absent, |same| if same { Presence::Same } else { Presence::Different }))
    }
}

/// One look at one store.
#[derive(Clone, Debug, Serialize)]
pub struct TestCheck {
    /// Of which table.
    pub table: String,
    /// `written in PostgreSQL` and the like.
    pub what: String,
    /// Whether it was as it should be; `None` where this phase does not write that store, so nothing was looked for.
    pub passed: Option<bool>,
    /// What was found.
    pub detail: String,
}

/// What a test operation found.
#[derive(Clone, Debug, Serialize)]
pub struct TestReport {
    /// Whether everything that was looked for was found, and in all tables.
    pub passed: bool,
    /// The phase that it began in.
    pub phase: Phase,
    /// Every look.
    pub checks: Vec<TestCheck>,
    /// What was not checked, and why, one sentence each. A pass says nothing about it.
    pub not_checked: Vec<String>,
}

/// Writes, looks, removes, looks again; journalled. A store that fails is a failed check and not an error, so that removal is
/// always tried. `left_out` says which tables have no marked row, and why.
///
/// # Errors
/// The journal's.
///
/// # Cancel safety
/// Broken off, it may leave marked rows, which the next run replaces and removes.
pub async fn test_operation(migration: &Migration, rows: &[Box<dyn MarkedRow>], left_out: &[String]) -> Result<TestReport> {
    let source = &migration.source;
    let phase = source.control().await?.phase;
    let tables: Vec<&str> = rows.iter().map(|row| row.table()).collect();
    let id = source.journal_intent(&migration.actor, STEP, &json!({ "tables": tables, "phase": phase })).await?;
    let mut report = TestReport { passed: false, phase, checks: Vec::new(), not_checked: left_out.to_vec() };
    for row in rows {
        let written = row.write().await;
        report.examine(&**row, "written", written, Presence::Same).await;
    }
    for row in rows {
        let removed = row.remove().await;
        report.examine(&**row, "removed", removed, Presence::Absent).await;
    }
    report.not_checked.dedup();
    report.passed = report.checks.iter().all(|check| check.passed != Some(false));
    let kind = if report.passed { EntryKind::Done } else { EntryKind::Refused };
    source.journal_outcome(&migration.actor, id, kind, STEP, &json!(report)).await?;
    Ok(report)
}

impl TestReport {
    async fn examine(&mut self, row: &dyn MarkedRow, done: &str, outcome: lockstep_core::Result<Control>, wanted: Presence) {
        let table = row.table().to_owned();
        let control = match outcome {
            Ok(control) => control,
            Err(error) => {
                let (what, detail) = (format!("{done} through the store"), error.to_string());
                self.checks.push(TestCheck { table, what, passed: Some(false), detail });
                return;
            }
        };
        for side in [Side::Source, Side::Target] {
            let what = format!("{done} in {side}");
            if side == Side::Target && !control.phase.writes_both() {
                self.not_checked.push(format!("DynamoDB: writes do not go there in {}", control.phase));
                let detail = format!("not looked for in {}", control.phase);
                self.checks.push(TestCheck { table: table.clone(), what, passed: None, detail });
                continue;
            }
            let (passed, detail) = look(row, side, wanted).await;
            self.checks.push(TestCheck { table: table.clone(), what, passed: Some(passed), detail });
        }
    }

    /// As a gate of a step, one result a table.
    pub(crate) fn gates(&self) -> Vec<GateResult> {
        let mut tables: Vec<&str> = self.checks.iter().map(|check| check.table.as_str()).collect();
        tables.dedup();
        tables.sort_unstable();
        tables.dedup();
        let of_table = |table: &str| {
            let failed: Vec<String> = self
                .checks
                .iter()
                .filter(|check| check.table == table && check.passed == Some(false))
                .map(|check| format!("{}: {}", check.what, check.detail))
                .collect();
            let detail = if failed.is_empty() { "written, found in both stores, removed".to_owned() } else { failed.join("; ") };
            let next = "run `test-operation` until it passes; a relay should be running";
            GateResult::check(STEP, failed.is_empty(), detail, next).of(table)
        };
        let left_out = self.not_checked.iter().map(|why| GateResult::pass(STEP, format!("not checked: {why}")));
        tables.into_iter().map(of_table).chain(left_out).collect()
    }
}

/// Looks until it is as wanted: a write that was deferred is the relay's.
async fn look(row: &dyn MarkedRow, side: Side, wanted: Presence) -> (bool, String) {
    let begun = Instant::now();
    loop {
        let found = row.look(side).await;
        let as_wanted = found.as_ref().is_ok_and(|found| *found == wanted);
        if as_wanted || begun.elapsed() >= DELIVERED_WITHIN || side == Side::Source {
            return match found {
                Ok(found) if as_wanted => (true, format!("{} after {} ms", word(found), begun.elapsed().as_millis())),
                Ok(found) => (false, format!("{} and not {}", word(found), word(wanted))),
                Err(error) => (false, error.to_string()),
            };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Same => "the row as written",
        Presence::Different => "another state",
        Presence::Absent => "no row",
    }
}
