//! A clock that was ahead for a moment: what was stored then lies in the future, and is never fresh.

use lockstep_coordinator::keep_continuity;
use lockstep_core::Window;
use lockstep_postgres::Registering;

use super::*;

const AHEAD: &str = "clock_timestamp() + interval '1 hour'";

async fn dual(phase: Phase) -> World {
    let world = World::start().await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(phase).await.close().await;
    world
}

#[tokio::test]
async fn a_mark_that_was_made_by_a_clock_ahead_is_followed_by_the_next_one_at_once() {
    let world = dual(Phase::DualWrite).await;
    world.sql(&format!("UPDATE lockstep.history_marks SET marked_at = {AHEAD}")).await;
    let newest = "SELECT min(marked) FROM lockstep.history_marks";
    let before: i64 = world.value(newest).await;
    keep_continuity(&world.migration()).await.expect("nothing was lost");
    assert_eq!(world.value::<i64>(newest).await, before + 1);
    let ahead = "lockstep.history_marks WHERE marked_at > clock_timestamp()";
    assert_eq!(world.count(ahead).await, 0, "the next one is reckoned from now");
}

#[tokio::test]
async fn a_verdict_and_a_capture_of_a_time_to_come_let_no_step_through_and_the_next_verdict_does() {
    let world = dual(Phase::DualWrite).await;
    world.record_verdict().await;
    world.sql(&format!("UPDATE lockstep.verdicts SET at = {AHEAD}")).await;
    let verdict = world.source.latest_verdict().await.expect("read").expect("a verdict");
    assert!(verdict.age_s.is_infinite(), "{}", verdict.age_s);
    let coordinator = world.coordinator().await;
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("it is not fresh");
    assert!(refused.to_string().contains("clock has not reached"), "{refused}");
    // Nor does none count until the clock has passed the capture.
    world.sql("UPDATE lockstep.verdicts SET at = clock_timestamp()").await;
    world.sql(&format!("UPDATE lockstep.tables SET captured_at = {AHEAD}")).await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect_err("it may be of before the capture");
    world.record_verdict().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("this one is of after it");
    coordinator.close().await;
}

#[tokio::test]
async fn a_lease_an_intent_and_a_letter_of_a_time_to_come_hold_nothing_up() {
    let world = dual(Phase::DualWrite).await;
    let who = |id| Registering { id, name: "w", coordinator: false, lease: Duration::from_secs(3_600) };
    world.source.register_worker(&who(7)).await.expect("registered");
    world.source.register_worker(&who(8)).await.expect("registered");
    world.sql("UPDATE lockstep.ranges SET done = false, worker = 7 WHERE table_name = 'payments'").await;
    let taken = async || world.source.claim_range(8, &[PAYMENTS], &Window::default()).await.expect("asked");
    assert!(taken().await.is_none(), "7 is alive");
    world.sql(&format!("UPDATE lockstep.workers SET renewed_at = {AHEAD} WHERE id = 7")).await;
    let look = world.source.look_at_plan(&[PAYMENTS], &Window::default()).await.expect("asked");
    assert!(look.free, "{look:?}");
    assert!(taken().await.is_some(), "when its lease ends cannot be told");

    world
        .sql(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
             VALUES ('5', 'payments', '[1]', 1)",
        )
        .await;
    world.sql("ALTER TABLE lockstep.intents DISABLE TRIGGER USER").await;
    world.sql(&format!("UPDATE lockstep.intents SET made_at = {AHEAD}")).await;
    world.sql("ALTER TABLE lockstep.intents ENABLE TRIGGER USER").await;
    let swept = world.source.sweep_intents(Duration::from_secs(1)).await.expect("swept");
    assert_eq!(swept.aborted + swept.committed + swept.forgotten, 1, "{swept:?}");

    world
        .sql(&format!(
            "INSERT INTO lockstep.reverse_again (table_name, place, key, why, found_at)
             VALUES ('payments', 'p', '{{}}', 'w', {AHEAD})"
        ))
        .await;
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counted"), (1, 1));
    assert_eq!(lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "me").await.expect("accepted"), 1);

    world
        .sql(&format!(
            "INSERT INTO lockstep.imports
                 (table_name, state, folder, bucket, prefix, part_bytes, client_token, asked_at)
             VALUES ('payments', 'importing', 'f', 'b', 'p', 1, 't', {AHEAD})"
        ))
        .await;
    let lifetime = Duration::from_secs(60);
    assert!(world.source.import_asked_within(PAYMENTS, lifetime).await.expect("asked"));
    let waits = "lockstep.imports WHERE asked_at <= clock_timestamp()";
    assert_eq!(world.count(waits).await, 1, "it is waited for from now on");
}

#[tokio::test]
async fn a_feed_and_a_comparison_of_a_time_to_come_are_not_gone_on_from() {
    let world = dual(Phase::HybridRead).await;
    world.flip(Phase::DynamoOnly).await;
    let table = world.source.fed_table(&world.payments_table()).await.expect("a table");
    world.sql("INSERT INTO lockstep.reverse_tables (table_name, stream) VALUES ('payments', 's')").await;
    world.sql("INSERT INTO lockstep.reverse_shards (table_name, shard) VALUES ('payments', '1')").await;
    let empty_at = async |at: &str| {
        world.sql(&format!("UPDATE lockstep.reverse_shards SET empty_at = {at}")).await;
        world.source.reverse_standing(PAYMENTS).await.expect("asked").expect("it was fed")
    };
    assert!(empty_at("clock_timestamp()").await.lag_s < 60.0);
    assert!(empty_at(AHEAD).await.lag_s > 86_400.0, "how long ago that was cannot be told");
    world.source.open_reverse(&table, "s").await.expect("opened");
    let standing = world.source.reverse_standing(PAYMENTS).await.expect("asked").expect("it was fed");
    assert!(standing.lost_at.is_some(), "records may have gone unseen");

    let compared = "INSERT INTO lockstep.compared (table_name, epoch, server, began, unequal)
        SELECT 'payments', epoch, $$SERVER$$, pg_snapshot_xmin(pg_current_snapshot()), '[]'
        FROM lockstep.control";
    let server = world.source.history().await.expect("asked").expect("it tells");
    world.sql(&compared.replace("SERVER", &server)).await;
    assert!(world.source.compared(&table).await.expect("read").is_some());
    for column in ["at", "begun_at"] {
        world.sql(&format!("UPDATE lockstep.compared SET {column} = {AHEAD}")).await;
        assert!(world.source.compared(&table).await.expect("read").is_none(), "{column}");
        world.sql(&format!("UPDATE lockstep.compared SET {column} = clock_timestamp()")).await;
    }
}

/// 1. The truth comes back to PostgreSQL. 2. A request that was given up before may land for half an hour.
/// 3. That is to be known, whatever happens to the journal, to a clock, or to PostgreSQL.
#[tokio::test]
async fn until_when_requests_are_late_is_forgotten_by_no_journal_no_clock_and_no_restore() {
    let world = dual(Phase::HybridRead).await;
    world.record_verdict().await;
    let late = async || world.source.late_requests().await.expect("asked").map(|(left, _)| left);
    assert_eq!(late().await, None, "the truth was never there");
    let lifetime = world.plain_target.request_lifetime();
    let now = async || world.value::<String>("SELECT clock_timestamp()::text").await;
    // Little is left of two seconds where a machine is busy: when they began is on record.
    let began_since = async |moment: &str| {
        let lifetime_s = lifetime.as_secs_f64();
        world
            .count(&format!(
                "lockstep.late_requests WHERE begun_at >= '{moment}' AND lifetime_s = {lifetime_s}"
            ))
            .await
    };
    world.stepped_to(Phase::DynamoOnly).await;
    let moment = now().await;
    world.stepped_to(Phase::HybridRead).await;
    assert_eq!(began_since(&moment).await, 1, "it has just come back");
    world.sql("UPDATE lockstep.late_requests SET lifetime_s = 3600").await;
    let long = Duration::from_hours(1);
    assert!(late().await.is_some_and(|left| left <= long && left > long / 2));
    let notes = "INSERT INTO lockstep.journal (actor, kind, step, detail)
                 SELECT 'crowd', 'note', 'note', '{}' FROM generate_series(1, 300)";
    world.sql(notes).await;
    let status = status(&world.source, &world.plain_target, &world.tables()).await.expect("asked");
    assert!(status.late_until.is_some(), "nothing crowds it out");

    // By a clock that has been set back since it cannot be told when that was.
    world.sql(&format!("UPDATE lockstep.late_requests SET begun_at = {AHEAD}")).await;
    assert!(late().await.is_some_and(|left| left <= long));
    world.source.replace_times_ahead().await.expect("replaced");
    assert_eq!(world.count("lockstep.late_requests WHERE begun_at <= clock_timestamp()").await, 1);
    world.sql("UPDATE lockstep.late_requests SET begun_at = clock_timestamp() - interval '1 day'").await;
    assert_eq!(late().await, None, "it is over");

    // A source that was restored to before has forgotten it; DynamoDB's record has not.
    world.sql("UPDATE lockstep.late_requests SET begun_at = '-infinity', lifetime_s = 0").await;
    world.sql("UPDATE lockstep.history SET server = '1/00000001'").await;
    let moment = now().await;
    assert!(mended(&world).await.left.expect("looked at").sound);
    assert_eq!(began_since(&moment).await, 1, "it is waited for again");
}
