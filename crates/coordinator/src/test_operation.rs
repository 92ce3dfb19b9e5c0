//! The coordinated check (R26): the parts of a write's way, each tried where no row can be.
//!
//! Capture is fired in a transaction that is rolled back, for a key that no row can have; DynamoDB is written
//! at a place that no row has, below every version. So no row is read, locked, replaced or removed; no
//! trigger of an application fires; no id, key or counter is taken; and what a crash leaves is passed over by
//! every reader. The result says what is not proven.

use lockstep_core::Advice::TestOperation;
use lockstep_core::Phase;
use lockstep_postgres::{CaptureProbe, EntryKind, TableBinding};
use serde::Serialize;
use serde_json::json;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

/// Name in the journal.
const STEP: &str = "test operation";
/// Text on what a pass says nothing about.
const NOT_PROVEN: &str =
    "whether constraints and triggers of the application accept a write: no row was written";

/// One look at one store.
#[derive(Clone, Debug, Serialize)]
pub struct TestCheck {
    /// Name of the table.
    pub table: String,
    /// `captured in PostgreSQL` and the like.
    pub what: String,
    /// Whether it was as it should be; `None` where this phase gives nothing to look for.
    pub passed: Option<bool>,
    /// Description of what was found.
    pub detail: String,
}

/// Findings of a test operation.
#[derive(Clone, Debug, Serialize)]
pub struct TestReport {
    /// Whether everything that was looked for was found, and in all tables.
    pub passed: bool,
    /// The phase that it began in.
    pub phase: Phase,
    /// Every look.
    pub checks: Vec<TestCheck>,
    /// Things that were not checked, and why, one sentence each. A pass says nothing about them.
    pub not_checked: Vec<String>,
}

/// Probes both stores for every table; journalled. A store that fails is a failed check and not an error, so
/// that the probe is always taken out again.
///
/// # Errors
/// The journal's.
///
/// # Cancel safety
/// Broken off, it may leave its probe in the target, which every reader passes over and the next run removes.
#[crate::boxed]
pub async fn test_operation(migration: &MigrationContext) -> Result<TestReport> {
    let source = &migration.source;
    source.require_contract(&migration.tables).await?;
    let phase = source.control().await?.phase;
    let tables: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    let id =
        source.journal_intent(&migration.actor, STEP, &json!({ "tables": tables, "phase": phase })).await?;
    let mut report =
        TestReport { passed: false, phase, checks: Vec::new(), not_checked: vec![NOT_PROVEN.to_owned()] };
    let run = format!("{}-{:016x}", id.0, rand::random::<u64>());
    for binding in &migration.tables {
        report.capture(migration, binding).await;
        report.target(migration, binding, &run).await;
    }
    report.not_checked.dedup();
    report.passed = report.checks.iter().all(|check| check.passed != Some(false));
    let kind = if report.passed { EntryKind::Done } else { EntryKind::Refused };
    source.journal_outcome(&migration.actor, id, kind, STEP, &json!(report)).await?;
    Ok(report)
}

impl TestReport {
    fn note(&mut self, table: &TableBinding, what: &str, passed: Option<bool>, detail: impl Into<String>) {
        let (table, what, detail) = (table.name().to_owned(), what.to_owned(), detail.into());
        self.checks.push(TestCheck { table, what, passed, detail });
    }

    async fn capture(&mut self, migration: &MigrationContext, binding: &TableBinding) {
        let what = "captured in PostgreSQL";
        if self.phase == Phase::DynamoOnly {
            let why = "PostgreSQL takes no writes in DynamoOnly";
            self.not_checked.push(format!("capture: {why}"));
            return self.note(binding, what, None, why);
        }
        let (passed, detail) = match migration.source.probe_capture(binding).await {
            Ok(CaptureProbe::Captured) => {
                (true, "a write and a deletion were marked, and rolled back".to_owned())
            }
            Ok(CaptureProbe::Off(state)) => match state.require_on(binding.name()) {
                Err(error) => (false, error.message),
                Ok(()) => (false, format!("the triggers are {state:?}")),
            },
            Ok(CaptureProbe::Unmarked(why)) => (false, why),
            Err(error) => (false, error.to_string()),
        };
        self.note(binding, what, Some(passed), detail);
    }

    async fn target(&mut self, migration: &MigrationContext, binding: &TableBinding, run: &str) {
        let schema = binding.table.target();
        let probe = migration.target.probe(&binding.target_name, &schema, run.to_owned());
        match probe.put().await {
            Ok(()) => {
                let there = probe.is_there().await;
                self.look(
                    binding,
                    "written in DynamoDB",
                    there,
                    "read back as written",
                    "it is not what was written",
                );
                let guarded = probe.is_guarded().await;
                let bad = "the same version was written twice: an older state could replace a newer one";
                self.look(
                    binding,
                    "guarded in DynamoDB",
                    guarded,
                    "a version that is no newer is refused",
                    bad,
                );
            }
            Err(error) => self.note(binding, "written in DynamoDB", Some(false), error.to_string()),
        }
        let gone = match probe.remove().await {
            Ok(()) => probe.is_there().await.map(|there| !there),
            Err(error) => Err(error),
        };
        self.look(binding, "removed in DynamoDB", gone, "nothing is left", "it is still there");
    }

    fn look(
        &mut self,
        of: &TableBinding,
        what: &str,
        found: lockstep_core::Result<bool>,
        good: &str,
        bad: &str,
    ) {
        match found {
            Ok(true) => self.note(of, what, Some(true), good),
            Ok(false) => self.note(of, what, Some(false), bad),
            Err(error) => self.note(of, what, Some(false), error.to_string()),
        }
    }

    /// Returns the findings as gates of a step, one result a table.
    pub(crate) fn gates(&self) -> Vec<GateResult> {
        let mut tables: Vec<&str> = self.checks.iter().map(|check| check.table.as_str()).collect();
        tables.dedup();
        let of_table = |table: &str| {
            let failed: Vec<String> = self
                .checks
                .iter()
                .filter(|check| check.table == table && check.passed == Some(false))
                .map(|check| format!("{}: {}", check.what, check.detail))
                .collect();
            let proven = format!(
                "capture marks a write; DynamoDB takes one, guards it and gives it back; nothing is left. Not proven: {NOT_PROVEN}"
            );
            let detail = if failed.is_empty() { proven } else { failed.join("; ") };
            let next = format!("repair what is named, and run {TestOperation} until it passes");
            GateResult::check(STEP, failed.is_empty(), detail, next).of(table)
        };
        tables.into_iter().map(of_table).collect()
    }
}
