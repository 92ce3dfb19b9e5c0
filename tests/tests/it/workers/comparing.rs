//! One comparison by several processes (R53): its parts are read by workers that are killed, stopped and
//! woken up, and its verdict is the one of a process alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Kind;
use lockstep_postgres::{ComparisonPiece, Registering, SharedComparison};
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, PAYMENTS, eventually, within};
use lockstep_validator::{
    CancellationToken, Helped, Report, Sharing, ValidateOptions, ValidateSettings, ValidationProgress, help,
    validate,
};
use serde_json::Value;
use sqlx::Connection;
use tokio::task::JoinHandle;

use crate::planted::plant::{ALL, Fault, found, items_of, moved, plant, table_of};
use crate::process::command;

const SEED: u64 = 11;

pub(super) fn sharing(name: &str) -> Sharing {
    Sharing { name: name.to_owned(), lease: Duration::from_secs(5) }
}

fn options(sharing: Option<Sharing>) -> ValidateOptions {
    ValidateOptions {
        settings: ValidateSettings {
            settle_timeout: Duration::from_secs(5), // The leader leaves work to others.
            parallel: 1,
            scan_segments: 4,
            ..ValidateSettings::default()
        },
        quiescent: true,
        wait_for_pending: false,
        digest_seed: Some(SEED),
        sharing,
        ..ValidateOptions::default()
    }
}

pub(super) async fn compare(world: &World, sharing: Option<Sharing>) -> Report {
    let (tables, options) = (world.tables(), options(sharing));
    let progress = ValidationProgress::new(&tables);
    let never = CancellationToken::new();
    validate(&world.source, &world.plain_target, &tables, &options, &progress, &never).await
}

/// A helper with a pool of its own, as another process has it.
pub(super) async fn helper(world: &World, name: &str) -> JoinHandle<lockstep_core::Result<Helped>> {
    let (source, target, tables) = (world.another_source().await, world.plain_target.clone(), world.tables());
    let sharing = sharing(name);
    tokio::spawn(async move {
        let (progress, never) = (ValidationProgress::new(&tables), CancellationToken::new());
        let options = ValidateOptions::from(ValidateSettings { parallel: 4, ..ValidateSettings::default() });
        let helping = (&options, &sharing, false);
        help(&source, &target, &tables, helping, &progress, &never).await
    })
}

pub(super) async fn joined(
    helper: JoinHandle<lockstep_core::Result<Helped>>,
) -> lockstep_core::Result<Helped> {
    within(Duration::from_mins(3), helper).await.expect("no panic")
}

/// The comparison of a table, once it has begun.
pub(super) async fn begun(world: &World, table: &str) -> SharedComparison {
    eventually("a comparison begins", || async {
        world.source.shared_comparison(table).await.is_ok_and(|found| found.is_some())
    })
    .await;
    world.source.shared_comparison(table).await.expect("asked").expect("there")
}

/// A worker of this test, which takes one piece and does with it what a test says.
pub(super) async fn taken(world: &World, of: &SharedComparison, id: i64) -> ComparisonPiece {
    world.source.claim_comparison_piece(of.run, id).await.expect("asked").expect("one is free")
}

pub(super) async fn register(world: &World, id: i64) {
    let lease = Duration::from_secs(60);
    let registering = Registering { id, name: "stalled", coordinator: false, lease };
    world.source.register_worker(&registering).await.expect("registered");
}

/// Keeps every process from registering as a worker while it is there.
pub(super) async fn gate(world: &World) -> sqlx::PgConnection {
    let mut connection = sqlx::PgConnection::connect_with(&world.connect_options()).await.expect("connects");
    sqlx::raw_sql("BEGIN; LOCK TABLE lockstep.workers IN SHARE MODE")
        .execute(&mut connection)
        .await
        .expect("held");
    connection
}

#[tokio::test]
async fn a_comparison_in_parts_says_what_one_process_says_and_a_stranger_takes_no_part() {
    let world = Arc::new(World::start().await);
    moved(&world, 5, 900, 300).await;
    let alone = compare(&world, None).await;
    assert!(alone.verdict.is_consistent(), "{:?}", alone.verdict);

    register(&world, 1).await;
    let gate = gate(&world).await;
    let leader = tokio::spawn({
        let world = Arc::clone(&world);
        async move { compare(&world, Some(sharing("leader"))).await }
    });
    let of = begun(&world, LOGS).await;
    begun(&world, PAYMENTS).await;
    // Nothing can end before this piece does.
    let piece = taken(&world, &of, 1).await;
    drop(gate);

    let terms = of.terms.to_string();
    world.sql("UPDATE lockstep.comparisons SET terms = jsonb_set(terms, '{version}', '\"0.0.1\"')").await;
    let refused = joined(helper(&world, "stranger").await).await.expect_err("another version");
    assert_eq!(refused.kind, Kind::Misconfigured);
    assert!(refused.to_string().contains("version 0.0.1"), "{refused}");
    world
        .sql(&format!(
            "UPDATE lockstep.comparisons SET terms = '{terms}' WHERE table_name = '{LOGS}';
             UPDATE lockstep.comparisons SET terms = jsonb_set(terms, '{{version}}', '{}')
             WHERE table_name <> '{LOGS}'",
            of.terms["version"]
        ))
        .await;

    let helper = helper(&world, "helper").await;
    let is_shown = || async {
        let shown = world.source.shared_comparisons().await.unwrap_or_default();
        shown.iter().any(|c| c.table == LOGS && c.workers.iter().any(|name| name.starts_with("helper")))
    };
    eventually("the helper holds a piece", is_shown).await;
    // It is stopped past its lease; another reads its piece, and what it says afterwards does not count.
    world
        .sql("UPDATE lockstep.workers SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = 1")
        .await;
    let woken = world.source.finish_comparison_piece(of.run, &piece, &Value::Null).await.expect("asked");
    assert!(!woken, "its lease is over");

    let shared = within(Duration::from_mins(3), leader).await.expect("no panic");
    let helped = joined(helper).await.expect("it ends with the comparison");
    assert!(shared.verdict.is_consistent(), "{:#?}", shared);
    let rows: u64 = helped.tables.iter().map(|table| table.rows).sum();
    assert!(rows > 0 && helped.comparisons == 2, "{helped:?}");
    for (one, other) in alone.tables.iter().zip(&shared.tables) {
        assert_eq!(one.digests, other.digests, "the same rows and items, each once");
        let counts = |t: &lockstep_validator::TableReport| {
            (t.source_count, t.target_count, t.tombstones, t.compared, t.equal, t.buckets)
        };
        assert_eq!(counts(one), counts(other));
        assert!(other.complete && other.as_of.is_some());
    }
    let left: i64 = world.value("SELECT count(*) FROM lockstep.comparison_pieces").await;
    assert_eq!(left, 0, "nothing of it is left in the source");
}

#[tokio::test]
async fn what_a_killed_process_had_read_is_compared_again_and_nothing_is_found_twice() {
    let world = World::start().await;
    moved(&world, 7, 600, 300).await;
    let items = items_of(&world).await;
    // Of each class six: so every part of a table has some.
    let mut faults = Vec::new();
    for (number, fault) in ALL.into_iter().enumerate() {
        let suits = |item: &lockstep_core::Attributes| match fault {
            Fault::Truncated => item.contains_key("request_data"),
            Fault::ExtraIndex => !item.contains_key("GSI3PK"),
            _ => true,
        };
        let of_table = items.iter().filter(|(binding, _)| binding.name() == table_of(fault));
        let chosen = of_table.enumerate().filter(|(place, (_, item))| place % 12 == number && suits(item));
        faults.extend(chosen.take(6).map(|(_, (binding, item))| (binding, item, fault)));
    }
    let expected = plant(&world, &faults).await;
    assert!(expected.len() > 40, "{}", expected.len());

    register(&world, 1).await;
    let gate = gate(&world).await;
    let validates = ["validate", "--quiescent", "--no-relay", "--json", "--quiet"];
    let leader = command(&world, &[&validates[..], &["--with-workers"]].concat())
        .env("LOCKSTEP_BACKFILL__LEASE_MS", "3000")
        .env("LOCKSTEP_VALIDATE__PARALLEL", "1")
        .spawn()
        .expect("the command starts");
    let mut killed = command(&world, &["validate", "--help-out", "--stay", "--json", "--quiet"])
        .env("LOCKSTEP_BACKFILL__LEASE_MS", "3000")
        .spawn()
        .expect("the command starts");
    let of = begun(&world, PAYMENTS).await;
    taken(&world, &of, 1).await;
    drop(gate);

    let pid = killed.id().expect("it runs");
    let has_read = format!(
        "SELECT count(*) FILTER (WHERE p.done) > 1 FROM lockstep.comparison_pieces p JOIN lockstep.workers w
             ON w.id = p.worker WHERE w.pid = {pid} AND p.run = {}",
        of.run
    );
    eventually("the other process has read pieces", || world.value::<bool>(&has_read)).await;
    killed.kill().await.expect("SIGKILL");
    // Its lease ends, and that of a piece that was taken and never read.
    world
        .sql(&format!(
            "UPDATE lockstep.workers SET lease_until = clock_timestamp() - interval '1 ms'
             WHERE id = 1 OR pid = {pid}"
        ))
        .await;

    let output = within(Duration::from_mins(3), leader.wait_with_output()).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let all: BTreeSet<_> = found(&report);
    assert_eq!(all, expected, "{:?}", report.verdict);
    assert_eq!(report.findings_total(), expected.len() as u64, "none is counted twice");
    assert!(report.tables.iter().all(|table| table.complete), "{report:#?}");
}
