//! Canary reads (R7): before reads move to the target, each kind of query that applications ask is asked of
//! both stores.

use std::time::Duration;

use futures::future::BoxFuture;
use lockstep::store::StoreRead;
use lockstep::store::reads::Comparison;
use lockstep_core::Advice::{RepairRows, Validate};

use crate::gate::GateResult;

type AskOne = Box<dyn Fn() -> BoxFuture<'static, lockstep_core::Result<u64>> + Send + Sync>;
type Ask = Box<dyn Fn() -> BoxFuture<'static, lockstep_core::Result<Comparison>> + Send + Sync>;

/// One query with its arguments, to be asked of both stores and compared by value and order.
pub struct CanaryRead {
    pub(crate) table: &'static str,
    pub(crate) query: &'static str,
    ask: Ask,
    pub(crate) timed: Option<Timed>,
}

/// The same query of one store alone; each answers how many rows there were.
pub(crate) struct Timed {
    pub(crate) source: AskOne,
    pub(crate) target: AskOne,
}

/// The kind of a read by the key of a row, which every table is asked.
pub(crate) const BY_KEY: &str = "by key";

impl CanaryRead {
    /// Makes a read that a store makes.
    pub(crate) fn of(table: &'static str, read: StoreRead) -> Self {
        let StoreRead { query, compare, source, target } = read;
        Self { table, query, ask: compare, timed: Some(Timed { source, target }) }
    }

    /// Makes a read of `table`: `query` names its kind, `ask` asks and compares. It may be asked any number
    /// of times.
    pub fn new<F>(
        table: &'static str,
        query: &'static str,
        ask: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = lockstep_core::Result<Comparison>> + Send + 'static,
    {
        Self { table, query, ask: Box::new(move || Box::pin(ask())), timed: None }
    }

    /// Returns the same read, which can also be asked of one store alone, to be timed. Each answers how many
    /// rows there were.
    #[must_use]
    pub fn timed<S, T>(
        mut self,
        source: impl Fn() -> S + Send + Sync + 'static,
        target: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self
    where
        S: Future<Output = lockstep_core::Result<u64>> + Send + 'static,
        T: Future<Output = lockstep_core::Result<u64>> + Send + 'static,
    {
        let (source, target) =
            (Box::new(move || Box::pin(source()) as _), Box::new(move || Box::pin(target()) as _));
        self.timed = Some(Timed { source, target });
        self
    }
}

/// A row that is written all the time is read from one store before a write and from the other after it. That
/// is no difference, and asked again it is soon met at rest; one that is, stays.
const TRIES_MAX: u32 = 15;
/// Pause between them.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl CanaryRead {
    /// Asks until both stores agree, or `tries` times.
    async fn compared(&self, tries: u32) -> lockstep_core::Result<Comparison> {
        for _ in 1..tries {
            match (self.ask)().await {
                Ok(Comparison::Differ(_)) => tokio::time::sleep(AGAIN_AFTER).await,
                other => return other,
            }
        }
        (self.ask)().await
    }
}

/// Outcome of all reads of one kind.
struct Kind {
    table: &'static str,
    query: &'static str,
    agreed: usize,
    being_written: usize,
    /// The first that failed: what was found, and what to do.
    failed: Option<(String, String)>,
    asked: usize,
}

/// Asks them one after the other; one gate for each kind of query of each table, in the order they come.
pub(crate) async fn canary_gates(reads: &[CanaryRead]) -> Vec<GateResult> {
    let mut kinds: Vec<Kind> = Vec::new();
    for read in reads {
        let known = kinds.iter().position(|kind| (kind.table, kind.query) == (read.table, read.query));
        let at = known.unwrap_or_else(|| {
            kinds.push(Kind {
                table: read.table,
                query: read.query,
                agreed: 0,
                being_written: 0,
                failed: None,
                asked: 0,
            });
            kinds.len() - 1
        });
        let kind = &mut kinds[at];
        kind.asked += 1;
        // One failure is enough to refuse; no other read of this kind need be waited for.
        let tries = if kind.failed.is_none() { TRIES_MAX } else { 1 };
        match read.compared(tries).await {
            Ok(Comparison::Agree) => kind.agreed += 1,
            Ok(Comparison::NotComparable) => kind.being_written += 1,
            Ok(Comparison::Differ(what)) => kind.fail(what, format!("run {Validate}, then {RepairRows}")),
            Err(error) => {
                kind.fail(format!("no answer: {error}"), "try again when both stores answer".to_owned());
            }
        }
    }
    kinds.into_iter().map(Kind::gate).collect()
}

impl Kind {
    fn fail(&mut self, what: String, next: String) {
        self.failed.get_or_insert((what, next));
    }

    fn gate(self) -> GateResult {
        let name = format!("canary read: {}", self.query);
        let Self { agreed, being_written, asked, .. } = self;
        let gate = match self.failed {
            Some((what, next)) => GateResult::fail(
                &name,
                format!("{} of {asked}: {what}", asked - agreed - being_written),
                next,
            ),
            // A key that is written all the time cannot be compared as a whole; the verdict has compared each
            // row of it by itself.
            None if being_written > 0 => {
                let rest =
                    format!("{being_written} could not be compared: the rows they read are being written");
                let found = format!("both stores answer the same to {agreed} of {asked}; {rest}");
                GateResult::pass(&name, found).tells_if(true)
            }
            None => GateResult::pass(&name, format!("both stores answer the same to {agreed} of {asked}")),
        };
        gate.of(self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_differs_only_while_it_is_written_agrees_when_asked_again() {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let read = CanaryRead::new("logs", "by key", {
            let asked = asked.clone();
            move || {
                let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                async move {
                    Ok(if n < 2 { Comparison::Differ("a row differs".to_owned()) } else { Comparison::Agree })
                }
            }
        });
        assert!(canary_gates(&[read]).await[0].passed);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn each_kind_of_query_has_one_gate_and_a_single_difference_fails_it() {
        let read = |query, answer: Comparison| {
            CanaryRead::new("logs", query, move || {
                let answer = answer.clone();
                async move { Ok(answer) }
            })
        };
        let reads = [
            read("by key", Comparison::Agree),
            read("by day", Comparison::Agree),
            read("by key", Comparison::NotComparable),
            read("by day", Comparison::Differ("a row differs".to_owned())),
            read("by day", Comparison::Agree),
        ];
        let gates = canary_gates(&reads).await;
        let told: Vec<_> =
            gates.iter().map(|gate| (gate.name.as_str(), gate.passed, gate.detail.as_str())).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        let mixed = "both stores answer the same to 1 of 2; 1 could not be compared: the rows they read are \
                     being written";
        assert_eq!(told[0], ("canary read: by key", true, mixed));
        assert_eq!(told[1], ("canary read: by day", false, "1 of 3: a row differs"));
    }
}
