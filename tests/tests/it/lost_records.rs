//! Items that went while no feed ran, and whose records are trimmed: nothing in the stream tells of them.

use lockstep_coordinator::{FeedUntil, ReverseBackfill, reverse_backfill};
use lockstep_core::{Epoch, MigratableTable, TargetKey, Version, parse_fixed_width};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_tests::World;
use lockstep_tests::world::rows::log_key;
use lockstep_tests::world::{LOGS, acknowledge, eventually};
use tokio_util::sync::CancellationToken;

use crate::reverse_feed::{dynamo_only, log_row};

/// Takes items away, and has the feed know of them what it knew before: as where each record of that is
/// trimmed. That records are missing is noted.
async fn went_unseen(world: &World, rows: &[IntegrationLog]) {
    world.sql("CREATE TABLE public.known AS TABLE lockstep.reverse_places").await;
    for row in rows {
        let key = place_of(row).to_attributes();
        let client = world.plain_target.client();
        client.delete_item().table_name(LOGS).set_key(Some(key)).send().await.expect("the emulator deletes");
    }
    // Past the records of it, as a feed is that begins after they are trimmed.
    world.feed_until_drained().await;
    world
        .sql(
            "DELETE FROM lockstep.reverse_places;
             INSERT INTO lockstep.reverse_places SELECT * FROM public.known;
             DROP TABLE public.known;
             UPDATE lockstep.reverse_tables SET foreign_count = 0, foreign_why = NULL",
        )
        .await;
    world.source.lose_reverse(LOGS, "a shard", "trimmed").await.expect("noted");
}

fn place_of(row: &IntegrationLog) -> TargetKey {
    let table = IntegrationLogs::default();
    MigratableTable::target_key(&table, &IntegrationLogs::key(row)).expect("a key")
}

/// A log that expires in 2099, and one that has expired.
fn lives(log_id: i64, user_id: &str) -> IntegrationLog {
    log_row(log_id, &format!("service-{}", log_id % 5), user_id)
}

fn expired(log_id: i64, user_id: &str) -> IntegrationLog {
    let log_timestamp = parse_fixed_width("2015-03-04T05:06:07.000008Z").expect("a time");
    IntegrationLog { log_timestamp, ..lives(log_id, user_id) }
}

async fn read_back(world: &World, delete_absent: bool) -> ReverseBackfill {
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let read = reverse_backfill(&migration, &migration.tables[0], delete_absent, &cancel).await;
    let read = read.expect("reads");
    let standing = world.source.reverse_standing(LOGS).await.expect("asked").expect("it is fed");
    assert_eq!(standing.lost_at, None, "the whole target was read");
    read
}

async fn waiting(world: &World) -> i64 {
    world.source.reverse_left(&[LOGS]).await.expect("counted")
}

async fn rows_of(world: &World, user_id: &str) -> i64 {
    world.count(&format!("integration_logs WHERE user_id = '{user_id}'")).await
}

async fn put(world: &World, row: &IntegrationLog, epoch: Epoch) -> Version {
    world.put_item(&IntegrationLogs::default(), row, epoch).await
}

/// 1. The feed has taken version 3 of a row. 2. It is off for a day, the item goes, and its record is
/// trimmed. 3. The loss is taken back. 4. An application puts the row, which begins at version 1. 5. Held
/// against the 3 it was passed over without a word, and no comparison asked for it.
#[tokio::test]
async fn what_is_put_where_an_item_went_unseen_comes_back() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    for _ in 0..3 {
        put(&world, &lives(60, "before"), epoch).await;
        put(&world, &expired(61, "before"), epoch).await;
    }
    world.feed_until_drained().await;
    assert_eq!(rows_of(&world, "before").await, 2);
    went_unseen(&world, &[lives(60, ""), expired(61, "")]).await;
    let read = read_back(&world, false).await;
    assert_eq!((read.absent, read.held, read.deleted), (2, 1, 0), "one is retention: {read:?}");

    for row in [lives(60, "again"), expired(61, "again")] {
        assert_eq!(put(&world, &row, epoch).await.0, epoch.floor() + 1, "nothing was there");
    }
    world.feed_until_drained().await;
    assert_eq!((rows_of(&world, "again").await, waiting(&world).await), (2, 0));
    let known: i64 = world
        .value(&format!(
            "SELECT count(*) FROM lockstep.reverse_places WHERE version = {} AND (key ->> 0)::bigint >= 60",
            epoch.floor() + 1
        ))
        .await;
    assert_eq!(known, 2, "both are compared before the way back");
}

/// The same row, whose backfill left it as one without an item, and deleted nothing when that was asked for,
/// as a later version of it was known: the step back told of a difference, and the backfill again.
#[tokio::test]
async fn a_row_whose_item_went_unseen_is_deleted_where_that_is_asked_for() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    for _ in 0..3 {
        put(&world, &lives(60, "before"), epoch).await;
    }
    world.feed_until_drained().await;
    went_unseen(&world, &[lives(60, "")]).await;
    let read = read_back(&world, false).await;
    assert_eq!((read.absent, read.held, read.deleted), (1, 1, 0), "{read:?}");
    assert_eq!((rows_of(&world, "before").await, waiting(&world).await), (1, 1), "it is to be decided");
    let read = read_back(&world, true).await;
    assert_eq!((read.absent, read.held, read.deleted), (0, 0, 1), "{read:?}");
    assert_eq!((rows_of(&world, "before").await, waiting(&world).await), (0, 0));
    world.feed_until_drained().await;
    world.assert_fed().await;
}

/// 1. A reverse backfill lists what is known, and asks for the items: one is not there. 2. An application
/// puts it, and the feed takes that. 3. Forgotten then, an older state would be news.
#[tokio::test]
async fn what_the_feed_has_taken_since_a_place_was_seen_empty_stays_known() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    put(&world, &lives(60, "one"), epoch).await;
    put(&world, &lives(61, "one"), epoch).await;
    world.feed_until_drained().await;
    let table = world.source.fed_table(&world.logs_table()).await.expect("a table");
    let known = world.source.known_places(LOGS, None, 100).await.expect("listed");
    assert_eq!(known.len(), 2);
    put(&world, &lives(60, "two"), epoch).await;
    world.feed_until_drained().await;
    assert_eq!(world.source.forget_emptied(&table, &known).await.expect("done"), 1);
    let left = world.source.known_places(LOGS, None, 100).await.expect("listed");
    let place = lockstep_core::place(&place_of(&lives(60, "")).to_attributes());
    assert_eq!(left.iter().map(|known| &known.place).collect::<Vec<_>>(), [&place]);
    // In pages, each goes on after the one before.
    let after = world.source.known_places(LOGS, Some(&place), 100).await.expect("listed");
    assert!(after.is_empty(), "{after:?}");
}

/// 1. No state of these rows was written in this DynamoOnly. 2. While the feed is off, an application brings
/// an expiry forward, or deletes a row whose tombstone has expired as well, or an engineer removes an item.
/// 3. The loss was taken back, nothing compared them, and after the way back PostgreSQL served them.
#[tokio::test]
async fn a_row_that_lives_without_an_item_holds_up_the_way_back_until_it_is_decided_about() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    put(&world, &expired(60, "retention"), epoch).await;
    world.feed_until_drained().await;
    let accepted = format!(
        "INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason, acknowledged_at)
         VALUES ('{LOGS}', '{}', 0, 'relay', 'DynamoDB refuses it', now())",
        log_key(12, "service-2")
    );
    world.sql(&accepted).await;
    let went: Vec<IntegrationLog> = [2, 3, 4, 12].map(|id| lives(id, "")).into();
    went_unseen(&world, &[&went[..], &[expired(60, "")]].concat()).await;

    let read = read_back(&world, false).await;
    assert_eq!((read.absent, read.held, read.deleted), (5, 3, 0), "{read:?}");
    assert_eq!(waiting(&world).await, 3, "neither what has expired nor what PostgreSQL alone has");

    // Read again it still has none; one is put again, and that is the truth.
    put(&world, &lives(3, "put again"), epoch).await;
    let cancel = CancellationToken::new();
    let feeding = world.feed(FeedUntil::Cancelled, &cancel);
    let put_again = async {
        eventually("it is taken", || async { rows_of(&world, "put again").await == 1 }).await;
        eventually("the others were tried", || async {
            world.count("lockstep.reverse_again WHERE tries > 0").await == 2
        })
        .await;
        cancel.cancel();
    };
    let (fed, ()) = tokio::join!(feeding, put_again);
    fed.expect("it ends as it was told");
    assert_eq!(waiting(&world).await, 2);
    let why: String = world.value("SELECT min(why) FROM lockstep.reverse_again").await;
    assert!(why.contains("has not expired"), "{why}");

    // An operator accepts that PostgreSQL has one of them, once.
    let aged = "UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'
                WHERE (key ->> 0)::bigint = 2";
    world.sql(aged).await;
    assert_eq!(acknowledge(&world.source, LOGS, "an operator").await.expect("accepted"), 1);
    let read = read_back(&world, false).await;
    assert_eq!((read.held, waiting(&world).await), (2, 1), "what was accepted stays so: {read:?}");
    // And has the other deleted, as an application did.
    let read = read_back(&world, true).await;
    assert_eq!((read.deleted, read.held), (2, 0), "what was accepted as well: {read:?}");
    assert_eq!(waiting(&world).await, 0);
    let left = world.count("integration_logs WHERE log_id IN (2, 3, 4, 12, 60)").await;
    assert_eq!(left, 3, "the one that was put again, the dead letter, and retention");
    world.feed_until_drained().await;
}

/// 1. DynamoOnly lasts for two days, and the shard of a table rolls over. 2. Before its child is listed, a
/// step or a restart opens the stream: no shard is open. 3. The feed was told not to have run for two days,
/// and the way back was closed.
#[tokio::test]
async fn a_shard_that_ended_a_moment_ago_tells_that_a_feed_runs() {
    let (world, _) = dynamo_only(World::start().await).await;
    world.feed_until_drained().await;
    let table = world.source.fed_table(&world.logs_table()).await.expect("a table");
    let stream: String =
        world.value(&format!("SELECT stream FROM lockstep.reverse_tables WHERE table_name = '{LOGS}'")).await;
    // When the shards ended and when DynamoOnly began, in hours, and whether records are missing.
    for (n, (ended_h, began_h, lost)) in
        [(0, 48, false), (30, 48, true), (30, 1, false), (1, 22, false)].into_iter().enumerate()
    {
        world
            .sql(&format!(
                "UPDATE lockstep.reverse_tables SET lost_at = NULL, lost_why = NULL;
                 UPDATE lockstep.reverse_shards SET finished = true,
                     newest_at = now() - interval '{ended_h} hours',
                     empty_at = now() - interval '{ended_h} hours';
                 UPDATE lockstep.control SET changed_at = now() - interval '{began_h} hours'"
            ))
            .await;
        world.source.open_reverse(&table, &stream).await.expect("opens");
        let standing = world.source.reverse_standing(LOGS).await.expect("asked").expect("it is fed");
        assert!(standing.shards_finished > 0 && standing.shards_open == 0, "{standing:?}");
        assert_eq!(standing.lost_at.is_some(), lost, "member {n}: {standing:?}");
    }
}
