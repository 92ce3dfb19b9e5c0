//! Effects of the source's clock, its sequence and its catalogue on a migration.

use lockstep_core::Window;
use lockstep_postgres::{Dangling, Oldest, Referred};

use super::*;

/// A world in which the change of one payment waits.
async fn with_a_change() -> World {
    let world = World::start().await;
    world.sql(&payments(1, 30)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 3").await;
    world
}

#[tokio::test]
async fn a_mark_from_before_the_clock_was_set_back_counts_as_late_until_it_is_delivered() {
    let world = with_a_change().await;
    let standing = world.source.standing(PAYMENTS).await.expect("asked");
    assert!(matches!(standing.oldest, Oldest::Age(age) if age < Duration::from_secs(60)), "{standing:?}");
    world.sql("UPDATE lockstep.pending SET marked_at = now() + interval '1 hour'").await;
    let standing = world.source.standing(PAYMENTS).await.expect("asked");
    assert_eq!(standing.oldest, Oldest::TooMany, "how old it is cannot be told");
    let lag = world.source.lag(PAYMENTS).await.expect("asked");
    assert!(lag.keys == 1 && lag.oldest_s > 3_600.0, "{lag:?}");
    world.relay_until_empty().await;
    let standing = world.source.standing(PAYMENTS).await.expect("asked");
    assert_eq!(standing.oldest, Oldest::None);
}

#[tokio::test]
async fn a_clock_that_ends_the_notes_of_deliveries_ends_what_was_concluded_from_them() {
    let world = with_a_change().await;
    world.relay_until_empty().await;
    world
        .sql("INSERT INTO lockstep.verified VALUES ('payments', 1, now(), 'DualWrite', 2, 'x', now())")
        .await;
    // Set forward past the end of the notes, and back again: what is delivered meanwhile is not noted.
    world.sql("UPDATE lockstep.passes SET noted_until = '-infinity'").await;
    assert_eq!(world.count("lockstep.verified").await, 1);
    world.sql("UPDATE payments SET loan_id = 3 WHERE payment_id = 4").await;
    world.relay_until_empty().await;
    world.sql("UPDATE lockstep.passes SET noted_until = now() + interval '1 day'").await;
    assert_eq!(world.count("lockstep.verified").await, 0, "no pass goes on from a full one before that");
}

#[tokio::test]
async fn a_sequence_of_versions_with_a_cache_is_named_and_no_step_forward_is_taken() {
    let world = with_a_change().await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    world.sql("ALTER SEQUENCE lockstep.version_seq CACHE 8").await;
    let found = diagnosis(&world).await;
    assert!(!found.sound && found.findings[0].what.contains("CACHE 8"), "{found:?}");
    let coordinator = world.coordinator().await;
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("a gate").to_string();
    assert!(refused.contains("CACHE 8"), "{refused}");
    world.sql("ALTER SEQUENCE lockstep.version_seq CACHE 1").await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses");
    coordinator.close().await;
    assert!(diagnosis(&world).await.sound);
}

#[tokio::test]
async fn references_into_another_schema_are_looked_at_there() {
    let world = World::start().await;
    world.sql(&payments(1, 30)).await;
    world.sql("CREATE SCHEMA elsewhere; ALTER TABLE loans SET SCHEMA elsewhere").await;
    let binding = world.payments_table();
    let reference = binding.table.references().iter().find(|reference| reference.to_table == "loans");
    let reference = reference.expect("payments are of loans");
    let found = world.source.dangling(&binding, reference, &Window::default(), 10).await.expect("asked");
    assert_eq!(
        found,
        Referred::Looked(Dangling { rows: 0, keys: Vec::new() }),
        "the foreign key leads there"
    );
}

#[tokio::test]
async fn old_verdicts_are_forgotten_and_the_newest_are_kept() {
    let world = with_a_change().await;
    let old = "INSERT INTO lockstep.verdicts (at, epoch, consistent, report)
               SELECT now() - interval '40 days', 1, true, '{}' FROM generate_series(1, 150)";
    world.sql(old).await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    assert_eq!(world.count("lockstep.verdicts").await, 100);
    assert!(world.source.latest_verdict().await.expect("read").expect("a verdict").age_s < 60.0);
}

#[tokio::test]
async fn triggers_that_an_earlier_version_installed_are_known_by_their_installation_from_now_on() {
    let world = with_a_change().await;
    let mark = "SELECT capture_mark FROM lockstep.tables WHERE name = 'payments'";
    world.sql("UPDATE lockstep.tables SET capture_mark = split_part(capture_mark, '|', 2)").await;
    assert!(!world.value::<String>(mark).await.contains('|'));
    world.coordinator().await.close().await;
    assert!(world.value::<String>(mark).await.contains('|'));
    world.sql("ALTER TABLE payments DISABLE TRIGGER zz_lockstep_capture_payments").await;
    world.sql("ALTER TABLE payments ENABLE ALWAYS TRIGGER zz_lockstep_capture_payments").await;
    let found = diagnosis(&world).await;
    assert!(found.findings[0].what.contains("disabled for a while"), "{found:?}");
}
