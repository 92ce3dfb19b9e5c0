//! Comparing single keys, and nothing else: what a repair does to see whether it worked.

use std::sync::Arc;

use lockstep_postgres::{Source, TableBinding};

use chrono::Utc;
use lockstep_core::Control;
use lockstep_dynamo::Target;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::evidence::{Manifest, SCHEMA_VERSION};
use crate::options::ValidateOptions;
use crate::progress::ValidationProgress;
use crate::reader::Reader;
use crate::recheck::{BATCH, recheck};
use crate::report::Report;
use crate::suspect::{Subject, Suspect, Suspects};
use crate::table_report::TableReport;
use crate::table_run::TableRun;
use crate::verdict::decide;

/// Compares the rows and items of these source keys, one SQL literal a key column, as the recheck of a whole
/// validation does: what is on its way is waited for, and only what is decided is a finding. Nothing else of
/// the table is looked at, so this is a report of these keys and no verdict on the table. It says of itself
/// whether all of them were read again.
///
/// # Cancel safety
/// Reading has no effect.
#[crate::boxed]
pub async fn validate_keys(
    source: &Source,
    target: &Target,
    binding: &TableBinding,
    keys: &[Vec<String>],
    options: &ValidateOptions,
    cancel: &CancellationToken,
) -> TableReport {
    let options = ValidateOptions { quiescent: false, ..options.clone() };
    let reader = Reader::new(source, target, &options);
    if let Err(error) = reader.ask(|| reader.source.require_contract(std::slice::from_ref(binding))).await {
        return failed(&reader, binding, error.to_string());
    }
    let control = match reader.ask(|| reader.source.control()).await {
        Ok(control) => control,
        Err(error) => return failed(&reader, binding, error.to_string()),
    };
    let run = TableRun::new(&reader, binding, &options, (&control, None), &ValidationProgress::new(&[]));
    let compared = cancel.run_until_cancelled(compare(&run, keys, &control)).await;
    reader.settle().await;
    run.close(compared.unwrap_or_else(|| Err("it was cancelled".to_owned()))).await
}

/// The report of a comparison of some keys of one table: what is found is recorded by it, and it is no
/// verdict.
pub fn report_of_keys(table: TableReport, control: &Control, options: &ValidateOptions) -> Report {
    let tables = vec![table];
    Report {
        verdict: decide(&tables, options, &["only some keys were compared".to_owned()]),
        started_at: Utc::now(),
        duration_s: 0.0,
        phase: Some(control.phase),
        epoch: Some(control.epoch.0),
        window_start: None,
        window_end: None,
        sample: None,
        incremental: false,
        from_export: false,
        seed_given: options.digest_seed.is_some(),
        began: Report::lowest(&tables),
        tables,
        schema_version: SCHEMA_VERSION,
        manifest: Manifest::default(),
        lag: Vec::new(),
        latency: Vec::new(),
    }
}

fn failed(reader: &Reader, binding: &TableBinding, failure: String) -> TableReport {
    let store_failed = reader.gave_up();
    TableReport { failure: Some(failure), store_failed, ..TableReport::of(binding.name()) }
}

async fn compare(run: &Arc<TableRun>, keys: &[Vec<String>], then: &Control) -> Result<(), String> {
    let (reader, binding) = (&run.reader, &run.binding);
    // What has expired is excused, and by both clocks.
    reader.ask(|| reader.source.clock()).await.map_err(|e| e.to_string())?;
    let named = reader.ask(|| reader.source.source_keys(binding, keys)).await.map_err(|e| e.to_string())?;
    let mut suspects = Vec::with_capacity(keys.len());
    for (key, named) in keys.iter().zip(named) {
        let place = binding
            .table
            .target_key(&named)
            .map_err(|reason| format!("a key has no place in the target: {reason}"))?;
        suspects.push(Suspect::of_row(Subject::Key { key: key.clone(), place }));
    }
    let (sender, queue) = mpsc::channel(BATCH);
    let feed = async { Suspects(sender).raise(suspects).await };
    let (fed, rechecked) = tokio::join!(feed, recheck(run, queue));
    rechecked.map_err(|e| e.to_string())?;
    fed.map_err(|e| e.to_string())?;
    let now = reader.ask(|| reader.source.control()).await.map_err(|e| e.to_string())?;
    if now.epoch == then.epoch { Ok(()) } else { Err("the phase changed meanwhile".to_owned()) }
}
