//! Copies of the source that run with its settings: in the same account, under the same names, with the
//! identity of the original. Nothing of the original is moved, written or marked by one.

use std::time::Duration;

use lockstep::migration::Migration;
use lockstep_coordinator::{
    Coordinator, CoordinatorError, FeedProgress, FeedUntil, MigrationContext, Progress, RelayUntil, Remedy,
    lost_history, relay, repair_state, reverse_feed,
};
use lockstep_core::{Attributes, Kind, Phase};
use lockstep_postgres::{Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::{CancellationToken, ValidateOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::history::diagnosis;

/// A handle on another database of the same cluster.
async fn at(world: &World, database: &str) -> Source {
    let (place, _) = world.url().rsplit_once('/').expect("a URL ends in its database");
    let options = SourceOptions { url: format!("{place}/{database}"), ..world.source_options() };
    Source::connect(&options).await.expect("it answers")
}

/// Runs SQL on the cluster, beside every database of a world.
async fn on_the_cluster(world: &World, sql: &str) {
    let mut admin =
        world.connect_options().database("postgres").connect().await.expect("the cluster answers");
    admin.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Everything that the target has of this migration.
async fn everything(world: &World) -> Vec<Vec<Attributes>> {
    let mut found = Vec::new();
    for table in [LOGS, PAYMENTS, world.control().table()] {
        let scan = world.plain_target.client().scan().table_name(table).consistent_read(true).send().await;
        let mut items = scan.map(|page| page.items.unwrap_or_default()).unwrap_or_default();
        items.sort_by_key(|item| format!("{:?}", item.get("PK")));
        found.push(items);
    }
    found
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(what: &str, done: Result<T, CoordinatorError>) {
    let error = done.expect_err(what);
    let told = error.to_string();
    assert!(matches!(error, CoordinatorError::HistoryLost(_)), "{what}: {told}");
    assert!(told.contains("copy"), "{what}: {told}");
}

/// Every command that moves something, on a copy.
async fn commands_refuse(copy: &MigrationContext) {
    let cancel = CancellationToken::new();
    let progress = Progress::new(&copy.tables);
    is_refused("relay", relay(copy, RelayUntil::Empty, &progress, &cancel).await);
    let fed = std::sync::Arc::new(FeedProgress::new(&copy.tables));
    let feed = &copy.options.reverse_feed;
    is_refused("reverse-feed", reverse_feed(copy, feed, FeedUntil::Drained, &fed, &cancel).await);
    // Steps there and back, a backfill, a repair of rows: each opens one.
    is_refused("a coordinator", Coordinator::open(copy.clone()).await.map(drop));
}

async fn world_in(phase: Phase) -> World {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    if phase == Phase::DynamoOnly {
        return world.dynamo_only("SELECT 1").await;
    }
    world.migrated_to(phase).await.close().await;
    world.relay_until_empty().await;
    world
}

/// P1d. 1. A migration is under way. 2. Its database is copied under another name, and something is written
/// to the copy. 3. Relay, feed, steps and an application run on the copy, with the settings of the original.
#[tokio::test]
async fn nothing_that_runs_on_a_copy_touches_the_original() {
    for phase in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        let mut world = world_in(phase).await;
        let backup = world.back_up_source().await;
        let name = format!("{}_backup", world.value::<String>("SELECT current_database()::text").await);
        let source = at(&world, &name).await;
        if phase != Phase::DynamoOnly {
            // Pending in the copy alone, by versions that the original hands out as well.
            sqlx::raw_sql("UPDATE payments SET loan_id = 77; DELETE FROM integration_logs WHERE log_id < 5")
                .execute(source.pool())
                .await
                .expect("written to the copy");
        }
        let copy = MigrationContext { source: source.clone(), ..world.migration() };
        let before = everything(&world).await;
        commands_refuse(&copy).await;

        let (place, _) = world.url().rsplit_once('/').expect("a URL ends in its database");
        let options = world.production(&format!("{place}/{name}"), Duration::from_secs(5));
        let error = Migration::connect(options).await.err().expect("an application of the copy is refused");
        assert!(error.kind == Kind::Misconfigured && error.to_string().contains(&name), "{error}");

        // The original goes on meanwhile, so what mends a source that was set back is refused here.
        let (stop, tables) = (CancellationToken::new(), world.tables());
        let goes_on = async {
            while !stop.is_cancelled() {
                for table in &tables {
                    let number = world.make_mark(table).await;
                    world.source.end_marks(&[(table.name(), number)]).await.expect("noted");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let cancel = CancellationToken::new();
        let repair = async {
            let repaired = repair_state(&copy, &ValidateOptions::default(), &(), &cancel).await;
            stop.cancel();
            repaired
        };
        let (repaired, ()) = tokio::join!(repair, goes_on);
        let error = repaired.expect_err("the original is in use").to_string();
        assert!(error.contains("another PostgreSQL") && error.contains("copy"), "{phase}: {error}");

        let lost = lost_history(&world.source, &world.target, &tables).await.expect("asked");
        assert_eq!(lost, Vec::new(), "the original has lost nothing by it");
        let control = world.source.control().await.expect("a phase");
        assert_eq!(control.phase, phase);
        let rows = |items: &[Vec<Attributes>]| -> Vec<Attributes> {
            // The original's marks have moved on.
            items.iter().flatten().filter(|item| !item.contains_key("_mark")).cloned().collect()
        };
        assert_eq!(rows(&everything(&world).await), rows(&before), "{phase}");
        source.close().await;
        drop(backup);
        on_the_cluster(&world, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }
}

/// 1. The database of a migration is renamed, or moved to another server. 2. It says so, and what leads on.
/// 3. The repair takes it for the migration's own.
#[tokio::test]
async fn a_database_that_was_renamed_is_told_of_and_goes_on_after_the_repair() {
    let world = world_in(Phase::DualWrite).await;
    world.sql("UPDATE payments SET loan_id = 5").await;
    world.sql("UPDATE lockstep.control SET database = 'loans_of_before'").await;
    commands_refuse(&world.migration()).await;
    let seen = diagnosis(&world).await;
    let found = seen.findings.iter().find(|finding| finding.what.contains("loans_of_before"));
    let found = found.unwrap_or_else(|| panic!("{:#?}", seen.findings));
    assert!(found.next.contains("copy") && found.remedy == Some(Remedy::RaiseEpoch), "{found:?}");
    let cancel = CancellationToken::new();
    repair_state(&world.migration(), &ValidateOptions::default(), &(), &cancel).await.expect("repaired");
    let (url, lease) = (world.url().to_owned(), Duration::from_secs(5));
    Migration::connect(world.production(&url, lease)).await.expect("it starts").shutdown().await;
    world.relay_until_empty().await;
    world.assert_converged().await;
}

/// 1. A copy is to be repaired while the original goes on. 2. DynamoDB throttles a read of the mark by which
/// the original would be seen, whichever one it is. 3. By what was not heard the copy was taken for the
/// original, its epoch raised, and its rows put over the others.
#[tokio::test]
async fn a_throttled_look_at_a_mark_is_no_proof_that_the_original_is_not_in_use() {
    let mut world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.relay_until_empty().await;
    let backup = world.back_up_source().await;
    let name = format!("{}_backup", world.value::<String>("SELECT current_database()::text").await);
    let source = at(&world, &name).await;
    let copy = MigrationContext { source: source.clone(), ..world.migration() };
    let epoch = source.control().await.expect("a phase").epoch;
    let (stop, payments_table) = (CancellationToken::new(), world.payments_table());
    let goes_on = async {
        // Of one table alone: that of the other one would be enough to see it.
        while !stop.is_cancelled() {
            let number = world.make_mark(&payments_table).await;
            world.source.end_marks(&[(PAYMENTS, number)]).await.expect("noted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let cancel = CancellationToken::new();
    let repairs = async {
        let mut ends = Vec::new();
        // The looks before it, at the stores' histories among them, and both of its own.
        for looks_before in 0..12 {
            let lost = Rule::new(Fault::Throttle).on("GetItem").table(PAYMENTS).after(looks_before).times(1);
            world.proxy().script(lost);
            ends.push(repair_state(&copy, &ValidateOptions::default(), &(), &cancel).await.err());
            world.proxy().clear();
        }
        stop.cancel();
        ends
    };
    let (ends, ()) = tokio::join!(repairs, goes_on);
    for (looks_before, end) in ends.into_iter().enumerate() {
        let told = end.map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains("another PostgreSQL"), "after {looks_before} looks: {told}");
    }
    assert_eq!(source.control().await.expect("a phase").epoch, epoch, "nothing was changed");
    source.close().await;
    drop(backup);
    on_the_cluster(&world, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
}
