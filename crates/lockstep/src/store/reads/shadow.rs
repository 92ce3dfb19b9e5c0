//! Shadow reads: what the target would have answered, compared by value, never in the caller's way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::Semaphore;

use crate::central::Central;

/// Most shadow reads under way at once. They compete with the application for both stores, so they are few;
/// beyond it a shadow read is dropped, and counted.
const AT_ONCE_MAX: usize = 16;

/// Outcome of comparing the two stores for one read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Both answer the same.
    Agree,
    /// The stores differ, and nothing that is on its way explains it. Says where, without values.
    Differ(String),
    /// No comparison is possible: something that was asked for is pending, or kept changing.
    NotComparable,
}

/// Comparisons of one query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShadowCounts {
    /// Both stores answered the same.
    pub agree: u64,
    /// Comparisons in which the stores differed.
    pub differ: u64,
    /// Comparisons that said nothing: a key was pending, or kept changing.
    pub not_comparable: u64,
    /// One of the stores did not answer.
    pub failed: u64,
}

/// Results of shadow reads since the handle was opened; its owner reads it, and the alerts of the
/// daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShadowSummary {
    /// Counts of each query; a look-up by key is called `get`.
    pub queries: BTreeMap<&'static str, ShadowCounts>,
    /// Shadow reads that were not made because too many were under way.
    pub dropped: u64,
    /// The last difference, without values.
    pub last_difference: Option<String>,
}

impl ShadowSummary {
    /// All queries together.
    ///
    /// ```
    /// use lockstep::store::reads::{ShadowCounts, ShadowSummary};
    ///
    /// let five = ShadowCounts { agree: 5, ..ShadowCounts::default() };
    /// let queries = [("get", five), ("by_loan", five)].into();
    /// let summary = ShadowSummary { queries, ..ShadowSummary::default() };
    /// assert_eq!(summary.total().agree, 10);
    /// ```
    pub fn total(&self) -> ShadowCounts {
        self.queries.values().fold(ShadowCounts::default(), |sum, one| ShadowCounts {
            agree: sum.agree + one.agree,
            differ: sum.differ + one.differ,
            not_comparable: sum.not_comparable + one.not_comparable,
            failed: sum.failed + one.failed,
        })
    }

    /// Whether something was compared and nothing differed. A shadow that saw nothing has proven nothing
    /// (I11).
    ///
    /// ```
    /// use lockstep::store::reads::ShadowSummary;
    ///
    /// assert!(!ShadowSummary::default().is_clean());
    /// ```
    pub fn is_clean(&self) -> bool {
        let total = self.total();
        total.agree > 0 && total.differ == 0
    }
}

/// The shadow reads of one store handle.
pub(in crate::store) struct Shadow {
    free: Arc<Semaphore>,
    dropped: AtomicU64,
    found: Arc<Mutex<Found>>,
    central: Arc<Central>,
}

#[derive(Default)]
struct Found {
    queries: BTreeMap<&'static str, ShadowCounts>,
    last_difference: Option<String>,
}

impl Shadow {
    /// `central` is told what they find.
    pub(in crate::store) fn new(central: Arc<Central>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            dropped: AtomicU64::new(0),
            found: Arc::default(),
            central,
        }
    }

    /// Runs a comparison in a task of its own, or drops it when too many are under way. Returns at once.
    pub(in crate::store) fn spawn(
        &self,
        table: &'static str,
        query: &'static str,
        comparison: impl Future<Output = lockstep_core::Result<Comparison>> + Send + 'static,
    ) {
        let Ok(place) = self.free.clone().try_acquire_owned() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (found, central) = (self.found.clone(), self.central.clone());
        // Owned by its place: it is bounded by the stores' time-outs, and a process that ends may drop it.
        tokio::spawn(async move {
            let compared = comparison.await;
            if let Ok(Comparison::Differ(what)) = &compared {
                tracing::warn!(table, query, "the stores differ: {what}");
                metrics::counter!("lockstep_shadow_mismatches_total", "table" => table).increment(1);
            }
            let name = match &compared {
                Ok(Comparison::Agree) => "shadow.agree",
                Ok(Comparison::Differ(_)) => "shadow.differ",
                Ok(Comparison::NotComparable) => "shadow.not_comparable",
                Err(_) => "shadow.failed",
            };
            central.count(table, name);
            found.lock().unwrap_or_else(PoisonError::into_inner).note(query, compared.ok());
            drop(place);
        });
    }

    pub(in crate::store) fn summary(&self) -> ShadowSummary {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        ShadowSummary {
            queries: found.queries.clone(),
            dropped: self.dropped.load(Ordering::Relaxed),
            last_difference: found.last_difference.clone(),
        }
    }
}

impl Found {
    fn note(&mut self, query: &'static str, compared: Option<Comparison>) {
        let counts = self.queries.entry(query).or_default();
        match compared {
            Some(Comparison::Agree) => counts.agree += 1,
            Some(Comparison::Differ(what)) => {
                counts.differ += 1;
                self.last_difference = Some(format!("{query}: {what}"));
            }
            Some(Comparison::NotComparable) => counts.not_comparable += 1,
            None => counts.failed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_house_drops_shadow_reads_and_counts_them() {
        let shadow = Shadow::new(Arc::default());
        for _ in 0..AT_ONCE_MAX + 3 {
            shadow.spawn("t", "get", std::future::pending());
        }
        assert_eq!(shadow.summary().dropped, 3);
    }

    #[test]
    fn a_shadow_that_saw_nothing_is_not_clean() {
        let mut found = Found::default();
        let summary =
            |found: &Found| ShadowSummary { queries: found.queries.clone(), ..ShadowSummary::default() };
        assert!(!summary(&found).is_clean(), "I11");
        found.note("get", Some(Comparison::NotComparable));
        assert!(!summary(&found).is_clean(), "I11");
        found.note("get", Some(Comparison::Agree));
        assert!(summary(&found).is_clean());
        found.note("by_loan", Some(Comparison::Differ("x".to_owned())));
        assert!(!summary(&found).is_clean());
        assert_eq!(
            summary(&found).total(),
            ShadowCounts { agree: 1, differ: 1, not_comparable: 1, failed: 0 }
        );
    }
}
