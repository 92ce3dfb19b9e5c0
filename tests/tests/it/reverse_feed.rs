//! The reverse feed on real stores: what is written to the target in DynamoOnly is in the source, whatever
//! happens meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_coordinator::{CoordinatorError, FeedUntil, drained, reverse_backfill, status};
use lockstep_core::{Epoch, Kind, MARK_ATTRIBUTE, MARKER_ATTRIBUTE, MigratableTable, Phase, Scaled, Version};
use lockstep_dynamo::streams::StreamApi;
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogKey};
use lockstep_payments::{Payment, Payments};
use lockstep_postgres::flip_phase;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::seeds::seed;
use lockstep_tests::world::rows::{self, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, WorldOptions, eventually, within};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;

pub(crate) fn log_row(log_id: i64, service_name: &str, user_id: &str) -> IntegrationLog {
    IntegrationLog {
        service_name: service_name.to_owned(),
        processing_time_ms: Some(3),
        ..rows::log_row(log_id, user_id)
    }
}

pub(crate) fn log_at(log_id: i64, service_name: &str) -> LogKey {
    let row = log_row(log_id, service_name, "");
    LogKey { log_id, service_name: row.service_name, log_timestamp: row.log_timestamp }
}

pub(crate) fn payment_row(payment_id: i64, loan_id: i64, cents: i64) -> Payment {
    let at = lockstep_core::parse_fixed_width("2099-03-04T05:06:07.000008Z").expect("a time");
    Payment {
        payment_id,
        customer_id: 1 + payment_id % 50,
        loan_id,
        payment_amount: Scaled::new(Decimal::new(cents, 2)).expect("fits"),
        currency: "EUR".to_owned(),
        payment_date: at,
        payment_method: "Card".to_owned(),
        payment_status: "Settled".to_owned(),
        transaction_reference: Some(format!("ref-{payment_id}")),
        processed_date: Some(at),
        created_date: at,
        updated_date: None,
    }
}

/// A world that stands in DynamoOnly with some history.
pub(crate) async fn dynamo_only(world: World) -> (World, Epoch) {
    let coordinator = world.prepared().await;
    world.sql(&logs(1, 30)).await;
    world.sql(&payments(1, 30)).await;
    lockstep_tests::world::backfill(&coordinator).await;
    world.relay_until_empty().await;
    coordinator.close().await;
    // Begun before the step, as the step demands.
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    (world, epoch)
}

/// Some changes of every kind, as applications make them.
async fn change(world: &World, epoch: Epoch, rng: &mut StdRng, times: u32) {
    let (of_logs, of_payments) = (IntegrationLogs::default(), Payments::default());
    for n in 0..times {
        let id = rng.random_range(1..60);
        match rng.random_range(0..6) {
            0 | 1 => drop(
                world
                    .put_item(&of_logs, &log_row(id, &format!("service-{}", id % 5), &format!("u{n}")), epoch)
                    .await,
            ),
            2 => drop(world.put_item(&of_payments, &payment_row(id, 1 + id % 40, i64::from(n)), epoch).await),
            3 => drop(world.delete_item(&of_logs, &log_at(id, &format!("service-{}", id % 5)), epoch).await),
            // Moves to another place and back.
            4 => {
                let (here, there) = (format!("service-{}", id % 5), format!("moved-{id}"));
                world.put_item(&of_logs, &log_row(id, &there, "moved"), epoch).await;
                world.delete_item(&of_logs, &log_at(id, &here), epoch).await;
                if rng.random() {
                    world.put_item(&of_logs, &log_row(id, &here, "back"), epoch).await;
                }
                world.delete_item(&of_logs, &log_at(id, &there), epoch).await;
            }
            _ => {
                let row = payment_row(id, 1, 0);
                world
                    .delete_item(
                        &of_payments,
                        &<Payments as lockstep_core::MigratableTable>::key(&row),
                        epoch,
                    )
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn rows_written_changed_deleted_and_moved_come_back() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    // Identities that PostgreSQL insists on giving itself.
    world.sql("ALTER TABLE payments ALTER COLUMN payment_id SET GENERATED ALWAYS").await;
    change(&world, epoch, &mut StdRng::seed_from_u64(1), 150).await;
    let fed = world.feed_until_drained().await;
    world.assert_fed().await;
    let standing = fed.tables[0].standing.clone().expect("it stands somewhere");
    assert!(standing.applied > 0 && standing.again == 0 && standing.foreign_count == 0, "{standing:?}");
    assert!(standing.lag_s < 30.0, "{standing:?}");
    // Everything again from where it was: nothing is news.
    assert_eq!(world.feed_until_drained().await.tables[0].applied, 0);
}

#[tokio::test]
async fn a_feed_that_began_before_the_step_reads_what_came_from_the_source_and_changes_nothing() {
    let world = World::start().await;
    let coordinator = world.prepared().await;
    world.plain_target.enable_stream(LOGS).await.expect("a stream");
    world.plain_target.enable_stream(PAYMENTS).await.expect("a stream");
    world.sql(&logs(1, 60)).await;
    lockstep_tests::world::backfill(&coordinator).await;
    world.sql("UPDATE integration_logs SET user_id = 'relayed' WHERE log_id % 2 = 0; DELETE FROM integration_logs WHERE log_id > 50").await;
    world.relay_until_empty().await;
    let before: String =
        world.value("SELECT string_agg(xmin::text, ',' ORDER BY log_id) FROM integration_logs").await;
    let first = world.feed_until_drained().await;
    assert!(first.tables[0].records >= 60 && first.tables[0].applied == 0, "{first:?}");
    // The same records, read for the first time after the step, are as old.
    world.sql("DELETE FROM lockstep.reverse_shards").await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let second = world.feed_until_drained().await;
    assert!(second.tables[0].records >= 60 && second.tables[0].applied == 0, "{second:?}");
    assert_eq!(
        world
            .value::<String>("SELECT string_agg(xmin::text, ',' ORDER BY log_id) FROM integration_logs")
            .await,
        before
    );
    world.put_item(&IntegrationLogs::default(), &log_row(1, "service-1", "news"), epoch).await;
    assert_eq!(world.feed_until_drained().await.tables[0].applied, 1);
    world.assert_fed().await;
}

#[tokio::test]
async fn columns_that_postgresql_computes_are_left_to_it() {
    let world = World::start().await;
    world.sql("ALTER TABLE integration_logs DROP COLUMN user_id").await;
    world.sql("ALTER TABLE integration_logs ADD COLUMN user_id text GENERATED ALWAYS AS ('of ' || service_name) STORED").await;
    let (world, epoch) = dynamo_only(world).await;
    let table = IntegrationLogs::default();
    world.put_item(&table, &log_row(1, "service-1", "of service-1"), epoch).await;
    world.put_item(&table, &log_row(99, "new", "of new"), epoch).await;
    world.feed_until_drained().await;
    world.assert_fed().await;
}

#[tokio::test]
async fn aborted_at_any_moment_and_behind_faults_the_feed_converges() {
    let world = World::with(WorldOptions {
        proxied: true,
        request_timeout: Duration::from_secs(2),
        ..WorldOptions::default()
    })
    .await;
    let (world, epoch) = dynamo_only(world).await;
    let mut rng = StdRng::seed_from_u64(seed());
    world.proxy().script(Rule::new(Fault::Throttle).on("GetRecords").times(5));
    world.proxy().script(Rule::new(Fault::Throttle).on("GetShardIterator").times(3));
    for _ in 0..8 {
        change(&world, epoch, &mut rng, 20).await;
        let before: i64 =
            world.value("SELECT coalesce(sum(applied), 0)::bigint FROM lockstep.reverse_tables").await;
        let some_more = before + rng.random_range(0..12);
        let cancel = CancellationToken::new();
        // Dropped in the midst of whatever it does, as soon as it has done a little.
        tokio::select! {
            ended = world.feed(FeedUntil::Cancelled, &cancel) => panic!("it ended by itself: {ended:?}"),
            () = eventually("something was applied", || async {
                world.try_value(&format!("SELECT sum(applied) >= {some_more} FROM lockstep.reverse_tables")).await.unwrap_or(false)
                    || world.try_value("SELECT min(empty_at) > now() - interval '1 s' FROM lockstep.reverse_shards").await.unwrap_or(false)
            }) => {}
        }
        // One that was dropped lets go of it when its session is noticed to be over.
        eventually("the lock is free again", || async {
            match world.source.lock_reverse_feed().await {
                Ok(lock) => {
                    lock.release().await;
                    true
                }
                Err(_) => false,
            }
        })
        .await;
    }
    world.feed_until_drained().await;
    world.assert_fed().await;
}

#[tokio::test]
async fn a_row_that_refers_to_one_that_is_not_there_yet_waits_and_holds_up_no_other() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let table = Payments::default();
    world.put_item(&table, &payment_row(101, 1, 100), epoch).await;
    world.put_item(&table, &payment_row(102, 900_001, 200), epoch).await;
    world.put_item(&table, &payment_row(103, 2, 300), epoch).await;
    let cancel = CancellationToken::new();
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), async {
        eventually("the others are there", || async {
            world.count("payments WHERE payment_id IN (101, 103)").await == 2
        })
        .await;
        let migration = world.migration();
        let answer =
            drained(&migration, &migration.tables[1], Duration::from_secs(3)).await.expect("an answer");
        assert!(
            !answer.through && answer.waits_for.iter().any(|what| what.contains("foreign key")),
            "{answer:?}"
        );
        // The row it refers to comes from the application that writes the tables that stay behind.
        world.sql("INSERT INTO loans SELECT 900001, application_id, customer_id, principal, currency, annual_rate FROM loans LIMIT 1").await;
        eventually("it is there", || async { world.count("payments WHERE payment_id = 102").await == 1 })
            .await;
        let answer =
            drained(&migration, &migration.tables[1], Duration::from_secs(20)).await.expect("an answer");
        assert!(answer.through && answer.markers > 0, "{answer:?}");
        cancel.cancel();
    });
    fed.expect("it ends well");
    world.assert_fed().await;
}

#[tokio::test]
async fn drained_is_answered_only_when_every_write_before_the_question_has_come_through() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let migration = world.migration();
    let no_feed = drained(&migration, &migration.tables[0], Duration::from_secs(3)).await.expect("an answer");
    assert!(!no_feed.through && no_feed.waits_for[0].contains("does a reverse feed run?"), "{no_feed:?}");
    let cancel = CancellationToken::new();
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), async {
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..4 {
            change(&world, epoch, &mut rng, 25).await;
            for binding in &migration.tables {
                let answer =
                    within(Duration::from_secs(20), drained(&migration, binding, Duration::from_secs(20)))
                        .await
                        .expect("an answer");
                assert!(answer.through, "{answer:?}");
            }
            world.assert_fed().await;
        }
        cancel.cancel();
    });
    fed.expect("it ends well");
    let markers = world.items(LOGS).await.into_iter().filter(|item| item.contains_key("_marker")).count();
    assert_eq!(markers, 0, "markers are taken away");
}

/// 1. A shard splits, and one of its children is not listed for a while. 2. Every shard that is listed has
/// shown a marker. 3. The way back would go through without what the other child took. Here the markers of
/// that child are those whose places end in a seven.
#[tokio::test]
async fn drained_is_not_answered_while_a_marker_has_not_come_through() {
    let (world, _) = dynamo_only(World::start().await).await;
    world
        .sql(
            "CREATE FUNCTION public.not_listed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER not_listed BEFORE INSERT ON lockstep.reverse_markers FOR EACH ROW
                 WHEN (NEW.place ~ '7\\D*$') EXECUTE FUNCTION public.not_listed()",
        )
        .await;
    let migration = world.migration();
    let cancel = CancellationToken::new();
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), async {
        let binding = &migration.tables[0];
        let asked = async |within| drained(&migration, binding, within).await.expect("an answer");
        let answer = asked(Duration::from_secs(2)).await;
        assert!(!answer.through && answer.waits_for.len() == 1, "{answer:?}");
        let of_all = format!("of {} markers have not come through", answer.markers);
        assert!(answer.waits_for[0].contains(&of_all), "{answer:?}");
        world.sql("DROP FUNCTION public.not_listed() CASCADE").await;
        let answer = asked(Duration::from_secs(20)).await;
        assert!(answer.through && answer.markers > 8, "{answer:?}");
        cancel.cancel();
    });
    fed.expect("it ends well");
    assert_eq!(world.count("lockstep.reverse_markers").await, 0, "none is kept");
}

/// Told by the attribute alone, an acknowledged write would be taken for the mark of its table, and be
/// missing in PostgreSQL on the way back.
#[tokio::test]
async fn a_row_whose_item_has_the_attributes_of_a_mark_and_a_marker_comes_back() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let (table, row) = (Payments::default(), payment_row(3, 1, 12_345));
    for (nth, (name, value)) in [
        (MARK_ATTRIBUTE, AttributeValue::N("7".to_owned())),
        (MARKER_ATTRIBUTE, AttributeValue::S("round".to_owned())),
    ]
    .into_iter()
    .enumerate()
    {
        let row = Payment { payment_id: row.payment_id + nth as i64, ..row.clone() };
        let mut item = table.encode(&row).expect("an item holds it");
        item.push(name, value);
        let version = Version(epoch.floor() + 1);
        world.plain_target.put_guarded(PAYMENTS, item.at(version), version).await.expect("put");
    }
    world.feed_until_drained().await;
    let fed: i64 = world.value("SELECT count(*) FROM payments WHERE payment_amount = 123.45").await;
    assert_eq!(fed, 2, "both writes are there");
}

#[tokio::test]
async fn one_feed_at_a_time() {
    let (world, _) = dynamo_only(World::start().await).await;
    let lock = world.source.lock_reverse_feed().await.expect("no feed runs");
    let second = world.feed(FeedUntil::Drained, &CancellationToken::new()).await;
    let Err(CoordinatorError::Store(refused)) = &second else { panic!("{second:?}") };
    assert!(refused.kind == Kind::Busy && refused.message.contains("reverse feed"), "{second:?}");
    lock.release().await;
}

#[tokio::test]
async fn a_stream_is_switched_on_once_and_one_of_another_kind_is_refused() {
    use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
    let world = World::start().await;
    world.prepared().await.close().await;
    let first = world.target.enable_stream(LOGS).await.expect("a stream");
    let again = world.target.enable_stream(LOGS).await.expect("the same");
    assert_eq!(first.arn(), again.arn());
    assert_eq!(again.shards().await.expect("lists").len(), 1);
    let keys_only = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::KeysOnly)
        .build();
    let update = world
        .target
        .client()
        .update_table()
        .table_name(PAYMENTS)
        .stream_specification(keys_only.expect("built"));
    update.send().await.expect("another's stream");
    let refused = world.target.enable_stream(PAYMENTS).await.expect_err("it has no images");
    assert!(refused.kind == Kind::Misconfigured && refused.message.contains("KEYS_ONLY"), "{refused}");
}

#[tokio::test]
async fn changes_that_went_round_lockstep_are_not_applied_but_reported() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let table = IntegrationLogs::default();
    world.put_item(&table, &log_row(1, "service-1", "guarded"), epoch).await;
    world.feed_until_drained().await;
    let key = lockstep_core::MigratableTable::target_key(&table, &log_at(1, "service-1"))
        .expect("a key")
        .to_attributes();
    let client = world.plain_target.client();
    let edit = client.update_item().table_name(LOGS).set_key(Some(key)).update_expression("SET user_id = :u");
    edit.expression_attribute_values(":u", AttributeValue::S("by hand".to_owned()))
        .send()
        .await
        .expect("edits");
    let key = lockstep_core::MigratableTable::target_key(&table, &log_at(2, "service-2"))
        .expect("a key")
        .to_attributes();
    client.delete_item().table_name(LOGS).set_key(Some(key)).send().await.expect("removes");
    let fed = world.feed_until_drained().await;
    assert_eq!(fed.tables[0].standing.as_ref().map(|s| s.foreign_count), Some(2), "{fed:?}");
    assert_eq!(
        world.count("integration_logs WHERE log_id = 2 OR user_id = 'guarded'").await,
        2,
        "neither was applied"
    );
    let migration = world.migration();
    let told = status(&world.source, &world.target, &migration.tables).await.expect("a status");
    assert!(
        told.tables[0].reverse_alarm.as_ref().is_some_and(|alarm| alarm.contains("2 changes went round")),
        "{told:?}"
    );
    // Only a reverse backfill knows what is there, and a row without an item goes only when the operator
    // says so.
    let cancel = CancellationToken::new();
    let kept = reverse_backfill(&migration, &migration.tables[0], false, &cancel).await.expect("reads");
    assert_eq!((kept.absent, kept.held, kept.deleted), (1, 1, 0), "{kept:?}");
    let waits = world.source.reverse_left(&[LOGS]).await.expect("counted");
    assert_eq!(waits, 1, "an operator decides whether it went for good");
    let deleted = reverse_backfill(&migration, &migration.tables[0], true, &cancel).await.expect("reads");
    assert_eq!((deleted.absent, deleted.deleted), (0, 1), "{deleted:?}");
    assert_eq!(world.count("integration_logs WHERE user_id = 'by hand'").await, 1);
    world.feed_until_drained().await;
    world.assert_fed().await;
}

#[tokio::test]
async fn what_the_stream_has_lost_closes_the_way_back_until_the_whole_target_was_read() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    world.feed_until_drained().await;
    // The feed is off for two days, and what was written meanwhile is trimmed: a new stream has none of it.
    change(&world, epoch, &mut StdRng::seed_from_u64(9), 60).await;
    world
        .sql("UPDATE lockstep.reverse_shards SET newest_at = now() - interval '2 days', empty_at = now() - interval '2 days'")
        .await;
    world.sql("UPDATE lockstep.reverse_shards SET position = NULL").await;
    for table in [LOGS, PAYMENTS] {
        use aws_sdk_dynamodb::types::StreamSpecification;
        let off = StreamSpecification::builder().stream_enabled(false).build().expect("built");
        world
            .plain_target
            .client()
            .update_table()
            .table_name(table)
            .stream_specification(off)
            .send()
            .await
            .expect("ends");
        world
            .sql(&format!(
                "UPDATE lockstep.reverse_tables SET stream = 'an earlier one' WHERE table_name = '{table}'"
            ))
            .await;
    }
    let migration = world.migration();
    world.feed_until_drained().await;
    let told = status(&world.source, &world.target, &migration.tables).await.expect("a status");
    for table in &told.tables {
        assert!(table.reverse_alarm.as_ref().is_some_and(|alarm| alarm.contains("--backfill")), "{table:?}");
    }
    for binding in &migration.tables {
        reverse_backfill(&migration, binding, false, &CancellationToken::new()).await.expect("reads");
    }
    world.feed_until_drained().await;
    world.assert_fed().await;
    let told = status(&world.source, &world.target, &migration.tables).await.expect("a status");
    assert!(told.tables.iter().all(|table| table.reverse_alarm.is_none()), "{told:?}");
}

#[tokio::test]
async fn a_feed_that_is_begun_only_after_the_step_says_that_it_has_missed_something() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    // No stream is on yet, so this is in none.
    world.put_item(&IntegrationLogs::default(), &log_row(1, "a", "missed"), epoch).await;
    let fed = world.feed_until_drained().await;
    let why = fed.tables[0].standing.as_ref().and_then(|standing| standing.lost_why.clone());
    assert!(why.as_ref().is_some_and(|why| why.contains("only after the step")), "{fed:?}");
    let migration = world.migration();
    reverse_backfill(&migration, &migration.tables[0], false, &CancellationToken::new())
        .await
        .expect("reads");
    let mended = world.feed_until_drained().await;
    assert_eq!(mended.tables[0].standing.as_ref().and_then(|standing| standing.lost_at), None, "{mended:?}");
    world.assert_fed().await;
}

#[tokio::test]
async fn a_reverse_backfill_alone_brings_rows_and_deletes_back() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    change(&world, epoch, &mut StdRng::seed_from_u64(3), 120).await;
    let migration = world.migration();
    for binding in &migration.tables {
        reverse_backfill(&migration, binding, false, &CancellationToken::new()).await.expect("reads");
    }
    world.assert_fed().await;
}

#[tokio::test]
async fn a_write_of_dynamo_only_that_lands_after_the_way_back_is_overruled_by_the_row() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let table = IntegrationLogs::default();
    world.put_item(&table, &log_row(1, "service-1", "in time"), epoch).await;
    world.put_item(&table, &log_row(2, "service-2", "in time"), epoch).await;
    world.feed_until_drained().await;
    world.flip(Phase::HybridRead).await;
    // Requests that were under way when their callers had given them up.
    world.put_item(&table, &log_row(1, "service-1", "late"), epoch).await;
    world.delete_item(&table, &log_at(2, "service-2"), epoch).await;
    world.put_item(&table, &log_row(70, "service-0", "late"), epoch).await;
    assert_eq!(world.disagreements().await.len(), 3);
    world.feed_until_drained().await;
    assert_eq!(world.pending(LOGS).await.len(), 3);
    // V44: should one of them have been acknowledged, this is where it can be found.
    let noted: i64 = world
        .value(
            "SELECT sum((detail ->> 'count')::bigint)::bigint FROM lockstep.journal
             WHERE step = 'late writes of DynamoOnly' AND detail -> 'keys' @> '[]'",
        )
        .await;
    assert_eq!(noted, 3, "each is named in the journal");
    assert_eq!(world.count("integration_logs WHERE user_id = 'in time'").await, 2);
    world.assert_converged().await;
}

/// Takes the way back, changes rows 1 and 2 in the source, and stands in DynamoOnly again; returns its
/// epoch.
async fn there_again(world: &World) -> Epoch {
    world.flip(Phase::HybridRead).await;
    world.sql("UPDATE integration_logs SET user_id = 'of the source' WHERE log_id IN (1, 2)").await;
    world.relay_until_empty().await;
    world.flip(Phase::DynamoOnly).await
}

#[tokio::test]
async fn a_write_of_one_dynamo_only_that_lands_in_the_next_is_the_truth() {
    let (world, first) = dynamo_only(World::start().await).await;
    let table = IntegrationLogs::default();
    world.feed_until_drained().await;
    let second = there_again(&world).await;
    // Requests that were under way through all of it: their items have not changed, so their conditions
    // hold.
    world.put_item(&table, &log_row(3, "service-3", "late"), first).await;
    world.delete_item(&table, &log_at(4, "service-4"), first).await;
    world.put_item(&table, &log_row(71, "service-1", "late"), first).await;
    // One that is late, and has been overtaken when its record is read.
    world.put_item(&table, &log_row(5, "service-0", "late"), first).await;
    world.put_item(&table, &log_row(5, "service-0", "newer"), second).await;
    let differ: BTreeSet<String> = world.differences().await.into_iter().map(|(_, place, _)| place).collect();
    assert_eq!(differ.len(), 4, "{differ:?}");
    let fed = world.feed_until_drained().await;
    assert_eq!(fed.tables[0].standing.as_ref().map(|standing| standing.again), Some(0), "{fed:?}");
    assert_eq!(world.count("integration_logs WHERE user_id = 'late'").await, 2);
    assert_eq!(world.count("integration_logs WHERE user_id = 'newer'").await, 1);
    world.assert_fed().await;
}

#[tokio::test]
async fn a_record_of_one_dynamo_only_that_is_read_again_in_the_next_puts_back_nothing_that_the_source_wrote_since()
 {
    let (world, first) = dynamo_only(World::start().await).await;
    let table = IntegrationLogs::default();
    world.put_item(&table, &log_row(1, "service-1", "of the first"), first).await;
    world.delete_item(&table, &log_at(2, "service-2"), first).await;
    // More than a page, so that old and new do not come in the same one, where only the newest state
    // counts.
    for id in 100..130 {
        world.put_item(&table, &log_row(id, "service-1", "of the first"), first).await;
    }
    world.feed_until_drained().await;
    world.flip(Phase::HybridRead).await;
    // One is changed, one is born again; and one goes.
    world.sql("UPDATE integration_logs SET user_id = 'of the source' WHERE log_id = 1").await;
    world.sql(&logs(2, 2)).await;
    world.relay_until_empty().await;
    let second = world.flip(Phase::DynamoOnly).await;
    world.put_item(&table, &log_row(6, "service-1", "of the second"), second).await;
    // From the oldest record, and nothing is remembered.
    world.sql("DELETE FROM lockstep.reverse_shards; DELETE FROM lockstep.reverse_places").await;
    world.feed_until_drained().await;
    assert_eq!(world.count("integration_logs WHERE user_id = 'of the source' OR log_id = 2").await, 2);
    world.assert_fed().await;
}

#[tokio::test]
async fn a_reverse_backfill_reads_what_landed_late_as_well() {
    let (world, first) = dynamo_only(World::start().await).await;
    let table = IntegrationLogs::default();
    world.feed_until_drained().await;
    there_again(&world).await;
    world.put_item(&table, &log_row(3, "service-3", "late"), first).await;
    world.delete_item(&table, &log_at(4, "service-4"), first).await;
    let migration = world.migration();
    let done = reverse_backfill(&migration, &migration.tables[0], false, &CancellationToken::new())
        .await
        .expect("reads");
    assert_eq!((done.upserted, done.deleted), (1, 1), "{done:?}");
    world.assert_fed().await;
}

#[tokio::test]
async fn an_epoch_that_a_flip_burned_holds_up_no_feed() {
    let (world, _) = dynamo_only(World::start().await).await;
    world.feed_until_drained().await;
    world.flip(Phase::HybridRead).await;
    let mut flip = world.source.begin("flipping").await.expect("begins");
    let burned = flip_phase(&mut flip, Phase::DynamoOnly).await.expect("flips");
    flip.rollback().await.expect("rolls back");
    world.sql("UPDATE integration_logs SET user_id = 'burned' WHERE log_id = 1").await;
    let versions: Vec<_> = world.pending(LOGS).await.into_values().map(|version| version.epoch()).collect();
    assert_eq!(versions, [burned], "the source hands it out all the same");
    world.relay_until_empty().await;
    world.feed_until_drained().await;
    world.assert_converged().await;
}
