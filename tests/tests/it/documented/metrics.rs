//! Metrics: each that the code names has a sentence, and docs/metrics.md shows them all (R47).

use std::collections::BTreeSet;

use lockstep_core::{KeptBy, METRICS, Metric, MetricForm};
use lockstep_tidy::files;

const DOCUMENT: &str = "docs/metrics.md";
const PREFIX: &str = "lockstep_";

/// Names that stand in a text behind the macro by which a metric is kept.
fn kept(code: &str) -> BTreeSet<String> {
    let macros = ["counter!(", "gauge!(", "histogram!("];
    let behind =
        macros.iter().flat_map(|name| code.match_indices(name).map(|(at, _)| &code[at + name.len()..]));
    let quoted = behind.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    quoted.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// The tables of the document.
fn tables() -> String {
    let of = |(title, kept_by): (&str, KeptBy)| {
        let rows = METRICS.iter().filter(|metric| metric.kept_by == kept_by).map(|metric| {
            let form = match metric.form {
                MetricForm::Counter => "counter",
                MetricForm::Gauge => "gauge",
                MetricForm::Histogram => "histogram",
            };
            let labels = metric.labels.join(", ");
            format!("| `{}` | {form} | {labels} | {} |\n", metric.name, metric.help)
        });
        format!("## {title}\n\n| Metric | Form | Labels | |\n|---|---|---|---|\n{}", rows.collect::<String>())
    };
    let parts = [
        ("Every process", KeptBy::All),
        ("The daemon", KeptBy::Daemon),
        ("A command with `--metrics-listen`", KeptBy::Command),
        ("A program that embeds `lockstep`", KeptBy::Application),
    ];
    parts.map(of).join("\n")
}

#[test]
fn every_metric_has_a_sentence_and_stands_in_the_document() {
    let rust = files::rust();
    let of_crates = rust.iter().filter(|path| path.starts_with("crates/"));
    let kept: BTreeSet<String> = of_crates.flat_map(|path| kept(&files::read(path))).collect();
    assert!(kept.len() > 50, "the metrics were found: {}", kept.len());
    let told: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let untold: Vec<_> = kept.iter().filter(|name| !told.contains(name.as_str())).collect();
    assert!(untold.is_empty(), "crates/core/src/metric.rs lacks {untold:?}");
    // Those of a histogram are named by a constant.
    let is_kept = |metric: &&Metric| metric.form == MetricForm::Histogram || kept.contains(metric.name);
    let gone: Vec<_> = METRICS.iter().filter(|metric| !is_kept(metric)).map(|metric| metric.name).collect();
    assert!(gone.is_empty(), "these are kept no more: {gone:?}");
    let tables = tables();
    assert!(files::read(DOCUMENT).ends_with(&tables), "{DOCUMENT} is to end with:\n\n{tables}");
}
