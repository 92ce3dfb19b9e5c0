//! Tables that came after the guards of migration 10: workers and their leases, the budget, settings, the
//! contract, riders, counts, spoken of as roles with exactly the documented grants.

use lockstep_core::Phase;
use lockstep_postgres::Source;
use lockstep_tests::World;
use lockstep_tests::world::rows::payment_key;
use lockstep_tests::world::{PAYMENTS, run};
use lockstep_validator::{CancellationToken, Report, ValidateOptions, ValidationProgress, validate};
use sqlx::{Connection, PgConnection};

use super::{DENIED, attacker, refused, world};

/// Tables of schema `lockstep` that an application's role is granted something on; it has no business in any
/// other, whatever migration made it.
const GRANTED: [&str; 5] = ["control", "dead_letters", "instances", "intents", "pending"];

#[tokio::test]
async fn every_other_table_of_ours_is_closed_to_an_application_and_so_is_each_function() {
    let world = world().await;
    let mut app = attacker(&world, "mallory").await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'lockstep'::regnamespace
             AND c.relkind IN ('r', 'v', 'm', 'p') ORDER BY 1",
    )
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    for name in ["workers", "ranges", "budget", "settings", "counts", "reverse_riders"] {
        assert!(tables.iter().any(|table| table == name), "{name} is looked at: {tables:?}");
    }
    for table in tables.iter().filter(|table| !GRANTED.contains(&table.as_str())) {
        for sql in [
            format!("SELECT * FROM lockstep.{table}"),
            format!("INSERT INTO lockstep.{table} DEFAULT VALUES"),
            format!("DELETE FROM lockstep.{table}"),
            format!("TRUNCATE lockstep.{table}"),
            format!("DO 'BEGIN LOCK TABLE lockstep.{table} IN ACCESS SHARE MODE; END'"),
        ] {
            assert_eq!(refused(&mut app, &sql).await, DENIED, "{sql}");
        }
    }
    // Settings, phase and contract are columns of the row that each write transaction reads.
    for sql in [
        "UPDATE lockstep.control SET settings = '{\"canary_percent\": {\"value\": 100, \"until\": null}}'",
        "SELECT 1 FROM lockstep.control FOR UPDATE",
        "SELECT 1 FROM lockstep.control FOR SHARE",
        "DO 'BEGIN LOCK TABLE lockstep.control IN SHARE MODE; END'",
        "SELECT nextval('lockstep.lease_seq')",
        "SELECT setval('lockstep.version_seq', 1)",
        "ALTER TABLE lockstep.pending DISABLE TRIGGER ALL",
        "CREATE TABLE lockstep.mine (x int)",
        "CREATE FUNCTION lockstep.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER mine BEFORE INSERT ON lockstep.pending FOR EACH ROW
             EXECUTE FUNCTION lockstep.note_cured()",
        "SET session_replication_role = replica",
    ] {
        assert_eq!(refused(&mut app, sql).await, DENIED, "{sql}");
    }
    // Functions that run with the owner's rights are triggers, and a trigger needs the right to make one.
    let callable: Vec<String> = sqlx::query_scalar(
        "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'lockstep'::regnamespace
             AND p.prosecdef AND pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')",
    )
    .bind(
        world
            .value::<String>(
                "SELECT max(rolname)::text FROM pg_roles WHERE rolname LIKE current_database() || '_mallory'",
            )
            .await,
    )
    .fetch_all(world.source.pool())
    .await
    .expect("the catalogue is read");
    assert_eq!(callable, Vec::<String>::new());
}

/// A report on a row of `instances` is the one thing that is taken over with the owner's rights: it names
/// tables, roles and numbers as it likes, and what comes of it is a count of its own role.
#[tokio::test]
async fn a_report_counts_for_its_own_role_whatever_it_says() {
    let world = world().await;
    let mut app = attacker(&world, "mallory").await;
    run(
        &mut app,
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms, owner)
         VALUES (1, 'n', 'h', 1, now(), 60000, 'postgres')",
    )
    .await;
    let report = r#"[{"table_name": "payments", "name": "shadow.differ", "count": 2, "owner": "", "epoch": 0},
                     {"table_name": "payments", "name": "spent.units", "count": 2147483647},
                     {"table_name": "payments", "name": "sample.differ", "count": 9}]"#;
    run(&mut app, &format!("UPDATE lockstep.instances SET report = '{report}' WHERE id = 1")).await;
    let counted: Vec<(String, String)> =
        sqlx::query_as("SELECT name, owner::text FROM lockstep.counts WHERE name <> 'spent.requests'")
            .fetch_all(world.source.pool())
            .await
            .expect("read");
    let [(name, owner)] = &counted[..] else { panic!("one count: {counted:?}") };
    assert!(name == "shadow.differ" && owner.ends_with("_mallory"), "{counted:?}");
    for garbage in ["1", "{}", "[1]", "[[]]", r#"[{"count": "x"}]"#, r#"[{"count": 99999999999}]"#] {
        let sql = format!("UPDATE lockstep.instances SET report = '{garbage}' WHERE id = 1");
        // Refused or taken for nothing, and always of this role alone.
        let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut app).await;
    }
    assert_eq!(world.count("lockstep.counts WHERE name = 'shadow.differ'").await, 1);
}

async fn compared(world: &World, incremental: bool) -> Report {
    let tables = world.tables();
    let pass = lockstep_validator::begin(&world.source).await.expect("a pass begins");
    let options =
        ValidateOptions { pass, incremental, wait_for_pending: false, ..ValidateOptions::default() };
    let (progress, cancel) = (ValidationProgress::new(&tables), CancellationToken::new());
    let report = validate(&world.source, &world.target, &tables, &options, &progress, &cancel).await;
    lockstep_validator::record(&world.source, &world.target, &tables, &report).await.expect("recorded");
    report
}

/// A row that cannot be held is set aside and accepted, and a full pass agrees but for it.
async fn with_an_accepted_dead_letter() -> World {
    let world = World::start().await;
    world.sql(&lockstep_tests::world::rows::payments(1, 20)).await;
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id = 7").await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "dba").await.expect("accepted");
    assert!(compared(&world, false).await.verdict.is_consistent(), "but for what was accepted");
    world
}

/// 1. A row that cannot be held is set aside, and accepted. 2. A role takes its dead letter out, as the one
/// that delivers does. 3. An incremental pass, which reads what has changed, said consistent: a row that is
/// in one store only was spoken of nowhere.
#[tokio::test]
async fn a_dead_letter_that_a_role_takes_out_is_looked_at_by_the_next_pass() {
    let world = with_an_accepted_dead_letter().await;
    assert!(compared(&world, true).await.verdict.is_consistent());
    let mut app = attacker(&world, "mallory").await;
    run(&mut app, "DELETE FROM lockstep.dead_letters").await;
    let report = compared(&world, true).await;
    assert!(!report.verdict.is_consistent(), "the row of payment 7 is in PostgreSQL alone: {report:#?}");
    // The source tells what it is, and the relay, which meets it, sets it aside again.
    let source: Source = world.another_source().await;
    assert_eq!(source.count_dead_letters(PAYMENTS).await.expect("counts"), (0, 0));
    source.close().await;
}

#[tokio::test]
async fn what_a_role_takes_out_while_a_full_pass_reads_is_looked_at_by_the_next_one() {
    let world = with_an_accepted_dead_letter().await;
    // Noted once already since this pass began, by a transaction that has ended.
    world.sql("UPDATE payments SET loan_id = 1 WHERE payment_id = 8").await;
    world.relay_until_empty().await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 8").await;
    let mut app = attacker(&world, "mallory").await;
    run(&mut app, "BEGIN").await;
    run(&mut app, "DELETE FROM lockstep.dead_letters").await;
    run(&mut app, "DELETE FROM lockstep.pending").await;
    // It sees the letter, and that the key waits.
    let full = compared(&world, false).await;
    assert!(full.findings_total() == 0, "{full:#?}");
    run(&mut app, "COMMIT").await;
    let report = compared(&world, true).await;
    let of_payments = report.tables.iter().find(|table| table.name == PAYMENTS).expect("payments");
    assert_eq!((of_payments.different, of_payments.undecodable), (1, 1), "{report:#?}");
}

/// V36: any role that may connect keeps, by an open transaction, every mark that goes meanwhile. It is named.
#[tokio::test]
async fn a_role_that_keeps_marks_from_being_taken_out_is_named() {
    let world = world().await;
    let (name, source) = crate::roles::role(&world, "reporter").await;
    let mut report = PgConnection::connect(&source.url).await.expect("connects");
    run(&mut report, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM payments").await;
    // Others run beside this test; in their own databases, and a moment each.
    world.sql("UPDATE payments SET loan_id = 1").await;
    let named = format!("of role {name}");
    lockstep_tests::world::eventually("the oldest session is the one that stays open", || async {
        let held = world.source.held_back().await.expect("asked").expect("the pending set is there");
        held.by.is_some_and(|by| by.contains(&named)) && held.for_s.is_some()
    })
    .await;
    run(&mut report, "ROLLBACK").await;
}

/// Numbers that are equal to 7 in a document, and print otherwise.
const AS_GOOD_AS_SEVEN: [&str; 3] = ["7.0", "7.00", "70.0e-1"];

/// The key of payment 7, with its number in these words.
fn spelled(seven: &str) -> String {
    payment_key(7, 8).replacen('7', seven, 1)
}

/// A full pass agrees; then the row of payment 7 changes, which is not delivered.
async fn with_an_old_item() -> World {
    let world = World::start().await;
    world.sql(&lockstep_tests::world::rows::payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.relay_until_empty().await;
    assert!(compared(&world, false).await.verdict.is_consistent());
    world.sql("UPDATE payments SET loan_id = 77 WHERE payment_id = 7").await;
    world
}

/// 1. The mark of `[7]` is renamed to `[7.0]`, and taken out. 2. What is noted is `[7.0]`, which is no row's.
/// 3. An incremental pass said consistent over an old item.
#[tokio::test]
async fn a_mark_that_a_role_renames_or_hides_behind_another_is_looked_at_under_its_own_key() {
    let world = with_an_old_item().await;
    let mut app = attacker(&world, "mallory").await;
    let rename = |seven| {
        format!("UPDATE lockstep.pending SET key = '{}' WHERE key = '{}'", spelled(seven), spelled("7"))
    };
    for seven in AS_GOOD_AS_SEVEN {
        assert_eq!(refused(&mut app, &rename(seven)).await, DENIED, "{seven}");
    }
    run(&mut app, &rename("7e0")).await;
    run(&mut app, "DELETE FROM lockstep.pending").await;
    // Marks of its own do not hide the note of it.
    for seven in &AS_GOOD_AS_SEVEN[..2] {
        let mark = "INSERT INTO lockstep.pending (table_name, key, version) VALUES";
        run(&mut app, &format!("{mark} ('payments', '{}', 1)", spelled(seven))).await;
    }
    let page = world.source.changed_keys(PAYMENTS, None, 1_000, false).await.expect("reads");
    let mut numbers: Vec<String> =
        page.keys.into_iter().filter_map(|changed| changed.literals.into_iter().next()).collect();
    numbers.sort();
    assert_eq!(numbers, ["7", "7.0", "7.00"]);
    let report = compared(&world, true).await;
    assert!(!report.verdict.is_consistent(), "the item of payment 7 is old: {report:#?}");
}

/// 1. A strict operation ends unknown twice: there are two intents of each of its keys. 2. As many rows as a
/// page has keys are fewer keys. 3. The page was taken for the last one.
#[tokio::test]
async fn a_page_of_what_changed_has_as_many_keys_where_each_was_marked_more_than_once() {
    let world = with_an_old_item().await;
    world.sql("DELETE FROM lockstep.pending; DELETE FROM lockstep.unverified").await;
    world.sql("ALTER TABLE lockstep.intents DISABLE TRIGGER USER").await;
    for xid in [5, 6] {
        let intents = format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
             SELECT '{xid}', 'payments', pg_catalog.jsonb_build_array(n), 1 FROM generate_series(1, 9) AS n"
        );
        world.sql(&intents).await;
    }
    let (mut read, mut after) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = world.source.changed_keys(PAYMENTS, after.as_ref(), 4, false).await.expect("reads");
        read.extend(page.keys.into_iter().map(|changed| changed.literals));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read.len(), 9, "{read:?}");
}

/// A note of such a text, as an earlier version of the schema let one be made, is of the row that it means.
#[tokio::test]
async fn a_note_whose_text_is_not_as_postgresql_prints_the_key_is_looked_at_by_what_it_means() {
    for seven in &AS_GOOD_AS_SEVEN[..2] {
        let world = with_an_old_item().await;
        world.sql("DELETE FROM lockstep.pending").await;
        let (noted, is) = (spelled(seven), spelled("7"));
        let renamed = format!("UPDATE lockstep.unverified SET key = '{noted}' WHERE key = '{is}'");
        assert_eq!(world.sql(&renamed).await, 1);
        let report = compared(&world, true).await;
        assert!(!report.verdict.is_consistent(), "{noted}: the item of payment 7 is old: {report:#?}");
    }
}
