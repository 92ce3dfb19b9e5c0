//! Mutations of the protocol: each leaves one rule out, and the checker must notice.

/// One rule left out, or done the obvious way instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    // The five that the protocol introduces with "Why".
    /// Versions of inserts are taken before the row is won, as a `BEFORE` trigger would.
    BeforeTrigger,
    /// History overwrites what is there.
    HistoryOverwrites,
    /// A delete removes the item and leaves no tombstone.
    NoTombstone,
    /// The relay's rows are of an older snapshot than its marks, as `FOR UPDATE` joined with the row makes
    /// them.
    ForUpdateJoined,
    /// The relay keeps the pending rows locked during its network calls.
    LockedDuringCalls,
    /// The relay waits for locked marks when it acknowledges.
    AcknowledgeWaits,

    // Of the holes in ARCHITECTURE.md, those that are about order.
    /// Hole 1: the epoch of a version is the one of the transaction's snapshot.
    EpochOfSnapshot,
    /// Hole 2: a flip takes the next epoch by the control record, also when that one is burnt.
    EpochReused,
    /// Hole 3: recovery reads the control record without the barrier.
    RecoverBesideTheBarrier,
    /// Hole 14: the sweeper takes a fresh version.
    SweepAtFreshVersion,
    /// Hole 16: the flip to DynamoOnly asks for the pending set only.
    FlipOverIntents,

    // Other rules.
    /// The guard of a put lets an older state over a newer one.
    GuardLetsOlderThrough,
    /// Acknowledging takes a key out whatever its mark is by now.
    AcknowledgeAnyVersion,
    /// The image is that of the first statement, the version that of the last.
    ImageOfFirstStatement,
    /// The intent is written after the puts.
    IntentAfterPut,
    /// A lost answer to a strict put is taken for a failure.
    LostPutIsFailure,
    /// A lost answer to a commit is taken for a failure.
    LostCommitIsFailure,
    /// A lost answer to a DynamoOnly write is taken for a failure.
    LostTargetWriteIsFailure,
    /// A range is done when it has been read.
    DoneWhenRead,
    /// A flip does not close the barrier.
    NoBarrier,
    /// A step does not wait for instances.
    NoWaitForInstances,
    /// The journal is written after the flip.
    JournalAfterFlip,
    /// The flip to DynamoOnly does not ask for the pending set.
    FlipOverPending,
    /// The reverse feed starts after the flip, at the newest record.
    FeedStartsLate,
    /// The reverse feed takes records of any epoch.
    FeedTakesAnyEpoch,
    /// The reverse feed saves its position before its rows.
    PositionBeforeRows,
    /// The flip back does not wait until the feed has drained.
    FlipBackUndrained,
    /// The flip back does not stop writes first.
    FlipBackUnpaused,
    /// Trigger that lets raw writers through in DynamoOnly.
    SourceNotFrozen,
    /// The reverse feed skips all earlier epochs, also those in which the target was the truth.
    FeedSkipsEarlierEpochs,
    /// The reverse feed takes a record of an earlier DynamoOnly for news, and does not look at its item.
    FeedBelievesEarlierRecords,
    /// The reverse feed marks what came late without having the barrier for itself.
    FeedMarksBesideWriters,
    /// The source is not told of the epoch of a pause before it is made.
    PauseEpochNotNoted,
    /// Recovery does not outrun a pause that may still be under way.
    PauseNotOutrun,
    /// The flip back waits for no lease and no acknowledgement of the pause.
    FlipBackOverLeases,
    /// Versions in DynamoOnly count on from the item's, whatever the epoch is.
    VersionBelowEpoch,
    /// The reverse feed ends with the flip back: what arrives later is not looked at.
    FeedEndsAtFlipBack,
    /// P4: what a trigger or a cascade changes in the feed's transaction is not noted.
    RidersUnseen,
    /// H85: the source follows a decision although something rode along since and was not brought back.
    CopyBackOverRiders,
    /// P1: a coordinator of another migration finds our record, takes it for its own, and goes back from it.
    ForeignRecordObeyed,
    /// P2: a relay with another target name, or another key layout, delivers elsewhere and acknowledges here.
    RelayDeliversElsewhere,
    /// P15: a writer that slept sends without another look at its lease.
    SleeperSends,
    /// P18: a key that its row has left becomes a tombstone, also where the row's present key has the same
    /// place.
    TombstoneOfOldKey,
    /// P18: there the key's mark is taken for delivered, since the row's present key has one of its own.
    OldKeyDropped,
    /// P18: a put is taken for refused by a lost history wherever its own mark stands.
    JudgedByItsOwnMark,
    /// P18: a put under the key that the row has is judged without asking for intents of its other keys.
    PresentKeyAskedAlone,
    /// P18: what waits under other keys is asked after the row was read, and not with it.
    OtherKeysAskedLater,
    /// P18: a repair marks keys without having the barrier for itself.
    RepairBesideWriters,
    /// A row that PostgreSQL refuses for another row is not read again once the other one is gone.
    RefusedRowForgotten,
    /// The feed goes on only once a row is taken that PostgreSQL refuses for another row.
    FeedStopsAtRefused,
    /// P5: PostgreSQL, restored to before the way back, is taken for a step that waits, and none is open.
    NoWayOnFromRestore,
    /// P5: PostgreSQL, restored to before the way back, follows the record as if a step were open.
    RestoredFollowsRecord,
    /// P5: what is written after a restore gets versions from where the restored sequence stood.
    RestoredCountsOn,
}
