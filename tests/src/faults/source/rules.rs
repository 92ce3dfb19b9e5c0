//! Faults of a statement, and the statements that they happen to.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::gate::Gate;

/// One way for a statement to fail.
#[derive(Clone, Debug)]
pub enum SourceFault {
    /// The connection is cut before the message reaches the server. What was not committed is rolled back
    /// once the server notices.
    Cut,
    /// The server runs the statement and answers; then the connection is cut and the answer is lost.
    LoseReply,
    /// The server runs the statement; its answer is held at the gate, then given.
    DelayReply(Gate),
    /// The client's side of the connection is cut at once, but the statement is still on its way: the server
    /// gets it when the gate lets it, and holds the transaction and its locks until then. Simple queries
    /// only, as `COMMIT` is one.
    CutThenApplyLate(Gate),
    /// The statement is not run, and answered with an error of this SQLSTATE: `25006` is a node that takes no
    /// writes, `57P01` one that is being shut down.
    Refuse(&'static str),
}

/// A [`SourceFault`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is described at the fault of the same name")]
pub enum SourceFaultKind {
    Cut,
    LoseReply,
    DelayReply,
    CutThenApplyLate,
    Refuse,
}

impl SourceFault {
    /// The fault's label.
    pub fn kind(&self) -> SourceFaultKind {
        match self {
            Self::Cut => SourceFaultKind::Cut,
            Self::LoseReply => SourceFaultKind::LoseReply,
            Self::DelayReply(_) => SourceFaultKind::DelayReply,
            Self::CutThenApplyLate(_) => SourceFaultKind::CutThenApplyLate,
            Self::Refuse(_) => SourceFaultKind::Refuse,
        }
    }
}

/// A fault and the statements it happens to: all of them, unless the rule is narrowed. Rules are tried in the
/// order they were scripted, and the first that applies decides.
#[derive(Debug)]
pub struct SourceRule {
    fault: SourceFault,
    sql: Option<String>,
    any_frame: bool,
    after: u64,
    limit: Option<u64>,
    chance: Option<(f64, Box<StdRng>)>,
    matched: u64,
    fired: u64,
}

/// Message that a rule is tried against.
pub(super) struct Asked<'a> {
    /// The SQL that the message runs, if it runs any.
    pub(super) sql: Option<&'a str>,
    /// Whether it is a simple query.
    pub(super) is_simple: bool,
}

impl SourceRule {
    /// The fault happens to every statement, until the rule is narrowed.
    pub fn new(fault: SourceFault) -> Self {
        Self { fault, sql: None, any_frame: false, after: 0, limit: None, chance: None, matched: 0, fired: 0 }
    }

    /// Only statements whose SQL begins so (`COMMIT`).
    #[must_use]
    pub fn on(mut self, sql: impl Into<String>) -> Self {
        self.sql = Some(sql.into());
        self
    }

    /// Every message of a client's session, not only those that run a statement. Only [`SourceFault::Cut`]
    /// can happen to one.
    #[must_use]
    pub fn any_frame(mut self) -> Self {
        self.any_frame = true;
        self
    }

    /// Not the first `count` that match.
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

    /// Each one that matches with probability `p`; the draws follow from the seed, which gets which from the
    /// order of arrival.
    ///
    /// # Panics
    ///
    /// If `p` is not a probability.
    #[must_use]
    #[track_caller]
    pub fn probability(mut self, p: f64, seed: u64) -> Self {
        assert!((0.0..=1.0).contains(&p), "{p} is not a probability");
        self.chance = Some((p, Box::new(StdRng::seed_from_u64(seed))));
        self
    }

    fn matches(&self, asked: &Asked<'_>) -> bool {
        let fits = match self.fault {
            SourceFault::Cut => self.any_frame || asked.sql.is_some(),
            SourceFault::LoseReply | SourceFault::DelayReply(_) | SourceFault::Refuse(_) => {
                asked.sql.is_some()
            }
            SourceFault::CutThenApplyLate(_) => asked.is_simple,
        };
        fits && self.sql.as_deref().is_none_or(|wanted| asked.sql.is_some_and(|sql| sql.starts_with(wanted)))
    }

    fn decide(&mut self, asked: &Asked<'_>) -> Option<SourceFault> {
        if !self.matches(asked) {
            return None;
        }
        self.matched += 1;
        if self.matched <= self.after || self.limit.is_some_and(|limit| self.fired >= limit) {
            return None;
        }
        if let Some((p, rng)) = &mut self.chance
            && !rng.random_bool(*p)
        {
            return None;
        }
        self.fired += 1;
        Some(self.fault.clone())
    }
}

/// The rules in force, in order.
#[derive(Debug, Default)]
pub(super) struct Script(pub(super) Vec<SourceRule>);

impl Script {
    pub(super) fn decide(&mut self, asked: &Asked<'_>) -> Option<SourceFault> {
        self.0.iter_mut().find_map(|rule| rule.decide(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Asked<'_> = Asked { sql: Some("COMMIT"), is_simple: true };
    const SELECT: Asked<'_> = Asked { sql: Some("SELECT 1"), is_simple: false };
    const SYNC: Asked<'_> = Asked { sql: None, is_simple: false };

    /// The messages, by number, that the rule fires on.
    #[track_caller]
    fn check(rule: SourceRule, fires_on: &[usize]) {
        let mut script = Script(vec![rule]);
        let messages = [COMMIT, SELECT, SYNC, COMMIT, SELECT, SYNC, COMMIT];
        let fired = (1..).zip(messages).filter_map(|(n, asked)| script.decide(&asked).map(|_| n));
        assert_eq!(fired.collect::<Vec<usize>>(), fires_on);
    }

    #[test]
    fn a_rule_fires_on_its_statements_when_their_turn_has_come() {
        check(SourceRule::new(SourceFault::Cut), &[1, 2, 4, 5, 7]);
        check(SourceRule::new(SourceFault::Cut).on("SELECT"), &[2, 5]);
        check(SourceRule::new(SourceFault::LoseReply).on("COMMIT").after(1).times(1), &[4]);
        check(SourceRule::new(SourceFault::Cut).any_frame().after(2), &[3, 4, 5, 6, 7]);
        check(SourceRule::new(SourceFault::LoseReply).any_frame(), &[1, 2, 4, 5, 7]);
        check(SourceRule::new(SourceFault::CutThenApplyLate(Gate::new())), &[1, 4, 7]);
        check(SourceRule::new(SourceFault::DelayReply(Gate::new())).probability(0.0, 1), &[]);
        check(SourceRule::new(SourceFault::Cut).on("COMMIT").probability(1.0, 1).times(2), &[1, 4]);
    }
}
