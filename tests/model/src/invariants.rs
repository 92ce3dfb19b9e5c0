//! Invariants that hold in every state, and once faults have stopped.

use crate::model::Model;
use crate::state::{At, BackfillAt, GONE, Key, NONE, Outcome, Phase, RelayAt, Stage, State, Where, bit};

/// The invariants of the protocol, and two about locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// I1.
    Known,
    /// I2.
    Ordered,
    /// I3.
    NeverResurrected,
    /// I4.
    Watermark,
    /// I5.
    OnePhase,
    /// I6.
    TwoAtMost,
    /// I7.
    TruthIsComplete,
    /// I8.
    UnknownIsUnknown,
    /// I9.
    JournalFirst,
    /// I10.
    Convergence,
    /// No writer waits for a lock that only an answer of the network frees, but for one of another strict
    /// write.
    NoWriterWaitsForTheNetwork,
    /// No circle of waiting with the relay in it.
    NoDeadlock,
    /// The relay does not take what another mark delivered for a sign that history was lost.
    NoFalseAlarm,
}

impl State {
    /// Whether a process remembers that the target may be behind, or ahead, in this row.
    pub fn is_known(&self, key: Key) -> bool {
        self.source.pending[key] != NONE
            || self.writers.iter().any(|w| w.intents & bit(key) != 0)
            || self.unread().iter().any(|record| usize::from(record.0) == key)
            || self.feed.held.is_some_and(|record| usize::from(record.0) == key)
            || self.feed.riders & bit(key) != 0
    }

    /// Whether the target is the truth, by the source's record. Once that is decided otherwise both stores
    /// have everything, until the source follows.
    pub fn target_is_truth(&self) -> bool {
        self.source.control.phase == Phase::DynamoOnly
    }

    /// Returns where the truth is, by both records.
    pub fn where_truth_is(&self) -> Where {
        let (source, target) = (self.source.control, self.target.control);
        let holds = target.phase == Phase::DynamoOnly;
        match self.target_is_truth() {
            true if target.epoch < source.epoch => Where::ToTarget,
            true if holds => Where::Target,
            true if target.epoch > source.epoch => Where::ToSource,
            false if !holds && target.epoch <= source.epoch => Where::Source,
            _ => Where::Lost,
        }
    }
}

/// The first invariant that does not hold.
pub fn broken(model: &Model, s: &State) -> Option<Claim> {
    s.broken
        .or_else(|| locks(model, s))
        .or_else(|| phases(s))
        .or_else(|| truth(s))
        .or_else(|| model.places().find_map(|place| row(model, s, place)))
}

fn row(model: &Model, s: &State, place: Key) -> Option<Claim> {
    if s.target_is_truth() || model.agrees(s, place) || model.is_known(s, place) {
        return None;
    }
    let there = s.target.versions[place] != NONE;
    if s.backfill.at == BackfillAt::Done && !there {
        return Some(Claim::Watermark);
    }
    match there {
        true if model.wanted(s, place) == GONE => Some(Claim::NeverResurrected),
        true => Some(Claim::Known),
        // History will come.
        false => None,
    }
}

fn truth(s: &State) -> Option<Claim> {
    let says = if s.target_is_truth() { s.target.items } else { s.source.rows };
    if says[1] != s.truth.rows[1] || (says[0] != s.truth.rows[0] && Some(says[0]) != s.truth.maybe) {
        return Some(Claim::TruthIsComplete);
    }
    let lied = s.writers.iter().any(|w| match w.outcome {
        Outcome::Applied => !w.took_effect,
        Outcome::Failed => w.took_effect,
        Outcome::NotYet | Outcome::Unknown => false,
    });
    lied.then_some(Claim::UnknownIsUnknown)
}

fn phases(s: &State) -> Option<Claim> {
    let control = s.source.control;
    if s.writers.iter().any(|w| w.in_transaction() && w.phase != control.phase) {
        return Some(Claim::OnePhase);
    }
    let settled = s.coordinator.at == Stage::Idle && !s.coordinator.commit_in_flight;
    let at = s.where_truth_is();
    let epoch = if at == Where::Target { s.target.control.epoch } else { control.epoch };
    // A step back waits for the instances at its end.
    let looked_at = s.instances.iter().filter(|instance| instance.lease && !s.is_being_returned());
    for instance in looked_at {
        let apart = (instance.knows.phase as i8 - control.phase as i8).abs();
        if apart > 1 || (settled && !s.coordinator.undone && instance.knows.epoch != epoch) {
            return Some(Claim::TwoAtMost);
        }
    }
    let whole = match at {
        Where::Source => true,
        Where::Target => s.target.control.writes,
        Where::ToTarget | Where::ToSource => false,
        Where::Lost => return Some(Claim::JournalFirst),
    };
    (!whole && !s.source.journal_open && !s.is_being_returned()).then_some(Claim::JournalFirst)
}

fn locks(model: &Model, s: &State) -> Option<Claim> {
    if s.relay.locked == 0 {
        return None;
    }
    // A transaction that has a row wants its mark.
    let wants = |w: &crate::state::Writer| match w.at {
        At::Wrote => bit(w.op.statements()[usize::from(w.statement)].0),
        _ => 0,
    };
    let waiting = s.writers.iter().filter(|w| wants(w) & s.relay.locked != 0);
    let delivering = s.relay.at == RelayAt::Delivering && s.relay.delivered != s.relay.keys;
    for w in waiting {
        if delivering {
            return Some(Claim::NoWriterWaitsForTheNetwork);
        }
        let relay_wants = s.relay.keys & !s.relay.locked;
        if model.is(crate::Mutation::AcknowledgeWaits) && relay_wants & w.marks != 0 {
            return Some(Claim::NoDeadlock);
        }
    }
    None
}

/// Whether a state in which nothing more happens by itself is one that all is well in (I10).
pub fn converged(model: &Model, s: &State) -> bool {
    let stores = model.places().all(|place| model.agrees(s, place) && !model.is_known(s, place));
    let writers = s.writers.iter().all(|w| matches!(w.at, At::Idle | At::Done));
    let step = s.coordinator.at == Stage::Idle && !s.source.journal_open && !s.is_being_returned();
    stores && writers && step && s.backfill.at == BackfillAt::Done && s.relay.at == RelayAt::Idle
}
