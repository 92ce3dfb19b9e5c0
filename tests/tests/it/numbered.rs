//! Numbers that PostgreSQL gives and DynamoDB does not: within a longer key, and in no key at all. None is
//! given once more after the way back.

use std::sync::Arc;

use lockstep_coordinator::{FeedProgress, FeedUntil, MigrationContext, ready, reverse_feed};
use lockstep_core::{MigratableTable, Phase, TableHandle};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::{backfill, eventually, within};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "orders", table = "Orders", partition = "SHOP#{shop}", sort = "{number:019}")]
struct Order {
    #[lockstep(primary_key)]
    shop: i64,
    #[lockstep(primary_key)]
    number: i64,
    note: String,
}

#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "tickets", table = "Tickets", partition = "{code}")]
struct Ticket {
    #[lockstep(primary_key)]
    code: String,
    nth: i32,
    seat: i16,
}

const SCHEMA: &str = "
    CREATE TABLE orders (shop bigint, number bigint GENERATED ALWAYS AS IDENTITY, note text NOT NULL,
        PRIMARY KEY (shop, number));
    CREATE SEQUENCE seats INCREMENT BY 10;
    CREATE TABLE tickets (code text PRIMARY KEY, nth integer GENERATED ALWAYS AS IDENTITY,
        seat smallint NOT NULL DEFAULT nextval('seats') CHECK (seat <> 401));
    INSERT INTO orders (shop, note) SELECT 7, 'before' FROM generate_series(1, 5)";

fn order(shop: i64, number: i64) -> Order {
    Order { shop, number, note: "chosen".to_owned() }
}

async fn stage() -> (World, MigrationContext) {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let binding = |table: TableHandle| TableBinding {
        relation: table.name().parse().expect("a name"),
        target_name: table.name().to_owned(),
        table,
    };
    let tables = vec![binding(Arc::new(Orders)), binding(Arc::new(Tickets))];
    let migration = MigrationContext { tables, ..world.migration() };
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    (world, migration)
}

async fn fed(migration: &MigrationContext) {
    let (progress, cancel) = (Arc::new(FeedProgress::new(&migration.tables)), CancellationToken::new());
    let feed = &migration.options.reverse_feed;
    let feeding = reverse_feed(migration, feed, FeedUntil::Drained, &progress, &cancel);
    within(std::time::Duration::from_secs(60), feeding).await.expect("the feed ends well");
}

#[tokio::test]
async fn a_number_that_was_given_in_dynamo_only_is_not_given_once_more_by_postgresql() {
    let (world, migration) = stage().await;
    fed(&migration).await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    world.put_item(&Orders, &order(7, 40), epoch).await;
    // The greatest of all is of a row that is gone again; one of those that stand for "none" says nothing.
    world.put_item(&Orders, &order(8, 90), epoch).await;
    world.delete_item(&Orders, &Orders::key(&order(8, 90)), epoch).await;
    world.put_item(&Orders, &order(9, i64::MAX), epoch).await;
    // A sequence that was never called; one that a default calls; and a row that PostgreSQL refuses.
    world.put_item(&Tickets, &Ticket { code: "a".to_owned(), nth: 1, seat: 300 }, epoch).await;
    let refused = Ticket { code: "b".to_owned(), nth: 0, seat: 401 };
    world.put_item(&Tickets, &refused, epoch).await;
    let until_refused = async {
        let waits = "SELECT count(*) FROM lockstep.reverse_again WHERE table_name = 'tickets'";
        eventually("PostgreSQL refuses it", async || world.value::<i64>(waits).await == 1).await;
        // Its item goes, and nothing is left to wait for.
        world.delete_item(&Tickets, &Tickets::key(&refused), epoch).await;
    };
    tokio::join!(fed(&migration), until_refused);
    let given: Vec<i64> = vec![
        world.value("SELECT nextval(pg_get_serial_sequence('orders', 'number'))").await,
        world.value("SELECT nextval(pg_get_serial_sequence('tickets', 'nth'))").await,
        world.value("SELECT nextval('seats')").await,
    ];
    assert_eq!(given, [91, 2, 411]);
    // Read once more, nothing is set back.
    world.put_item(&Orders, &order(7, 41), epoch).await;
    fed(&migration).await;
    let next: i64 = world.value("SELECT nextval(pg_get_serial_sequence('orders', 'number'))").await;
    assert_eq!(next, 92);
}

#[tokio::test]
async fn what_the_feed_could_not_keep_clear_of_is_refused_before_dynamo_only() {
    let (world, migration) = stage().await;
    world.flip(Phase::DualWrite).await;
    world.flip(Phase::HybridRead).await;
    let refused = async || {
        let asked = ready(&migration, Phase::DynamoOnly).await.expect("asked").refusals();
        asked
            .split("; ")
            .filter(|line| line.contains("can be numbered"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(refused().await, [] as [String; 0]);
    world.sql("ALTER SEQUENCE seats INCREMENT BY -1 MINVALUE -9").await;
    world.sql("ALTER TABLE orders ALTER number SET INCREMENT BY -1 SET MINVALUE -9").await;
    let said = refused().await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("number is numbered by public.orders_number_seq")),
        "{said:?}"
    );
    assert!(said.iter().any(|line| line.contains("seat is numbered by public.seats")), "{said:?}");
}
