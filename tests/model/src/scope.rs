//! Scope of a model: small enough to visit every state.

use crate::state::*;

/// Scope of a model: where it starts, and how much may happen in it.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Name of the scope.
    pub name: &'static str,
    /// The phase it starts in; but for PostgresOnly, both stores agree then.
    pub phase: Phase,
    /// The rows it starts with.
    pub rows: [Value; KEYS],
    /// Operations of each writer; an empty choice is `NOTHING`.
    pub writers: [&'static [Option<Op>]; WRITERS],
    /// Phases that steps go to, in this order, one after the other; a step that is given up is begun again.
    /// Empty: anywhere near.
    pub route: &'static [Phase],
    /// Faults that may happen, and the number of steps.
    pub left: Left,
    /// Whether strict writes are made in DualWrite as well, and best-effort ones in HybridRead.
    pub any_mode: bool,
    /// Whether instances follow a phase one by one, or lose their lease; else all follow at once.
    pub leases: bool,
    /// Oddity of the rows, or what befalls them.
    pub odd: Odd,
}

/// Oddity of the rows of a scope, or what befalls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// Nothing.
    Nothing,
    /// A trigger changes row 1 when the feed writes row 0.
    Rides,
    /// Keys 0 and 1 are two keys that one row may have, and the target has one place for both.
    SharedPlace,
    /// A unique index of PostgreSQL takes one of both rows at a time.
    Blocks,
    /// PostgreSQL may be restored, once, to the moment that the scope starts in.
    Restored,
}

const NOTHING: &[Option<Op>] = &[None];
const PUT: &[Option<Op>] = &[Some(Op::Put0)];
const BOTH: &[Option<Op>] = &[Some(Op::PutBoth)];
const DELETE: &[Option<Op>] = &[Some(Op::Delete0)];
const PUT_OR_DELETE: &[Option<Op>] = &[Some(Op::Put0), Some(Op::Delete0)];
const PUT_OR_DELETE_OR_BOTH: &[Option<Op>] = &[Some(Op::Put0), Some(Op::Delete0), Some(Op::PutBoth)];
const ANY: &[Option<Op>] = &[Some(Op::Put0), Some(Op::Delete0), Some(Op::PutTwice0), Some(Op::PutBoth)];
const TWICE_OR_BOTH: &[Option<Op>] = &[Some(Op::PutTwice0), Some(Op::PutBoth)];
const MOVE_OR_PUT: &[Option<Op>] = &[Some(Op::Move), Some(Op::Put0)];
const MOVED: &[Option<Op>] = &[Some(Op::MoveBack), Some(Op::Put1), Some(Op::Delete1)];
const DELETE_MOVED: &[Option<Op>] = &[None, Some(Op::Delete1)];
const MOVES: &[Option<Op>] = &[None, Some(Op::MoveBack), Some(Op::Move)];
/// The states that rows start in.
const OLD_ROWS: [Value; KEYS] = [8, 9];
const ONE_OF_EACH: Left = Left { crashes: 1, faults: 1, steps: 0 };

const ONE_STEP: Left = Left { steps: 1, ..ONE_OF_EACH };

/// Writers of every kind, side by side with the relay, in DualWrite: best effort and strict.
pub fn writes() -> Scope {
    Scope {
        name: "writes",
        phase: Phase::DualWrite,
        rows: OLD_ROWS,
        writers: [ANY, PUT_OR_DELETE, PUT_OR_DELETE],
        route: &[],
        left: ONE_OF_EACH,
        any_mode: true,
        leases: false,
        odd: Odd::Nothing,
    }
}

/// Two writers that each change both rows, in the same order.
pub fn both_rows() -> Scope {
    Scope { name: "both rows", writers: [BOTH, BOTH, NOTHING], ..writes() }
}

/// The same beside a writer that goes round the library.
pub fn raw_writes() -> Scope {
    Scope { name: "raw writes", writers: [TWICE_OR_BOTH, NOTHING, PUT_OR_DELETE], ..writes() }
}

/// The backfill beside a writer and the relay.
pub fn load() -> Scope {
    Scope { name: "load", phase: Phase::PostgresOnly, writers: [ANY, NOTHING, PUT_OR_DELETE], ..writes() }
}

/// Two steps anywhere from PostgresOnly, with the backfill.
pub fn there() -> Scope {
    Scope {
        name: "there",
        phase: Phase::PostgresOnly,
        writers: [PUT, DELETE, NOTHING],
        left: Left { steps: 2, ..ONE_OF_EACH },
        any_mode: false,
        ..writes()
    }
}

/// HybridRead to DynamoOnly and back.
pub fn way_back() -> Scope {
    Scope {
        name: "way back",
        phase: Phase::HybridRead,
        writers: [PUT_OR_DELETE_OR_BOTH, PUT, NOTHING],
        route: &[Phase::DynamoOnly, Phase::HybridRead],
        left: Left { steps: 2, ..ONE_OF_EACH },
        any_mode: false,
        leases: true,
        ..writes()
    }
}

/// The same where a trigger of the application drags row 1 along when the feed writes row 0.
pub fn riders() -> Scope {
    Scope {
        name: "riders",
        writers: [PUT_OR_DELETE_OR_BOTH, NOTHING, NOTHING],
        odd: Odd::Rides,
        leases: false,
        ..way_back()
    }
}

/// The same beside a writer that goes round the library.
pub fn raw_steps() -> Scope {
    Scope { name: "raw steps", writers: [PUT, NOTHING, PUT_OR_DELETE], ..way_back() }
}

/// DynamoOnly, back, and there again.
pub fn there_again() -> Scope {
    Scope {
        name: "there again",
        phase: Phase::DynamoOnly,
        writers: [PUT, PUT, NOTHING],
        route: &[Phase::HybridRead, Phase::DynamoOnly],
        left: Left { steps: 2, ..ONE_OF_EACH },
        ..way_back()
    }
}

/// The whole way, there and back, with one writer.
pub fn whole() -> Scope {
    Scope {
        name: "whole",
        phase: Phase::PostgresOnly,
        writers: [PUT, NOTHING, NOTHING],
        route: &[
            Phase::DualWrite,
            Phase::HybridRead,
            Phase::DynamoOnly,
            Phase::HybridRead,
            Phase::DualWrite,
            Phase::PostgresOnly,
        ],
        left: Left { steps: 6, ..ONE_OF_EACH },
        ..way_back()
    }
}

/// Writers of a row that may be under either of two keys, which share a place in the target, in DualWrite.
/// Its steps are repairs: a mark under a fresh version.
pub fn shared_place() -> Scope {
    Scope {
        name: "shared place",
        rows: [8, GONE],
        writers: [MOVE_OR_PUT, MOVED, DELETE_MOVED],
        left: ONE_STEP,
        odd: Odd::SharedPlace,
        ..writes()
    }
}

/// DynamoOnly and back where PostgreSQL refuses a row while the other one is there.
pub fn blocks() -> Scope {
    Scope {
        name: "blocks",
        phase: Phase::DynamoOnly,
        rows: [GONE, 9],
        writers: [MOVES, MOVES, NOTHING],
        route: &[Phase::HybridRead],
        left: ONE_STEP,
        leases: false,
        odd: Odd::Blocks,
        ..way_back()
    }
}

/// The way back, and at any time after it PostgreSQL restored to before it.
pub fn restored() -> Scope {
    Scope {
        name: "restored",
        phase: Phase::DynamoOnly,
        writers: [PUT_OR_DELETE_OR_BOTH, NOTHING, PUT],
        route: &[Phase::HybridRead],
        left: ONE_STEP,
        leases: false,
        odd: Odd::Restored,
        ..way_back()
    }
}

impl Scope {
    pub(crate) fn start(&self, ops: [Option<Op>; WRITERS]) -> State {
        let loaded = self.phase != Phase::PostgresOnly;
        let control = Control { phase: self.phase, epoch: 1, writes: true };
        let version = |key: usize| if loaded && self.rows[key] != GONE { INITIAL_LOAD } else { NONE };
        let at_target = if self.phase == Phase::DynamoOnly {
            control
        } else {
            Control { phase: Phase::PostgresOnly, epoch: 0, writes: false }
        };
        let writer = |op: Option<Op>| Writer {
            at: if op.is_some() { At::Idle } else { At::Done },
            op: op.unwrap_or(Op::Put0),
            mode: Mode::SourceAlone,
            phase: Phase::PostgresOnly,
            statement: 0,
            rows: 0,
            marks: 0,
            versions: [NONE; KEYS],
            repairs: [NONE; KEYS],
            landed: 0,
            lost: false,
            intents: 0,
            took_effect: false,
            outcome: Outcome::NotYet,
        };
        State {
            source: Source {
                rows: self.rows,
                pending: [NONE; KEYS],
                sequence: EPOCH,
                control,
                journal_open: false,
                pause_noted: false,
            },
            target: Target {
                items: if loaded { self.rows } else { [GONE; KEYS] },
                versions: [version(0), version(1)],
                control: at_target,
                since: at_target.epoch,
                stream: [(0, NONE, GONE); STREAM],
                stream_len: 0,
            },
            writers: ops.map(writer),
            relay: IDLE,
            backfill: Backfill {
                at: if loaded { BackfillAt::Done } else { BackfillAt::NotBegun },
                rows: [GONE; KEYS],
                left: 0,
            },
            coordinator: Coordinator {
                at: Stage::Idle,
                to: self.phase,
                commit_in_flight: false,
                request_in_flight: None,
                undone: false,
            },
            feed: Feed {
                on: self.phase == Phase::DynamoOnly,
                epochs: if self.phase == Phase::DynamoOnly { 1 << control.epoch } else { 0 },
                held: None,
                riders: 0,
            },
            instances: [Instance { knows: control, lease: true }; 2],
            late: None,
            truth: Truth { rows: self.rows, maybe: None },
            left: self.left,
            restored: Restored::Not,
            broken: None,
        }
    }
}
