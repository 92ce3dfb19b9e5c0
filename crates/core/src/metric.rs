//! Metrics that Lockstep keeps, and what each says (R47). A recorder shows the sentence as `# HELP`, and
//! `docs/metrics.md` is this list.

use metrics::{describe_counter, describe_gauge, describe_histogram};

use crate::requests::REQUEST_SECONDS;

/// Form of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricForm {
    /// A number that only grows.
    Counter,
    /// A number as it is at the moment.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Process that keeps a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// The daemon.
    Daemon,
    /// A command that was told to serve its metrics.
    Command,
    /// A program that embeds `lockstep`, in its own exporter.
    Application,
    /// All of them.
    All,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name, which ends in the unit.
    pub name: &'static str,
    /// Form.
    pub form: MetricForm,
    /// Names of labels.
    pub labels: &'static [&'static str],
    /// Process that keeps it.
    pub kept_by: KeptBy,
    /// Meaning, in a sentence.
    pub help: &'static str,
}

impl Metric {
    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, form: MetricForm::Gauge, labels, kept_by: KeptBy::Daemon, help }
    }

    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, form: MetricForm::Counter, labels, kept_by: KeptBy::Daemon, help }
    }

    const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, form: MetricForm::Histogram, labels, kept_by: KeptBy::Daemon, help }
    }

    const fn by(mut self, kept_by: KeptBy) -> Self {
        self.kept_by = kept_by;
        self
    }
}

/// Tells the recorder of this process what its metrics say.
pub fn describe_metrics(kept_by: KeptBy) {
    for metric in METRICS.iter().filter(|metric| [kept_by, KeptBy::All].contains(&metric.kept_by)) {
        match metric.form {
            MetricForm::Counter => describe_counter!(metric.name, metric.help),
            MetricForm::Gauge => describe_gauge!(metric.name, metric.help),
            MetricForm::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

const TABLE: &[&str] = &["table"];
const WORK: &[&str] = &["work", "table"];

/// Every metric, in the order in which the documents show them.
pub const METRICS: &[Metric] = &[
    // The migration.
    Metric::gauge("lockstep_installed", &[], "1 where the control schema is in the source."),
    Metric::gauge(
        "lockstep_phase",
        &[],
        "Phase: 0 PostgresOnly, 1 DualWrite, 2 HybridRead, 3 DynamoOnly, -1 unknown.",
    ),
    Metric::gauge("lockstep_epoch", &[], "Epoch, which each step of a phase raises; -1 unknown."),
    Metric::gauge("lockstep_open_steps", &[], "Steps that began and have not ended."),
    Metric::gauge("lockstep_history_lost", &[], "Stores that have lost writes since they were last seen."),
    Metric::gauge("lockstep_instances", &["state"], "Application instances, live or expired."),
    Metric::gauge("lockstep_verified_age_seconds", &[], "Age of the newest verdict."),
    Metric::gauge(
        "lockstep_verdict_consistent",
        &[],
        "1 where the newest verdict is consistent, 0 where it is not, no number where it is incomplete.",
    ),
    Metric::gauge(
        "lockstep_verdict_incomplete",
        &[],
        "1 where the newest verdict found nothing, and did not compare everything.",
    ),
    // Work.
    Metric::gauge("lockstep_backfill_ranges", TABLE, "Ranges that the initial load is cut into."),
    Metric::gauge("lockstep_backfill_ranges_done", TABLE, "Ranges that are copied."),
    Metric::gauge("lockstep_ranges_open", TABLE, "Ranges that are still to be copied: scale workers by it."),
    Metric::counter("lockstep_backfill_rows_total", TABLE, "Rows that the initial load has copied."),
    Metric::gauge("lockstep_pending_keys", TABLE, "Keys whose change is still to be delivered."),
    Metric::gauge("lockstep_pending_oldest_seconds", TABLE, "Age of the oldest pending key."),
    Metric::gauge(
        "lockstep_pending_dead_keys",
        &[],
        "Delivered marks that PostgreSQL keeps as dead rows of the pending set.",
    ),
    Metric::counter("lockstep_relay_delivered_total", TABLE, "Changes that relays have delivered."),
    Metric::gauge(
        "lockstep_reverse_lag_seconds",
        TABLE,
        "Seconds since the feed last read to the end; no number while no feed has to follow.",
    ),
    Metric::counter(
        "lockstep_reverse_applied_total",
        TABLE,
        "Items that the feed has brought back to PostgreSQL.",
    ),
    Metric::gauge("lockstep_comparison_pieces", TABLE, "Pieces of a comparison that workers share."),
    Metric::gauge("lockstep_comparison_pieces_read", TABLE, "Pieces of it that are read."),
    Metric::gauge("lockstep_workers", &[], "Workers that are alive."),
    Metric::gauge("lockstep_workers_held_back", &[], "Workers that a throttle or a bound slows down."),
    Metric::gauge("lockstep_dead_letters", TABLE, "Rows that DynamoDB cannot hold, and were set aside."),
    Metric::gauge(
        "lockstep_dead_letters_unacknowledged",
        TABLE,
        "Rows that were set aside, and that an operator has not accepted.",
    ),
    // Samples of the monitor.
    Metric::gauge("lockstep_data_consistency_percent", &[], "Rows of the newest sample that agree."),
    Metric::gauge(
        "lockstep_field_accuracy_percent",
        &[],
        "Rows of the sample whose fields are all equal, of those that have an item.",
    ),
    Metric::gauge("lockstep_orphans_percent", &[], "Items of the sample that have no row."),
    Metric::gauge("lockstep_table_orphans_percent", TABLE, "Items of a table's sample that have no row."),
    Metric::gauge("lockstep_orphans", TABLE, "Number of items without a row in a table's sample."),
    Metric::gauge("lockstep_expired_rows", TABLE, "Rows of a sample that are past their expiry."),
    // What applications count.
    Metric::gauge(
        "lockstep_write_success_percent",
        &[],
        "Writes of applications that were made, of those of an hour.",
    ),
    Metric::gauge(
        "lockstep_operations_completed_percent",
        &[],
        "Coordinated operations that were completed, of those of an hour.",
    ),
    Metric::gauge(
        "lockstep_operations_open",
        &[],
        "Coordinated operations that began three minutes ago and have not ended.",
    ),
    Metric::gauge("lockstep_shadow_reads_hour", &[], "Shadow reads of the last hour."),
    Metric::gauge("lockstep_shadow_differ_hour", &[], "Shadow reads of the last hour whose answers differ."),
    // Cost.
    Metric::counter(
        "lockstep_target_write_units_total",
        TABLE,
        "Write units that backfills and relays of every process have consumed.",
    ),
    Metric::counter("lockstep_target_read_units_total", TABLE, "Read units that comparisons have consumed."),
    Metric::counter(
        "lockstep_relay_write_units_total",
        TABLE,
        "Write units that the relay of this daemon has consumed.",
    ),
    Metric::counter(
        "lockstep_throttled_total",
        &["store", "reason"],
        "Answers that ask to slow down, by what met them, in every process.",
    ),
    Metric::gauge("lockstep_spent_usd", &[], "Dollars spent so far, at the configured prices."),
    Metric::gauge("lockstep_forecast_usd", &[], "Dollars when the initial load is copied."),
    Metric::gauge("lockstep_spend_cap_usd", &[], "The bound of both; no number where there is none."),
    // The daemon.
    Metric::gauge("lockstep_leader", &[], "1 in the daemon that leads."),
    Metric::gauge("lockstep_status_age_seconds", &[], "Age of the reading that this daemon shows."),
    Metric::gauge("lockstep_part_up", &["part"], "1 while this part of the daemon runs."),
    Metric::counter("lockstep_part_restarts_total", &["part"], "Restarts of a part."),
    Metric::gauge("lockstep_paused", &["part"], "1 while an operator has this part paused."),
    Metric::gauge("lockstep_alert", &["alert", "severity"], "1 while this alert is raised."),
    Metric::counter("lockstep_alert_notifications_total", &["outcome"], "Messages to the webhook."),
    Metric::gauge(
        "lockstep_setting",
        &["name"],
        "Value that an operator has given a setting; no number where none is given.",
    ),
    Metric::counter(
        "lockstep_operations_total",
        &["kind", "state"],
        "Commands that were given by the API or the page, by how they ended.",
    ),
    Metric::counter("lockstep_http_requests_total", &["status"], "Answers of the API and the page."),
    Metric::gauge("lockstep_events_clients", &[], "Clients that listen to the events."),
    // The stores.
    Metric::gauge("lockstep_store_up", &["store"], "1 while a store answers this daemon."),
    Metric::histogram("lockstep_store_latency_seconds", &["store"], "Looks of this daemon at each store."),
    Metric::histogram(
        REQUEST_SECONDS,
        &["store", "operation"],
        "Every request of this process, time-outs included.",
    )
    .by(KeptBy::All),
    Metric::gauge("lockstep_pool_connections", &["store", "state"], "Sessions of this daemon."),
    // Commands.
    Metric::counter("lockstep_work_done_total", WORK, "Rows, or changes delivered, by a command.")
        .by(KeptBy::Command),
    Metric::gauge("lockstep_work_expected", WORK, "Number at which the work ends, where it is known.")
        .by(KeptBy::Command),
    Metric::counter("lockstep_work_read_bytes_total", WORK, "Bytes read.").by(KeptBy::Command),
    Metric::counter("lockstep_work_write_units_total", WORK, "Write units consumed.").by(KeptBy::Command),
    Metric::counter("lockstep_work_items_total", WORK, "Items read or written.").by(KeptBy::Command),
    Metric::gauge("lockstep_work_pending_keys", WORK, "Keys still to be delivered.").by(KeptBy::Command),
    Metric::gauge("lockstep_work_pending_oldest_seconds", WORK, "Age of the oldest of them.")
        .by(KeptBy::Command),
    // Applications.
    Metric::counter(
        "lockstep_write_outcomes_total",
        &["table", "mode", "outcome"],
        "Writes of this application, by write mode and how they ended.",
    )
    .by(KeptBy::Application),
    Metric::counter(
        "lockstep_coordinated_operations_total",
        &["outcome"],
        "Coordinated operations of this application, by how they ended.",
    )
    .by(KeptBy::Application),
    Metric::counter(
        "lockstep_reads_total",
        &["table", "store", "cause"],
        "Reads of this application, by the store that answered and why it did.",
    )
    .by(KeptBy::Application),
    Metric::counter(
        "lockstep_shadow_mismatches_total",
        TABLE,
        "Shadow reads of this application whose answers differ.",
    )
    .by(KeptBy::Application),
];
