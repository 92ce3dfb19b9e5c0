//! Streams that are switched off and on under a feed: what was written between is in none of them.

use std::time::Duration;

use aws_sdk_dynamodb::types::StreamSpecification;
use lockstep_coordinator::{FeedUntil, drained, reverse_backfill, status};
use lockstep_core::{Advice, Phase};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, eventually, within};
use tokio_util::sync::CancellationToken;

use crate::reverse_feed::log_row;

/// Longest time for the closed shards of two streams: a fraction of one listing for each of them.
const CLOSED_SHARDS: Duration = Duration::from_secs(60);

/// 1. The stream of a table is switched off, with every shard of it closed. 2. An application writes. 3. The
/// stream is on again, as another one. A feed that stays at the old one brings nothing any more, and one that
/// goes on with the new one as if nothing had been would let PostgreSQL be the truth without that write.
#[tokio::test]
async fn a_stream_that_is_switched_off_and_on_is_followed_and_what_it_never_had_closes_the_way_back() {
    let world = World::behind_proxy().await;
    world.proxy().script(Rule::new(Fault::OwnStreams).always());
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let coordinator = world.migrated_to(Phase::DynamoOnly).await;
    let epoch = world.control().record().await.expect("read").expect("it holds the truth").epoch;
    let (of_logs, cancel) = (IntegrationLogs::default(), CancellationToken::new());
    let is_fed =
        async |user: &str| world.count(&format!("integration_logs WHERE user_id = '{user}'")).await == 1;
    let migration = world.migration();
    let alarm = async || {
        let told = status(&world.source, &world.target, &migration.tables).await.expect("a status");
        told.tables[0].reverse_alarm.clone().unwrap_or_default()
    };
    let is_through = async || {
        let answer = drained(&migration, &migration.tables[0], Duration::from_secs(20)).await;
        let answer = answer.expect("an answer");
        (answer.through, answer.waits_for.join("; "))
    };
    let backfill = Advice::ReverseBackfill.to_string();
    let work = async {
        world.put_item(&of_logs, &log_row(101, "a", "before"), epoch).await;
        eventually("the feed runs", || async { is_fed("before").await }).await;
        world.sql("UPDATE lockstep.reverse_tables SET begun_at = now() - interval '3 days'").await;
        let gate = Gate::new();
        world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("UpdateTable").table(LOGS).times(1));
        let off = StreamSpecification::builder().stream_enabled(false).build().expect("built");
        let ending = world.plain_target.client().update_table().table_name(LOGS).stream_specification(off);
        ending.send().await.expect("switched off");
        gate.until_held(1).await;
        world.put_item(&of_logs, &log_row(102, "a", "between"), epoch).await;
        let standing = world.source.reverse_standing(LOGS).await.expect("asked").expect("it is fed");
        assert_eq!((standing.shards_open, standing.shards_finished), (0, 1), "{standing:?}");
        assert!(
            standing.lag_s < 60.0,
            "as far as the old one went, and not since the feed began: {standing:?}"
        );
        gate.open();
        gate.until_done(1).await;
        world.put_item(&of_logs, &log_row(103, "a", "after"), epoch).await;
        let followed = eventually("the new stream is followed", || async { is_fed("after").await });
        within(Duration::from_secs(20), followed).await;
        assert!(!is_fed("between").await, "no stream has it");

        // Everything that a stream has is through, and the answer is no all the same.
        let (through, why) = is_through().await;
        assert!(!through && why.contains("ended and begun again") && why.contains(&backfill), "{why}");
        assert!(alarm().await.contains(&backfill), "{}", alarm().await);
        let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("a write is missing");
        assert!(refused.to_string().contains(&backfill), "{refused}");
        assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DynamoOnly);

        reverse_backfill(&migration, &migration.tables[0], false, &cancel).await.expect("reads");
        assert!(is_fed("between").await, "the whole target was read");
        assert_eq!((is_through().await, alarm().await), ((true, String::new()), String::new()));
        world.assert_fed().await;
        cancel.cancel();
    };
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), work);
    fed.expect("it ends as it was told");
    assert!(world.proxy().counts().injected(FaultKind::OwnStreams) > 0);
    coordinator.close().await;
}

/// 1. No feed has run for a day, and the stream has two hundred closed shards. 2. Each answer about it takes
/// 300 ms, as it does from far away. 3. All shards are listed again whenever one has ended, and a feed that
/// read nothing meanwhile took a second for each: longer than a step waits for its feed.
#[tokio::test]
async fn a_feed_reads_two_hundred_closed_shards_beside_listing_them() {
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    world.proxy().script(Rule::new(Fault::ManyShards(200, Duration::from_millis(300))));
    let cancel = CancellationToken::new();
    let read = async {
        for table in [LOGS, PAYMENTS] {
            eventually("every closed shard is read to its end", || async {
                let standing = world.source.reverse_standing(table).await.expect("asked").expect("it is fed");
                standing.shards_finished >= 200
            })
            .await;
        }
        cancel.cancel();
    };
    let (fed, ()) =
        within(CLOSED_SHARDS, async { tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), read) }).await;
    fed.expect("it ends as it was told");
    assert!(world.proxy().counts().injected(FaultKind::ManyShards) > 400);
}
