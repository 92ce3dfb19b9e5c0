//! One state of the whole system, small and by value: two rows, each of another table, two instances, one raw
//! writer.

/// A row. Row 0 and row 1 are of two tables, so a write of both is a coordinated one.
pub type Key = usize;
/// Orders the states of one row.
pub type Version = u8;
/// Number of the write that made a state of a row; [`GONE`] is no row.
pub type Value = u8;

/// Number of rows.
pub const KEYS: usize = 2;
/// Number of writers: one for each instance, and one that goes round the library.
pub const WRITERS: usize = 3;
/// The writer that goes round the library.
pub const RAW: usize = 2;
/// No row, or a tombstone.
pub const GONE: Value = 0;
/// Value that a trigger or a cascade makes of a row that the feed did not write.
pub const DRAGGED: Value = 15;
/// Nothing at all, not even a tombstone; in the pending set: not pending.
pub const NONE: Version = 0;
/// The version of history, which protocol and code call 0.
pub const INITIAL_LOAD: Version = 1;
/// Versions of one epoch; the code has 2^40.
pub const EPOCH: Version = 16;

/// The epoch of a version.
pub fn epoch_of(version: Version) -> u8 {
    version / EPOCH
}

/// Phase of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Phase {
    PostgresOnly,
    DualWrite,
    HybridRead,
    DynamoOnly,
}

impl Phase {
    /// Every phase, in the order of the migration.
    pub const ALL: [Phase; 4] = [Self::PostgresOnly, Self::DualWrite, Self::HybridRead, Self::DynamoOnly];
}

/// A control record, or what an instance knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    /// The phase.
    pub phase: Phase,
    /// The epoch.
    pub epoch: u8,
    /// Whether DynamoOnly writes are let through.
    pub writes: bool,
}

/// The source: what is committed. What is not is with its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Rows.
    pub rows: [Value; KEYS],
    /// The pending set.
    pub pending: [Version; KEYS],
    /// The version sequence, which knows no rollback.
    pub sequence: Version,
    /// The control record.
    pub control: Control,
    /// Whether the journal has an intent without an outcome.
    pub journal_open: bool,
    /// Whether it says that the step has come to pausing writes in the target.
    pub pause_noted: bool,
}

/// The target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Items; [`GONE`] is a tombstone where the version is not [`NONE`].
    pub items: [Value; KEYS],
    /// Their versions.
    pub versions: [Version; KEYS],
    /// The control record of DynamoOnly. Pauses are epochs of their own.
    pub control: Control,
    /// The epoch with which the truth last came to the target.
    pub since: u8,
    /// The stream, oldest first, as far as the reverse feed is to read it: key, version, state.
    pub stream: [(u8, Version, Value); STREAM],
    /// Records in it.
    pub stream_len: u8,
}

/// Most records of the stream.
pub const STREAM: usize = 6;

/// Operation of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Op {
    Put0,
    Delete0,
    /// Two statements on one row.
    PutTwice0,
    /// Both rows in one transaction.
    PutBoth,
    Put1,
    Delete1,
    /// The row is under the other key afterwards.
    Move,
    MoveBack,
}

impl Op {
    /// Returns its statements: the row, and whether it has a row afterwards.
    pub fn statements(self) -> &'static [(Key, bool)] {
        match self {
            Self::Put0 => &[(0, true)],
            Self::Delete0 => &[(0, false)],
            Self::PutTwice0 => &[(0, true), (0, true)],
            Self::PutBoth => &[(0, true), (1, true)],
            Self::Put1 => &[(1, true)],
            Self::Delete1 => &[(1, false)],
            Self::Move => &[(0, false), (1, true)],
            Self::MoveBack => &[(1, false), (0, true)],
        }
    }

    /// The rows that it touches.
    pub fn keys(self) -> &'static [Key] {
        match self {
            Self::Put0 | Self::Delete0 | Self::PutTwice0 => &[0],
            Self::Put1 | Self::Delete1 => &[1],
            Self::PutBoth | Self::Move | Self::MoveBack => &[0, 1],
        }
    }
}

/// Mode in which a write goes to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Mode {
    SourceAlone,
    BestEffort,
    Strict,
    TargetAlone,
}

/// Position of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Has not begun.
    Idle,
    /// A snapshot is taken, the barrier is not entered yet (only where a mutation makes that matter).
    Snapped,
    /// Transaction that is open, before statement `statement`.
    Open,
    /// The statement has the row and its version, not yet the mark.
    Wrote,
    /// All statements done.
    Ready,
    /// Strict: the intent is durable.
    Intended,
    /// Strict: a put failed or is unknown; to be rolled back.
    Failing,
    /// Best effort: committed, on the way to the target.
    Committed,
    /// DynamoOnly: has read the item.
    Read,
    /// Over.
    Done,
}

/// Outcome that the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Outcome {
    NotYet,
    Applied,
    Failed,
    Unknown,
}

/// A writer: one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    /// Position of the writer.
    pub at: At,
    /// Operation of the writer.
    pub op: Op,
    /// Mode of the write.
    pub mode: Mode,
    /// The phase that it read behind the barrier.
    pub phase: Phase,
    /// The statement that it is at.
    pub statement: u8,
    /// Rows it has locked, as bits.
    pub rows: u8,
    /// Marks it has made, which are locked as well, as bits.
    pub marks: u8,
    /// Versions of its marks; in DynamoOnly those that it has read.
    pub versions: [Version; KEYS],
    /// Versions it has reserved for the sweeper.
    pub repairs: [Version; KEYS],
    /// Puts that were answered, as bits.
    pub landed: u8,
    /// Whether an answer was lost.
    pub lost: bool,
    /// Open intents of the writer, as bits. They outlive it.
    pub intents: u8,
    /// Whether its states became the truth.
    pub took_effect: bool,
    /// Outcome that the caller sees.
    pub outcome: Outcome,
}

impl Writer {
    /// Whether its source transaction is open, and the barrier held shared.
    pub fn in_transaction(&self) -> bool {
        matches!(self.at, At::Open | At::Wrote | At::Ready | At::Intended | At::Failing)
    }
}

/// The relay: one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Relay {
    /// Position of the relay.
    pub at: RelayAt,
    /// Keys of the batch, as bits.
    pub keys: u8,
    /// Their marks.
    pub versions: [Version; KEYS],
    /// Their rows.
    pub rows: [Value; KEYS],
    /// Keys that have been delivered, as bits.
    pub delivered: u8,
    /// Marks it has locked, as bits: mutations only.
    pub locked: u8,
    /// The versions that refused its puts, where that is another state.
    pub refused: [Version; KEYS],
}

/// One that has nothing in hand.
pub(crate) const IDLE: Relay = Relay {
    at: RelayAt::Idle,
    keys: 0,
    versions: [NONE; KEYS],
    rows: [GONE; KEYS],
    delivered: 0,
    locked: 0,
    refused: [NONE; KEYS],
};

/// Position of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum RelayAt {
    Idle,
    /// Has the rows, not yet the marks: mutation only.
    HasRows,
    Delivering,
    /// Has read again what was due where a put was refused.
    Looked,
}

/// The backfill: one range with both rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backfill {
    /// Position of the backfill.
    pub at: BackfillAt,
    /// The rows of the chunk.
    pub rows: [Value; KEYS],
    /// Keys that are still to be put, as bits.
    pub left: u8,
}

/// Position of the backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BackfillAt {
    NotBegun,
    Delivering,
    Done,
}

/// The coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// Stage of the step.
    pub at: Stage,
    /// Phase that it leads to.
    pub to: Phase,
    /// A `COMMIT` of a dead coordinator is on its way, and holds the barrier.
    pub commit_in_flight: bool,
    /// A change of the target's record that a dead coordinator has sent.
    pub request_in_flight: Option<Request>,
    /// The last step was undone, which waits for no instance: the next one waits for those that have followed
    /// it before it begins.
    pub undone: bool,
}

/// A change of the target's control record, from the epoch that it is to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The truth is in the target since this epoch; writes wait.
    Enter(u8),
    /// Writes go on.
    Open(u8),
    /// Writes wait, in the epoch after.
    Pause(u8),
    /// The truth goes back, in the epoch after.
    Leave(u8),
}

/// Store of the truth, by both records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Truth in the source.
    Source,
    /// Truth in the target.
    Target,
    /// Decided in the source, not yet copied to the target.
    ToTarget,
    /// Decided in the target, not yet copied to the source.
    ToSource,
    /// The records contradict each other.
    Lost,
}

/// Stage of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No step.
    Idle,
    /// The intent is in the journal.
    Intended,
    /// Barrier closed on the way to DynamoOnly: what is pending is delivered.
    Closed,
    /// Conditions looked at behind the closed barrier; the sequence is moved, nothing is committed.
    Flipping,
    /// Decision made in the source on the way to DynamoOnly.
    Flipped,
    /// Decision announced on the way to DynamoOnly: the target's record says so too; writes wait.
    Announced,
    /// Back: the journal says that a pause follows, and the source knows its epoch.
    Noted,
    /// Back: writes are stopped.
    Paused,
    /// Back: decided in the target.
    Decided,
    /// All is done but waiting for instances and the outcome in the journal.
    Settled,
    /// Crashed, or given up: the next coordinator settles it by the records.
    Dead,
}

/// The reverse feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Feed {
    /// Whether its position is taken: what happens from now on is in the stream.
    pub on: bool,
    /// The epochs of DynamoOnly so far, as bits.
    pub epochs: u16,
    /// A record that was read and not applied in one transaction: mutations only.
    pub held: Option<(u8, Version, Value)>,
    /// Rows that rode along in its transactions, or that PostgreSQL refused, and that are to become what
    /// their items say, as bits.
    pub riders: u8,
}

/// An application instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Control values that it knows.
    pub knows: Control,
    /// Whether its lease runs.
    pub lease: bool,
}

/// A request that its sender has given up on, and that may arrive yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    /// Row of the model.
    pub key: u8,
    /// Under which condition.
    pub guard: Guard,
    /// At which version.
    pub version: Version,
    /// Value that is put.
    pub value: Value,
    /// Whose, where it is a writer's.
    pub writer: Option<u8>,
}

/// The condition of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Absent, or an older version.
    Older,
    /// Absent.
    Absent,
    /// This very version.
    Exactly(Version),
}

/// Progress of a restore of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restored {
    /// There was none.
    Not,
    /// It says what it said when DynamoDB was the truth; DynamoDB's record says that the truth went back.
    Lost,
    /// It has read every item.
    Read,
    /// It is the truth again; who goes by what was before is waited for.
    Returned,
    /// All is well again.
    Over,
}

/// State that the stores ought to have: the last write that took effect in what was the truth then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Truth {
    /// States.
    pub rows: [Value; KEYS],
    /// A write of unknown outcome that arrived late: row 0 may be this as well.
    pub maybe: Option<Value>,
}

/// Faults that may still happen, and the number of steps that may still be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Crashes.
    pub crashes: u8,
    /// Requests that are refused, delayed or whose answer is lost.
    pub faults: u8,
    /// Phase changes.
    pub steps: u8,
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct State {
    pub source: Source,
    pub target: Target,
    pub writers: [Writer; WRITERS],
    pub relay: Relay,
    pub backfill: Backfill,
    pub coordinator: Coordinator,
    pub feed: Feed,
    pub instances: [Instance; 2],
    pub late: Option<Late>,
    pub truth: Truth,
    pub left: Left,
    pub restored: Restored,
    /// An invariant that the last action broke, where the state alone does not show it.
    pub broken: Option<crate::invariants::Claim>,
}

/// The bit of a key.
pub fn bit(key: Key) -> u8 {
    1 << key
}
