//! Metrics that Prometheus is shown (R47): gauges filled from one reading, counters where something happens.
//! Names end in their unit.

use std::sync::OnceLock;
use std::time::Duration;

use lockstep_coordinator::Status;
use lockstep_core::settings::{KNOBS, Takes};
use lockstep_core::{InstanceState, KeptBy, Phase, REQUEST_SECONDS, describe_metrics};
use lockstep_postgres::VerdictWord;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::alerts::{NAMES, Severity};
use crate::measure::Measured;
use crate::part::{PartState, PartView};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::spend::Spend;
use crate::stores::StoresView;

const LATENCY: &str = "lockstep_store_latency_seconds";
const BUCKETS_S: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs what keeps the metrics of this process, once; `None` where the program that embeds this one has
/// its own, which then has ours as well.
pub(crate) fn install(kept_by: KeptBy) -> Option<&'static PrometheusHandle> {
    let installed = RECORDER.get_or_init(|| {
        let mut builder = PrometheusBuilder::new();
        for name in [LATENCY, REQUEST_SECONDS] {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &BUCKETS_S).ok()?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        describe_metrics(kept_by);
        Some(handle)
    });
    installed.as_ref()
}

/// Type of the answer that has them.
pub(crate) const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics of this process, as Prometheus reads them; none where the program that embeds this one
/// keeps them.
pub(crate) fn render() -> String {
    let rendered = RECORDER.get().and_then(Option::as_ref).map(|handle| {
        handle.run_upkeep();
        handle.render()
    });
    rendered.unwrap_or_default()
}

/// Counts one answer of a store.
pub(crate) fn latency(store: &'static str, took: Duration) {
    histogram!(LATENCY, "store" => store).record(took.as_secs_f64());
}

/// Sets what is so at the moment of the question. 1. The task that reads hangs. 2. An age that it set
/// itself would stay as it was.
pub(crate) fn of_now(shared: &Shared) {
    gauge!("lockstep_leader").set(if shared.leads() { 1.0 } else { 0.0 });
    gauge!("lockstep_events_clients").set(*shared.clients.borrow() as f64);
    let read_at = shared.snapshot.borrow().read_at;
    gauge!("lockstep_status_age_seconds").set(read_at.map_or(f64::NAN, |(at, _)| at.elapsed().as_secs_f64()));
}

/// Fills the gauges from a reading.
pub(crate) fn fill(shared: &Shared, snapshot: &Snapshot, parts: &[PartView]) {
    for (name, store) in
        [("postgresql", &snapshot.stores.postgresql), ("dynamodb", &snapshot.stores.dynamodb)]
    {
        gauge!("lockstep_store_up", "store" => name).set(if StoresView::is_down(store.as_ref()) {
            0.0
        } else {
            1.0
        });
    }
    let (idle, all) = shared.migration.source.connections();
    gauge!("lockstep_pool_connections", "store" => "postgresql", "state" => "idle").set(idle as f64);
    gauge!("lockstep_pool_connections", "store" => "postgresql", "state" => "used")
        .set(all.saturating_sub(idle) as f64);
    for part in parts {
        gauge!("lockstep_part_up", "part" => part.name).set(if part.state == PartState::Running {
            1.0
        } else {
            0.0
        });
        counter!("lockstep_part_restarts_total", "part" => part.name).absolute(part.restarts);
        let paused = if part.state == PartState::Paused { 1.0 } else { 0.0 };
        gauge!("lockstep_paused", "part" => part.name).set(paused);
    }
    for name in NAMES {
        for severity in [Severity::Warning, Severity::Critical] {
            let raised = snapshot.alerts.iter().any(|alert| alert.name == name && alert.severity == severity);
            gauge!("lockstep_alert", "alert" => name, "severity" => severity.name()).set(if raised {
                1.0
            } else {
                0.0
            });
        }
    }
    let tables: Vec<&'static str> = shared.migration.tables.iter().map(|table| table.name()).collect();
    of_measured(shared.measured.borrow().as_ref(), &tables);
    of_migration(snapshot);
    of_progress(shared);
    of_counts(shared);
}

/// Sets the gauges of a sample. Where there is none any more, they are no number: an alert that goes by them
/// ends.
fn of_measured(measured: Option<&Measured>, tables: &[&'static str]) {
    let of = |value: fn(&Measured) -> f64| measured.map_or(f64::NAN, value);
    gauge!("lockstep_data_consistency_percent").set(of(|measured| measured.consistency_percent));
    gauge!("lockstep_field_accuracy_percent").set(of(|measured| measured.accuracy_percent));
    gauge!("lockstep_orphans_percent").set(of(|measured| measured.orphans_percent));
    for name in tables {
        let table = measured.and_then(|measured| measured.tables.iter().find(|table| table.name == *name));
        let orphans_percent = table.map_or(f64::NAN, |table| table.orphans_percent);
        gauge!("lockstep_table_orphans_percent", "table" => *name).set(orphans_percent);
        let orphans = table.map_or(f64::NAN, |table| table.orphans as f64);
        gauge!("lockstep_orphans", "table" => *name).set(orphans);
        let expired = table.map_or(f64::NAN, |table| table.expired as f64);
        gauge!("lockstep_expired_rows", "table" => *name).set(expired);
    }
}

/// Sets the gauges of what applications counted, what was spent, and what operators have turned.
fn of_counts(shared: &Shared) {
    if let Some(counted) = &*shared.counted.borrow() {
        gauge!("lockstep_write_success_percent").set(counted.write_success_percent.unwrap_or(f64::NAN));
        gauge!("lockstep_operations_completed_percent")
            .set(counted.operations_completed_percent.unwrap_or(f64::NAN));
        gauge!("lockstep_operations_open").set(counted.operations_open as f64);
        gauge!("lockstep_shadow_reads_hour").set(counted.shadow_reads as f64);
        gauge!("lockstep_shadow_differ_hour").set(counted.shadow_differ as f64);
    }
    if let Some(spend) = &*shared.spend.borrow() {
        gauge!("lockstep_spent_usd").set(spend.usd);
        gauge!("lockstep_forecast_usd").set(spend.forecast_usd.unwrap_or(f64::NAN));
        gauge!("lockstep_spend_cap_usd").set(spend.cap_usd.unwrap_or(f64::NAN));
        of_spend(spend);
    }
    let dead = shared.held_back.borrow().as_ref().map_or(f64::NAN, |held| held.dead as f64);
    gauge!("lockstep_pending_dead_keys").set(dead);
    let settings = shared.settings.borrow();
    for knob in
        KNOBS.iter().filter(|knob| matches!(knob.takes, Takes::Percent | Takes::Whole(..) | Takes::Dollars))
    {
        let set = settings.iter().find(|row| row.name == knob.name).and_then(|row| row.value.as_f64());
        gauge!("lockstep_setting", "name" => knob.name).set(set.unwrap_or(f64::NAN));
    }
}

fn of_migration(snapshot: &Snapshot) {
    let Some(status) = &snapshot.status else {
        gauge!("lockstep_phase").set(-1.0);
        return;
    };
    gauge!("lockstep_installed").set(if status.installed { 1.0 } else { 0.0 });
    gauge!("lockstep_phase").set(match status.phase {
        None => -1.0,
        Some(Phase::PostgresOnly) => 0.0,
        Some(Phase::DualWrite) => 1.0,
        Some(Phase::HybridRead) => 2.0,
        Some(Phase::DynamoOnly) => 3.0,
    });
    gauge!("lockstep_epoch").set(status.epoch.map_or(-1.0, |epoch| epoch.0 as f64));
    gauge!("lockstep_open_steps").set(status.open_intents.len() as f64);
    gauge!("lockstep_history_lost").set(status.lost.len() as f64);
    gauge!("lockstep_verified_age_seconds").set(status.verdict_age_s.unwrap_or(f64::NAN));
    if let Some(word) = status.verdict {
        // An incomplete one found nothing: it is neither.
        gauge!("lockstep_verdict_consistent").set(match word {
            VerdictWord::Consistent => 1.0,
            VerdictWord::Inconsistent => 0.0,
            VerdictWord::Incomplete => f64::NAN,
        });
        let incomplete = word == VerdictWord::Incomplete;
        gauge!("lockstep_verdict_incomplete").set(if incomplete { 1.0 } else { 0.0 });
    }
    for (state, name) in [(InstanceState::Live, "live"), (InstanceState::Expired, "expired")] {
        let count = status.instances.iter().filter(|instance| instance.state == state).count();
        gauge!("lockstep_instances", "state" => name).set(count as f64);
    }
    let live = || status.workers.iter().filter(|worker| worker.is_live());
    gauge!("lockstep_workers").set(live().count() as f64);
    let held_back = live().filter(|worker| worker.slowed_by.is_some());
    gauge!("lockstep_workers_held_back").set(held_back.count() as f64);
    of_comparisons(status);
    let follows = status.feed_follows();
    for table in &status.tables {
        let name = || table.name.clone();
        gauge!("lockstep_pending_keys", "table" => name()).set(table.pending as f64);
        gauge!("lockstep_pending_oldest_seconds", "table" => name()).set(table.oldest_s);
        gauge!("lockstep_dead_letters", "table" => name()).set(table.dead_letters as f64);
        gauge!("lockstep_dead_letters_unacknowledged", "table" => name())
            .set(table.dead_letters_unacknowledged as f64);
        gauge!("lockstep_backfill_ranges", "table" => name()).set(table.ranges as f64);
        gauge!("lockstep_backfill_ranges_done", "table" => name()).set(table.ranges_done as f64);
        gauge!("lockstep_ranges_open", "table" => name())
            .set(table.ranges.saturating_sub(table.ranges_done) as f64);
        counter!("lockstep_relay_delivered_total", "table" => name()).absolute(table.relayed.unsigned_abs());
        counter!("lockstep_backfill_rows_total", "table" => name()).absolute(table.rows_backfilled);
        if let Some(feed) = &table.reverse_feed {
            // After the way back it rests. How long ago it last read grows with every minute, and an alert
            // that goes by it would never end.
            let lag_s = if follows { feed.lag_s } else { f64::NAN };
            gauge!("lockstep_reverse_lag_seconds", "table" => name()).set(lag_s);
            counter!("lockstep_reverse_applied_total", "table" => name())
                .absolute(feed.applied.unsigned_abs());
        }
    }
}

/// Sets the gauges of the comparisons that several processes share.
///
/// 1. All pieces are read, and what was read is on the disks of who read them, until the leader has asked for
/// it. 2. An autoscaler that goes by what is still to be read takes the readers away. 3. Their pieces are
/// read again, by as few as are left. So all pieces are served, until the comparison has ended.
fn of_comparisons(status: &Status) {
    for table in &status.tables {
        let name = || table.name.clone();
        let compared = status.comparisons.iter().find(|comparison| comparison.table == table.name);
        let (pieces, read) = compared.map_or((0, 0), |of| (of.pieces, of.pieces_read));
        gauge!("lockstep_comparison_pieces", "table" => name()).set(pieces as f64);
        gauge!("lockstep_comparison_pieces_read", "table" => name()).set(read as f64);
    }
}

/// Sets what every process has spent and was asked to slow down for. 1. A backfill runs in another process
/// than the daemon. 2. Only the daemon's own relay counts. 3. The backfill is throttled for hours, and no
/// alert is raised.
fn of_spend(spend: &Spend) {
    for table in &spend.tables {
        counter!("lockstep_target_write_units_total", "table" => table.name.clone())
            .absolute(table.write_units.unsigned_abs());
        counter!("lockstep_target_read_units_total", "table" => table.name.clone())
            .absolute(table.read_units.unsigned_abs());
    }
    for (by, count) in &spend.throttled {
        counter!("lockstep_throttled_total", "store" => "dynamodb", "reason" => by.clone())
            .absolute(count.unsigned_abs());
    }
}

/// Sets what the relay of this daemon has consumed itself. What every process has is there from the start, so
/// that the first of it is a growth.
fn of_progress(shared: &Shared) {
    for table in &shared.progress.tables {
        counter!("lockstep_target_write_units_total", "table" => table.name).absolute(0);
        counter!("lockstep_target_read_units_total", "table" => table.name).absolute(0);
        counter!("lockstep_relay_write_units_total", "table" => table.name).absolute(table.capacity_units());
    }
    for by in ["relay", "backfill", "comparison", "feed"] {
        counter!("lockstep_throttled_total", "store" => "dynamodb", "reason" => by).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use lockstep_coordinator::TableStatus;
    use lockstep_postgres::ComparisonProgress;
    use lockstep_postgres::reverse::FeedStanding;

    use super::*;

    fn table(number: usize) -> TableStatus {
        TableStatus {
            name: format!("table_{number}"),
            capture: "on".to_owned(),
            target: "there (ACTIVE)".to_owned(),
            ranges_done: 1,
            ranges: 2,
            rows_backfilled: 3,
            rows_of_done_ranges: 2,
            pending: 4,
            oldest_s: 5.0,
            dead_letters: 6,
            dead_letters_unacknowledged: 6,
            relayed: 7,
            reverse_feed: None,
            reverse_alarm: None,
        }
    }

    #[test]
    fn the_lag_of_a_feed_that_rests_is_no_number_and_ends_its_alert() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let fed = FeedStanding { lag_s: 86_400.0, ..FeedStanding::default() };
        let of_phase = |phase, late_until| {
            let tables = vec![TableStatus { reverse_feed: Some(fed.clone()), ..table(1) }];
            let status = Status { phase: Some(phase), late_until, tables, ..Status::default() };
            let snapshot = Snapshot { status: Some(status), ..Snapshot::default() };
            metrics::with_local_recorder(&recorder, || of_migration(&snapshot));
            let text = recorder.handle().render();
            let line = text.lines().find(|line| line.starts_with("lockstep_reverse_lag_seconds{"));
            line.and_then(|line| line.split(' ').next_back()).map(str::to_owned)
        };
        assert_eq!(of_phase(Phase::DynamoOnly, None).as_deref(), Some("86400"));
        assert_eq!(of_phase(Phase::HybridRead, None).as_deref(), Some("NaN"));
        assert_eq!(of_phase(Phase::HybridRead, Some(chrono::Utc::now())).as_deref(), Some("86400"));
    }

    #[test]
    fn the_pieces_of_a_comparison_are_told_until_it_has_ended() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let of = |pieces_read| ComparisonProgress {
            table: "table_1".to_owned(),
            leader: "l".to_owned(),
            started_at: chrono::Utc::now(),
            pieces: 40,
            pieces_read,
            workers: Vec::new(),
        };
        let told = |comparisons| {
            let status = Status { tables: vec![table(1), table(2)], comparisons, ..Status::default() };
            let snapshot = Snapshot { status: Some(status), ..Snapshot::default() };
            metrics::with_local_recorder(&recorder, || of_migration(&snapshot));
            let text = recorder.handle().render();
            let lines = text.lines().filter(|line| line.starts_with("lockstep_comparison_"));
            lines.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let lines = |pieces: u64, read: u64| {
            let of_table = |of: &str, table: u64, number: u64| {
                format!("lockstep_comparison_pieces{of}{{table=\"table_{table}\"}} {number}")
            };
            let lines = [("", 1, pieces), ("", 2, 0), ("_read", 1, read), ("_read", 2, 0)];
            lines.map(|(of, table, number)| of_table(of, table, number)).into_iter().collect::<BTreeSet<_>>()
        };
        assert_eq!(told(vec![of(3)]), lines(40, 3));
        assert_eq!(told(vec![of(40)]), lines(40, 40), "who has read it still has it");
        assert_eq!(told(Vec::new()), lines(0, 0));
    }

    #[test]
    fn what_a_backfill_of_another_process_was_told_to_slow_down_for_is_counted_by_who_was_told() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let throttled = [("backfill".to_owned(), 70), ("relay".to_owned(), 2)].into();
        let spend = Spend { throttled, ..Spend::default() };
        metrics::with_local_recorder(&recorder, || of_spend(&spend));
        let text = recorder.handle().render();
        for (by, count) in [("backfill", 70), ("relay", 2)] {
            let line = format!("lockstep_throttled_total{{store=\"dynamodb\",reason=\"{by}\"}} {count}");
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn a_measure_that_is_forgotten_is_no_number() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let report = serde_json::json!({ "tables": [
            { "name": "logs", "compared": 10, "equal": 9, "different": 1, "extra": 2, "expired": 0,
                "target_count": 10 },
        ] });
        let measured = crate::measure::measure(&report, chrono::Utc::now());
        assert!(measured.is_some());
        for (measured, shown) in [(measured.as_ref(), ["90", "90", "20", "2", "0"]), (None, ["NaN"; 5])] {
            metrics::with_local_recorder(&recorder, || of_measured(measured, &["logs"]));
            let text = recorder.handle().render();
            let value = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name));
                line.and_then(|line| line.split(' ').next_back()).unwrap_or_default().to_owned()
            };
            let found = [
                "lockstep_data_consistency_percent",
                "lockstep_field_accuracy_percent",
                "lockstep_table_orphans_percent{",
                "lockstep_orphans{",
                "lockstep_expired_rows{",
            ];
            assert_eq!(found.map(value), shown.map(str::to_owned));
        }
    }

    #[test]
    fn metrics_of_fifty_tables_are_written_within_five_milliseconds() {
        let handle = install(KeptBy::Daemon).expect("nothing else counts in this process");
        let status = Status {
            installed: true,
            phase: Some(Phase::DualWrite),
            tables: (0..50).map(table).collect(),
            verdict_consistent: Some(true),
            verdict_age_s: Some(1.0),
            ..Status::default()
        };
        of_migration(&Snapshot { status: Some(status), ..Snapshot::default() });
        // The fastest of several: others compute on this machine as well.
        let took = (0..20).map(|_| {
            let begun = Instant::now();
            let text = handle.render();
            assert!(text.contains("lockstep_pending_keys{table=\"table_49\"} 4"));
            assert!(text.contains("# HELP lockstep_pending_keys Keys whose change"), "each says what it is");
            begun.elapsed()
        });
        let took = took.min().unwrap_or_default();
        assert!(took < Duration::from_millis(5), "{took:?}");
    }
}
