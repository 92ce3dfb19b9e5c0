//! The latency check (R28): the same typed queries timed on both stores.
//!
//! Each query is asked of one store and then of the other, and who comes first changes from round to round,
//! so that neither finds what the other has warmed. The first round is not counted: it opens connections and
//! makes plans. Timed is what an application waits for: the request, the answer, and its decoding into rows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_validator::{Percentiles, QueryLatency};
use tokio_util::sync::CancellationToken;

use crate::canary::CanaryRead;
use crate::error::{CoordinatorError, Result};

/// Samples of one kind of query.
#[derive(Default)]
struct Samples {
    source: Vec<Duration>,
    target: Vec<Duration>,
    rows: u64,
}

/// Asks every read that can be timed `rounds` times of both stores; one entry for each kind of query of each
/// table.
///
/// # Errors
/// Of a store that does not answer; [`CoordinatorError::Interrupted`].
///
/// # Cancel safety
/// Reading has no effect.
#[crate::boxed]
pub async fn measure_latency(
    reads: &[CanaryRead],
    rounds: usize,
    cancel: &CancellationToken,
) -> Result<Vec<QueryLatency>> {
    let mut measured: BTreeMap<(&str, &str), Samples> = BTreeMap::new();
    for round in 0..=rounds {
        for read in reads {
            if cancel.is_cancelled() {
                return Err(CoordinatorError::Interrupted);
            }
            let Some(timed) = &read.timed else { continue };
            let (source, target, rows) = if round % 2 == 0 {
                let (source, rows) = clock((timed.source)()).await?;
                (source, clock((timed.target)()).await?.0, rows)
            } else {
                let (target, _) = clock((timed.target)()).await?;
                let (source, rows) = clock((timed.source)()).await?;
                (source, target, rows)
            };
            if round > 0 {
                let samples = measured.entry((read.table, read.query)).or_default();
                samples.source.push(source);
                samples.target.push(target);
                samples.rows += rows;
            }
        }
    }
    let entries = measured.into_iter().map(|((table, query), samples)| {
        let entry = QueryLatency {
            table: table.to_owned(),
            query: query.to_owned(),
            samples: samples.source.len() as u64,
            rows_mean: samples.rows as f64 / samples.source.len().max(1) as f64,
            source: percentiles(samples.source),
            target: percentiles(samples.target),
            improvement_percent: None,
        };
        entry.compared()
    });
    Ok(entries.collect())
}

async fn clock(asked: impl Future<Output = lockstep_core::Result<u64>>) -> Result<(Duration, u64)> {
    let begun = Instant::now();
    let rows = asked.await?;
    Ok((begun.elapsed(), rows))
}

/// Computes percentiles by nearest rank: the least sample that at least the given percentage of all do not
/// exceed.
fn percentiles(mut samples: Vec<Duration>) -> Percentiles {
    samples.sort_unstable();
    let at = |percent: usize| {
        let rank = (samples.len() * percent).div_ceil(100).max(1);
        samples.get(rank - 1).map_or(0.0, |sample| sample.as_secs_f64() * 1_000.0)
    };
    Percentiles { p50_ms: at(50), p95_ms: at(95), p99_ms: at(99) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let of = |count: u64| percentiles((1..=count).rev().map(Duration::from_millis).collect());
        assert_eq!(of(100), Percentiles { p50_ms: 50.0, p95_ms: 95.0, p99_ms: 99.0 });
        assert_eq!(of(1), Percentiles { p50_ms: 1.0, p95_ms: 1.0, p99_ms: 1.0 });
        assert_eq!(of(10), Percentiles { p50_ms: 5.0, p95_ms: 10.0, p99_ms: 10.0 });
        assert_eq!(of(0), Percentiles { p50_ms: 0.0, p95_ms: 0.0, p99_ms: 0.0 });
    }
}
