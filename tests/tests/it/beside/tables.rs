//! Tables that two migrations are given: each is in one of them, whatever came first.

use lockstep_tests::World;

use super::ORDERS;
use super::seen::kept;
use super::told::{Told, all, declared};

const OTHERS: &str = "
    CREATE TABLE events (id bigint PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE early (LIKE events INCLUDING ALL); CREATE TABLE late (LIKE events INCLUDING ALL);
    CREATE TABLE visits (LIKE events INCLUDING ALL) PARTITION BY RANGE (id);
    CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (100);
    INSERT INTO visits SELECT i, 'v' FROM generate_series(1, 20) AS i;
    CREATE TABLE papers (LIKE events INCLUDING ALL);
    CREATE TABLE refunds (LIKE events INCLUDING ALL)";

#[tokio::test]
async fn a_table_is_in_one_of_two_migrations_whatever_their_schemas_are() {
    let world = World::start().await;
    world.sql(ORDERS).await;
    world.sql(OTHERS).await;
    let folder = tempfile::tempdir().expect("a folder");
    let of = |tables: &[&str]| declared(folder.path(), &tables.join("-"), tables);
    let first = Told::of_orders(&world, folder.path()).of(of(&["orders", "early", "late", "papers"]));
    first.to("DualWrite").await;
    world.sql("ALTER TABLE events ATTACH PARTITION early FOR VALUES FROM (0) TO (100)").await;
    world.sql("CREATE TABLE papers_of_old (PRIMARY KEY (id)) INHERITS (papers)").await;
    let before = kept(&world, "lockstep").await;
    let captured = "is captured by the migration in schema lockstep";
    let part_of = |part, whole| format!("public.{part}, which holds rows of public.{whole}, {captured}");
    for (table, says) in [
        ("orders", format!("public.orders {captured}")),
        ("events", part_of("early", "events")),
        ("papers_of_old", "it inherits from another table".to_owned()),
    ] {
        let second = Told::of_the_program(&world).of(of(&[table]));
        second.refused(&["migrate", "--to", "DualWrite"], &[&format!("public.{table}"), &says]).await;
    }
    assert_eq!(kept(&world, "lockstep").await, before, "the first is untouched");

    // Captured by both, it is delivered by neither as the other one's until one of them lets it go.
    let second = Told::of_the_program(&world).of(of(&["visits"]));
    second.to("DualWrite").await;
    world.sql("ALTER TABLE visits ATTACH PARTITION late FOR VALUES FROM (100) TO (200)").await;
    world.sql("UPDATE visits SET v = 'w' WHERE id = 1").await;
    second.refused(&["relay", "--until-empty"], &["public.late, which holds rows of public.visits"]).await;
    world.sql("ALTER TABLE visits DETACH PARTITION late").await;
    second.done(&["relay", "--until-empty"]).await;
    assert_eq!(world.live_items("visits-visits").await, 20);
}

/// The gates of both pass while none has captured it: the lock of the table decides.
#[tokio::test]
async fn of_two_that_capture_a_table_at_once_one_has_it_and_the_other_can_go_on_without_it() {
    let world = World::start().await;
    world.sql(OTHERS).await;
    world.sql("INSERT INTO refunds SELECT i, 'r' FROM generate_series(1, 30) AS i").await;
    let folder = tempfile::tempdir().expect("a folder");
    let of = |name: &str, tables: &[&str]| declared(folder.path(), name, tables);
    let names = [("lockstep_b", "b_control"), ("lockstep_c", "c_control")];
    let both = ["b", "c"].map(|name| of(name, &["refunds"]));
    let told =
        |at: usize| Told::of_the_program(&world).of(both[at].clone()).in_schema(names[at].0, names[at].1);
    let (one, other) = (told(0), told(1));
    let migrate = ["migrate", "--live-writes", "0", "--to", "DualWrite", "--quiet"];
    let ends = tokio::join!(one.output(&migrate), other.output(&migrate));
    let ends = [ends.0, ends.1];
    let done: Vec<usize> = (0..2).filter(|at| ends[*at].status.success()).collect();
    assert_eq!(done.len(), 1, "{}\n\n{}", all(&ends[0]), all(&ends[1]));
    let (has, lacks) = (done[0], 1 - done[0]);
    let said = all(&ends[lacks]);
    assert!(said.contains(&format!("captured by the migration in schema {}", names[has].0)), "{said}");
    let triggers: i64 =
        world.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'zz_lockstep_capture_refunds'").await;
    assert_eq!(triggers, 1);
    told(has).is_consistent().await;

    let without = told(lacks).of(of(["b", "c"][lacks], &["visits"]));
    without.to("DualWrite").await;
    without.is_consistent().await;
}
