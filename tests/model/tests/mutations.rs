//! The checker can fail: each rule of the protocol that is left out is noticed, with a counterexample.

use lockstep_model::{Claim, Counterexample, Model, Mutation, Scope, check, scope};

/// The shortest counterexample to a mutated protocol.
#[track_caller]
fn caught(mutation: Mutation, scope: Scope, claim: Claim) -> Counterexample {
    let name = scope.name;
    let report = check(&Model { scope, mutation: Some(mutation) });
    let Some(counterexample) = report.counterexample else {
        panic!("{mutation:?} goes unnoticed in all {} states of {name}", report.states);
    };
    println!("{mutation:?}, {name}, after {} states: {counterexample}", report.states);
    assert_eq!(counterexample.claim, claim, "{mutation:?}: {counterexample}");
    counterexample
}

// The five rules that the protocol introduces with "Why".

#[test]
fn why_after_and_not_before() {
    caught(Mutation::BeforeTrigger, scope::writes(), Claim::Known);
}

#[test]
fn why_history_is_put_if_absent_and_deletes_leave_tombstones() {
    caught(Mutation::HistoryOverwrites, scope::load(), Claim::Ordered);
    caught(Mutation::NoTombstone, scope::load(), Claim::NeverResurrected);
}

#[test]
fn why_marks_and_rows_are_read_in_one_snapshot() {
    // The older image has taken the version of the newer one, which is then refused as delivered.
    caught(Mutation::ForUpdateJoined, scope::writes(), Claim::Ordered);
}

#[test]
fn why_nothing_is_locked_during_network_calls() {
    caught(Mutation::LockedDuringCalls, scope::writes(), Claim::NoWriterWaitsForTheNetwork);
}

#[test]
fn why_acknowledging_skips_what_is_locked() {
    caught(Mutation::AcknowledgeWaits, scope::both_rows(), Claim::NoDeadlock);
}

// Of the holes in ARCHITECTURE.md those that are about order.

#[test]
fn hole_1_the_epoch_is_the_sequences_and_not_the_snapshots() {
    caught(Mutation::EpochOfSnapshot, scope::raw_steps(), Claim::Ordered);
}

#[test]
fn hole_2_a_burnt_epoch_is_not_taken_again() {
    caught(Mutation::EpochReused, scope::there(), Claim::Ordered);
}

#[test]
fn hole_3_recovery_asks_behind_the_barrier() {
    caught(Mutation::RecoverBesideTheBarrier, scope::there(), Claim::JournalFirst);
}

#[test]
fn hole_14_the_sweeper_takes_no_fresh_version() {
    caught(Mutation::SweepAtFreshVersion, scope::writes(), Claim::Known);
}

#[test]
fn hole_16_open_intents_count_as_pending() {
    caught(Mutation::FlipOverIntents, scope::way_back(), Claim::TruthIsComplete);
}

#[test]
fn a_late_write_of_dynamo_only_is_noticed_after_the_way_back() {
    caught(Mutation::FeedEndsAtFlipBack, scope::way_back(), Claim::Known);
    caught(Mutation::FeedSkipsEarlierEpochs, scope::there_again(), Claim::Known);
    caught(Mutation::FeedBelievesEarlierRecords, scope::there_again(), Claim::TruthIsComplete);
    caught(Mutation::FeedMarksBesideWriters, scope::way_back(), Claim::Known);
}

// Other rules.

#[test]
fn what_is_acknowledged_is_what_was_delivered() {
    caught(Mutation::AcknowledgeAnyVersion, scope::writes(), Claim::Known);
    caught(Mutation::GuardLetsOlderThrough, scope::writes(), Claim::Ordered);
    caught(Mutation::ImageOfFirstStatement, scope::writes(), Claim::Known);
    caught(Mutation::DoneWhenRead, scope::load(), Claim::Watermark);
}

#[test]
fn an_intent_comes_first_and_a_lost_answer_is_no_failure() {
    caught(Mutation::IntentAfterPut, scope::writes(), Claim::Known);
    caught(Mutation::LostPutIsFailure, scope::writes(), Claim::Known);
    caught(Mutation::LostCommitIsFailure, scope::writes(), Claim::UnknownIsUnknown);
    caught(Mutation::LostTargetWriteIsFailure, scope::way_back(), Claim::UnknownIsUnknown);
}

#[test]
fn a_step_closes_the_barrier_waits_and_writes_the_journal_first() {
    caught(Mutation::NoBarrier, scope::there(), Claim::OnePhase);
    caught(Mutation::NoWaitForInstances, scope::way_back(), Claim::TwoAtMost);
    caught(Mutation::JournalAfterFlip, scope::way_back(), Claim::JournalFirst);
}

#[test]
fn dynamo_only_begins_with_nothing_pending_and_ends_drained() {
    caught(Mutation::FlipOverPending, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::FeedStartsLate, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::FeedTakesAnyEpoch, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::PositionBeforeRows, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::FlipBackUndrained, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::FlipBackUnpaused, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::SourceNotFrozen, scope::raw_steps(), Claim::UnknownIsUnknown);
    caught(Mutation::FlipBackOverLeases, scope::way_back(), Claim::TruthIsComplete);
    caught(Mutation::VersionBelowEpoch, scope::way_back(), Claim::TruthIsComplete);
}

#[test]
fn what_rides_along_in_the_feeds_transaction_is_noted_and_waited_for() {
    caught(Mutation::RidersUnseen, scope::riders(), Claim::TruthIsComplete);
    caught(Mutation::CopyBackOverRiders, scope::riders(), Claim::TruthIsComplete);
}

#[test]
fn what_is_another_migrations_or_leads_elsewhere_is_not_obeyed() {
    caught(Mutation::ForeignRecordObeyed, scope::there_again(), Claim::TruthIsComplete);
    caught(Mutation::RelayDeliversElsewhere, scope::both_rows(), Claim::Known);
}

#[test]
fn a_sleeper_looks_at_its_lease_before_it_sends() {
    caught(Mutation::SleeperSends, scope::way_back(), Claim::TruthIsComplete);
}

#[test]
fn a_pause_is_an_epoch_that_the_source_knows_and_no_late_one_stays() {
    caught(Mutation::PauseEpochNotNoted, scope::there_again(), Claim::TruthIsComplete);
    caught(Mutation::PauseNotOutrun, scope::there_again(), Claim::JournalFirst);
}

#[test]
fn no_tombstone_of_an_old_key_is_put_over_the_row_that_shares_its_place() {
    caught(Mutation::TombstoneOfOldKey, scope::shared_place(), Claim::Known);
    caught(Mutation::OldKeyDropped, scope::shared_place(), Claim::Known);
    caught(Mutation::JudgedByItsOwnMark, scope::shared_place(), Claim::NoFalseAlarm);
    caught(Mutation::PresentKeyAskedAlone, scope::shared_place(), Claim::NoFalseAlarm);
    caught(Mutation::OtherKeysAskedLater, scope::shared_place(), Claim::NoFalseAlarm);
    caught(Mutation::RepairBesideWriters, scope::shared_place(), Claim::Known);
}

#[test]
fn what_postgresql_refuses_for_another_row_is_read_again_and_holds_nothing_up() {
    caught(Mutation::RefusedRowForgotten, scope::blocks(), Claim::TruthIsComplete);
    caught(Mutation::FeedStopsAtRefused, scope::blocks(), Claim::Convergence);
}

#[test]
fn a_restore_to_before_the_way_back_leads_on_and_loses_nothing_that_dynamodb_has() {
    caught(Mutation::NoWayOnFromRestore, scope::restored(), Claim::Convergence);
    caught(Mutation::RestoredFollowsRecord, scope::restored(), Claim::TruthIsComplete);
    // The net holds it: the relay says that history was lost, and takes out no mark.
    caught(Mutation::RestoredCountsOn, scope::restored(), Claim::NoFalseAlarm);
}
