//! The gate of latency (R52): before reads move to the target, and before it alone is written, the typed
//! queries are timed as the latency check does, and held against what the operator allows.
//!
//! 1. Both stores answer the same. 2. A query by an index takes DynamoDB from here ten times as long. 3. The
//! step is taken, and users are the first to notice.

use lockstep_core::Advice::{MeasureLatency, SourceLatencyMax, TargetLatencyMax};
use lockstep_validator::{Percentiles, QueryLatency};
use tokio_util::sync::CancellationToken;

use crate::canary::CanaryRead;
use crate::error::Result;
use crate::gate::GateResult;
use crate::latency::measure_latency;
use crate::options::StepOptions;

/// Percentiles that are measured.
pub const LATENCY_PERCENTILES: [u8; 3] = [50, 95, 99];

/// Limits of each store, in milliseconds, and of which percentile.
#[derive(Clone, Copy, Debug)]
struct Limits {
    percentile: u8,
    source_ms: Option<u64>,
    target_ms: Option<u64>,
}

impl Limits {
    /// Returns the limits that are set; `None` where none is, and nothing has to be timed.
    fn of(steps: &StepOptions) -> Option<Self> {
        let set = |ms: u64| (ms > 0).then_some(ms);
        let limits = Self {
            percentile: steps.latency_percentile,
            source_ms: set(steps.source_latency_ms_max),
            target_ms: set(steps.target_latency_ms_max),
        };
        (limits.source_ms.is_some() || limits.target_ms.is_some()).then_some(limits)
    }

    fn measured(&self, of: &Percentiles) -> f64 {
        match self.percentile {
            50 => of.p50_ms,
            95 => of.p95_ms,
            _ => of.p99_ms,
        }
    }
}

/// Tells whether a limit is set.
pub(crate) fn is_limited(steps: &StepOptions) -> bool {
    Limits::of(steps).is_some()
}

/// Times `reads` and judges each kind of query of each table; nothing where no limit is set.
pub(crate) async fn latency_gates(reads: &[CanaryRead], steps: &StepOptions) -> Result<Vec<GateResult>> {
    let Some(limits) = Limits::of(steps) else { return Ok(Vec::new()) };
    // The step is dropped as a whole where it is told to stop.
    let measured = measure_latency(reads, steps.latency_rounds, &CancellationToken::new()).await?;
    if measured.is_empty() {
        return Ok(vec![GateResult::pass("latency", "no table has a row to ask for, so nothing was timed")]);
    }
    Ok(measured.iter().map(|query| judge(query, &limits)).collect())
}

fn judge(query: &QueryLatency, limits: &Limits) -> GateResult {
    let (source, target) = (limits.measured(&query.source), limits.measured(&query.target));
    let store = |name: &str, ms: f64, limit: Option<u64>| match limit {
        Some(limit) => format!("{name} answers within {ms:.1} ms of at most {limit}"),
        None => format!("{name} within {ms:.1} ms"),
    };
    let is_within = |ms: f64, limit: Option<u64>| limit.is_none_or(|limit| ms <= limit as f64);
    let detail = format!(
        "{} of 100: {}, {}{}; {} samples",
        limits.percentile,
        store("PostgreSQL", source, limits.source_ms),
        store("DynamoDB", target, limits.target_ms),
        change(source, target),
        query.samples
    );
    let next = format!(
        "time them by {MeasureLatency}; look at the query, its index and the way to the store, or allow \
         more by {SourceLatencyMax} and {TargetLatencyMax} (0 allows any)"
    );
    let passed = is_within(source, limits.source_ms) && is_within(target, limits.target_ms);
    GateResult::check(&format!("latency: {}", query.query), passed, detail, next).of(&query.table)
}

/// Says by how many percent the target is faster or slower.
fn change(source: f64, target: f64) -> String {
    if source <= 0.0 {
        return String::new();
    }
    let percent = (target - source) / source * 100.0;
    let word = if percent > 0.0 { "slower" } else { "faster" };
    format!(" ({:.0} % {word})", percent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(source: f64, target: f64) -> QueryLatency {
        let all = |ms: f64| Percentiles { p50_ms: ms / 10.0, p95_ms: ms / 2.0, p99_ms: ms };
        QueryLatency {
            table: "payments".to_owned(),
            query: "by key".to_owned(),
            samples: 40,
            rows_mean: 1.0,
            source: all(source),
            target: all(target),
            improvement_percent: None,
        }
    }

    #[test]
    fn each_store_is_held_against_its_own_limit_at_the_percentile_that_is_configured() {
        let steps = |percentile, source, target| StepOptions {
            latency_percentile: percentile,
            source_latency_ms_max: source,
            target_latency_ms_max: target,
            ..StepOptions::default()
        };
        let passes = |steps: &StepOptions| {
            judge(&query(10.0, 20.0), &Limits::of(steps).expect("a limit is set")).passed
        };
        assert!(!is_limited(&StepOptions::default()), "off unless it is configured");
        assert!(passes(&steps(99, 10, 20)), "a limit is met by what is as long");
        assert!(!passes(&steps(99, 9, 20)));
        assert!(!passes(&steps(99, 0, 19)));
        assert!(passes(&steps(99, 10, 0)));
        assert!(passes(&steps(95, 5, 10)) && !passes(&steps(95, 5, 9)));
        assert!(passes(&steps(50, 1, 2)) && !passes(&steps(50, 0, 1)));
        let gate = judge(&query(10.0, 20.0), &Limits::of(&steps(99, 0, 19)).expect("set"));
        assert_eq!(
            gate.detail,
            "99 of 100: PostgreSQL within 10.0 ms, DynamoDB answers within 20.0 ms of at most 19 \
             (100 % slower); 40 samples"
        );
        assert_eq!((gate.name.as_str(), gate.table.as_deref()), ("latency: by key", Some("payments")));
    }
}
