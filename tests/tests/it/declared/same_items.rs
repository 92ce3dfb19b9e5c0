//! The sample's two tables, declared: byte for byte the items that their crates make. The same of a derived
//! one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lockstep_core::{Fields, Item};
use lockstep_postgres::{RangeRead, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};

use super::bound;

const DECLARED: &str = r##"
[tables.integration_logs]
partition = "{service_name}#{log_timestamp:date}"
sort = "{log_timestamp}#{log_id:019}"
expires = "log_timestamp + 90d"
day_column = "log_timestamp"

[tables.integration_logs.indexes.by_application]
partition = "APP#{application_id}"
sort = "{log_timestamp}#{log_id:019}"
partition_attribute = "GSI1PK"

[tables.integration_logs.indexes.by_correlation]
partition = "CORR#{correlation_id}"
sort = "{log_timestamp}#{log_id:019}"
partition_attribute = "GSI2PK"

[tables.integration_logs.indexes.errors_by_day]
partition = "ERROR#{log_timestamp:date}"
sort = "{log_timestamp}#{log_id:019}"
partition_attribute = "GSI3PK"
when = { is_success = "false" }

[tables.integration_logs.indexes.by_id]
partition = "{log_id}"

[tables.payments]
partition = "{customer_id}"
sort = "{payment_date}#{payment_id:019}"
expires = "payment_date + 2557d"
day_column = "payment_date"

[tables.payments.indexes.by_status]
partition = "STATUS#{payment_status}"
sort = "{payment_date}#{payment_id:019}"
partition_attribute = "GSI1PK"
projection = "all"

[tables.payments.indexes.by_loan]
partition = "LOAN#{loan_id}"
sort = "{payment_date}#{payment_id:019}"
partition_attribute = "GSI2PK"
projection = "all"

[tables.payments.indexes.by_method]
partition = "METHOD#{payment_method}"
sort = "{payment_date}#{payment_id:019}"
partition_attribute = "GSI3PK"
projection = "all"

[tables.payments.indexes.by_id]
partition = "{payment_id}"
"##;

/// A table in Rust whose indexes are sorted by themselves, and carry something.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "trips", table = "Trips", partition = "{owner}", sort = "{at}#{trip_id:019}")]
#[lockstep(index(name = "by_id", partition = "{trip_id}"))]
#[lockstep(index(name = "by_owner", partition = "O#{owner}", sort = "{at}#{trip_id:019}"))]
#[lockstep(index(name = "by_day", partition = "DAY#{at:date}", sort = "{km}", projection = ["note", "km"]))]
#[lockstep(index(name = "by_note", partition = "{note}", sort = "S#{seen}", projection = "all"))]
struct Trip {
    #[lockstep(primary_key)]
    trip_id: i64,
    owner: String,
    at: DateTime<Utc>,
    km: i32,
    note: Option<String>,
    seen: Option<DateTime<Utc>>,
}

const TRIPS: &str = r##"
[tables.trips]
partition = "{owner}"
sort = "{at}#{trip_id:019}"

[tables.trips.indexes.by_id]
partition = "{trip_id}"

[tables.trips.indexes.by_owner]
partition = "O#{owner}"
sort = "{at}#{trip_id:019}"

[tables.trips.indexes.by_day]
partition = "DAY#{at:date}"
sort = "{km}"
projection = ["note", "km"]

[tables.trips.indexes.by_note]
partition = "{note}"
sort = "S#{seen}"
projection = "all"
"##;

type Encoded = (Item, Vec<String>, Option<i64>);

async fn encoded(world: &World, binding: &TableBinding) -> Vec<Encoded> {
    let range = RangeRead { rows_max: 10_000, ..RangeRead::default() };
    let chunk = world.source.read_chunk(binding, &range).await.expect("it reads");
    chunk
        .tuples()
        .map(|tuple| binding.table.encode_keyed(&mut Fields::of_copy(tuple)).expect("it fits"))
        .collect()
}

#[tokio::test]
async fn the_samples_tables_declared_make_the_items_that_their_crates_make() {
    let world = World::start().await;
    world.sql(&logs(1, 400)).await;
    world.sql(&payments(1, 200)).await;
    world
        .sql("UPDATE integration_logs SET is_success = false, error_message = 'x', correlation_id = NULL WHERE log_id % 5 = 0")
        .await;
    let declared = bound(&world, DECLARED).await.expect("they bind");
    for typed in world.tables() {
        let of_name = declared.iter().find(|binding| binding.name() == typed.name()).expect("declared");
        are_the_same(&world, &typed, of_name).await;
    }
}

#[tokio::test]
async fn a_derived_table_whose_indexes_are_sorted_and_carry_something_makes_the_items_of_a_declared_one() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TABLE trips (trip_id bigint PRIMARY KEY, owner text NOT NULL, at timestamptz NOT
                NULL, km integer NOT NULL,
                 note text, seen timestamptz);
             INSERT INTO trips SELECT i, 'o' || i % 9, timestamptz '2026-01-01' + i * interval '3 hours',
                 i - 100,
                 NULLIF('n' || i % 3, 'n0'), CASE WHEN i % 4 > 0 THEN timestamptz '2026-02-01' + i *
                     interval '1 s' END
                 FROM generate_series(1, 240) AS i",
        )
        .await;
    let declared = bound(&world, TRIPS).await.expect("it binds");
    let relation = "public.trips".parse().expect("a name");
    let typed = TableBinding { table: Arc::new(Trips), relation, target_name: "trips".to_owned() };
    are_the_same(&world, &typed, &declared[0]).await;
}

/// Every row is the same item, under the same key, in the same indexes.
async fn are_the_same(world: &World, typed: &TableBinding, declared: &TableBinding) {
    let (by_crate, by_words) = (encoded(world, typed).await, encoded(world, declared).await);
    assert!(by_crate.len() >= 200);
    for ((item, literals, expires_at), declared) in by_crate.into_iter().zip(by_words) {
        assert_eq!((literals, expires_at), (declared.1, declared.2));
        assert_eq!(item.into_attributes(), declared.0.into_attributes());
    }
    let (expected, found) = (typed.table.target(), declared.table.target());
    assert_eq!((expected.partition, expected.sort), (found.partition, found.sort));
    assert!(expected.indexes.iter().all(|index| found.indexes.contains(index)), "{found:?}");
    assert_eq!(expected.indexes.len(), found.indexes.len());
}
