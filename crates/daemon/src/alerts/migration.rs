//! Alerts by the status of the migration alone.

use lockstep_coordinator::Status;
use lockstep_core::Phase;
use lockstep_postgres::VerdictWord;

use super::{Found, Severity, Thresholds};

pub(super) fn of_migration(status: &Status, limits: &Thresholds, found: &mut Found<'_>) {
    if !status.lost.is_empty() {
        found.add("history_lost", Severity::Critical, format!("{}; run `doctor`", status.lost.join("; ")));
    }
    let phase = status.phase.unwrap_or(Phase::PostgresOnly);
    for table in &status.tables {
        if phase > Phase::PostgresOnly && table.capture != "on" {
            let message = format!(
                "{}: capture is {}, so changes are not known; run `doctor`",
                table.name, table.capture
            );
            found.add("capture_broken", Severity::Critical, message);
        }
        if table.oldest_s > limits.pending_warning_s {
            let severity = if table.oldest_s > limits.pending_critical_s {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let message = format!(
                "{}: {} changes wait, the oldest for {:.0} s; see that a relay runs: `doctor` says more",
                table.name, table.pending, table.oldest_s
            );
            found.add("pending_age", severity, message);
        }
        if table.dead_letters_unacknowledged > 0 {
            let count = table.dead_letters_unacknowledged;
            let message = format!(
                "{}: {count} rows were set aside and are not acknowledged; run `dead-letters`",
                table.name
            );
            found.add("dead_letters", Severity::Warning, message);
        }
        if let Some(alarm) = &table.reverse_alarm {
            found.add("reverse_feed", Severity::Critical, format!("{}: {alarm}", table.name));
        }
    }
    match status.verdict {
        Some(VerdictWord::Inconsistent) => {
            let message =
                format!("the newest verdict is not consistent; look at /v1/findings, then {}", repair(phase));
            found.add("not_consistent", Severity::Critical, message);
        }
        Some(VerdictWord::Incomplete) => {
            let beside = match phase {
                Phase::PostgresOnly => "",
                Phase::DynamoOnly => ", with `reverse-feed` running",
                Phase::DualWrite | Phase::HybridRead => ", with `relay` running",
            };
            let message = format!(
                "the newest verdict is incomplete: nothing was found, and not everything was compared; run \
                 `validate` again{beside}"
            );
            found.add("verdict_incomplete", Severity::Warning, message);
        }
        Some(VerdictWord::Consistent) | None => {}
    }
    if phase == Phase::HybridRead && status.verdict_age_s.is_none_or(|age| age > limits.verdict_warning_s) {
        let compared = match status.verdict_age_s {
            Some(age) => format!("the newest comparison is {:.0} h old", age / 3_600.0),
            None => "nothing was compared".to_owned(),
        };
        let message = format!("DynamoDB is read, and {compared}; run `validate`");
        found.add("verdict_old", Severity::Warning, message);
    }
}

/// Returns what is run where the stores differ: a repair of rows is for the phases in which both are written,
/// and refuses in the others.
fn repair(phase: Phase) -> &'static str {
    match phase {
        Phase::PostgresOnly => "run `advance --to DualWrite`, and `repair`",
        Phase::DualWrite | Phase::HybridRead => "run `repair`",
        Phase::DynamoOnly => {
            "run `reverse-feed --backfill`, which brings PostgreSQL to DynamoDB, and `validate`"
        }
    }
}
