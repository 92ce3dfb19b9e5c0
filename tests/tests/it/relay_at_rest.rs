//! A relay that has nothing to deliver asks little, and misses nothing: not a change, and no loss of history.

use lockstep_coordinator::{CoordinatorError, Progress, RelayUntil, relay};
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, payments};
use lockstep_tests::world::{LOGS, WorldOptions, eventually, within};
use lockstep_validator::CancellationToken;
use std::time::Duration;

fn is_glance(sql: &str) -> bool {
    sql.contains(" AS waits")
}

/// Whether it is neither a round nor by the clock, as the renewal of a share of the keys is.
fn is_other(sql: &str) -> bool {
    let renews = sql.trim_start().starts_with("UPDATE lockstep.relays");
    // Another test of this process met a read-only node: each connection is asked what it is for a while.
    let asks_node = sql.contains("'transaction_read_only'");
    !is_glance(sql) && !renews && !asks_node
}

/// It asked both tables a dozen things in each round. Now a round is one statement, and only the marks in the
/// target tables are looked at beside it, one in seconds.
#[tokio::test]
async fn at_rest_a_round_is_one_statement_and_a_change_or_a_target_without_its_mark_is_met() {
    const ROUNDS: usize = 40;
    let options = WorldOptions { proxied: true, source_proxied: true, ..WorldOptions::default() };
    let world = World::with(options).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let progress = Progress::new(&migration.tables);
    let running = relay(&migration, RelayUntil::Cancelled, &progress, &cancel);
    let watching = async {
        let proxy = world.source_proxy();
        // Where the machine stands still for seconds, the next round is a whole turn: what is asked of rounds
        // is seen in one of three.
        let mut seen = Vec::new();
        while seen.len() < 3 {
            proxy.record();
            // The first two may be beside whole turns: one that begins, and one that finds what was as it is.
            proxy.until_run(|run| run.iter().filter(|sql| is_glance(sql)).count() > 2).await;
            proxy.record();
            let before = world.proxy().counts().seen_in_all();
            proxy.until_run(|run| run.iter().filter(|sql| is_glance(sql)).count() >= ROUNDS).await;
            let others: Vec<String> = proxy.recorded().into_iter().filter(|sql| is_other(sql)).collect();
            let asked = world.proxy().counts().seen_in_all() - before;
            if others.is_empty() && asked <= 2 {
                break;
            }
            seen.push((asked, others));
        }
        assert!(seen.len() < 3, "requests to DynamoDB and statements beside {ROUNDS} rounds: {seen:#?}");

        world.sql(&log(1, "after the calm")).await;
        eventually("it is delivered", || async { world.live_items(LOGS).await == 1 }).await;
        proxy.record();
        proxy.until_run(|run| run.iter().filter(|sql| is_glance(sql)).count() >= ROUNDS).await;
        // As where the table was emptied and filled again by a program: PostgreSQL shows nothing of it.
        world.take_mark(&world.payments_table()).await;
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = within(Duration::from_mins(3), running) => ended,
        () = watching => unreachable!("it waits for ever"),
    };
    assert!(matches!(ended, Err(CoordinatorError::HistoryLost(_))), "{ended:?}");
}
