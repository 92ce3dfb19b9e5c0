//! Canary reads (R7): before reads move to the target, each kind of query that applications ask is asked of both stores.

use futures::future::BoxFuture;
use lockstep_core::store::reads::Comparison;

use crate::gates::GateResult;

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

impl CanaryRead {
    /// A read of `table`: `query` names its kind, `ask` asks and compares. It may be asked any number of times.
    pub fn new<F>(table: &'static str, query: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = lockstep_core::Result<Comparison>> + Send + 'static,
    {
        Self { table, query, ask: Box::new(move || Box::pin(ask())), timed: None }
    }

    /// The same read, which can also be asked of one store alone, to be timed. Each answers how many rows there were.
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
        let (source, target) = (Box::new(move || Box::pin(source()) as _), Box::new(move || Box::pin(target()) as _));
        self.timed = Some(Timed { source, target });
        self
    }
}

/// Asks them one after the other; one gate each.
pub(crate) async fn canary_gates(reads: &[CanaryRead]) -> Vec<GateResult> {
    let mut gates = Vec::with_capacity(reads.len());
    for read in reads {
        let name = format!("canary read: {}", read.query);
        let next = "validate, and mend what it finds";
        let gate = match (read.ask)().await {
            Ok(Comparison::Agree) => GateResult::pass(&name, "both stores answer the same"),
            // What is written all the time cannot be compared as a whole; the verdict has compared each row of it by itself.
            Ok(Comparison::NotComparable) => GateResult::pass(&name, "not to be told: what it reads is being written"),
            Ok(Comparison::Differ(what)) => GateResult::fail(&name, what, next),
            Err(error) => GateResult::fail(&name, format!("no answer: {error}"), "try again when both stores answer"),
        };
        gates.push(gate.of(read.table));
    }
    gates
}
