//! The end of a migration: refused unless both stores are proven equal, resumed wherever it was broken off,
//! and nothing lost by it.

use std::sync::Mutex;
use std::time::Duration;

use lockstep_coordinator::{
    Archive, Completion, Coordinator, CoordinatorError, PurgeOptions, PurgeProgress, Unprotected, complete,
    drop_source, purge,
};
use lockstep_core::{Epoch, Kind, MigratableTable, Phase, Version, is_tombstone, version_of};
use lockstep_dynamo::{Purge, Target, TargetOptions};
use lockstep_payments::Payments;
use lockstep_postgres::Entry;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_row, payments};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS, eventually, within};
use lockstep_validator::{CancellationToken as Cancel, ValidateOptions, ValidateSettings};

const LEASE: Duration = Duration::from_secs(5);

/// Keeps the journal in memory.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Archive for Kept {
    fn keep(&self, _epoch: Epoch, journal: &[Entry]) -> std::io::Result<String> {
        *self.0.lock().expect("no panic") =
            journal.iter().map(|entry| format!("{} {}", entry.kind, entry.step)).collect();
        Ok("memory".to_owned())
    }
}

fn options() -> ValidateOptions {
    ValidateOptions::from(ValidateSettings {
        settle_timeout: Duration::from_secs(10),
        ..ValidateSettings::default()
    })
}

/// A world in DynamoOnly whose feed is through.
async fn dynamo_only() -> World {
    let world = World::start().await;
    let coordinator = world.prepared().await;
    world.sql(&format!("{}; {}", logs(1, 40), payments(1, 40))).await;
    lockstep_tests::world::backfill(&coordinator).await;
    for to in [Phase::DualWrite, Phase::HybridRead] {
        world.step_to(&coordinator, to).await;
    }
    world.relay_until_empty().await;
    world.record_verdict().await;
    let step = coordinator.step(Phase::DynamoOnly, None, &()).await.expect("nothing refuses");
    assert_eq!(step.phase, Phase::DynamoOnly);
    coordinator.close().await;
    world
}

async fn completed(world: &World, kept: &Kept) -> Result<Completion, CoordinatorError> {
    let migration = world.migration();
    within(Duration::from_mins(3), async {
        complete(&migration, &options(), kept, &(), &Cancel::new()).await
    })
    .await
}

async fn is_left_whole(world: &World) {
    assert!(!world.source.has_schema().await.expect("asked"), "schema lockstep is gone");
    let triggers: i64 =
        world.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_lockstep_%' AND tgname <> 'zz_lockstep_moved'").await;
    assert_eq!(triggers, 0);
    assert_eq!(world.count(PAYMENTS).await, 40, "the tables stay");
    for sql in ["UPDATE payments SET loan_id = 9", "DELETE FROM integration_logs", "TRUNCATE payments"] {
        let refused = world.try_sql(sql).await.expect_err("no application would read it").to_string();
        assert!(refused.contains("its migration is complete"), "{refused}");
    }
    let record = world.control().record().await.expect("read").expect("a record");
    assert!(record.completed_at.is_some() && record.phase == Phase::DynamoOnly, "{record:?}");
    let remembered = world.source.completion_of(world.control().table(), None).await.expect("asked");
    assert_eq!(remembered.expect("by its name").epoch, record.epoch.0);
    let refused =
        Coordinator::open(world.migration()).await.err().expect("nothing is moved any more").to_string();
    assert!(refused.contains("the migration is complete since"), "{refused}");
}

#[tokio::test]
async fn applications_go_on_over_the_end_and_without_postgresql_after_it() {
    let world = dynamo_only().await;
    let app = lockstep::migration::Migration::connect(world.production(world.url(), LEASE))
        .await
        .expect("connects");
    let store = app.store::<Payments>();
    store.put(&payment_row(5, 6, "before")).await.expect("written");
    let kept = Kept::default();
    let over = Cancel::new();
    let writer = async {
        let mut written = 0;
        // Each key a few times: one that never rests would never be compared.
        while !over.is_cancelled() && written < 400 {
            store
                .put(&payment_row(1 + written % 40, 1 + written % 40, "meanwhile"))
                .await
                .expect("I7: no write is refused by the end");
            written += 1;
        }
        written
    };
    let completing = async {
        let completion = completed(&world, &kept).await;
        over.cancel();
        completion
    };
    let (written, completion) = tokio::join!(writer, completing);
    let completion = completion.expect("both stores hold the same");
    assert!(written > 0 && !completion.resumed);
    assert!(completion.report.is_some_and(|report| report.verdict.is_consistent()));
    let journal = kept.0.lock().expect("no panic").clone();
    assert!(
        journal.iter().any(|entry| entry == "done complete")
            && journal.iter().any(|entry| entry == "done change phase"),
        "{journal:?}"
    );
    is_left_whole(&world).await;
    store.put(&payment_row(5, 6, "after")).await.expect("applications go on");
    let alone = world.app_without_source(LEASE).await;
    let read = alone.store::<Payments>().get(&Payments::key(&payment_row(5, 6, ""))).await;
    assert_eq!(read.expect("read").expect("a row").transaction_reference.as_deref(), Some("after"));
    let resumed = completed(&world, &kept).await.expect("nothing is left to do");
    assert!(resumed.resumed && resumed.epoch == completion.epoch);
}

#[tokio::test]
async fn it_is_refused_before_dynamo_only_and_while_anything_differs() {
    let world = World::start().await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let refused = completed(&world, &Kept::default()).await.expect_err("PostgreSQL is the truth").to_string();
    assert!(
        refused.contains("phase is DynamoOnly") && refused.contains("advance --to DynamoOnly"),
        "{refused}"
    );
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);

    let world = dynamo_only().await;
    // The row goes past the feed, as an application's trigger could do it.
    world.sql("ALTER TABLE payments DISABLE TRIGGER USER; UPDATE payments SET loan_id = 39 WHERE payment_id = 3").await;
    let triggers = "ALTER TABLE payments ENABLE TRIGGER USER; ALTER TABLE payments ENABLE ALWAYS TRIGGER zz_lockstep_capture_payments; \
                    ALTER TABLE payments ENABLE ALWAYS TRIGGER zz_lockstep_truncate_payments";
    world.sql(triggers).await;
    // As if it had gone unnoticed that they were off.
    world
        .sql(
            "UPDATE lockstep.tables SET capture_mark = (SELECT string_agg(oid || ':' || xmin, ' ' ORDER BY tgname) FROM pg_trigger \
             WHERE tgrelid = 'payments'::regclass AND tgname LIKE 'zz_lockstep_%') WHERE name = 'payments'",
        )
        .await;
    // A window of days that the backfill once had is no reason to compare less than everything.
    let ahead =
        lockstep_core::Window { start: chrono::DateTime::from_timestamp(32_503_680_000, 0), end: None };
    let brief = ValidateOptions {
        settings: ValidateSettings {
            settle_timeout: Duration::from_millis(300),
            ..ValidateSettings::default()
        },
        window: ahead,
        ..options()
    };
    let refused = complete(&world.migration(), &brief, &Kept::default(), &(), &Cancel::new())
        .await
        .expect_err("they differ");
    assert!(
        matches!(&refused, CoordinatorError::Refused(_)) && refused.to_string().contains("last verdict"),
        "{refused}"
    );
    let record = world.control().record().await.expect("read").expect("a record");
    assert!(record.completed_at.is_none() && world.source.has_schema().await.expect("asked"));
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
}

/// 1. A role that may read the control schema has made a table with a column of a type of it. 2. The
/// migration is completed, the schema is dropped with what depends on it, and the column is gone, with
/// what was in it.
#[tokio::test]
async fn what_others_have_made_of_schema_lockstep_keeps_it_from_its_end() {
    let world = dynamo_only().await;
    for (made, named, dropped) in [
        ("CREATE TABLE kept (was lockstep.control)", "kept", "DROP TABLE kept"),
        ("CREATE VIEW seen AS SELECT phase FROM lockstep.control", "seen", "DROP VIEW seen"),
    ] {
        world.sql(made).await;
        let refused = completed(&world, &Kept::default()).await.expect_err("it would go").to_string();
        assert!(refused.contains("depends on Lockstep's schema") && refused.contains(named), "{refused}");
        let record = world.control().record().await.expect("read").expect("a record");
        assert!(record.completed_at.is_none(), "nothing was decided");
        world.sql(dropped).await;
    }
    completed(&world, &Kept::default()).await.expect("nothing else is in its way");
    is_left_whole(&world).await;
}

/// 1. The end takes the barrier, and then waits for a table that a script goes on writing. 2. The script
/// has the table, and waits in the trigger for the barrier. So the table comes first.
#[tokio::test]
async fn the_end_waits_for_tables_in_use_without_the_barrier() {
    let world = dynamo_only().await;
    let mut script = world.strangers().begin().await.expect("begun");
    sqlx::query("LOCK TABLE payments IN ROW EXCLUSIVE MODE").execute(&mut *script).await.expect("locked");
    let kept = Kept::default();
    let ends = completed(&world, &kept);
    let lets_go = async {
        let waits =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'payments'::regclass AND NOT granted
            AND mode = 'AccessExclusiveLock')";
        eventually("the end waits for the table", || async { world.value::<bool>(waits).await }).await;
        let barred = "SELECT EXISTS (SELECT FROM pg_locks b JOIN pg_locks t USING (pid)
            WHERE b.locktype = 'advisory' AND b.mode = 'ExclusiveLock' AND b.granted
                AND t.relation = 'payments'::regclass AND NOT t.granted)";
        assert!(!world.value::<bool>(barred).await, "a writer that has the table can have the barrier");
        script.rollback().await.expect("rolled back");
    };
    let (completed, ()) = tokio::join!(ends, lets_go);
    completed.expect("the end comes");
    is_left_whole(&world).await;
}

#[tokio::test]
async fn broken_off_anywhere_it_is_begun_again_or_comes_to_its_end() {
    let world = dynamo_only().await;
    let (migration, kept, options, cancel) = (world.migration(), Kept::default(), options(), Cancel::new());
    let completing = |polls| CutShort::after(polls, complete(&migration, &options, &kept, &(), &cancel));
    let decided = async || {
        let record = world.control().record().await.expect("read");
        record.is_some_and(|record| record.completed_at.is_some())
    };
    // A completion that is decided cannot come to its end as long as a session reads a table.
    let mut reading = world.source.pool().acquire().await.expect("a connection");
    sqlx::raw_sql("BEGIN; LOCK TABLE payments IN ACCESS SHARE MODE")
        .execute(&mut *reading)
        .await
        .expect("locked");
    let (mut before, mut polls) = (0, 1);
    while !decided().await {
        match completing(polls).await {
            // The one before is not quite gone.
            Some(Err(CoordinatorError::Store(error))) if error.kind == Kind::Busy => continue,
            Some(ended) => panic!("it ended while the table was read: {ended:?}"),
            None => before += 1,
        }
        polls += 1 + polls / 8;
    }
    sqlx::raw_sql("COMMIT").execute(&mut *reading).await.expect("unlocked");
    let (mut after, mut polls) = (0, 1);
    loop {
        match completing(polls).await {
            Some(Err(CoordinatorError::Store(error))) if error.kind == Kind::Busy => continue,
            Some(ended) => break drop(ended.expect("it ended well")),
            None => after += 1,
        }
        polls += 1 + polls / 8;
    }
    assert!(before > 3 && after > 3, "{before} times before the decision, {after} after it");
    is_left_whole(&world).await;
}

#[tokio::test]
async fn a_purge_takes_tombstones_of_before_and_nothing_else() {
    let world = dynamo_only().await;
    let app = lockstep::migration::Migration::connect(world.production(world.url(), LEASE))
        .await
        .expect("connects");
    let store = app.store::<Payments>();
    for id in 1..=10 {
        store.delete(id).await.expect("deleted");
    }
    let dead = async || {
        let items = world.items(PAYMENTS).await;
        let dead = items.into_iter().filter(is_tombstone);
        dead.map(|item| item.get("ttl").and_then(|ttl| ttl.as_n().ok()?.parse().ok())).collect::<Vec<_>>()
    };
    assert_eq!(dead().await, [None::<i64>; 10], "V17: none of before the completion goes by itself");
    let (migration, progress) = (world.migration(), PurgeProgress::default());
    let of = |what| PurgeOptions { what, writes_per_s_max: None };
    let early = purge(&migration, of(Purge::Tombstones), &progress, &Cancel::new())
        .await
        .expect_err("not complete")
        .to_string();
    assert!(early.contains("not complete"), "{early}");
    let last = completed(&world, &Kept::default()).await.expect("both stores hold the same").epoch;
    // The item that it deletes before it knows is of before as well.
    lockstep_tests::world::eventually("the application is in the last epoch", || async {
        store.update(12, |_| ()).await.expect("written").control.epoch >= last
    })
    .await;
    store.delete(11).await.expect("deleted");
    let mut lifetime = tokio::time::interval(Duration::from_millis(50));
    let purged = loop {
        lifetime.tick().await;
        match purge(&migration, of(Purge::Tombstones), &progress, &Cancel::new()).await {
            // `request_lifetime` of this world is two seconds.
            Err(CoordinatorError::Store(error)) if error.message.contains("could still arrive") => {}
            done => break done.expect("purged"),
        }
    };
    assert_eq!(purged.iter().map(|table| table.purged).sum::<u64>(), 10, "{purged:?}");
    let tombstones = world.items(PAYMENTS).await.iter().filter(|item| is_tombstone(item)).count();
    assert_eq!((tombstones, world.live_items(PAYMENTS).await), (1, 29), "the one of after stays");
    let [Some(goes_at_s)] = dead().await[..] else { panic!("V17: it has an expiry") };
    let in_days = (goes_at_s - chrono::Utc::now().timestamp()) / 86_400;
    assert!((89..=90).contains(&in_days), "long after every request that it outranks: {in_days}");
    let ttl = world.plain_target.client().describe_time_to_live().table_name(PAYMENTS).send().await;
    let ttl = ttl.expect("asked").time_to_live_description.expect("said");
    assert_eq!(
        ttl.time_to_live_status.expect("a status").as_str(),
        "ENABLED",
        "payments never expire themselves"
    );
    let needed = purge(&migration, of(Purge::Versions), &progress, &Cancel::new())
        .await
        .expect_err("an application lives")
        .to_string();
    assert!(needed.contains("need the versions"), "{needed}");
    app.shutdown().await;
    // Broken off, and gone on with.
    let cancelled = Cancel::new();
    cancelled.cancel();
    let stopped = purge(&migration, of(Purge::Versions), &progress, &cancelled).await;
    assert!(matches!(stopped, Err(CoordinatorError::Interrupted)), "{stopped:?}");
    purge(&migration, of(Purge::Versions), &progress, &Cancel::new()).await.expect("purged");
    for table in [LOGS, PAYMENTS] {
        let items = world.items(table).await;
        let live: Vec<_> = items.iter().filter(|item| !is_tombstone(item)).collect();
        assert!(
            !live.is_empty()
                && live.iter().all(|item| version_of(item).is_none() && !item.contains_key("_w"))
        );
    }
}

#[tokio::test]
async fn source_tables_are_dropped_only_after_the_end_behind_their_guard_and_with_a_backup() {
    let world = dynamo_only().await;
    let migration = world.migration();
    let yes = async || Ok::<_, String>("it is there".to_owned());
    let early =
        drop_source(&migration, yes, Unprotected::Known, &()).await.expect_err("not complete").to_string();
    assert!(early.contains("`complete` comes first"), "{early}");
    completed(&world, &Kept::default()).await.expect("both stores hold the same");
    let known = Unprotected::Known;
    let none = drop_source(&migration, async || Err("no backup since Tuesday".to_owned()), known, &())
        .await
        .expect_err("no backup")
        .to_string();
    assert!(none.contains("no backup since Tuesday") && none.contains("nothing was dropped"), "{none}");
    assert_eq!((world.count(PAYMENTS).await, world.count(LOGS).await), (40, 40));

    // Nothing says that what is left can be restored, and one call deletes it.
    let mut protecting = world.migration();
    for (deletion_protection, says) in [(false, "one call deletes it"), (true, "does not say that it can be")]
    {
        let options = TargetOptions { deletion_protection, ..world.target_options() };
        protecting.target = Target::connect(options).await;
        let said = drop_source(&protecting, yes, Unprotected::Refused, &()).await.expect_err("unprotected");
        let said = said.to_string();
        let control = world.target.control();
        for table in [LOGS, PAYMENTS, control.table()] {
            assert!(said.contains(&format!("{table}: ")), "{said}");
            let is_protected = world.target.protection(table).await.expect("described").deletion;
            assert_eq!(is_protected, deletion_protection, "{table} is protected as configured, first");
        }
        assert!(said.contains(says) && said.contains("nothing was dropped"), "{said}");
        assert_eq!(said.contains("one call deletes it"), !deletion_protection, "{said}");
    }
    assert_eq!((world.count(PAYMENTS).await, world.count(LOGS).await), (40, 40));
    let refusals: i64 = world
        .value(
            "SELECT count(*) FROM lockstep_archive.journal WHERE kind = 'refused' AND detail ? 'unprotected'",
        )
        .await;
    assert_eq!(refusals, 2, "each refusal is kept");

    // An operator has put another table in the place of one.
    world.sql("ALTER TABLE payments RENAME TO kept; CREATE TABLE payments (payment_id bigint)").await;
    let another = drop_source(&migration, yes, Unprotected::Known, &())
        .await
        .expect_err("it is another table")
        .to_string();
    assert!(another.contains("it does not carry the guard"), "{another}");
    world.sql("DROP TABLE payments; ALTER TABLE kept RENAME TO payments").await;
    let dropped = drop_source(&migration, yes, Unprotected::Known, &()).await.expect("dropped");
    assert_eq!(
        (dropped.dropped, dropped.gone),
        (vec!["public.payments".to_owned()], vec!["public.integration_logs".to_owned()])
    );
    let again = drop_source(&migration, yes, Unprotected::Known, &()).await.expect("nothing is left");
    assert_eq!((again.dropped.len(), again.gone.len()), (0, 2));
    let journal: i64 = world
        .value("SELECT count(*) FROM lockstep_archive.journal WHERE step = 'backup check' AND detail ->> 'said' = 'it is there'")
        .await;
    assert_eq!(journal, 3, "what the check said is kept");
    assert_eq!(world.live_items(PAYMENTS).await, 40);
}

#[tokio::test]
async fn the_commands_ask_refuse_and_come_to_the_end() {
    use super::process::{command, ended};
    let early = World::start().await;
    early.migrated_to(Phase::DualWrite).await.close().await;
    let world = dynamo_only().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("end.jsonl");
    let file = file.to_str().expect("a plain name");
    let code = async |world: &World, check: Option<&str>, arguments: &[&str]| {
        let mut command = command(world, arguments);
        command.env("LOCKSTEP_CLEANUP__BACKUP_CHECK", check.unwrap_or_default());
        let output = ended(command).await;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code(), said)
    };
    let complete = ["complete", "--yes", "--journal", file];
    let drop = ["cleanup", "--drop-source", "--yes"];
    let drop_knowing = [&drop[..], &["--i-know-that-the-target-is-unprotected"]].concat();
    for (world, check, arguments, expected, says) in [
        (&early, None, &complete[..], 3, "phase is DynamoOnly"),
        (&world, None, &["complete"], 2, "say --yes"),
        (&world, None, &drop, 2, "cleanup.backup_check is not set"),
        (&world, Some("exit 0"), &drop, 3, "`complete` comes first"),
        (&world, None, &complete, 0, "The migration is complete"),
        (&world, None, &complete, 0, "The migration is complete"),
        (&world, None, &["status"], 0, "Complete since"),
        (&world, None, &["doctor"], 0, "Complete since"),
        (&world, None, &["rollback"], 3, "the migration is complete since"),
        (&world, Some("exit 0"), &drop, 3, "--i-know-that-the-target-is-unprotected"),
        (&world, Some("echo none since Tuesday; exit 1"), &drop_knowing, 3, "none since Tuesday"),
        (
            &world,
            Some("echo all there"),
            &drop_knowing,
            0,
            "Dropped: public.integration_logs, public.payments",
        ),
    ] {
        let (code, said) = code(world, check, arguments).await;
        assert!(code == Some(expected) && said.contains(says), "{arguments:?} ended with {code:?}: {said}");
    }
    let journal = std::fs::read_to_string(file).expect("the journal is a file");
    assert!(journal.lines().next().is_some_and(|head| head.contains("lockstep journal")), "{journal}");
    assert!(
        journal.lines().last().is_some_and(|last| last.contains("\"done\"") && last.contains("\"complete\"")),
        "{journal}"
    );
}

/// 1. The migration is complete, and a new build has a column more. 2. It puts a row, beside an old build. 3.
/// The old one updates it: what it does not know was gone from every store.
#[tokio::test]
async fn an_older_build_leaves_what_a_newer_one_has_written_once_the_migration_is_complete() {
    let world = dynamo_only().await;
    let app = lockstep::migration::Migration::connect(world.production(world.url(), LEASE))
        .await
        .expect("connects");
    let store = app.store::<Payments>();
    let newer = async |id: i64| {
        let key =
            Payments::default().target_key(&Payments::key(&payment_row(id, 1 + id, ""))).expect("a key");
        let sent = world.plain_target.client().update_item().table_name(PAYMENTS);
        let sent = sent
            .set_key(Some(key.to_attributes()))
            .update_expression("SET newer = :value")
            .expression_attribute_values(":value", lockstep_core::AttributeValue::S("kept".to_owned()));
        sent.send().await.expect("changed");
        key
    };
    let has = async |key: &lockstep_core::TargetKey| {
        let item = world.plain_target.get(PAYMENTS, key).await.expect("read").expect("an item");
        item.contains_key("newer")
    };
    store.put(&payment_row(5, 6, "before")).await.expect("written");
    let before = newer(5).await;
    store.update(5, |payment| payment.loan_id = 77).await.expect("written");
    assert!(!has(&before).await, "PostgreSQL has no such column, and would differ for ever");
    let epoch = completed(&world, &Kept::default()).await.expect("completed").epoch;
    // Until the application has heard of the end, it goes by what it knew.
    let heard = async || {
        store.put(&payment_row(6, 7, "before")).await.is_ok_and(|written| written.control.epoch >= epoch)
    };
    eventually("the application has heard of the end", heard).await;
    let after = newer(6).await;
    store.update(6, |payment| payment.loan_id = 78).await.expect("written");
    store.put(&payment_row(6, 7, "again")).await.expect("written");
    assert!(has(&after).await, "the column of the newer build is gone");
    let read = store.get(&Payments::key(&payment_row(6, 7, ""))).await.expect("read").expect("a row");
    assert_eq!(read.payment_id, 6);
}

/// Counts of a comparison: equal, accepted, unsettled, and dead letters.
type Counts = (u64, u64, u64, u64);

#[track_caller]
fn check((is_consistent, counts, reasons): (bool, Counts, String), expected: bool, of: Counts) {
    assert_eq!((is_consistent, counts), (expected, of), "{reasons}");
}

/// 1. PostgreSQL refuses an item, and an operator accepts that it stays without, as the gate asks. 2. The
/// last comparison found the two unequal, and would for ever: the migration had no end. And what was
/// accepted is one state of an item.
#[tokio::test]
async fn what_was_accepted_to_stay_behind_keeps_no_migration_from_its_end_and_nothing_else_is_excused() {
    let world = dynamo_only().await;
    let refuses = "ALTER TABLE payments ADD CONSTRAINT spoken CHECK (transaction_reference <> 'refused')";
    world.sql(refuses).await;
    let epoch = world.control().record().await.expect("read").expect("a record").epoch;
    let put = async |payment_id: i64, loan_id: i64| {
        let row = payment_row(payment_id, 1 + payment_id, "refused");
        let row = lockstep_payments::Payment { loan_id, ..row };
        world.put_item(&Payments::default(), &row, epoch).await
    };
    // Noted as its stream tells it, and read again since: a feed that begins may read an item before that.
    let noted = async |version: Version| {
        let tried = format!(
            "SELECT (SELECT count(*) FROM lockstep.reverse_again
                     WHERE tries > 1 AND acknowledged_at IS NULL) = 1
                 AND EXISTS (SELECT FROM lockstep.reverse_places WHERE version = {version})"
        );
        crate::riders::beside_a_feed(&world, async {
            eventually("it was tried", || world.value::<bool>(&tried)).await;
        })
        .await;
        world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
    };
    let accept = async || {
        lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "an operator").await.expect("accepted")
    };
    let compared = async || {
        let (tables, cancel) = (world.tables(), Cancel::new());
        let progress = lockstep_validator::ValidationProgress::new(&tables);
        // At rest, so that the counts have to agree as well.
        let options = ValidateOptions { quiescent: true, quality: false, ..options() };
        let (source, target) = (&world.source, &world.plain_target);
        let report =
            lockstep_validator::validate(source, target, &tables, &options, &progress, &cancel).await;
        let table = &report.tables[1];
        let counts = (table.equal, table.accepted, table.unsettled, table.dead_letters);
        (report.verdict.is_consistent(), counts, report.verdict.reasons().join("; "))
    };
    noted(put(7, 2).await).await;
    check(compared().await, false, (39, 0, 1, 1));
    assert_eq!(accept().await, 1);
    // It counts as a dead letter, and never as equal.
    check(compared().await, true, (39, 1, 0, 1));
    // Another state of it, before a feed knows, and then as the feed notes it.
    let another = put(7, 3).await;
    check(compared().await, false, (39, 0, 1, 1));
    noted(another).await;
    let refused = completed(&world, &Kept::default()).await.expect_err("not accepted").to_string();
    assert!(refused.contains("dead letters"), "{refused}");
    assert_eq!(accept().await, 1);
    // One without a row.
    noted(put(50, 2).await).await;
    check(compared().await, false, (39, 1, 1, 2));
    let refused = completed(&world, &Kept::default()).await.expect_err("not accepted").to_string();
    assert!(refused.contains("dead letters"), "{refused}");
    assert_eq!(accept().await, 1);
    check(compared().await, true, (39, 2, 0, 2));
    let completion = completed(&world, &Kept::default()).await.expect("what differs was accepted");
    let report = completion.report.expect("compared");
    assert_eq!((report.tables[1].dead_letters, report.accepted(), report.findings_total()), (2, 2, 0));
    assert!(completion.gates.is_some_and(|gates| gates.passed()));
}
