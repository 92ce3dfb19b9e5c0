//! R13: rows that the target cannot hold are set aside with a reason; everything else moves, and no verdict
//! overlooks them.

use lockstep_coordinator::{Coordinator, CoordinatorError, MigrationContext, Progress, RelayUntil, relay};
use lockstep_core::{Phase, SourceKey};
use lockstep_postgres::{RangeRead, Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, logs, outgrow, payment_key, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually, run};
use lockstep_validator::{ValidateOptions, validate};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::process::{command, ended};

/// Spoils six rows of each kind that no item can hold.
async fn spoil(world: &World) {
    world.sql(&outgrow(3)).await;
    for (table, set, id) in [
        (LOGS, "log_timestamp = 'infinity'", 4),
        (LOGS, "log_timestamp = '-infinity'", 5),
        (LOGS, "log_timestamp = '10000-01-01 00:00:00+00'", 6),
        (LOGS, "log_timestamp = '0044-03-15 12:00:00+00 BC'", 7),
        (LOGS, "service_name = repeat('ü', 1500)", 8),
        (PAYMENTS, "payment_amount = 'NaN'", 1),
        (PAYMENTS, "processed_date = 'infinity'", 2),
        (PAYMENTS, "payment_date = '-infinity'", 3),
        (PAYMENTS, "created_date = '0044-03-15 12:00:00+00 BC'", 4),
    ] {
        let key = if table == LOGS { "log_id" } else { "payment_id" };
        assert_eq!(world.sql(&format!("UPDATE {table} SET {set} WHERE {key} = {id}")).await, 1);
    }
}

/// The reasons of a table's dead letters, by the first element of their keys.
async fn reasons(world: &World, table: &str) -> Vec<(String, String)> {
    let letters = world.source.dead_letters(table, 100).await.expect("lists");
    let mut reasons: Vec<_> = letters
        .into_iter()
        .map(|letter| {
            (
                letter.key.trim_start_matches('[').split(',').next().unwrap_or_default().to_owned(),
                letter.reason,
            )
        })
        .collect();
    reasons.sort();
    reasons
}

#[track_caller]
fn check(found: &[(String, String)], expected: &[(&str, &str, &str)]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((id, reason), (expected_id, column, why)) in found.iter().zip(expected) {
        assert!(
            id == expected_id && reason.contains(column) && reason.contains(why),
            "{id}: {reason}, not {expected_id} {column} {why}"
        );
    }
}

const LOG_REASONS: [(&str, &str, &str); 6] = [
    ("3", "", "DynamoDB holds 409600"),
    ("4", "log_timestamp", "infinite"),
    ("5", "log_timestamp", "infinite"),
    ("6", "log_timestamp", "year is outside"),
    ("7", "log_timestamp", "year is outside"),
    ("8", "PK", "2048"),
];
const PAYMENT_REASONS: [(&str, &str, &str); 4] = [
    ("1", "payment_amount", "NaN"),
    ("2", "processed_date", "infinite"),
    ("3", "payment_date", "infinite"),
    ("4", "created_date", "year is outside"),
];

#[tokio::test]
async fn a_backfill_sets_aside_what_cannot_be_held_and_moves_the_rest() {
    let world = World::start().await;
    world.sql(&logs(1, 300)).await;
    world.sql(&payments(1, 60)).await;
    spoil(&world).await;
    let coordinator = world.prepared().await;
    let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
    assert_eq!(set_aside, 10);
    check(&reasons(&world, LOGS).await, &LOG_REASONS);
    check(&reasons(&world, PAYMENTS).await, &PAYMENT_REASONS);
    assert_eq!((world.live_items(LOGS).await, world.live_items(PAYMENTS).await), (294, 56));
    assert!(world.disagreements().await.is_empty());

    let verdict = world.validate().await.verdict;
    assert!(
        verdict.reasons().iter().any(|r| r.contains("6 unacknowledged dead letters")),
        "I11: {verdict:?}"
    );
    for table in [LOGS, PAYMENTS] {
        lockstep_tests::world::acknowledge(&world.source, table, "an operator").await.expect("acknowledges");
    }
    assert_eq!(
        world.validate().await.verdict.reasons(),
        [] as [String; 0],
        "accepted, and nothing else is wrong"
    );
}

#[tokio::test]
async fn a_relay_sets_the_same_rows_aside_for_the_same_reasons() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 30)).await;
    world.sql(&payments(1, 6)).await;
    world.relay_until_empty().await;
    spoil(&world).await;
    assert_eq!(world.relay_until_empty().await.dead_letters, 10);
    check(&reasons(&world, LOGS).await, &LOG_REASONS);
    check(&reasons(&world, PAYMENTS).await, &PAYMENT_REASONS);
    assert_eq!(
        (world.live_items(LOGS).await, world.live_items(PAYMENTS).await),
        (24, 2),
        "no stale state is left to be read"
    );
    assert!(world.disagreements().await.is_empty(), "{:#?}", world.disagreements().await);
}

#[tokio::test]
async fn a_mended_row_that_is_tried_again_is_no_dead_letter_any_more() {
    let world = World::start().await;
    world.sql(&payments(1, 5)).await;
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id < 3").await;
    backfill(&world.prepared().await).await;
    world.sql("UPDATE payments SET payment_amount = 1 WHERE payment_id = 1").await;
    world.relay_until_empty().await;
    assert_eq!(
        world.source.count_dead_letters(PAYMENTS).await.expect("counts"),
        (1, 1),
        "mended, so delivered, so cured"
    );
    assert_eq!(world.source.retry_dead_letters(PAYMENTS).await.expect("marks"), 1);
    assert_eq!(world.relay_until_empty().await.dead_letters, 1, "still NaN");
    world.sql("DELETE FROM payments WHERE payment_id = 2").await;
    world.assert_converged().await;
}

#[tokio::test]
async fn too_many_dead_letters_stop_the_run_and_a_higher_bound_resumes_it() {
    let world = World::start().await;
    world.sql(&payments(1, 200)).await;
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id % 4 = 0").await;
    let mut migration = world.migration();
    migration.options.backfill.errors_max = 10;
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    match coordinator.backfill(&CancellationToken::new()).await {
        Err(CoordinatorError::TooManyErrors { table, found, allowed }) => {
            assert!(table == PAYMENTS && found > allowed && allowed == 10)
        }
        other => panic!("a run that only sets rows aside is a mistake of ours: {other:?}"),
    }
    coordinator.close().await;
    backfill(&world.coordinator().await).await;
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counts"), (50, 50));
    assert!(world.disagreements().await.is_empty());
}

#[tokio::test]
async fn dead_letters_keep_reads_on_the_source_until_someone_accepts_them() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.sql(&format!("{}; {}", log(1, "a"), outgrow(1))).await;
    world.relay_until_empty().await;
    world.record_verdict().await;
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("a dead letter waits");
    assert!(refused.to_string().contains("1 dead letters, 1 not acknowledged"), "{refused}");
    lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("acknowledges");
    world.record_verdict().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("accepted");
}

/// 1. A row is listed. 2. Whatever sets it aside in another state has not committed that yet, when what
/// was listed is accepted. 3. The state that is accepted is the other one.
#[tokio::test]
async fn a_state_that_is_set_aside_while_the_listed_one_is_accepted_is_not_accepted() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql(&format!("{}; {}", log(1, "a"), outgrow(1))).await;
    world.relay_until_empty().await;
    let listed = world.source.open_letters(&[LOGS]).await.expect("listed");
    assert_eq!(listed.count, 1);
    let mut other = world.strangers().begin().await.expect("begun");
    sqlx::query("UPDATE lockstep.dead_letters SET version = version + 1")
        .execute(&mut *other)
        .await
        .expect("set");
    let accepts = world.source.acknowledge_listed(&[LOGS], "an operator", &listed.mark);
    let commits = async {
        eventually("it waits", || world.is_held_up()).await;
        other.commit().await.expect("committed");
    };
    let (accepted, ()) = tokio::join!(accepts, commits);
    assert_eq!(accepted.expect("nothing fails"), None);
    assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counted"), (1, 1));
}

/// 1. More rows are open than are listed. 2. Their mark, which covers all, is shown below the list, and
/// accepts rows that were not.
#[tokio::test]
async fn a_list_that_shows_not_all_has_no_mark_and_shows_open_ones_first() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql(&format!("{}; {}", log(1, "a"), outgrow(1))).await;
    world.relay_until_empty().await;
    lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("acknowledges");
    world.sql(&format!("{}; {}", log(2, "b"), outgrow(2))).await;
    world.relay_until_empty().await;
    let listed = async |limit: &str| {
        let output = ended(command(&world, &["dead-letters", "--json", "--quiet", "--limit", limit])).await;
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let first = listed("1").await;
    assert!(first["mark"].is_string() && first["open"] == 1, "the open one is listed: {first}");
    assert!(first["dead_letters"][0]["acknowledged_at"].is_null(), "{first}");
    world.sql(&format!("{}; {}", log(3, "c"), outgrow(3))).await;
    world.relay_until_empty().await;
    let first = listed("1").await;
    assert!(first["mark"].is_null() && first["open"] == 2, "{first}");
    assert!(listed("2").await["mark"].is_string());
}

#[tokio::test]
async fn a_dead_letter_excuses_nothing_of_a_row_that_can_be_held() {
    let world = World::start().await;
    world.sql(&payments(1, 5)).await;
    backfill(&world.prepared().await).await;
    let key = payment_key(3, 4);
    world
        .sql(&format!(
            "INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason, acknowledged_at, acknowledged_by)
             VALUES ('payments', '{key}', 0, 'backfill', 'it could not be held', now(), 'an operator')"
        ))
        .await;
    assert!(world.validate().await.verdict.is_consistent());
    let place =
        world.payments_table().table.target_key(&SourceKey::parse(&key).expect("a key")).expect("a place");
    let remove =
        world.plain_target.client().delete_item().table_name(PAYMENTS).set_key(Some(place.to_attributes()));
    remove.send().await.expect("removed by hand");
    assert!(!world.validate().await.verdict.is_consistent(), "the letter is about another state of the row");
}

#[tokio::test]
async fn a_dead_letter_excuses_no_live_item_in_the_place_of_its_row() {
    let world = World::start().await;
    world.sql(&payments(1, 5)).await;
    backfill(&world.prepared().await).await;
    let key = SourceKey::parse(&payment_key(3, 4)).expect("a key");
    let place = world.payments_table().table.target_key(&key).expect("a place").to_attributes();
    let client = world.plain_target.client();
    let get = client.get_item().table_name(PAYMENTS).set_key(Some(place)).send().await.expect("read");
    let older = get.item.expect("an item");
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id = 3").await;
    world.relay_until_empty().await;
    lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "an operator").await.expect("acknowledges");
    assert!(world.validate().await.verdict.is_consistent(), "there is a tombstone in its place");
    // As where PostgreSQL was set back, and DynamoDB has the item of another image.
    client.put_item().table_name(PAYMENTS).set_item(Some(older)).send().await.expect("put");
    let report = world.validate().await;
    let of_payments = report.tables.iter().find(|table| table.name == PAYMENTS).expect("payments");
    assert_eq!((report.findings_total(), of_payments.different), (1, 1), "a read would be answered with it");
    // The way on that its finding names: the relay writes a tombstone over it again.
    world.source.retry_dead_letters(PAYMENTS).await.expect("marked");
    world.relay_until_empty().await;
    lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "an operator").await.expect("acknowledges");
    assert!(world.validate().await.verdict.is_consistent());
}

#[tokio::test]
async fn a_row_that_was_mended_after_it_was_read_is_not_set_aside() {
    let world = World::start().await;
    world.sql(&payments(1, 3)).await;
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id = 2").await;
    world.prepared().await.close().await;
    let (binding, key) = (world.payments_table(), vec!["2".to_owned()]);
    let read = RangeRead {
        after: Some(vec!["1".to_owned()]),
        until: Some(key.clone()),
        rows_max: 1,
        ..RangeRead::default()
    };
    let chunk = world.source.read_chunk(&binding, &read).await.expect("reads");
    let tuple = chunk.tuples().next().expect("the row");
    world.sql("UPDATE payments SET payment_amount = 1 WHERE payment_id = 2").await;
    world.relay_until_empty().await;
    assert!(
        !world.source.set_aside_initial_load(&binding, &key, tuple, "NaN").await.expect("asks"),
        "the relay has delivered it"
    );
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counts"), (0, 0));
    let chunk = world.source.read_chunk(&binding, &read).await.expect("reads");
    let tuple = chunk.tuples().next().expect("the row");
    assert!(
        world.source.set_aside_initial_load(&binding, &key, tuple, "refused").await.expect("asks"),
        "as it was read"
    );
    assert!(
        world.source.set_aside_initial_load(&binding, &key, tuple, "refused").await.expect("asks"),
        "and again"
    );
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counts"), (1, 1));
}

/// A database that holds any bytes, and one of them is no UTF-8.
#[tokio::test]
async fn a_byte_that_is_no_utf_8_costs_its_row_and_no_other() {
    let world = World::start().await;
    let name = format!("{}_ascii", world.value::<String>("SELECT current_database()::text").await);
    world.sql(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")).await;
    let (server, _) = world.url().rsplit_once('/').expect("a URL ends in its database");
    let url = format!("{server}/{name}");
    let mut stranger = PgConnection::connect(&url).await.expect("a stranger connects");
    lockstep_sample::load::create_tables(&mut stranger).await.expect("the sample's tables");
    let source = Source::connect(&SourceOptions { url, ..world.source_options() }).await.expect("connects");
    let migration = MigrationContext { source, ..world.migration() };
    let spoil = |id: i64| {
        format!(
            "UPDATE integration_logs SET error_message = convert_from('\\x446566656e7365e9'::bytea, 'SQL_ASCII') WHERE log_id = {id}"
        )
    };
    run(&mut stranger, &format!("{}; {}; {}", logs(1, 30), payments(1, 5), spoil(7))).await;
    let coordinator = Coordinator::open(migration.clone()).await.expect("a coordinator");
    coordinator.prepare(&()).await.expect("nothing refuses");
    let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
    assert_eq!((set_aside, world.live_items(LOGS).await), (1, 29));
    run(
        &mut stranger,
        &format!("{}; UPDATE integration_logs SET status_code = 'é' WHERE log_id IN (9, 10)", spoil(8)),
    )
    .await;
    let progress = Progress::new(&migration.tables);
    let relayed = relay(&migration, RelayUntil::Empty, &progress, &CancellationToken::new())
        .await
        .expect("the others go on");
    assert_eq!((relayed.dead_letters, relayed.delivered), (1, 2));
    let letters = migration.source.dead_letters(LOGS, 10).await.expect("lists");
    assert!(
        letters.len() == 2 && letters.iter().all(|letter| letter.reason.contains("not UTF-8")),
        "{letters:?}"
    );
    lockstep_tests::world::acknowledge(&migration.source, LOGS, "an operator").await.expect("acknowledges");
    let options = ValidateOptions { quiescent: true, wait_for_pending: false, ..ValidateOptions::default() };
    let progress = lockstep_validator::ValidationProgress::new(&migration.tables);
    let (source, target, tables) = (&migration.source, &migration.target, &migration.tables);
    let report = validate(source, target, tables, &options, &progress, &CancellationToken::new()).await;
    assert_eq!(report.verdict.reasons(), [] as [String; 0]);
    coordinator.close().await;
}
