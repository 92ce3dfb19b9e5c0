//! History by DynamoDB's import from S3 (R54): what is written, what the job makes of it, and what changes
//! meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lockstep_coordinator::{
    BackfillSummary, Coordinator, CoordinatorError, ImportOptions, LoadPathChoice, MigrationContext,
    Progress, RangesChoice, RelayUntil, relay,
};
use lockstep_core::{Kind, Phase};
use lockstep_dynamo::{LoadPath, Target, TargetOptions};
use lockstep_tests::faults::{ImportRules, ImportServer};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill};
use lockstep_tests::{World, WorldOptions};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A world whose DynamoDB imports; a bucket is a folder, and copying the parts is `cp`.
struct Importing {
    world: World,
    server: ImportServer,
    folder: TempDir,
    target: Target,
}

impl Importing {
    async fn start(rules: ImportRules) -> Self {
        Self::start_in(World::start().await, rules).await
    }

    async fn start_in(world: World, rules: ImportRules) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bucket = folder.path().join("bucket");
        let server = ImportServer::start(&world.target.address(), &bucket, rules).await.expect("it listens");
        let options = TargetOptions { endpoint_url: Some(server.endpoint_url()), ..world.target_options() };
        let target = Target::connect(options).await;
        Self { world, server, folder, target }
    }

    fn migration(&self) -> MigrationContext {
        let mut migration = MigrationContext { target: self.target.clone(), ..self.world.migration() };
        migration.options.backfill.load_path = LoadPathChoice::Import;
        let bucket = self.folder.path().join("bucket");
        let key = r#"key="${LOCKSTEP_TO#s3://bucket/}""#;
        let copy = format!(
            r#"{key}; rm -rf "{0}/$key" && mkdir -p "{0}/$key" && cp "$LOCKSTEP_FROM"* "{0}/$key""#,
            bucket.display()
        );
        migration.options.import = ImportOptions {
            folder: self.folder.path().join("parts"),
            s3: "s3://bucket/lockstep".to_owned(),
            part_bytes: 8 * 1024,
            upload: Some(copy),
            ..migration.options.import
        };
        migration
    }

    async fn prepared(&self) -> Coordinator {
        let coordinator = self.world.coordinator_of(self.migration()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        coordinator
    }

    async fn fails(&self, coordinator: &Coordinator) -> String {
        match coordinator.backfill(&CancellationToken::new()).await {
            Err(error @ CoordinatorError::ImportFailed { .. }) => error.to_string(),
            other => panic!("it ended with {other:?}"),
        }
    }
}

fn of<'a>(summaries: &'a [BackfillSummary], table: &str) -> &'a BackfillSummary {
    summaries.iter().find(|summary| summary.table == table).expect("it")
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn an_import_under_writers_ends_consistent_and_one_whose_answer_was_lost_is_begun_once() {
    let importing =
        Importing::start(ImportRules { looks: 20, lose_replies: 1, ..ImportRules::default() }).await;
    let world = &importing.world;
    world.sql(&logs(1, 400)).await;
    world.sql(&payments(1, 60)).await;
    let coordinator = importing.prepared().await;
    let (stop, written) = (CancellationToken::new(), AtomicBool::new(false));
    let relaying = async {
        let migration = importing.migration();
        let progress = Progress::new(&migration.tables);
        relay(&migration, RelayUntil::Cancelled, &progress, &stop).await.expect("it waits for the import")
    };
    let writing = async {
        for turn in 0_i64.. {
            if stop.is_cancelled() {
                break;
            }
            let n = turn % 60 + 1;
            world
                .sql(&format!("UPDATE integration_logs SET user_id = 'u{turn}' WHERE log_id % 60 = {n}"))
                .await;
            world.sql(&format!("DELETE FROM integration_logs WHERE log_id = {}", 2 * n)).await;
            world
                .sql(&format!("UPDATE payments SET payment_status = 'refunded' WHERE payment_id = {n}"))
                .await;
            written.store(true, Relaxed);
        }
    };
    let moving = async {
        let summaries = backfill(&coordinator).await;
        stop.cancel();
        summaries
    };
    let (_relayed, (), summaries) = tokio::join!(relaying, writing, moving);
    assert!(written.load(Relaxed));
    assert_eq!(importing.server.jobs(), 2, "one a table, though an answer was lost: {summaries:?}");
    assert_eq!(
        importing.server.too_early(),
        Vec::<String>::new(),
        "nothing came before the tables were there"
    );
    let logs_summary = of(&summaries, LOGS);
    assert_eq!(logs_summary.load_path, LoadPath::Import, "it was whole, so nothing was gone through again");
    assert!(files(&importing.folder.path().join("bucket")) > 10, "parts are sized");
    // A second run finds everything done, by whatever load path it is asked for.
    backfill(&coordinator).await;
    assert_eq!(importing.server.jobs(), 2);
    coordinator.step(Phase::DualWrite, None, &()).await.expect("history is there");
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn what_a_job_left_out_is_found_and_put_before_history_is_done() {
    // Half of the items, and of those every seventh is refused.
    let rules = ImportRules { refuses_every: 7, fails_after: Some(60), ..ImportRules::default() };
    let importing = Importing::start(rules).await;
    let world = &importing.world;
    world.sql(&logs(1, 120)).await;
    world.sql(&payments(1, 30)).await;
    world.sql("UPDATE payments SET transaction_reference = repeat('x', 500000) WHERE payment_id = 7").await;
    let coordinator = importing.prepared().await;
    let summaries = backfill(&coordinator).await;
    assert_eq!(of(&summaries, LOGS).load_path, LoadPath::Fill);
    let found: i64 = world
        .value("SELECT sum(rows_present)::bigint FROM lockstep.ranges WHERE table_name = 'integration_logs'")
        .await;
    let put: i64 = world
        .value("SELECT sum(rows_written)::bigint FROM lockstep.ranges WHERE table_name = 'integration_logs'")
        .await;
    assert_eq!((found, put), (52, 68), "what is there costs a read, and the rest a write");
    let outcome: String = world
        .value("SELECT outcome->>'failure' FROM lockstep.imports WHERE table_name = 'integration_logs'")
        .await;
    assert!(outcome.starts_with("InternalServerError"), "{outcome}");
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counted").0, 1, "400 KB is no item");
    assert_eq!(world.live_items(LOGS).await, 120);
    assert_eq!(world.live_items(PAYMENTS).await, 29);
    coordinator.close().await;
}

#[tokio::test]
async fn a_run_that_stops_anywhere_goes_on_and_no_step_is_taken_before_the_table_is_there() {
    let importing = Importing::start(ImportRules::default()).await;
    let world = &importing.world;
    world.sql(&logs(1, 200)).await;
    world.sql(&payments(1, 20)).await;
    // 1. The parts were not copied.
    let mut by_hand = importing.migration();
    by_hand.options.import.upload = None;
    by_hand.options.import.by_hand = true;
    let coordinator = world.coordinator_of(by_hand.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let why = importing.fails(&coordinator).await;
    assert!(why.contains("--uploaded") && why.contains("s3://bucket/lockstep/"), "{why}");
    let parts =
        "SELECT string_agg(table_name || name, ',' ORDER BY table_name, name) FROM lockstep.import_parts";
    let written: String = world.value(parts).await;
    let refused = coordinator.step(Phase::DualWrite, None, &()).await.expect_err("there is no table");
    assert!(refused.to_string().contains("an import is making the target table"), "{refused}");
    let busy = world.source.enable_relay(LOGS).await.expect_err("changes wait");
    assert!(busy.message.contains("an import is making its target table"), "{busy}");
    coordinator.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'later' WHERE log_id < 50").await;
    world.sql("DELETE FROM integration_logs WHERE log_id > 150").await;

    // 2. An operator says that they are there, and they are not: the job fails, and leaves nothing.
    by_hand.options.import.uploaded = true;
    let coordinator = world.coordinator_of(by_hand).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let why = importing.fails(&coordinator).await;
    assert!(why.contains("S3NoSuchKey") && why.contains("--load-path guarded"), "{why}");
    coordinator.close().await;
    let failed = importing.server.jobs();

    // 3. A file that a run that was killed left behind is no part, and is not imported.
    let data = std::fs::read_dir(importing.folder.path().join("parts")).expect("there").next();
    let data = data.expect("of this migration").expect("an entry").path().join(LOGS).join("data");
    std::fs::write(data.join("000000-9-000001.json.gz"), b"no part").expect("written");
    // 4. The job is asked for, and the process ends before it is over.
    importing.server.set(ImportRules { looks: u64::MAX, ..ImportRules::default() });
    let coordinator = importing.prepared().await;
    let cancel = CancellationToken::new();
    let stopped = async {
        while importing.server.jobs() == failed {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(coordinator.backfill(&cancel), stopped);
    assert!(matches!(ended, Err(CoordinatorError::Interrupted)), "{ended:?}");
    coordinator.close().await;
    let mut guarded = importing.migration();
    guarded.options.backfill.load_path = LoadPathChoice::Guarded;
    let coordinator = world.coordinator_of(guarded).await;
    let busy = coordinator.prepare(&()).await.expect_err("a job may be at work");
    assert!(busy.to_string().contains("cannot be called back"), "{busy}");
    coordinator.close().await;

    // 5. The next one waits for that job, by whatever load path it is asked for, and takes on what it made.
    importing.server.release();
    let mut auto = importing.migration();
    auto.options.backfill.load_path = LoadPathChoice::Auto;
    let coordinator = world.coordinator_of(auto).await;
    coordinator.prepare(&()).await.expect("its own table is in no one's way");
    let summaries = backfill(&coordinator).await;
    assert!(summaries.iter().all(|summary| summary.load_path == LoadPath::Import), "{summaries:?}");
    assert_eq!(world.value::<String>(parts).await, written, "no part was written twice");
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn only_a_new_table_is_imported_and_an_import_that_was_not_asked_for_can_be_given_up() {
    // Longer than a busy machine takes to look whether a call is still on its way.
    let options = WorldOptions { request_lifetime: Duration::from_secs(600), ..WorldOptions::default() };
    let importing = Importing::start_in(World::with(options).await, ImportRules::default()).await;
    let world = &importing.world;
    world.sql(&logs(1, 50)).await;
    let mut migration = importing.migration();
    migration.options.import.upload = Some("false".to_owned());
    migration.options.backfill.ranges = RangesChoice::Blocks;
    let of_blocks = async || {
        let ranges = world.source.ranges(LOGS).await.expect("ranges");
        ranges.iter().filter(|range| range.file.is_some()).count() == ranges.len()
    };
    // Empty tables have no part, and are made all the same.
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let why = importing.fails(&coordinator).await;
    assert!(why.contains("import.upload ended with"), "{why}");
    assert!(!of_blocks().await, "an import is of keys");
    coordinator.close().await;
    // 1. Another run notes its token, and ends before it asks. 2. One that was stopped before that wakes.
    let stale = world.source.import(LOGS).await.expect("read").expect("begun");
    let noted = "UPDATE lockstep.imports SET client_token = 'lost', state = 'importing', asked_at = now()
         WHERE table_name = 'integration_logs'";
    world.sql(noted).await;
    for token in [Some("mine"), None] {
        let fenced =
            world.source.note_import(LOGS, &stale, token, None).await.expect_err("another's is noted");
        assert_eq!(fenced.kind, Kind::Fenced, "{fenced}");
    }
    // 3. Its call may be on its way for as long as a signature holds. After that there is no job, as there is
    //    no table, and it can be given up.
    let mut guarded = migration.clone();
    guarded.options.backfill.load_path = LoadPathChoice::Guarded;
    // However late this comes, it is within: a time that lies ahead counts as of when it is looked at.
    world.sql("UPDATE lockstep.imports SET asked_at = clock_timestamp() + interval '1 day'").await;
    let coordinator = world.coordinator_of(guarded).await;
    let busy = coordinator.prepare(&()).await.expect_err("a call may be on its way");
    assert!(busy.to_string().contains("can still arrive"), "{busy}");
    coordinator.close().await;
    world.sql("UPDATE lockstep.imports SET asked_at = asked_at - interval '1 day'").await;
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.restart_backfill().await.expect("there is no job to wait for");
    let begun = world.source.import(LOGS).await.expect("read").expect("begun again");
    assert_eq!((begun.state.as_str(), begun.client_token), ("writing", None));
    assert_ne!(begun.prefix, stale.prefix, "no object of before counts for its job");
    coordinator.close().await;
    // A table of that name appears: an import would fail, and is not begun.
    let there = world.logs_table();
    world.target.create(LOGS, &there.table.target(), false).await.expect("made by another program");
    let coordinator = world.coordinator_of(migration.clone()).await;
    let refused = coordinator.prepare(&()).await.expect_err("it is there");
    assert!(refused.to_string().contains("an import makes a new table only"), "{refused}");
    coordinator.close().await;
    migration.options.backfill.load_path = LoadPathChoice::Guarded;
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("it is empty, and is adopted");
    let summaries = backfill(&coordinator).await;
    assert_eq!(of(&summaries, LOGS).load_path, LoadPath::GuardedBatch);
    assert_eq!((of(&summaries, LOGS).rows_written, importing.server.jobs()), (50, 0));
    assert!(of_blocks().await, "and writes need not be");
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_plan_that_is_made_again_while_a_job_is_at_work_waits_for_its_table() {
    let rules =
        ImportRules { looks: u64::MAX, lose_replies: 1, denies_lists: true, ..ImportRules::default() };
    let importing = Importing::start(rules).await;
    let world = &importing.world;
    world.sql(&logs(1, 60)).await;
    let coordinator = importing.prepared().await;
    // 1. The job is begun, its answer is lost, and to look for it is refused: it is not forgotten.
    let why = importing.fails(&coordinator).await;
    assert!(why.contains("ListImports"), "{why}");
    // 2. No step is forced while the table is being made: what is acknowledged in it could go with it.
    let refused = coordinator.step(Phase::DualWrite, Some("at once"), &()).await.expect_err("no table yet");
    assert!(matches!(refused, CoordinatorError::Refused(_)), "{refused}");
    // 3. The plan is made again. No part can go into that job any more, so the ranges wait for its table.
    coordinator.restart_backfill().await.expect("the job goes on");
    importing.server.set(ImportRules::default());
    importing.server.release();
    let summaries = backfill(&coordinator).await;
    let of_logs = of(&summaries, LOGS);
    assert_eq!((of_logs.load_path, importing.server.jobs()), (LoadPath::Fill, 1), "{summaries:?}");
    assert_eq!((of_logs.rows_present, of_logs.rows_written), (60, 0), "the job had put them");
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_bucket_of_another_account_is_not_imported_from() {
    let importing = Importing::start(ImportRules::default()).await;
    importing.world.sql(&logs(1, 5)).await;
    let mut migration = importing.migration();
    migration.options.import.bucket_owner = Some("111111111111".to_owned());
    let coordinator = importing.world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let why = importing.fails(&coordinator).await;
    assert!(why.contains("bucket is not"), "{why}");
    coordinator.close().await;
    let coordinator = importing.world.coordinator_of(importing.migration()).await;
    coordinator.backfill(&CancellationToken::new()).await.expect("of the account of the tables");
    coordinator.close().await;
}
