//! The real command on rows that checks have stumbled over: ids at both ends, rows that cannot be held,
//! acknowledged dead letters.

use std::sync::Arc;

use lockstep::store::{CanaryQueries, Store, WriteOptions, Writer};
use lockstep_coordinator::{MigrationContext, canary_reads_of, measure_latency, test_operation};
use lockstep_core::{
    AttributeValue, Item, KeyType, MigratableTable, Phase, TargetKey, TargetSchema, Unholdable,
};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{PAYMENTS, backfill};
use lockstep_validator::CancellationToken;

use crate::process::{command, ended};

const MIGRATE: [&str; 6] = ["migrate", "--json", "--quiet", "--live-writes", "0", "--through=HybridRead"];

/// Runs the command; its exit code and what it said.
async fn told(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ended(command(world, arguments)).await;
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].join("\n");
    (output.status.code(), said)
}

async fn phase(world: &World) -> Phase {
    world.source.control().await.expect("a phase").phase
}

#[tokio::test]
async fn ids_at_both_ends_of_bigint_move_and_no_check_touches_them() {
    let world = World::start().await;
    world.sql(&payments(1, 12)).await;
    world.sql(&logs(1, 12)).await;
    // Apart in time: the order of ids of one moment is that of their digits.
    world.sql("UPDATE payments SET payment_date = payment_date + payment_id * interval '1 hour'").await;
    world.sql("UPDATE integration_logs SET log_timestamp = log_timestamp + log_id * interval '1 hour'").await;
    for (id, extreme) in [(1, i64::MIN), (2, -5), (3, i64::MAX)] {
        world.sql(&format!("UPDATE payments SET payment_id = {extreme} WHERE payment_id = {id}")).await;
        world.sql(&format!("UPDATE integration_logs SET log_id = {extreme} WHERE log_id = {id}")).await;
    }
    let sums = "SELECT string_agg(p::text, ' ' ORDER BY payment_id) FROM payments p";
    let before: String = world.value(sums).await;
    let (code, said) = told(&world, &MIGRATE).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(phase(&world).await, Phase::HybridRead);
    let (code, said) = told(&world, &["test-operation", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.value::<String>(sums).await, before);
    assert_eq!(world.live_items(PAYMENTS).await, 12);
    let (code, said) = told(&world, &["rollback", "--json", "--quiet"]).await;
    assert_eq!(code, Some(0), "{said}");
    world.assert_converged().await;
}

#[tokio::test]
async fn rows_that_cannot_be_held_first_last_or_between_stop_no_check_and_are_accepted() {
    let world = World::start().await;
    world.sql(&payments(1, 30)).await;
    world.sql(&logs(1, 30)).await;
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id IN (1, 2, 15, 29, 30)").await;
    world.sql("UPDATE payments SET processed_date = 'infinity' WHERE payment_id = 16").await;
    world.sql("UPDATE integration_logs SET log_timestamp = 'infinity' WHERE log_id = 1").await;
    // A row that decodes, and whose index key no item can have.
    world.sql("UPDATE integration_logs SET correlation_id = repeat('c', 2100), is_success = false WHERE log_id IN (7, 30)").await;
    let (code, said) = told(&world, &MIGRATE).await;
    assert!(code != Some(0) && code != Some(5), "set aside and refused, not broken: {code:?} {said}");
    let letters = world.source.dead_letters(PAYMENTS, 20).await.expect("lists");
    assert_eq!(letters.len(), 6, "{letters:?}");
    // What an operator has not looked at is not accepted.
    let mark = |said: &str| {
        let (_, mark) = said.rsplit_once("--acknowledge ").unwrap_or_else(|| panic!("no mark: {said}"));
        mark.split(['`', ' ']).next().expect("it ends").to_owned()
    };
    let listed = mark(&told(&world, &["dead-letters"]).await.1);
    world.sql("UPDATE lockstep.dead_letters SET version = version + 1 WHERE key ->> 0 = '15'").await;
    let (code, said) = told(&world, &["dead-letters", "--acknowledge", &listed]).await;
    assert_eq!(code, Some(3), "another state of one of them: {said}");
    let open = "lockstep.dead_letters WHERE acknowledged_at IS NULL";
    assert_eq!(world.count(open).await, 9);
    let of_payments = mark(&told(&world, &["dead-letters", "--table", PAYMENTS]).await.1);
    let (code, said) =
        told(&world, &["dead-letters", "--table", PAYMENTS, "--acknowledge", &of_payments]).await;
    assert!(code == Some(0) && said.contains("6 newly acknowledged"), "{said}");
    assert_eq!(world.count(open).await, 3);
    let (code, said) = told(&world, &["dead-letters", "--acknowledge", &of_payments]).await;
    assert_eq!(code, Some(3), "that list was of others: {said}");
    assert!(
        said.contains("`cargo xtask dead-letters`") && !said.contains("--acknowledge"),
        "list first: {said}"
    );
    // Without a mark, those that stand now.
    let (code, said) = told(&world, &["dead-letters", "--acknowledge"]).await;
    assert_eq!((code, world.count(open).await), (Some(0), 0), "{said}");
    let (code, said) = told(&world, &MIGRATE).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(phase(&world).await, Phase::HybridRead);
    let (code, said) = told(&world, &["validate", "--json", "--quiet", "--latency", "2"]).await;
    assert_eq!(code, Some(0), "{said}");
}

lockstep_core::row! {
    /// A row whose key is of texts, in columns whose names need quotes.
    #[allow(non_snake_case)]
    pub struct Note {
        /// First part of the key.
        pub Shelf: String,
        /// Second part of the key.
        pub order: String,
        /// Text of the note.
        pub body: Option<String>,
    }
}

lockstep_core::row! {
    /// Key of a note.
    #[allow(non_snake_case)]
    pub struct NoteKey {
        /// First part.
        pub Shelf: String,
        /// Second part.
        pub order: String,
    }
}

/// A table that no registry knows, and that has no queries of its own.
struct Notes;

impl MigratableTable for Notes {
    type Row = Note;
    type Key = NoteKey;
    const NAME: &'static str = "notes";
    const PRIMARY_KEY_COLUMNS: usize = 2;
    const TARGET: TargetSchema = TargetSchema { partition: KeyType::S, sort: Some(KeyType::S), indexes: &[] };

    fn key(row: &Note) -> NoteKey {
        NoteKey { Shelf: row.Shelf.clone(), order: row.order.clone() }
    }

    fn target_key(&self, key: &NoteKey) -> Result<TargetKey, Unholdable> {
        let sort = Some(AttributeValue::S(key.order.clone()));
        Ok(TargetKey { partition: AttributeValue::S(key.Shelf.clone()), sort })
    }

    fn expiry(&self) -> String {
        "off".to_owned()
    }

    fn index_attributes(&self, _row: &Note, _item: &mut Item) -> Result<(), Unholdable> {
        Ok(())
    }
}

impl CanaryQueries for Notes {}

#[tokio::test]
async fn a_third_table_with_a_key_of_texts_is_asked_timed_and_probed() {
    let world = World::start().await;
    world.sql("CREATE TABLE \"Notes\" (\"Shelf\" text, \"order\" text, body text, PRIMARY KEY (\"Shelf\", \"order\"))").await;
    world
        .sql("INSERT INTO \"Notes\" SELECT 'ü''\"' || i % 3, 'n' || i, 'x' FROM generate_series(1, 40) AS i")
        .await;
    let relation = "public.Notes".parse().expect("a name");
    let binding = TableBinding { table: Arc::new(Notes), relation, target_name: "notes".to_owned() };
    let migration = MigrationContext { tables: vec![binding.clone()], ..world.migration() };
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    let writer = Writer::new(world.source.clone(), world.target.clone(), WriteOptions::default());
    let store = Store::with_writer(writer, Arc::new(Notes), binding.clone());
    let reads = canary_reads_of(&store, &world.source, &binding).await.expect("reads");
    assert_eq!(reads.len(), 3, "of the first row, the last one and one between");
    let timed = measure_latency(&reads, 1, &CancellationToken::new()).await.expect("both stores answer");
    assert_eq!((timed.len(), timed[0].samples, timed[0].rows_mean), (1, 3, 1.0), "{timed:?}");
    let report = test_operation(&migration).await.expect("journalled");
    assert!(report.passed && report.checks.iter().all(|check| check.table == "notes"), "{report:#?}");
}

#[tokio::test]
async fn checks_know_nothing_of_tables_that_do_not_move() {
    let world = World::start().await;
    world.sql("DROP TABLE IF EXISTS loans CASCADE").await;
    world.sql("CREATE TABLE loans (number text)").await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (code, said) = told(&world, &["test-operation", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
}
