//! DynamoDB lost history.

use super::*;

/// A target of which one table goes back to before changes of each kind. HybridRead, so that its answers
/// would count.
async fn target_set_back(how: &str) -> World {
    let world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let table = world.payments_table();
    let backup = world.back_up_table(&table).await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id <= 9; DELETE FROM payments WHERE payment_id > 50").await;
    world.sql(&payments(101, 110)).await;
    world.relay_until_empty().await;
    world.stepped_to(Phase::HybridRead).await;
    match how {
        "restored" => world.restore_table(&table, &backup).await,
        "set back" => world.set_table_back(&table, &backup).await,
        _ => world.drop_table(&table).await,
    }
    world
}

async fn target_is_mended(how: &str, says: &str) {
    let world = target_set_back(how).await;
    let table = PAYMENTS.to_owned();
    check(
        &world,
        says,
        &[Remedy::AdoptTarget { table }, Remedy::RaiseEpoch, Remedy::Backfill, Remedy::Compare],
    )
    .await;
    let mended = mended(&world).await;
    assert!(mended.repaired.unverified.is_empty(), "{:?}", mended.repaired);
    assert!(mended.left.expect("looked at").sound);
    goes_on(&world, Phase::DualWrite).await;
}

#[tokio::test]
async fn a_target_table_that_was_restored_is_filled_and_compared() {
    target_is_mended("restored", "it was restored, as of about").await;
}

#[tokio::test]
async fn a_target_table_that_was_set_back_in_place_is_filled_and_compared() {
    target_is_mended("set back", "was set back").await;
}

#[tokio::test]
async fn a_target_table_that_is_gone_is_made_and_filled() {
    target_is_mended("dropped", "is gone").await;
}

#[tokio::test]
async fn a_mark_that_was_broken_off_is_no_loss() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // Begun, and never made; begun and made, and never noted.
    for (binding, made) in world.tables().iter().zip([false, true]) {
        if made {
            world.make_mark(binding).await;
        } else {
            let asked = [(binding.name(), binding.target_name.as_str())];
            let begun = world.source.begin_marks(&asked, Duration::ZERO, Duration::ZERO).await;
            assert_eq!(begun.expect("begun").len(), 1, "a mark");
        }
    }
    world.coordinator().await.close().await;
    assert!(diagnosis(&world).await.sound);
    world.assert_converged().await;
}

/// A process that asks must not hold what it read first against what others have written since.
#[tokio::test]
async fn marks_that_others_make_meanwhile_are_no_loss() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let done = CancellationToken::new();
    let marking = async {
        let mut id = 0;
        while !done.is_cancelled() {
            id += 1;
            world.sql(&log(id, "a")).await;
            for binding in world.tables() {
                let number = world.make_mark(&binding).await;
                world.source.end_marks(&[(binding.name(), number)]).await.expect("noted");
            }
        }
    };
    let asking = async {
        for _ in 0..60 {
            let lost = status(&world.source, &world.plain_target, &world.tables()).await.expect("read").lost;
            assert!(lost.is_empty(), "{lost:?}");
        }
        done.cancel();
    };
    tokio::join!(marking, asking);
}

#[tokio::test]
async fn going_back_to_postgresql_does_not_depend_on_a_target_that_is_away() {
    let mut world = World::start().await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    coordinator.close().await;
    drop(world.dynamo.take());
    let coordinator = world.coordinator().await;
    assert_eq!(
        coordinator.step(Phase::DualWrite, None, &()).await.expect("goes back").phase,
        Phase::DualWrite
    );
    let diagnosis = diagnosis(&world).await;
    assert!(
        diagnosis.findings.iter().any(|finding| finding.what.contains("DynamoDB could not be asked")),
        "{diagnosis:?}"
    );
}
