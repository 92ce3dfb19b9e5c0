//! A process that reads for several comparisons at once: one of them costs it nothing of the others, and it
//! is no idle worker of a backfill.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::Kind;
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, PAYMENTS, eventually, within};
use lockstep_validator::{
    CancellationToken, Sharing, ValidateOptions, ValidateSettings, ValidationProgress, help,
};

use super::comparing::{begun, compare, gate, helper, joined, register, sharing, taken};
use crate::planted::plant::moved;

/// Waits until each worker of a comparison has renewed its lease twice from now on: what it tells then of its
/// rows is of between the two.
async fn renewed_twice(world: &World) {
    for _ in 0..2 {
        let now: DateTime<Utc> = world.value("SELECT clock_timestamp()").await;
        let renewed = format!(
            "SELECT bool_and(renewed_at > '{}') FROM lockstep.workers WHERE name LIKE '%, comparing %'",
            now.to_rfc3339()
        );
        eventually("leases are renewed", || async { world.try_value(&renewed).await.unwrap_or(false) }).await;
    }
}

/// Waits until the leader and one helper stand at the gate with both tables: none has read anything before
/// the other one can.
async fn all_at_the_gate(world: &World) {
    let at_the_gate = "SELECT count(*) >= 4 FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("they stand at the gate", || world.value::<bool>(at_the_gate)).await;
}

/// 1. A process reads for two comparisons. 2. One of its tables does not fit any more. 3. What it has read of
/// the other one is in its files alone.
#[tokio::test]
async fn a_table_that_does_not_fit_costs_nothing_of_another_and_who_waits_for_a_leader_is_not_idle() {
    let world = Arc::new(World::start().await);
    moved(&world, 9, 900, 300).await;
    register(&world, 1).await;
    register(&world, 2).await;
    let held_up = gate(&world).await;
    let leader = tokio::spawn({
        let world = Arc::clone(&world);
        async move { compare(&world, Some(sharing("leader"))).await }
    });
    let (of_logs, of_payments) = (begun(&world, LOGS).await, begun(&world, PAYMENTS).await);
    // Neither can end before these pieces do. Each holder reads one table, so each takes a part of the rate.
    let sharers = async || world.source.comparison_sharers().await.expect("asked");
    assert_eq!(sharers().await, 0);
    taken(&world, &of_logs, 1).await;
    assert_eq!(sharers().await, 1);
    taken(&world, &of_payments, 2).await;
    assert_eq!(sharers().await, 2, "of whichever comparison");

    let version = "terms = jsonb_set(terms, '{version}', '\"0.0.1\"')";
    world.sql(&format!("UPDATE lockstep.comparisons SET {version} WHERE table_name = '{PAYMENTS}'")).await;
    let helper = helper(&world, "helper").await;
    all_at_the_gate(&world).await;
    drop(held_up);
    let is_waiting = format!(
        "SELECT count(*) FILTER (WHERE NOT p.done) = 1 AND bool_or(w.name LIKE 'helper%')
         FROM lockstep.comparison_pieces p JOIN lockstep.workers w ON w.id = p.worker WHERE p.run = {}",
        of_logs.run
    );
    eventually("the helper has read what there is", || async {
        world.try_value(&is_waiting).await.unwrap_or(false)
    })
    .await;
    renewed_twice(&world).await;
    assert!(!helper.is_finished(), "it still owes what it has read");
    let idle: i64 = world.value("SELECT count(*) FROM lockstep.workers WHERE idle").await;
    assert_eq!(idle, 0, "who reads for a comparison waits for no range");

    let over = "UPDATE lockstep.workers SET lease_until = clock_timestamp() - interval '1 ms'";
    world.sql(&format!("{over} WHERE id IN (1, 2)")).await;
    let report = within(Duration::from_mins(3), leader).await.expect("no panic");
    assert!(report.verdict.is_consistent(), "{report:#?}");
    let refused = joined(helper).await.expect_err("one table did not fit");
    assert_eq!(refused.kind, Kind::Misconfigured);
    assert!(refused.to_string().contains("version 0.0.1"), "{refused}");
    let left: i64 = world.value("SELECT count(*) FROM lockstep.workers WHERE name LIKE 'helper%'").await;
    assert_eq!(left, 0, "it gave back what it held");
}

/// 1. An autoscaler takes a process away. 2. Its lease has minutes to go.
#[tokio::test]
async fn a_process_that_is_told_to_end_gives_its_pieces_back_at_once() {
    let world = Arc::new(World::start().await);
    moved(&world, 4, 900, 300).await;
    register(&world, 1).await;
    let held_up = gate(&world).await;
    let leader = tokio::spawn({
        let world = Arc::clone(&world);
        async move { compare(&world, Some(sharing("leader"))).await }
    });
    let (of, _) = (begun(&world, LOGS).await, begun(&world, PAYMENTS).await);
    taken(&world, &of, 1).await;
    let stop = CancellationToken::new();
    let (source, target, tables) = (world.another_source().await, world.plain_target.clone(), world.tables());
    let ending = tokio::spawn({
        let stop = stop.clone();
        async move {
            let sharing = Sharing { name: "ending".to_owned(), lease: Duration::from_mins(10) };
            let settings = ValidateSettings { parallel: 4, ..ValidateSettings::default() };
            let (options, progress) = (ValidateOptions::from(settings), ValidationProgress::new(&tables));
            help(&source, &target, &tables, (&options, &sharing, true), &progress, &stop).await
        }
    });
    all_at_the_gate(&world).await;
    drop(held_up);
    let has_read = format!(
        "SELECT count(*) FILTER (WHERE p.done) > 0 FROM lockstep.comparison_pieces p
         JOIN lockstep.workers w ON w.id = p.worker WHERE p.run = {} AND w.name LIKE 'ending%'",
        of.run
    );
    eventually("it has read pieces", || world.value::<bool>(&has_read)).await;
    stop.cancel();
    let helped = joined(ending).await.expect("it was told to");
    assert_eq!(helped.leases_ended, 0, "{helped:?}");
    let left: i64 = world.value("SELECT count(*) FROM lockstep.workers WHERE name LIKE 'ending%'").await;
    assert_eq!(left, 0);
    let over = "UPDATE lockstep.workers SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = 1";
    world.sql(over).await;
    let report = within(Duration::from_mins(3), leader).await.expect("no panic");
    assert!(report.verdict.is_consistent(), "{report:#?}");
}
