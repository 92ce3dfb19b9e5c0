//! Faults of one call.

use std::time::Duration;

use super::gate::Gate;

/// Most characters of a statement that DynamoDB takes: for [`Fault::LongStatements`].
pub const STATEMENT_CHARACTERS_MAX: usize = 8_192;

/// One way for a call to fail. Faults that make sense for some operations only (see [`Fault::fits`]) leave
/// the others alone.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The whole call is refused with `ProvisionedThroughputExceededException`; nothing is applied.
    Throttle,
    /// This number of statements of a `BatchExecuteStatement` are withheld and answered with a throttling
    /// error each, in their places; the others are applied. The call itself is a 200.
    ThrottleStatements(usize),
    /// This number of requests of a `BatchWriteItem` or keys of a `BatchGetItem` come back as unprocessed.
    /// When that is all of them the call is refused as throttled, as the real one does.
    Unprocessed(usize),
    /// `InternalServerError`, status 500; nothing is applied.
    ServerError,
    /// The connection is cut before the request is forwarded: nothing is applied, and the client cannot know.
    Unavailable,
    /// The request is applied, then the connection is cut: the client cannot know.
    LoseReply,
    /// The request is held at the gate, then goes on and is answered as usual. It belongs to the network, not
    /// to its sender: when the sender gives up meanwhile, it is applied all the same.
    Delay(Gate),
    /// The connection is cut at once, but the request is still on its way: it is applied when the gate lets
    /// it, long after the sender gave up and perhaps wrote something newer.
    AnswerThenApplyLate(Gate),
    /// The request is applied twice, one after the other; the first answer is given.
    Duplicate,
    /// The request is applied twice, and the second answer is given: a mesh that lost the first one
    /// repeats it.
    Repeated,
    /// The same, with time between: the request is applied, and repeated when the gate lets it.
    RepeatedLate(Gate),
    /// PartiQL is not spoken here: `UnknownOperationException`, as older emulators say.
    NoPartiQl,
    /// `ExpiredTokenException`: the session's credentials ran out.
    ExpiredToken,
    /// `AccessDeniedException`.
    AccessDenied,
    /// At most this number of write units a second, with a second's worth in reserve; an item counts as one
    /// unit whatever its size, two in a transaction. What is over the rate is throttled the way the operation
    /// does it: in part if it is a batch.
    WriteUnits(u32),
    /// The page of a proxy, a firewall or a load balancer, with this HTTP status; nothing is applied.
    Page(u16),
    /// The request is applied, and answered with such a page all the same: a 503 of a mesh that lost the
    /// answer.
    PageAfter(u16),
    /// A success with this body, which may be empty, and without a header of DynamoDB's; nothing is applied.
    Empty(&'static str),
    /// The request is applied, and its answer is cut on its way and closed: it is JSON as before, says less,
    /// and has the checksum of the whole one.
    CutAndClosed,
    /// The request is applied, and answered as throttled all the same: a mesh lost the answer, repeated the
    /// request, and was throttled.
    ThrottleAfter,
    /// Answered as throttled at once, and applied when the gate lets it: a mesh gave up on a request that was
    /// still under way, repeated it, and was throttled.
    ThrottleThenApplyLate(Gate),
    /// The whole call is refused with this code (`ReplicatedWriteConflictException`, `RequestTimeTooSkewed`,
    /// …), status 400; nothing is applied.
    Code(&'static str),
    /// This is answered, as the service would where the emulator knows no such call; nothing is applied.
    Answer(&'static str),
    /// At most this number of calls a second, with a second's worth in reserve, as DescribeStream has it;
    /// what is over the rate is refused with `LimitExceededException`.
    Calls(u32),
    /// At most this number of GetRecords a second of each shard, as Amazon has it; what is over the rate is
    /// refused with `LimitExceededException`.
    ShardCalls(u32),
    /// A statement of more characters than this is refused, and its batch with it, as DynamoDB does above
    /// 8,192.
    LongStatements(usize),
    /// A statement with more parameters than this is refused, and its batch with it: an endpoint with half of
    /// PartiQL.
    FewParameters(usize),
    /// A transaction whose items have more bytes than this, all together, is refused, as DynamoDB does above
    /// 4 MB.
    LargeTransactions(usize),
    /// A query of an index is answered with nothing: the index has not caught up.
    EmptyIndex,
    /// A query of an index shows each entry twice: its sort value changed while the page was read.
    EntriesTwice,
    /// Each removal that GetRecords tells of was made by expiry, as Amazon says it on the wire.
    RemovedByExpiry,
    /// The service's clock is ahead of this machine's by these seconds, or behind. A request whose date is
    /// more than a quarter of an hour off is refused, and each answer says what time it is.
    ClockAhead(i64),
    /// Each stream has shards of its own, as Amazon's have, and one that was switched off stays readable with
    /// its shards closed. The emulator has one shard a table, for good, which every name of a stream opens.
    /// Two things stay the emulator's: what was not read of a stream before its end is in none of its shards,
    /// and the next stream begins with the records of the one before.
    OwnStreams,
    /// Each stream has this number of closed shards besides, as one of a busy table has after a day, and each
    /// answer about it takes so long.
    ManyShards(usize, Duration),
}

/// A [`Fault`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is described at the fault of the same name")]
pub enum FaultKind {
    Throttle,
    ThrottleStatements,
    Unprocessed,
    ServerError,
    Unavailable,
    LoseReply,
    Delay,
    AnswerThenApplyLate,
    Duplicate,
    Repeated,
    RepeatedLate,
    NoPartiQl,
    ExpiredToken,
    AccessDenied,
    WriteUnits,
    Page,
    PageAfter,
    Empty,
    CutAndClosed,
    ThrottleAfter,
    ThrottleThenApplyLate,
    Code,
    Answer,
    Calls,
    ShardCalls,
    LongStatements,
    FewParameters,
    LargeTransactions,
    EmptyIndex,
    EntriesTwice,
    RemovedByExpiry,
    ClockAhead,
    OwnStreams,
    ManyShards,
}

impl Fault {
    /// The fault's label.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Throttle => FaultKind::Throttle,
            Fault::ThrottleStatements(_) => FaultKind::ThrottleStatements,
            Fault::Unprocessed(_) => FaultKind::Unprocessed,
            Fault::ServerError => FaultKind::ServerError,
            Fault::Unavailable => FaultKind::Unavailable,
            Fault::LoseReply => FaultKind::LoseReply,
            Fault::Delay(_) => FaultKind::Delay,
            Fault::AnswerThenApplyLate(_) => FaultKind::AnswerThenApplyLate,
            Fault::Duplicate => FaultKind::Duplicate,
            Fault::Repeated => FaultKind::Repeated,
            Fault::RepeatedLate(_) => FaultKind::RepeatedLate,
            Fault::NoPartiQl => FaultKind::NoPartiQl,
            Fault::ExpiredToken => FaultKind::ExpiredToken,
            Fault::AccessDenied => FaultKind::AccessDenied,
            Fault::WriteUnits(_) => FaultKind::WriteUnits,
            Fault::Page(_) => FaultKind::Page,
            Fault::PageAfter(_) => FaultKind::PageAfter,
            Fault::Empty(_) => FaultKind::Empty,
            Fault::CutAndClosed => FaultKind::CutAndClosed,
            Fault::ThrottleAfter => FaultKind::ThrottleAfter,
            Fault::ThrottleThenApplyLate(_) => FaultKind::ThrottleThenApplyLate,
            Fault::Code(_) => FaultKind::Code,
            Fault::Answer(_) => FaultKind::Answer,
            Fault::Calls(_) => FaultKind::Calls,
            Fault::ShardCalls(_) => FaultKind::ShardCalls,
            Fault::LongStatements(_) => FaultKind::LongStatements,
            Fault::FewParameters(_) => FaultKind::FewParameters,
            Fault::LargeTransactions(_) => FaultKind::LargeTransactions,
            Fault::EmptyIndex => FaultKind::EmptyIndex,
            Fault::EntriesTwice => FaultKind::EntriesTwice,
            Fault::RemovedByExpiry => FaultKind::RemovedByExpiry,
            Fault::ClockAhead(_) => FaultKind::ClockAhead,
            Fault::OwnStreams => FaultKind::OwnStreams,
            Fault::ManyShards(..) => FaultKind::ManyShards,
        }
    }

    /// Whether the fault can happen to this operation at all.
    pub fn fits(&self, operation: &str) -> bool {
        match self {
            Fault::ThrottleStatements(_) | Fault::LongStatements(_) | Fault::FewParameters(_) => {
                operation == "BatchExecuteStatement"
            }
            Fault::LargeTransactions(_) => operation == "TransactWriteItems",
            Fault::EmptyIndex | Fault::EntriesTwice => operation == "Query",
            Fault::RemovedByExpiry | Fault::ShardCalls(_) => operation == "GetRecords",
            Fault::OwnStreams | Fault::ManyShards(..) => {
                matches!(operation, "DescribeStream" | "GetShardIterator" | "GetRecords")
            }
            Fault::Unprocessed(_) => matches!(operation, "BatchWriteItem" | "BatchGetItem"),
            Fault::NoPartiQl => {
                matches!(operation, "ExecuteStatement" | "BatchExecuteStatement" | "ExecuteTransaction")
            }
            _ => true,
        }
    }
}
