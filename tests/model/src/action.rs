//! Actions that can happen, one atomic action at a time, and the file of the code that each stands for.

use std::fmt;

use crate::state::{Key, Phase};

/// An action. `usize` is a writer or an instance by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    // Writers, while PostgreSQL is the truth.
    TakeSnapshot(usize),
    Begin(usize),
    TakeVersionBeforeTheRow(usize),
    WriteRow(usize),
    Mark(usize),
    RecordIntent(usize),
    Put(usize, Key),
    PutRefused(usize, Key),
    PutDelayed(usize, Key),
    GiveUp(usize),
    Commit(usize),
    CommitAnswerLost(usize),
    CommitFails(usize),
    RollBack(usize),
    AcknowledgeInline(usize),
    WriterDies(usize),
    Sweep(usize),
    // Writers in DynamoOnly.
    ReadItem(usize),
    PutExactly(usize),
    PutExactlyDelayed(usize),
    Fenced(usize),
    // Whatever was delayed.
    LateArrives,
    // The relay.
    RelayReads,
    RelayReadsMarks,
    RelayPuts(Key),
    RelayPutDelayed(Key),
    RelayLocksMark(Key),
    RelayLooksAgain,
    RelayAcknowledges,
    RelayDies,
    // The backfill.
    BackfillReads,
    BackfillPuts(Key),
    BackfillPutDelayed(Key),
    BackfillDone,
    BackfillDies,
    // The reverse feed.
    FeedSavesPosition,
    FeedApplies,
    FeedBringsBack(Key),
    FeedDies,
    // Operators.
    MarkAgain(Key),
    RestoreSource,
    ReadEveryItem,
    ReturnToSource,
    RestoreIsOver,
    // Instances.
    Refresh(usize),
    LeaseOver(usize),
    // The coordinator.
    Intend(Phase),
    ForeignLeaves,
    StartFeed,
    CloseBarrier,
    OpenBarrier,
    LookBehindBarrier,
    CommitFlip,
    Announce,
    Resume,
    NotePause,
    Pause,
    Decide,
    CopyBack,
    GiveUpStep,
    Finish,
    CoordinatorDies,
    CoordinatorDiesCommitting,
    CoordinatorDiesSending,
    DeadCommitLands,
    DeadCommitFails,
    DeadRequestLands,
    Recover,
    Mend,
}

impl Action {
    /// Whether it happens by itself once no fault occurs and nothing new is begun. Only such actions heal.
    pub fn heals(self) -> bool {
        use Action as A;
        !matches!(
            self,
            A::TakeSnapshot(_)
                | A::Begin(_)
                | A::ReadItem(_)
                | A::PutRefused(..)
                | A::PutDelayed(..)
                | A::CommitAnswerLost(_)
                | A::CommitFails(_)
                | A::WriterDies(_)
                | A::PutExactlyDelayed(_)
                | A::LateArrives
                | A::RelayPutDelayed(_)
                | A::RelayDies
                | A::BackfillPutDelayed(_)
                | A::BackfillDies
                | A::FeedDies
                | A::LeaseOver(_)
                | A::Intend(_)
                | A::MarkAgain(_)
                | A::RestoreSource
                | A::ForeignLeaves
                | A::GiveUpStep
                | A::CoordinatorDies
                | A::CoordinatorDiesCommitting
                | A::CoordinatorDiesSending
                | A::DeadRequestLands
        )
    }

    /// The code that it stands for, from the root of the repository.
    pub fn file(self) -> &'static str {
        use Action as A;
        match self {
            A::TakeSnapshot(_) | A::WriteRow(_) | A::Mark(_) | A::TakeVersionBeforeTheRow(_) => {
                "crates/postgres/src/capture.rs"
            }
            A::Begin(_) => "crates/postgres/src/intents.rs",
            A::RecordIntent(_) | A::GiveUp(_) | A::RollBack(_) => "crates/lockstep/src/store/strict.rs",
            A::Put(..) | A::PutRefused(..) | A::PutDelayed(..) => "crates/lockstep/src/store/deliver.rs",
            A::Commit(_) | A::CommitAnswerLost(_) | A::CommitFails(_) => {
                "crates/lockstep/src/store/commit.rs"
            }
            A::AcknowledgeInline(_) => "crates/lockstep/src/store/best_effort.rs",
            A::WriterDies(_) => "crates/lockstep/src/store/transaction.rs",
            A::Sweep(_) => "crates/postgres/src/sweep.rs",
            A::ReadItem(_) => "crates/lockstep/src/store/target_truth/find.rs",
            A::PutExactly(_) | A::PutExactlyDelayed(_) => "crates/lockstep/src/store/target_truth/send.rs",
            A::Fenced(_) => "crates/lockstep/src/store/target_truth/permit.rs",
            A::LateArrives => "crates/dynamo/src/fault.rs",
            A::RelayReads | A::RelayReadsMarks | A::RelayLocksMark(_) | A::RelayAcknowledges => {
                "crates/postgres/src/pending.rs"
            }
            A::RelayLooksAgain => "crates/postgres/src/marked.rs",
            A::RelayPuts(_) | A::RelayPutDelayed(_) | A::RelayDies => "crates/coordinator/src/relay.rs",
            A::BackfillReads | A::BackfillDies => "crates/coordinator/src/backfill/range.rs",
            A::BackfillPuts(_) | A::BackfillPutDelayed(_) => "crates/dynamo/src/initial_load.rs",
            A::BackfillDone => "crates/coordinator/src/backfill/watermark.rs",
            A::FeedSavesPosition | A::FeedApplies | A::FeedDies => "crates/postgres/src/reverse/page.rs",
            A::FeedBringsBack(_) => "crates/postgres/src/reverse/riders.rs",
            A::MarkAgain(_) => "crates/postgres/src/repair.rs",
            A::RestoreSource => "crates/coordinator/src/doctor/truth.rs",
            A::ReadEveryItem | A::ReturnToSource | A::RestoreIsOver => {
                "crates/coordinator/src/repair_state/return_to_source.rs"
            }
            A::StartFeed => "crates/coordinator/src/moving/feed.rs",
            A::Refresh(_) => "crates/lockstep/src/instance/keeper.rs",
            A::LeaseOver(_) => "crates/lockstep/src/phase/known.rs",
            A::OpenBarrier | A::LookBehindBarrier => "crates/coordinator/src/moving/to_dynamo.rs",
            A::Announce | A::Decide | A::CopyBack => "crates/coordinator/src/truth/flip.rs",
            A::Resume | A::Pause | A::CoordinatorDiesSending | A::DeadRequestLands => {
                "crates/dynamo/src/control/record.rs"
            }
            A::ForeignLeaves => "crates/dynamo/src/control/owner.rs",
            A::NotePause => "crates/coordinator/src/moving/to_postgres.rs",
            A::GiveUpStep => "crates/coordinator/src/moving/pause.rs",
            A::Mend => "crates/coordinator/src/moving/settle.rs",
            A::Finish => "crates/coordinator/src/instances.rs",
            A::CommitFlip | A::DeadCommitLands | A::DeadCommitFails => "crates/postgres/src/control.rs",
            A::CloseBarrier => "crates/postgres/src/barrier.rs",
            A::Intend(_) | A::CoordinatorDies | A::CoordinatorDiesCommitting | A::Recover => {
                "crates/coordinator/src/step.rs"
            }
        }
    }

    /// Returns one of each, with numbers that do not matter.
    pub fn all() -> impl Iterator<Item = Action> {
        use Action as A;
        [
            A::TakeSnapshot(0),
            A::Begin(0),
            A::TakeVersionBeforeTheRow(0),
            A::WriteRow(0),
            A::Mark(0),
            A::RecordIntent(0),
            A::Put(0, 0),
            A::PutRefused(0, 0),
            A::PutDelayed(0, 0),
            A::GiveUp(0),
            A::Commit(0),
            A::CommitAnswerLost(0),
            A::CommitFails(0),
            A::RollBack(0),
            A::AcknowledgeInline(0),
            A::WriterDies(0),
            A::Sweep(0),
            A::ReadItem(0),
            A::PutExactly(0),
            A::PutExactlyDelayed(0),
            A::Fenced(0),
            A::LateArrives,
            A::RelayReads,
            A::RelayReadsMarks,
            A::RelayPuts(0),
            A::RelayPutDelayed(0),
            A::RelayLocksMark(0),
            A::RelayLooksAgain,
            A::RelayAcknowledges,
            A::RelayDies,
            A::BackfillReads,
            A::BackfillPuts(0),
            A::BackfillPutDelayed(0),
            A::BackfillDone,
            A::BackfillDies,
            A::FeedSavesPosition,
            A::FeedApplies,
            A::FeedBringsBack(0),
            A::FeedDies,
            A::MarkAgain(0),
            A::RestoreSource,
            A::ReadEveryItem,
            A::ReturnToSource,
            A::RestoreIsOver,
            A::Refresh(0),
            A::LeaseOver(0),
            A::Intend(Phase::DualWrite),
            A::ForeignLeaves,
            A::StartFeed,
            A::CloseBarrier,
            A::OpenBarrier,
            A::LookBehindBarrier,
            A::CommitFlip,
            A::Announce,
            A::Resume,
            A::NotePause,
            A::Pause,
            A::Decide,
            A::CopyBack,
            A::GiveUpStep,
            A::Finish,
            A::CoordinatorDies,
            A::CoordinatorDiesCommitting,
            A::CoordinatorDiesSending,
            A::DeadCommitLands,
            A::DeadCommitFails,
            A::DeadRequestLands,
            A::Recover,
            A::Mend,
        ]
        .into_iter()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        write!(f, "{name:<26} {}", self.file())
    }
}
