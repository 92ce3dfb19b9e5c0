//! Evidence beside a comparison: the lag while it ran, the configuration's hash, the page.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use lockstep_postgres::{Entry, Source, TableBinding};
use lockstep_report::{ReportPage, TimelineMoment, html};
use lockstep_validator::{LagSample, Report};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Config;
use crate::files::write_private;
use crate::ui::printable;

/// Interval at which the lag is looked at: it counts the pending set.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most samples of a table that are kept; with more, every second one goes.
const SAMPLES_MAX: usize = 600;
/// Entries of the journal that a page shows.
const JOURNAL_MAX: i64 = 400;
/// Longest detail of an entry that a page shows, in characters.
const DETAIL_CHARS_MAX: usize = 160;

/// Watches the lag until it is asked for what it saw.
pub(crate) struct LagWatch {
    samples: JoinHandle<Vec<LagSample>>,
    stop: DropGuard,
}

impl LagWatch {
    pub(crate) fn start(source: Source, tables: Vec<TableBinding>) -> Self {
        let stop = CancellationToken::new();
        let samples = tokio::spawn(watch(source, tables, stop.clone()));
        Self { samples, stop: stop.drop_guard() }
    }

    /// Returns what it saw. A lag that could not be read is not in it: it is no part of the verdict.
    pub(crate) async fn seen(self) -> Vec<LagSample> {
        drop(self.stop);
        self.samples.await.unwrap_or_default()
    }
}

async fn watch(source: Source, tables: Vec<TableBinding>, stop: CancellationToken) -> Vec<LagSample> {
    let begun = Instant::now();
    let mut samples: Vec<LagSample> = Vec::new();
    let mut every = LOOK_EVERY;
    loop {
        for table in &tables {
            if let Ok(lag) = source.lag(table.name()).await {
                samples.push(LagSample {
                    at_s: begun.elapsed().as_secs_f64(),
                    table: table.name().to_owned(),
                    pending: lag.keys.unsigned_abs(),
                    oldest_s: lag.oldest_s,
                });
            }
        }
        if samples.len() > SAMPLES_MAX * tables.len() {
            every *= 2;
            let mut nth = 0;
            samples.retain(|_| {
                nth += 1;
                ((nth - 1) / tables.len()).is_multiple_of(2)
            });
        }
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return samples;
        }
    }
}

/// SHA-256 of what is configured, as JSON with its keys in order. Secrets are masked before they are hashed:
/// a hash of a password would let it be guessed.
pub(crate) fn hash_of(config: &Config) -> anyhow::Result<String> {
    // A value keeps its keys in order, whatever order the sections are in.
    let written = serde_json::to_value(config)?.to_string();
    Ok(lockstep_dynamo::sha256_hex(written.as_bytes()))
}

/// Writes the page of a report.
pub(crate) async fn write_page(path: &Path, report: &Report, source: &Source) -> anyhow::Result<()> {
    let timeline: Vec<TimelineMoment> = source.journal(JOURNAL_MAX).await?.into_iter().map(moment).collect();
    let page = html(&ReportPage { report, timeline: &timeline, made_at: Utc::now() });
    // A viewer of pages turns text around as a terminal does.
    let page = printable(&page);
    write_private(path, |out| out.write_all(page.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

/// Returns an entry in words. Of its detail, what says how it went: the phases, a force's reason, counts;
/// never keys.
fn moment(entry: Entry) -> TimelineMoment {
    let text = |name: &str| match entry.detail.get(name)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut parts = Vec::new();
    if let (Some(from), Some(to)) = (text("from"), text("to")) {
        parts.push(format!("{from} → {to}"));
    }
    if let Some(reason) = text("force") {
        parts.push(format!("FORCED: {reason}"));
    }
    for name in ["table", "phase", "epoch", "marked", "verified", "why"] {
        parts.extend(text(name).map(|value| format!("{name} {value}")));
    }
    let detail = parts.join(", ");
    let detail = match detail.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &detail[..end]),
        None => detail,
    };
    TimelineMoment { at: entry.at, kind: entry.kind, step: entry.step, detail, actor: entry.actor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_what_is_configured_and_not_of_secrets() {
        let plain = Config::default();
        let mut other = Config::default();
        other.validate.parallel += 1;
        let hash = |config: &Config| hash_of(config).expect("a configuration is JSON");
        assert_eq!(hash(&plain), hash(&Config::default()));
        assert_ne!(hash(&plain), hash(&other));
        let with = |password: &str| {
            let mut config = Config::default();
            let url = serde_json::Value::from(format!("postgres://u:{password}@h/d"));
            config.source.url = Some(serde_json::from_value(url).expect("a URL"));
            hash(&config)
        };
        assert_eq!(with("one"), with("two"));
    }
}
