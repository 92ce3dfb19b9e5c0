//! PostgreSQL lost history.

use super::*;

#[tokio::test]
async fn a_source_that_was_set_back_stops_everything_until_a_new_epoch_outranks_what_was_lost() {
    let world = set_back().await;
    check(&world, "PostgreSQL was set back", &[Remedy::RaiseEpoch, Remedy::List]).await;
    let before = world.source.control().await.expect("a phase");
    let lost =
        version_of(&world.live_at(&world.logs_table(), &log_key(1_000, "lost")).await).expect("a version");

    let mended = mended(&world).await;
    let now = world.source.control().await.expect("a phase");
    assert_eq!((before.phase, now.phase), (Phase::DualWrite, Phase::DualWrite));
    assert!(now.epoch > lost.epoch() && lost.epoch() > before.epoch, "{now:?} after {lost:?}");
    // A difference is listed and left: DynamoDB may be the only one that has it.
    let found = mended.findings.expect("compared").repairable;
    let of = |class| found.iter().filter(|finding| finding.class == class).count();
    // Log 7 waited for delivery at that moment, and what came of it in the lost time is not overwritten.
    assert_eq!(
        (of(FindingClass::Extra), of(FindingClass::Missing), of(FindingClass::Different)),
        (2, 5, 7),
        "{found:?}"
    );
    assert_eq!(mended.repaired.marked, 0);

    // An operator decides: this row is right in DynamoDB, the others in PostgreSQL.
    let chosen: Vec<_> = found
        .iter()
        .filter(|finding| finding.table == LOGS && finding.class == FindingClass::Extra)
        .cloned()
        .collect();
    let taken = take_target(&world.migration(), &chosen).await.expect("taken");
    assert_eq!((taken.rows, taken.left), (1, Vec::new()));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM integration_logs WHERE log_id = 1000").await, 1);
    repair_rows(&world).await;
    world.relay_until_empty().await;
    let brought_back = world.live_at(&world.logs_table(), &log_key(1_000, "lost")).await;
    assert!(version_of(&brought_back) > Some(lost), "I2: it outranks the lost state");
    goes_on(&world, Phase::DualWrite).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM payments WHERE payment_id IN (1, 1000)").await, 1);
}

/// Without the epoch: 1. A lost state has version 12. 2. The source hands 12 out again. 3. The newer state is
/// refused as delivered.
#[tokio::test]
async fn a_version_sequence_that_was_set_back_is_noticed_by_what_the_target_has_seen() {
    let world = World::start().await;
    world.sql(&logs(1, 40)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'seen'").await;
    world.relay_until_empty().await;
    // A step makes marks.
    world.stepped_to(Phase::HybridRead).await;
    world.sql("SELECT setval('lockstep.version_seq', (1::bigint << 40) + 5)").await;
    // The source itself knows better as well.
    check(&world, "had seen version", &[Remedy::RaiseEpoch, Remedy::List]).await;
    let mended = mended(&world).await;
    assert!(mended.findings.expect("compared").repairable.is_empty());
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_source_that_failed_over_is_noticed_by_its_timeline() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("UPDATE lockstep.history SET server = '1/00000001'").await;
    check(&world, "it was restored or failed over", &[Remedy::RaiseEpoch, Remedy::List]).await;
    let mended = mended(&world).await;
    assert!(mended.left.expect("looked at").sound);
    // Reads go to the truth until there is a verdict.
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_relay_that_runs_notices_it_as_well() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let migration = world.migration();
    let progress = lockstep_coordinator::Progress::new(&migration.tables);
    let cancel = CancellationToken::new();
    let running = relay(&migration, RelayUntil::Cancelled, &progress, &cancel);
    let set_back = async {
        world.sql(&log(1, "a")).await;
        lockstep_tests::world::eventually("it relays", || async { world.live_items(LOGS).await == 1 }).await;
        world.sql("UPDATE lockstep.history SET server = '1/00000001'").await;
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = within(Duration::from_mins(3), running) => ended,
        () = set_back => unreachable!("it waits for ever"),
    };
    assert!(matches!(ended, Err(CoordinatorError::HistoryLost(_))), "{ended:?}");
}

#[tokio::test]
async fn a_source_that_was_set_back_to_before_dynamo_only_is_made_to_follow_again() {
    use lockstep_payments::Payments;
    use lockstep_tests::world::rows::payment_row;
    let mut world = World::start().await;
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 9").await;
    let backup = world.back_up_source().await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id <= 5; DELETE FROM payments WHERE payment_id = 50").await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    let coordinator = world.coordinator().await;
    coordinator.step(Phase::DynamoOnly, None, &()).await.expect("nothing refuses");
    coordinator.close().await;
    let app = lockstep::migration::Migration::connect(world.production(world.url(), Duration::from_secs(5)))
        .await
        .expect("connects");
    let store = app.store::<Payments>();
    store.put(&payment_row(6, 7, "in DynamoOnly")).await.expect("written");
    store.put(&payment_row(2_000, 7, "in DynamoOnly")).await.expect("written");
    store.delete(51).await.expect("deleted");
    world.feed_until_drained().await;
    world.restore_source(backup).await;

    assert_eq!(
        world.source.control().await.expect("a phase").phase,
        Phase::HybridRead,
        "it knows nothing of DynamoOnly"
    );
    for refusal in refusals(&world).await {
        assert!(refusal.contains("PostgreSQL was set back"), "{refusal}");
    }
    let begun =
        lockstep::migration::Migration::connect(world.production(world.url(), Duration::from_secs(5)))
            .await
            .expect("who begins now goes by DynamoDB as well");
    begun.store::<Payments>().put(&payment_row(2_001, 9, "begun meanwhile")).await.expect("written");
    begun.shutdown().await;
    let to_source: i64 = world.value("SELECT count(*) FROM payments WHERE payment_id = 2001").await;
    assert_eq!(to_source, 0, "a source that was set back is not written");
    let found = diagnosis(&world).await;
    assert!(found.findings[0].what.contains("the control records contradict each other"), "{found:?}");
    assert_eq!(
        lockstep_coordinator::remedies(&found.findings),
        [Remedy::FollowTarget, Remedy::ReverseBackfill]
    );
    let mended = mended(&world).await;
    assert_eq!(mended.done, [Remedy::FollowTarget, Remedy::ReverseBackfill]);
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{:#?}", mended.left);
    store.put(&payment_row(7, 8, "afterwards")).await.expect("applications went on all the time");
    world.feed_until_drained().await;
    world.assert_fed().await;
    let coordinator = world.coordinator().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("the way back is open again");
    coordinator.close().await;
    app.shutdown().await;
    world.assert_converged().await;
    let there: i64 =
        world.value("SELECT count(*) FROM payments WHERE payment_id IN (7, 50, 51, 2000, 2001)").await;
    assert_eq!(there, 3, "what was written and deleted in DynamoOnly has come back");
}

/// 1. A backup is made before the backfill. 2. Rows are copied, one of them is deleted, and its deletion is
/// delivered. 3. PostgreSQL is restored: it has the row, and knows of no copying.
#[tokio::test]
async fn a_source_restored_into_its_backfill_is_noticed_and_copied_again() {
    let mut world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.prepared().await.close().await;
    let backup = world.back_up_source().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("DELETE FROM payments WHERE payment_id = 3").await;
    world.relay_until_empty().await;
    world.restore_source(backup).await;
    let refused = Coordinator::open(world.migration()).await.err().expect("history was lost");
    assert!(matches!(&refused, CoordinatorError::HistoryLost(_)), "{refused}");
    let found = diagnosis(&world).await;
    assert_eq!(lockstep_coordinator::remedies(&found.findings), [Remedy::RaiseEpoch, Remedy::List]);
    assert!(mended(&world).await.left.expect("looked at").sound);
    world.migrated_to(Phase::DualWrite).await.close().await;
    let found = find_repairs(&world.migration(), &options(), &CancellationToken::new()).await;
    let found = found.expect("searched").repairable;
    assert!(found.len() == 1 && found[0].may_be_deleted(), "its deletion was delivered: {found:?}");
    assert_eq!(take_target(&world.migration(), &found).await.expect("taken").rows, 1);
    assert_eq!(world.count("payments WHERE payment_id = 3").await, 0);
    world.relay_until_empty().await;
    goes_on(&world, Phase::DualWrite).await;
}
