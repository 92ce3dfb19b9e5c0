//! All tables together: the composition.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use futures::future::join_all;
use lockstep_core::Control;
use lockstep_dynamo::Target;
use lockstep_postgres::{Source, TableBinding, control_schema};
use tokio_util::sync::CancellationToken;

use crate::evidence::{Manifest, ManifestTable, SCHEMA_VERSION};
use crate::options::ValidateOptions;
use crate::progress::ValidationProgress;
use crate::reader::Reader;
use crate::report::Report;
use crate::table_report::TableReport;
use crate::table_run::TableRun;
use crate::verdict::decide;

/// Compares every row of every table with its item and every item with its row, while writers go on.
///
/// Called by operators and gates whenever they want to know; any number of validations may run at once. It
/// draws a number before its first reading, by which verdicts are ordered, notes what it reads, and writes
/// nothing else: nothing to the stores, and to Lockstep's own tables only where it is shared. Recording the
/// verdict is the caller's. All tables are compared at the same time and share the bounds of
/// [`ValidateSettings::parallel`](crate::ValidateSettings::parallel); memory is bounded by chunks and
/// suspects, not by rows.
///
/// It never fails: a store that does, a bug that panics, and a cancelled `cancel` all end in a verdict that
/// is not consistent and says, by table, what was not compared.
///
/// # Cancel safety
/// Dropped before its end, its tasks are stopped; nothing is left behind. Prefer `cancel`, which still
/// reports.
#[crate::boxed]
pub async fn validate(
    source: &Source,
    target: &Target,
    tables: &[TableBinding],
    options: &ValidateOptions,
    progress: &Arc<ValidationProgress>,
    cancel: &CancellationToken,
) -> Report {
    let (started_at, begun) = (Utc::now(), Instant::now());
    // The counts of a sample are not those of the tables, and those of an export are of another moment.
    let counts_tell = options.sample.is_none() && options.exports.is_empty();
    let options = &ValidateOptions { quiescent: options.quiescent && counts_tell, ..options.clone() };
    let reader = Reader::new(source, target, options);
    // Before anything is read that is compared.
    let begin = async {
        let control = control(&reader, tables).await?;
        let history = reader.ask(|| reader.source.history()).await.map_err(|e| e.to_string())?;
        let number = reader.ask(|| reader.source.draw_number()).await.map_err(|e| e.to_string())?;
        Ok((control, number, history))
    };
    let control = cancel.run_until_cancelled(begin).await.unwrap_or_else(|| Err(CANCELLED.to_owned()));
    let mut obstacles = Vec::new();
    let reports = match &control {
        Err(obstacle) => {
            obstacles.push(obstacle.clone());
            tables.iter().map(|binding| untouched(&reader, binding)).collect()
        }
        Ok((control, number, history)) => {
            let begun = (control, *number);
            let reports =
                tables.iter().map(|binding| one_table(&reader, binding, options, begun, progress, cancel));
            let reports = join_all(reports).await;
            let numbers: Vec<i64> = reports.iter().filter_map(|report| report.began).chain(*number).collect();
            let changed = changed_since(&reader, control, history.as_deref(), &numbers);
            obstacles.extend(cancel.run_until_cancelled(changed).await.flatten());
            reports
        }
    };
    reader.settle().await;
    let control = control.ok().map(|(control, ..)| control);
    let report = Report {
        verdict: decide(&reports, options, &obstacles),
        started_at,
        duration_s: begun.elapsed().as_secs_f64(),
        phase: control.map(|control| control.phase),
        epoch: control.map(|control| control.epoch.0),
        window_start: options.window.start,
        window_end: options.window.end,
        sample: options.sample,
        from_export: !options.exports.is_empty(),
        seed_given: options.digest_seed.is_some(),
        schema_version: SCHEMA_VERSION,
        manifest: manifest(tables, &reports, options),
        lag: Vec::new(),
        latency: Vec::new(),
        incremental: options.incremental,
        began: Report::lowest(&reports),
        tables: reports,
    };
    tracing::info!(
        verdict = report.verdict.label(),
        duration_s = report.duration_s,
        findings = report.findings_total(),
        "validated"
    );
    report
}

const CANCELLED: &str = "it was cancelled";

/// Phase and epoch, or why there is nothing to validate.
async fn control(reader: &Reader, tables: &[TableBinding]) -> Result<Control, String> {
    match reader.ask(|| reader.source.has_schema()).await {
        Ok(true) => {
            // A table that agrees with another one, or under other keys, says nothing of the migration.
            reader.ask(|| reader.source.require_contract(tables)).await.map_err(|e| e.to_string())?;
            for binding in tables {
                let unfindable = reader.ask(|| reader.source.unfindable_rows(binding)).await;
                match unfindable.map_err(|e| e.to_string())? {
                    0 => {}
                    rows => {
                        return Err(format!(
                            "{rows} of some rows of {} are not found by their own key: its columns are \
                             not of the types that Lockstep reads them as",
                            binding.relation
                        ));
                    }
                }
            }
            // Expiry is judged against this time.
            reader.ask(|| reader.source.clock()).await.map_err(|e| e.to_string())?;
            reader.ask(|| reader.source.control()).await.map_err(|e| e.to_string())
        }
        Ok(false) => Err(format!(
            "nothing to validate: no migration here (the source has no schema `{}`)",
            control_schema()
        )),
        Err(error) => Err(error.to_string()),
    }
}

async fn one_table(
    reader: &Reader,
    binding: &TableBinding,
    options: &ValidateOptions,
    begun: (&Control, Option<i64>),
    progress: &Arc<ValidationProgress>,
    cancel: &CancellationToken,
) -> TableReport {
    let is_shared = options.sharing.is_some() && options.sample.is_none() && !options.incremental;
    let reader = &if is_shared { reader.of_a_share() } else { reader.clone() };
    let run = TableRun::new(reader, binding, options, begun, progress);
    let all = async {
        let (compared, references) =
            tokio::join!(run.compare(), run.judge.references(reader, binding, options));
        let mut report = run.close(compared).await;
        report.quality = run.judge.close(binding, report.complete, references, options);
        report
    };
    let report = match cancel.run_until_cancelled(all).await {
        Some(report) => report,
        None => {
            let (compared, expected) = (run.tally.compared(), run.progress().rows_expected());
            let failure = Some(format!("{CANCELLED} when {compared} of {expected} rows were compared"));
            TableReport { failure, ..run.report() }
        }
    };
    tracing::info!(
        table = report.name,
        phase = %begun.0.phase,
        compared = report.compared,
        findings = report.findings_total(),
        complete = report.complete,
        "compared"
    );
    report
}

/// Makes the manifest of what was compared; the caller that read the configuration adds its hash.
fn manifest(tables: &[TableBinding], reports: &[TableReport], options: &ValidateOptions) -> Manifest {
    let of_table = |(binding, report): (&TableBinding, &TableReport)| ManifestTable {
        name: binding.name().to_owned(),
        source: binding.relation.to_string(),
        target: binding.target_name.clone(),
        layout: binding.table.layout(),
        columns: binding
            .table
            .columns()
            .iter()
            .map(|column| format!("{} {}", column.name, column.sql_type))
            .collect(),
        scan_segments: options.settings.scan_segments as u64,
        digests: report.digests.clone(),
    };
    Manifest {
        lockstep_version: env!("CARGO_PKG_VERSION").to_owned(),
        ended_at: Some(Utc::now()),
        configuration_sha256: None,
        tables: tables.iter().zip(reports).map(of_table).collect(),
    }
}

fn untouched(reader: &Reader, binding: &TableBinding) -> TableReport {
    TableReport {
        failure: Some("nothing was compared".to_owned()),
        store_failed: reader.gave_up(),
        ..TableReport::of(binding.name())
    }
}

/// A step that was taken meanwhile: what was compared before it is no verdict on the phase after it. Nor is
/// what was compared with a server that another one has taken the place of: its number is of that one.
async fn changed_since(
    reader: &Reader,
    then: &Control,
    history: Option<&str>,
    numbers: &[i64],
) -> Option<String> {
    let unknown = |error: lockstep_core::Error| {
        Some(format!("whether the source is still the same is not known: {error}"))
    };
    match reader.ask(|| reader.source.history()).await {
        Ok(now) if now.as_deref() == history => {}
        Ok(_) => {
            return Some("the source went over to another server or timeline; validate again".to_owned());
        }
        Err(error) => return unknown(error),
    }
    // A copy of its files that was made before, say, is of the same timeline.
    if !numbers.is_empty() {
        match reader.ask(|| reader.source.have_begun(numbers)).await {
            Ok(true) => {}
            Ok(false) => {
                return Some(
                    "the source was set back to before the comparison began; validate again".to_owned(),
                );
            }
            Err(error) => return unknown(error),
        }
    }
    match control(reader, &[]).await {
        Ok(now) if now.epoch == then.epoch => None,
        Ok(now) => Some(format!(
            "the phase changed from {} to {} during the validation; validate again",
            then.phase, now.phase
        )),
        Err(error) => Some(format!("whether the phase changed meanwhile is not known: {error}")),
    }
}
