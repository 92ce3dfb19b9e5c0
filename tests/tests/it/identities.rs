//! Ids are never handed out twice, by PostgreSQL or DynamoDB, in either direction.

use std::collections::HashSet;
use std::time::Duration;

use lockstep::migration::Migration;
use lockstep::store::WriteOptions;
use lockstep_coordinator::truth::{raise_source_sequences, seed_identities};
use lockstep_core::Kind;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::seeds::seed;
use lockstep_tests::world::{nowhere, within};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

async fn app(world: &World, id_block: u32) -> Migration {
    let writes = WriteOptions { id_block, ..WriteOptions::default() };
    let options = world.production(&nowhere(), Duration::from_secs(10)).writes(writes);
    Migration::connect(options).await.expect("DynamoDB says that the truth is there")
}

async fn insert(app: &Migration) -> i64 {
    let outcome =
        app.store::<IntegrationLogs>().insert(&crate::store::row(0, "counted")).await.expect("written");
    outcome.row.expect("the row with its key").log_id
}

/// A random schedule of two processes that insert, callers who choose ids, and round trips in which
/// PostgreSQL counts.
#[tokio::test]
async fn no_id_is_handed_out_twice_in_either_direction() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::start().await.dynamo_only(&lockstep_tests::world::rows::logs(1, 20)).await;
    let apps = [app(&world, 3).await, app(&world, 5).await];
    let mut used: HashSet<i64> = (1..=20).collect();
    let mut highest = 20;
    for step in 0..150 {
        let app = &apps[rng.random_range(0..2)];
        let id = match rng.random_range(0..10) {
            0 => {
                // The way back, and there again; both twice, as after a crash.
                let mut connection = world.source.pool().acquire().await.expect("a connection");
                for _ in 0..2 {
                    raise_source_sequences(&mut connection, &world.control(), &world.tables())
                        .await
                        .expect("raised");
                }
                let id: i64 =
                    world.value("SELECT nextval(pg_get_serial_sequence('integration_logs', 'log_id'))").await;
                for _ in 0..2 {
                    seed_identities(&mut connection, &world.control(), &world.tables())
                        .await
                        .expect("seeded");
                }
                id
            }
            1 | 2 => {
                // A free one: above everything, or left over in a process's block.
                let free = (1..highest + 12).filter(|id| !used.contains(id)).collect::<Vec<_>>();
                let id = free[rng.random_range(0..free.len())];
                let chosen = crate::store::row(id, "chosen");
                app.store::<IntegrationLogs>().put(&chosen).await.expect("written");
                if rng.random_bool(0.5) {
                    assert!(app.store::<IntegrationLogs>().delete(id).await.expect("deleted").found);
                }
                id
            }
            _ => insert(app).await,
        };
        assert!(used.insert(id), "id {id} was handed out twice in step {step}, seed {seed}");
        highest = highest.max(id);
    }
}

#[tokio::test]
async fn ids_that_were_never_seeded_are_refused_and_a_sequence_is_only_raised() {
    let world = World::start().await;
    world.migrated_to(lockstep_core::Phase::HybridRead).await.close().await;
    let control = world.control();
    control.create().await.expect("a control table");
    assert_eq!(
        control.take_ids("integration_logs", 10, i64::MAX).await.expect_err("not seeded").kind,
        Kind::Misconfigured
    );
    assert_eq!(control.raise_ids("integration_logs", 10).await.expect("nothing to raise"), None);
    world.sql(&lockstep_tests::world::rows::log(500, "a")).await;
    let mut connection = world.source.pool().acquire().await.expect("a connection");
    let seed = async |connection: &mut _| {
        seed_identities(connection, &control, &world.tables()).await.expect("seeded")
    };
    seed(&mut connection).await;
    assert_eq!(
        control.next_id("integration_logs").await.expect("read"),
        Some(501),
        "above a row that was given its id"
    );
    let block = control.take_ids("integration_logs", 10, i64::MAX).await.expect("taken");
    assert_eq!((block.first, block.end), (501, 511));
    seed(&mut connection).await;
    assert_eq!(control.next_id("integration_logs").await.expect("read"), Some(511), "never lowered");
    raise_source_sequences(&mut connection, &control, &world.tables()).await.expect("raised");
    let next: i64 = world.value("SELECT nextval(pg_get_serial_sequence('integration_logs', 'log_id'))").await;
    assert_eq!(next, 511);
}

/// 1. A counter of a table with smallint keys is set above every smallint. 2. Nothing can be inserted, and no
/// step there and back sets it lower, as counters only rise.
#[tokio::test]
async fn a_counter_above_the_end_of_its_type_begins_again_where_it_is_seeded_and_any_other_only_rises() {
    let world = World::start().await;
    world.migrated_to(lockstep_core::Phase::HybridRead).await.close().await;
    let control = world.control();
    control.create().await.expect("a control table");
    let seed = async |next, end| control.seed_ids("small", next, end).await.expect("seeded");
    let end = lockstep_core::ids_end("smallint");
    assert_eq!(seed(1 << 20, None).await, Some(1 << 20));
    assert!(control.take_ids("small", 1, end.expect("an end")).await.is_err(), "there is no such id");
    assert_eq!(seed(501, end).await, Some(501));
    assert_eq!(control.take_ids("small", 9, end.expect("an end")).await.expect("taken").end, 510);
    assert_eq!(seed(501, end).await, Some(510), "what was handed out is not handed out again");
}

/// 1. A process has half of a block of ids. 2. The truth goes back, and a caller chooses one of them in
/// PostgreSQL. 3. The truth comes again, and the process goes on with its block: two rows had one id.
#[tokio::test]
async fn a_block_of_ids_ends_with_its_stay_in_dynamodb() {
    let world = World::start().await.dynamo_only(&lockstep_tests::world::rows::logs(1, 20)).await;
    let app = app(&world, 50).await;
    let first = insert(&app).await;
    world.truth_in_source().await;
    // Of the block, and far behind what is used until the process has heard of the steps.
    world.sql(&lockstep_tests::world::rows::log(first + 40, "chosen")).await;
    let epoch = world.truth_in_target().await;
    let store = app.store::<IntegrationLogs>();
    let next = within(Duration::from_secs(30), async {
        loop {
            let written = store.insert(&crate::store::row(0, "counted")).await;
            match written {
                Ok(written) if written.control.epoch == epoch => break written.row.expect("a row").log_id,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(next >= first + 50, "{next} is of the block that began with {first}");
}
