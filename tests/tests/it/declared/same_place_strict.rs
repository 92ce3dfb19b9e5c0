//! Two source keys of one row share a place (P18), and a strict write puts its state there before it commits.
//! What a relay had read before is refused by that, and no history was lost; where one was, it still says so.

use std::time::Duration;

use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_core::{Item, Version, version_of};
use lockstep_postgres::{
    MarkedKey, SourceTransaction, TableBinding, TransactionId, begin_write, resolve_in_transaction,
};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::within;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::migration;
use super::same_place::{relay_until_empty, visits};

/// A strict write of one row whose put is there: its transaction is open.
struct Standing {
    transaction: SourceTransaction,
    id: TransactionId,
    key: MarkedKey,
    version: Version,
}

impl Standing {
    async fn begin(world: &World, visits: &TableBinding, change: &str) -> Self {
        let (mut transaction, _, id) = begin_write(&world.source).await.expect("begun");
        let sql = format!("UPDATE visits SET {change} WHERE id = 1");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await.expect("written");
        // As the store reads what it left: the row, and the mark of its key.
        let (key, version): (String, i64) = sqlx::query_as(
            "SELECT key::text, version FROM lockstep.pending WHERE table_name = 'visits' ORDER BY version DESC
             LIMIT 1",
        )
        .fetch_one(&mut *transaction)
        .await
        .expect("marked");
        let (key, version) = (MarkedKey { table: "visits", key }, Version(version));
        world.source.record_intents(id, &[(&key, None)]).await.expect("recorded");
        let item = Self::item(&mut transaction, visits, version).await;
        let put = world.plain_target.put_guarded("visits", item, version).await.expect("put");
        assert_eq!(put.landed, lockstep_dynamo::Landed::Applied);
        Self { transaction, id, key, version }
    }

    async fn item(connection: &mut PgConnection, visits: &TableBinding, version: Version) -> Item {
        let sql = format!("SELECT {} FROM visits s WHERE id = 1", visits.columns_sql("s"));
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await.expect("read");
        let item = lockstep_core::Fields::of_query(&row, 0, |fields| visits.table.encode(fields));
        item.expect("fits").at(version)
    }

    async fn end(self, world: &World, commits: bool) {
        let Self { mut transaction, id, key, version } = self;
        if commits {
            resolve_in_transaction(&mut transaction, &[(&key, version)]).await.expect("settled");
            transaction.commit().await.expect("committed");
        } else {
            transaction.rollback().await.expect("rolled back");
            world.source.resolve_aborted(&[id]).await.expect("settled");
        }
    }
}

/// One schedule: what comes before the repair, what the strict write changes, and whether it commits.
struct Schedule {
    before: &'static str,
    change: &'static str,
    commits: bool,
}

/// 1. A repair marks key A of the row. 2. A relay reads the mark and the row. 3. A strict write has put the
/// row under key B of the same place. 4. The relay's put for A is refused by that; A's mark stands as it was
/// read. 5. The write ends while the relay looks at what refused it.
async fn play(world: &World, visits: &TableBinding, schedule: Schedule) {
    let Schedule { before, change, commits } = schedule;
    let tables = [visits.clone()];
    let a: Vec<String> = vec!["1".to_owned(), "2026-03-04 05:06:07+00".to_owned()];
    world
        .sql(&format!(
            "DELETE FROM lockstep.pending;
             UPDATE visits SET at = '2026-03-04 05:06:07+00', note = 'old'; {before}"
        ))
        .await;
    relay_until_empty(world, &tables).await;
    let (here, cancel) = (migration(world, &tables), CancellationToken::new());
    let progress = Progress::new(&here.tables);
    assert_eq!(world.source.mark_for_repair(visits, &[a]).await.expect("marked"), 1);
    let (read, looks) = (Gate::new(), Gate::new());
    world.proxy().script(Rule::new(Fault::Delay(read.clone())).on("PutItem").table("visits").times(1));
    let relaying = async {
        relay(&here, RelayUntil::Empty, &progress, &cancel).await.map_err(|error| format!("{error:?}"))
    };
    let beside = async {
        read.until_held(1).await;
        let standing = Standing::begin(world, visits, change).await;
        let rule = || Rule::new(Fault::Delay(looks.clone())).table("visits").times(1);
        world.proxy().script(rule().on("GetItem"));
        world.proxy().script(rule().on("PutItem"));
        read.open();
        looks.until_held(1).await;
        standing.end(world, commits).await;
        looks.open();
        Ok(())
    };
    tokio::try_join!(relaying, beside).expect("no history was lost");
    world.proxy().clear();
    assert!(world.pending("visits").await.is_empty());
    assert_eq!(world.count("lockstep.contradicted").await, 0);
    let note: String = world.value("SELECT note FROM visits").await;
    let items = world.items("visits").await;
    assert_eq!(items.len(), 1);
    assert!(version_of(&items[0]).is_some());
    assert_eq!(items[0]["note"].as_s().ok(), Some(&note));
}

#[tokio::test]
async fn what_a_strict_write_has_put_under_another_key_of_the_place_is_no_lost_history() {
    let world = World::behind_proxy().await;
    let tables = visits(&world, "VALUES (1, '2026-03-04 05:06:07+00', 'old')").await;
    let moved = "UPDATE visits SET at = at + interval '1 hour'";
    for commits in [true, false] {
        // The row is changed under B, to which it has moved before; and it leaves A, which it has.
        for (before, change) in [(moved, "note = 'new'"), ("", "at = at + interval '1 hour', note = 'new'")] {
            play(&world, &tables[0], Schedule { before, change, commits }).await;
        }
    }
    let again = "UPDATE visits SET note = 'moved again', at = at + interval '1 minute'";
    for change in [again, "DELETE FROM visits"] {
        lost(&world, &tables[0], change).await;
    }
}

/// 1. History was lost, and DynamoDB has a state of then. 2. A change marks both keys of the row below it: it
/// is refused under each. 3. No mark waits for the other one: the relay says what it is.
async fn lost(world: &World, visits: &TableBinding, change: &str) {
    // Above what the change gets.
    let version = Version(world.value::<i64>("SELECT last_value FROM lockstep.version_seq").await + 10);
    let item = Standing::item(&mut world.stranger().await, visits, version).await;
    let put = world.plain_target.put_guarded("visits", item, version).await.expect("put");
    assert_eq!(put.landed, lockstep_dynamo::Landed::Applied);
    world.sql("UPDATE visits SET note = 'moved', at = at + interval '1 minute'").await;
    world.sql(change).await;
    assert!(world.pending("visits").await.len() > 1);
    let (here, cancel) = (migration(world, std::slice::from_ref(visits)), CancellationToken::new());
    let progress = Progress::new(&here.tables);
    let relaying = within(Duration::from_secs(60), relay(&here, RelayUntil::Empty, &progress, &cancel));
    let error = relaying.await.expect_err("a state of no history of ours");
    assert!(matches!(error, lockstep_coordinator::CoordinatorError::HistoryLost(_)), "{error:?}");
    world.sql("DELETE FROM lockstep.contradicted; DELETE FROM lockstep.pending").await;
}
