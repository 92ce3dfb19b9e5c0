//! Choice of the calls that a fault happens to.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use memchr::memmem;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::amazon::{each_twice, removed_by_expiry, wrong_date};
use super::answers::{Refusal, cut_and_closed};
use super::bucket::Bucket;
use super::call::Call;
use super::fault::{Fault, FaultKind};
use super::gate::Gate;
use super::partial::{self, Split};

/// A fault and the calls it happens to: all of them, unless the rule is narrowed.
///
/// A call is tried against the rules in the order they were scripted, and the first that applies decides. A
/// rule counts the calls that it was tried against and that match its operation and table; those taken by an
/// earlier rule it never sees.
#[derive(Debug)]
pub struct Rule {
    fault: Fault,
    operations: Vec<String>,
    table: Option<String>,
    text: Option<String>,
    after: u64,
    pick: Pick,
    limit: Option<u64>,
    bucket: Option<Bucket>,
    shards: BTreeMap<String, Bucket>,
    matched: u64,
    fired: u64,
}

#[derive(Debug)]
enum Pick {
    All,
    Every(u64),
    Chance { p: f64, rng: Box<StdRng> },
}

impl Rule {
    /// The fault happens to every call that it fits, until the rule is narrowed.
    ///
    /// # Panics
    ///
    /// If a partial fault withholds nothing: such a rule would count as fired without doing anything.
    #[track_caller]
    pub fn new(fault: Fault) -> Self {
        assert!(
            !matches!(fault, Fault::ThrottleStatements(0) | Fault::Unprocessed(0)),
            "{fault:?} withholds nothing"
        );
        let bucket = match fault {
            Fault::WriteUnits(per_second) | Fault::Calls(per_second) => Some(Bucket::new(per_second)),
            _ => None,
        };
        Rule {
            fault,
            operations: Vec::new(),
            table: None,
            text: None,
            after: 0,
            pick: Pick::All,
            limit: None,
            bucket,
            shards: BTreeMap::new(),
            matched: 0,
            fired: 0,
        }
    }

    /// Only this operation (`PutItem`); said again, that one too.
    #[must_use]
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operations.push(operation.into());
        self
    }

    /// Only calls that name this table.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// Only calls in whose body this text stands.
    #[must_use]
    pub fn naming(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Not the first `count` matching calls.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// At most this number of times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.limit = Some(count);
        self
    }

    /// Without an end: what a rule does anyway, for tests that want to say so.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.limit = None;
        self
    }

    /// Only each `n`th matching call.
    ///
    /// # Panics
    ///
    /// If `n` is zero.
    #[must_use]
    #[track_caller]
    pub fn every(mut self, n: u64) -> Self {
        assert!(n > 0, "every zeroth call is none");
        self.pick = Pick::Every(n);
        self
    }

    /// Each matching call with probability `p`. The draws follow from the seed; which call gets which draw
    /// follows from the order of arrival.
    ///
    /// # Panics
    ///
    /// If `p` is not a probability.
    #[must_use]
    #[track_caller]
    pub fn probability(mut self, p: f64, seed: u64) -> Self {
        assert!((0.0..=1.0).contains(&p), "{p} is not a probability");
        self.pick = Pick::Chance { p, rng: Box::new(StdRng::seed_from_u64(seed)) };
        self
    }

    fn matches(&self, call: &Call) -> bool {
        self.fault.fits(&call.operation)
            && (self.operations.is_empty() || self.operations.contains(&call.operation))
            && self.table.as_deref().is_none_or(|table| call.names(table))
            && self.text.as_deref().is_none_or(|text| memmem::find(&call.body, text.as_bytes()).is_some())
    }

    fn decide(&mut self, call: &Call, now: Instant) -> Option<Injection> {
        if !self.matches(call) {
            return None;
        }
        self.matched += 1;
        let turn = self.matched.checked_sub(self.after).filter(|turn| *turn > 0)?;
        if self.limit.is_some_and(|limit| self.fired >= limit) {
            return None;
        }
        let picked = match &mut self.pick {
            Pick::All => true,
            Pick::Every(n) => turn.is_multiple_of(*n),
            Pick::Chance { p, rng } => rng.random_bool(*p),
        };
        if !picked {
            return None;
        }
        let effect = self.effect(call, now)?;
        self.fired += 1;
        Some(Injection { kind: self.fault.kind(), effect })
    }

    fn effect(&mut self, call: &Call, now: Instant) -> Option<Effect> {
        Some(match &self.fault {
            Fault::Throttle => Effect::Refuse(Refusal::Throttled),
            Fault::ServerError => Effect::Refuse(Refusal::ServerError),
            Fault::NoPartiQl => Effect::Refuse(Refusal::UnknownOperation),
            Fault::ExpiredToken => Effect::Refuse(Refusal::ExpiredToken),
            Fault::AccessDenied => Effect::Refuse(Refusal::AccessDenied),
            Fault::Unavailable => Effect::Cut,
            Fault::LoseReply => Effect::LoseReply,
            Fault::Duplicate => Effect::Duplicate,
            Fault::Repeated => Effect::Repeat(None),
            Fault::RepeatedLate(gate) => Effect::Repeat(Some(gate.clone())),
            Fault::Delay(gate) => Effect::Delay(gate.clone()),
            Fault::AnswerThenApplyLate(gate) => Effect::ApplyLate(gate.clone(), None),
            Fault::ThrottleThenApplyLate(gate) => Effect::ApplyLate(gate.clone(), Some(Refusal::Throttled)),
            Fault::ThrottleStatements(count) | Fault::Unprocessed(count) => {
                Effect::Withhold(partial::split(&call.operation, &call.body, *count)?)
            }
            Fault::WriteUnits(_) => return self.over_the_rate(call, now),
            Fault::Calls(_) => {
                let taken = self.bucket.as_mut()?.take(1, 1, now);
                return (taken == 0).then_some(Effect::Refuse(Refusal::Code("LimitExceededException")));
            }
            Fault::ShardCalls(most) => {
                let bucket = self.shards.entry(call.shard()?).or_insert_with(|| Bucket::new(*most));
                let taken = bucket.take(1, 1, now);
                return (taken == 0).then_some(Effect::Refuse(Refusal::Code("LimitExceededException")));
            }
            Fault::Page(status) => Effect::Refuse(Refusal::Page(*status)),
            Fault::PageAfter(status) => Effect::ApplyThenRefuse(Refusal::Page(*status)),
            Fault::Empty(body) => Effect::Refuse(Refusal::Empty(body)),
            Fault::CutAndClosed => Effect::Rewrite(cut_and_closed, Checksum::Kept),
            Fault::ThrottleAfter => Effect::ApplyThenRefuse(Refusal::Throttled),
            Fault::Code(code) => Effect::Refuse(Refusal::Code(code)),
            Fault::Answer(said) => Effect::Refuse(Refusal::Answer(said)),
            Fault::LongStatements(most) => {
                let over = call.statements().iter().any(|(characters, _)| characters > most);
                return over.then_some(Effect::Refuse(Refusal::Statement));
            }
            Fault::FewParameters(most) => {
                let over = call.statements().iter().any(|(_, parameters)| parameters > most);
                return over.then_some(Effect::Refuse(Refusal::Statement));
            }
            Fault::LargeTransactions(most) => {
                return (call.bytes_put() > *most).then_some(Effect::Refuse(Refusal::Transaction));
            }
            Fault::RemovedByExpiry => Effect::Rewrite(removed_by_expiry, Checksum::Right),
            Fault::OwnStreams => Effect::OfItsStream,
            Fault::ManyShards(closed, after) => Effect::OfManyShards(*closed, *after),
            Fault::ClockAhead(seconds) => {
                let there = Utc::now() + TimeDelta::seconds(*seconds);
                Effect::At(there, wrong_date(call, there))
            }
            Fault::EntriesTwice => {
                let twice = Effect::Rewrite(each_twice, Checksum::Right);
                return call.asks_an_index().then_some(twice);
            }
            Fault::EmptyIndex => {
                return call.asks_an_index().then_some(Effect::Refuse(Refusal::NothingFound));
            }
        })
    }

    /// Refuses, the way the operation does it, what the bucket has no units for.
    fn over_the_rate(&mut self, call: &Call, now: Instant) -> Option<Effect> {
        let (items, cost) = call.writes();
        let in_parts = matches!(call.operation.as_str(), "BatchWriteItem" | "BatchExecuteStatement");
        let bucket = self.bucket.as_mut()?;
        if in_parts {
            let over = items - bucket.take(items, cost, now);
            return (over > 0)
                .then(|| partial::split(&call.operation, &call.body, over))
                .flatten()
                .map(Effect::Withhold);
        }
        let applied = items == 0 || bucket.take(1, items * cost, now) == 1;
        (!applied).then_some(Effect::Refuse(Refusal::Throttled))
    }
}

/// Instruction for one call.
#[derive(Debug)]
pub(super) struct Injection {
    pub(super) kind: FaultKind,
    pub(super) effect: Effect,
}

/// Checksum that a changed answer has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Checksum {
    /// The checksum of the answer itself.
    Right,
    /// That of the answer as it was.
    Kept,
}

/// The few things the proxy can do; every fault is one of them.
#[derive(Debug)]
pub(super) enum Effect {
    Refuse(Refusal),
    Withhold(Split),
    Cut,
    LoseReply,
    ApplyThenRefuse(Refusal),
    Duplicate,
    Repeat(Option<Gate>),
    Delay(Gate),
    /// After this answer, or a cut.
    ApplyLate(Gate, Option<Refusal>),
    /// The emulator's answer, as this changes it; as it is where that does not parse it.
    Rewrite(fn(&[u8]) -> Option<Bytes>, Checksum),
    OfItsStream,
    /// As of a stream with this number of closed shards more, after this time.
    OfManyShards(usize, Duration),
    /// It is so late at the service, which refuses the call for this reason, or answers it.
    At(DateTime<Utc>, Option<String>),
}

/// The rules in force, in order.
#[derive(Debug, Default)]
pub(super) struct Script(pub(super) Vec<Rule>);

impl Script {
    pub(super) fn decide(&mut self, call: &Call, now: Instant) -> Option<Injection> {
        self.0.iter_mut().find_map(|rule| rule.decide(call, now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::call;
    use super::*;

    fn put(table: &str) -> Call {
        call("PutItem", &format!(r#"{{"TableName":"{table}","Item":{{}}}}"#))
    }

    /// The calls, by number, that the rule fires on when it is tried on twelve puts.
    #[track_caller]
    fn check(rule: Rule, fires_on: &[u64]) {
        let mut script = Script(vec![rule]);
        let now = Instant::now();
        let fired: Vec<u64> = (1..=12).filter(|_| script.decide(&put("logs"), now).is_some()).collect();
        assert_eq!(fired, fires_on);
    }

    #[test]
    fn a_rule_fires_when_its_turn_has_come() {
        check(Rule::new(Fault::Throttle).times(2), &[1, 2]);
        check(Rule::new(Fault::Throttle).after(10), &[11, 12]);
        check(Rule::new(Fault::Throttle).after(2).times(1), &[3]);
        check(Rule::new(Fault::Throttle).every(5), &[5, 10]);
        check(Rule::new(Fault::Throttle).after(1).every(5).times(1), &[6]);
        check(Rule::new(Fault::Throttle).probability(0.0, 1), &[]);
        check(Rule::new(Fault::Throttle).probability(1.0, 1).times(1), &[1]);
        check(Rule::new(Fault::Throttle).times(1).always().on("PutItem").on("DeleteItem").after(11), &[12]);
    }

    #[test]
    fn a_rule_leaves_other_calls_alone() {
        check(Rule::new(Fault::Throttle).on("DeleteItem"), &[]);
        check(Rule::new(Fault::Throttle).table("payments"), &[]);
        check(Rule::new(Fault::Throttle).naming("\"5\""), &[]);
        check(Rule::new(Fault::Throttle).naming("\"Item\"").after(11), &[12]);
        check(Rule::new(Fault::NoPartiQl), &[]);
        check(Rule::new(Fault::Unprocessed(1)).on("PutItem"), &[]);
    }

    #[test]
    fn the_same_seed_draws_the_same_calls() {
        let fired = |seed| {
            let mut script = Script(vec![Rule::new(Fault::Throttle).probability(0.5, seed)]);
            (0..64).map(|_| script.decide(&put("logs"), Instant::now()).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(fired(7), fired(7));
        assert_ne!(fired(7), fired(8));
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let mut script = Script(vec![
            Rule::new(Fault::Throttle).table("payments"),
            Rule::new(Fault::ServerError).times(1),
            Rule::new(Fault::Unavailable),
        ]);
        let mut kind = |table| script.decide(&put(table), Instant::now()).map(|injection| injection.kind);
        assert_eq!(kind("payments"), Some(FaultKind::Throttle));
        assert_eq!(kind("logs"), Some(FaultKind::ServerError));
        assert_eq!(kind("logs"), Some(FaultKind::Unavailable));
    }

    #[test]
    fn what_is_over_the_rate_is_refused_the_way_the_operation_does_it() {
        let mut script = Script(vec![Rule::new(Fault::WriteUnits(3))]);
        let now = Instant::now();
        let two = call("BatchWriteItem", r#"{"RequestItems":{"logs":[1,2]}}"#);
        assert!(script.decide(&two, now).is_none(), "two of three units");
        let effect = script.decide(&two, now).map(|injection| injection.effect);
        assert!(
            matches!(effect, Some(Effect::Withhold(split)) if split.forward.is_some()),
            "one of two goes on"
        );
        let effect = script.decide(&put("logs"), now).map(|injection| injection.effect);
        assert!(matches!(effect, Some(Effect::Refuse(Refusal::Throttled))));
        assert!(script.decide(&call("GetItem", "{}"), now).is_none(), "reads are free");
        assert!(script.decide(&put("logs"), now + Duration::from_secs(1)).is_none(), "a second refills it");
    }

    #[test]
    fn each_shard_has_a_rate_of_its_own() {
        // {"table_name":"logs","shard_id":"one","position":7}, then at 8, then of shard `two`.
        let iterators = [
            "eyJ0YWJsZV9uYW1lIjoibG9ncyIsInNoYXJkX2lkIjoib25lIiwicG9zaXRpb24iOjd9",
            "eyJ0YWJsZV9uYW1lIjoibG9ncyIsInNoYXJkX2lkIjoib25lIiwicG9zaXRpb24iOjh9",
            "eyJ0YWJsZV9uYW1lIjoibG9ncyIsInNoYXJkX2lkIjoidHdvIiwicG9zaXRpb24iOjd9",
        ];
        let of = |at: usize| call("GetRecords", &format!(r#"{{"ShardIterator":"{}"}}"#, iterators[at]));
        assert_ne!(of(0).shard(), of(2).shard());
        let mut script = Script(vec![Rule::new(Fault::ShardCalls(2))]);
        let now = Instant::now();
        let refused: Vec<bool> =
            [0, 1, 0, 2, 2, 2].into_iter().map(|at| script.decide(&of(at), now).is_some()).collect();
        assert_eq!(refused, [false, false, true, false, false, true]);
    }
}
