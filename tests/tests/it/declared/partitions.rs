//! Partitioned tables: rows are captured in whichever partition they are, a partition that comes is taken in,
//! and one that goes stops everything until an operator has said what its rows are.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{
    Coordinator, Diagnosis, FeedProgress, FeedUntil, MigrationContext, Observer, Progress, RelayUntil,
    Remedy, StateRepaired, examine, observe, relay, repair_state, reverse_feed,
};
use lockstep_core::Phase;
use lockstep_postgres::{CaptureState, Ending, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::{backfill, eventually, run, within};
use lockstep_validator::{CancellationToken, Report, ValidateOptions, ValidateSettings, validate};

use super::naive::disagreements;
use super::{bound, migration};

pub(super) const SCHEMA: &str = "
    CREATE TABLE events (id uuid, at timestamptz, kind text NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00');
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01 00:00+00') TO ('2026-03-01 00:00+00') PARTITION BY HASH (id);
    CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2026-03-01 00:00+00') TO ('2026-04-01 00:00+00');
    INSERT INTO events SELECT md5(i::text)::uuid, timestamptz '2026-01-01 00:00+00' + i * interval '20 hours', 'k' || i % 3, NULL
        FROM generate_series(1, 100) AS i";

/// A partition of April.
const APRIL: &str = "FOR VALUES FROM ('2026-04-01 00:00+00') TO ('2026-05-01 00:00+00')";

fn options() -> ValidateOptions {
    ValidateOptions {
        settings: ValidateSettings { settle_timeout: Duration::from_secs(5), ..ValidateSettings::default() },
        wait_for_pending: false,
        ..ValidateOptions::default()
    }
}

/// The stores of a table that is being moved.
pub(super) struct Moved {
    pub(super) world: World,
    pub(super) tables: Vec<TableBinding>,
    migration: MigrationContext,
}

impl Moved {
    /// With history copied, in a phase.
    pub(super) async fn to(phase: Phase) -> Self {
        Self::of(SCHEMA, "[tables.events]", phase).await
    }

    /// The same of any table.
    pub(super) async fn of(schema: &str, declared: &str, phase: Phase) -> Self {
        let world = World::start().await;
        world.sql(schema).await;
        let tables = bound(&world, declared).await.expect("the table is bound");
        Self::begun(world, tables, phase).await
    }

    /// The same of tables that are there.
    pub(super) async fn begun(world: World, tables: Vec<TableBinding>, phase: Phase) -> Self {
        let migration = migration(&world, &tables);
        let moved = Self { world, tables, migration };
        let coordinator = moved.coordinator().await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        backfill(&coordinator).await;
        coordinator.close().await;
        for to in Phase::ALL.into_iter().skip(1).take_while(|to| *to <= phase) {
            moved.step(to).await.expect("nothing refuses");
        }
        moved
    }

    /// The same stores, as a process that is started now knows them.
    pub(super) async fn started_again(self, declared: &str) -> Self {
        let tables = bound(&self.world, declared).await.expect("the table is bound");
        self.known_as(tables)
    }

    /// The same stores, as a build with these tables knows them.
    pub(super) fn known_as(self, tables: Vec<TableBinding>) -> Self {
        let migration = migration(&self.world, &tables);
        Self { tables, migration, ..self }
    }

    /// Columns of a table's key of which PostgreSQL takes several texts for one value, each with the cause.
    pub(super) async fn several_texts(&self, name: &str) -> Vec<(String, String)> {
        let binding = self.tables.iter().find(|binding| binding.name() == name).expect("it is moved");
        self.migration.source.keys_of_several_texts(binding).await.expect("the catalogue answers")
    }

    pub(super) async fn coordinator(&self) -> Coordinator {
        self.world.coordinator_of(self.migration.clone()).await
    }

    pub(super) async fn step(&self, to: Phase) -> Result<(), String> {
        if to == Phase::DynamoOnly {
            // Begun before the truth moves, as the step demands.
            self.feed().await;
        }
        if to > Phase::DualWrite && self.world.source.control().await.expect("a phase").phase < to {
            self.relayed().await?;
            self.compared(false).await;
        }
        let coordinator = self.coordinator().await;
        let stepped = coordinator.step(to, None, &()).await.map(drop).map_err(|error| error.to_string());
        coordinator.close().await;
        stepped
    }

    pub(super) async fn feed(&self) {
        let (progress, cancel) = (Arc::new(FeedProgress::new(&self.tables)), CancellationToken::new());
        let options = &self.migration.options.reverse_feed;
        let fed = reverse_feed(&self.migration, options, FeedUntil::Drained, &progress, &cancel).await;
        fed.expect("the feed ends well");
    }

    pub(super) async fn relayed(&self) -> Result<(), String> {
        let (progress, cancel) = (Progress::new(&self.tables), CancellationToken::new());
        let relayed = relay(&self.migration, RelayUntil::Empty, &progress, &cancel);
        within(Duration::from_mins(2), relayed).await.map(drop).map_err(|error| error.to_string())
    }

    /// Validates as the command does: begins a pass, compares, records.
    pub(super) async fn compared(&self, incremental: bool) -> Report {
        let MigrationContext { source, target, .. } = &self.migration;
        let pass = lockstep_validator::begin(source).await.expect("a pass begins");
        let options = ValidateOptions { pass, incremental, ..options() };
        let progress = lockstep_validator::ValidationProgress::new(&self.tables);
        let report =
            validate(source, target, &self.tables, &options, &progress, &CancellationToken::new()).await;
        lockstep_validator::record(source, target, &self.tables, &report).await.expect("recorded");
        let epoch = source.control().await.expect("a phase").epoch;
        let json = serde_json::to_value(&report).expect("a report is JSON");
        source.record_verdict(epoch, report.verdict.is_consistent(), &json).await.expect("recorded");
        report
    }

    pub(super) async fn diagnosis(&self) -> Diagnosis {
        examine(&observe(&self.world.source, &self.world.plain_target, &self.tables).await.expect("observed"))
    }

    pub(super) async fn mended(&self) -> Result<StateRepaired, String> {
        self.mended_until(&(), &CancellationToken::new()).await
    }

    pub(super) async fn mended_until(
        &self,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<StateRepaired, String> {
        let options = options();
        let mending = repair_state(&self.migration, &options, observer, cancel);
        within(Duration::from_mins(3), mending).await.map_err(|error| error.to_string())
    }

    /// Both stores hold the same, by the naive checker and by the validator.
    pub(super) async fn converges(&self) {
        self.relayed().await.expect("the relay ends well");
        assert_eq!(disagreements(&self.world, "events", "events", &[]).await, [] as [String; 0]);
        let report = self.compared(false).await;
        assert!(report.verdict.is_consistent(), "{report:#?}");
        // A pass that was made in DynamoOnly is no base.
        if self.world.source.control().await.expect("a phase").phase != Phase::DynamoOnly {
            let report = self.compared(true).await;
            assert!(report.verdict.is_consistent(), "incremental: {report:#?}");
        }
    }

    /// Everything that would go on refuses, in these words, and no verdict is consistent.
    pub(super) async fn stands_still(&self, words: &str) {
        let relayed = self.relayed().await.expect_err("the relay stands still");
        assert!(relayed.contains(words), "{relayed}");
        let coordinator = self.coordinator().await;
        let stepped = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("refused").to_string();
        coordinator.close().await;
        assert!(stepped.contains(words), "{stepped}");
        for incremental in [true, false] {
            let report = self.compared(incremental).await;
            assert!(!report.verdict.is_consistent(), "I11, incremental {incremental}: {report:#?}");
        }
    }
}

#[tokio::test]
async fn rows_are_captured_in_every_partition_and_by_whichever_name_they_are_written() {
    let moved = Moved::to(Phase::DualWrite).await;
    let world = &moved.world;
    for write in [
        "INSERT INTO events VALUES (md5('new')::uuid, '2026-01-05 00:00+00', 'new')",
        "INSERT INTO events_2a SELECT id, at + interval '1 s', 'directly' FROM events_2a LIMIT 3",
        // They move, and their old keys are gone.
        "UPDATE events SET at = '2026-03-03 00:00+00' WHERE at < '2026-01-20 00:00+00'",
        "UPDATE events_3 SET note = 'x'",
        "DELETE FROM events_2b WHERE kind = 'k1'",
        // A session whose ordinary triggers do not fire.
        "SET session_replication_role = replica; UPDATE events SET note = 'y' WHERE kind = 'k2'; RESET session_replication_role",
        // A partition that comes is captured before it takes a row.
        &format!(
            "CREATE TABLE events_4 PARTITION OF events {APRIL}; INSERT INTO events SELECT id, '2026-04-02', 'k' FROM events_1"
        ),
        "CREATE TABLE events_rest PARTITION OF events DEFAULT; INSERT INTO events_rest VALUES (md5('r')::uuid, '2030-01-01', 'rest')",
    ] {
        world.sql(write).await;
        moved.converges().await;
    }
    for table in ["events", "events_1", "events_2", "events_2a", "events_4", "events_rest"] {
        let refused = world.try_sql(&format!("TRUNCATE {table}")).await.expect_err("refused").to_string();
        assert!(refused.contains("TRUNCATE of"), "{table}: {refused}");
    }
    assert!(moved.diagnosis().await.sound);
    moved.step(Phase::HybridRead).await.expect("nothing refuses");
    world
        .sql("CREATE TABLE events_0 PARTITION OF events FOR VALUES FROM ('2025-12-01') TO ('2025-12-31')")
        .await;
    moved.step(Phase::DynamoOnly).await.expect("a partition that comes holds up no step");
    let frozen =
        world.try_sql("UPDATE events_4 SET note = 'z'").await.expect_err("DynamoDB is the truth").to_string();
    assert!(frozen.contains("lockstep: "), "{frozen}");
    world
        .sql("CREATE TABLE events_9 PARTITION OF events FOR VALUES FROM ('2026-09-01') TO ('2026-10-01')")
        .await;
    moved.step(Phase::HybridRead).await.expect("nor the way back");
    moved.converges().await;
}

#[tokio::test]
async fn a_partition_that_goes_stops_everything_until_an_operator_says_that_its_rows_are_deleted() {
    for goes in [
        "ALTER TABLE events DETACH PARTITION events_1",
        "DROP TABLE events_1",
        "ALTER TABLE events DETACH PARTITION events_2",
        "DROP TABLE events_2a",
        // There again, and rows of it went meanwhile.
        "ALTER TABLE events DETACH PARTITION events_3; DELETE FROM events_3 WHERE kind = 'k1'; ALTER TABLE events ATTACH PARTITION events_3
         FOR VALUES FROM ('2026-03-01 00:00+00') TO ('2026-04-01 00:00+00')",
    ] {
        let moved = Moved::to(Phase::DualWrite).await;
        assert!(moved.compared(false).await.verdict.is_consistent());
        moved.world.sql(goes).await;
        let at = if goes.contains("events_1") { "2026-03-02" } else { "2026-01-02" };
        moved.world.sql(&format!("INSERT INTO events VALUES (md5('n')::uuid, '{at} 00:00+00', 'meanwhile')")).await;
        moved.stands_still("repair --state").await;
        let found = moved.diagnosis().await;
        let remedy = Some(Remedy::TakePartitions { table: "events".to_owned() });
        assert!(!found.sound && found.findings.iter().any(|finding| finding.remedy == remedy), "{goes}: {found:?}");
        let mended = moved.mended().await.expect("mended");
        assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{goes}: {mended:?}");
        moved.converges().await;
        moved.step(Phase::HybridRead).await.expect("nothing refuses");
    }
}

#[tokio::test]
async fn a_partition_that_was_detached_is_a_table_of_its_own_again() {
    let moved = Moved::to(Phase::DualWrite).await;
    moved.world.sql("ALTER TABLE events DETACH PARTITION events_1").await;
    moved.mended().await.expect("mended");
    moved.relayed().await.expect("the relay ends well");
    moved.world.sql("DELETE FROM events_1 WHERE kind = 'k0'").await;
    assert_eq!(
        moved.world.count("lockstep.pending WHERE table_name = 'events'").await,
        0,
        "it is captured no more"
    );
    moved.world.sql("TRUNCATE events_1").await;
    moved.converges().await;
}

#[tokio::test]
async fn a_table_that_is_attached_with_rows_is_copied() {
    let moved = Moved::to(Phase::HybridRead).await;
    let fill = "INSERT INTO events_4 SELECT md5('a' || i)::uuid, '2026-04-02', 'came with it' FROM generate_series(1, 2500) AS i";
    moved
        .world
        .sql(&format!(
            "CREATE TABLE events_4 (LIKE events INCLUDING ALL); {fill}; ALTER TABLE events ATTACH PARTITION events_4 {APRIL}"
        ))
        .await;
    // Before a relay has come: no incremental comparison overlooks them.
    let report = moved.compared(true).await;
    assert!(
        moved.world.count("lockstep.pending").await >= 2500 || !report.verdict.is_consistent(),
        "{report:#?}"
    );
    moved.converges().await;
    assert_eq!(moved.world.live_items("events").await, 2600);
    // In one transaction with what fills it.
    moved
        .world
        .sql(
            "BEGIN; CREATE TABLE events_5 (id uuid NOT NULL, at timestamptz NOT NULL, kind text NOT NULL, note text);
             INSERT INTO events_5 VALUES (md5('b')::uuid, '2026-05-02', 'x');
             ALTER TABLE events ATTACH PARTITION events_5 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); COMMIT",
        )
        .await;
    moved.converges().await;
    assert_eq!(moved.world.live_items("events").await, 2601);
}

#[tokio::test]
async fn a_partition_that_was_emptied_before_it_was_seen_is_noticed() {
    let moved = Moved::to(Phase::DualWrite).await;
    moved
        .world
        .sql(&format!("CREATE TABLE events_4 PARTITION OF events {APRIL}; INSERT INTO events VALUES (md5('a')::uuid, '2026-04-02', 'x')"))
        .await;
    moved.world.sql("TRUNCATE events_4").await;
    moved.stands_still("truncated or rewritten").await;
    moved.mended().await.expect("mended");
    moved.converges().await;
}

#[tokio::test]
async fn capture_that_is_off_in_one_partition_is_broken() {
    let moved = Moved::to(Phase::DualWrite).await;
    for off in [
        "ALTER TABLE events_1 DISABLE TRIGGER ALL; UPDATE events_1 SET note = 'unseen'; ALTER TABLE events_1 ENABLE TRIGGER ALL",
        "ALTER TABLE events_2a DISABLE TRIGGER zz_lockstep_truncate_events; TRUNCATE events_2a;
         ALTER TABLE events_2a ENABLE ALWAYS TRIGGER zz_lockstep_truncate_events",
        "DROP TRIGGER zz_lockstep_truncate_events ON events_3",
    ] {
        moved.world.sql(off).await;
        let state = moved.world.source.capture_state(&moved.tables[0]).await.expect("reads");
        assert!(matches!(&state, CaptureState::Broken(how) if how.contains("partition")), "{off}: {state:?}");
        let report = moved.compared(false).await;
        assert!(!report.verdict.is_consistent(), "{off}: {report:#?}");
        let mended = moved.mended().await.expect("mended");
        assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{off}: {mended:?}");
        moved.converges().await;
    }
}

#[tokio::test]
async fn in_dynamo_only_a_partition_that_came_with_rows_or_went_closes_the_way_back_until_it_is_mended() {
    let moved = Moved::to(Phase::DynamoOnly).await;
    let world = &moved.world;
    world
        .sql(&format!(
            "CREATE TABLE events_4 (LIKE events INCLUDING ALL); INSERT INTO events_4 VALUES (md5('stale')::uuid, '2026-04-02', 'x');
             ALTER TABLE events ATTACH PARTITION events_4 {APRIL}"
        ))
        .await;
    let refused = moved.step(Phase::HybridRead).await.expect_err("its row would be resurrected");
    assert!(refused.contains("events_4") && refused.contains("repair --state"), "{refused}");
    let refused = moved.mended().await.expect_err("DynamoDB is the truth, and has none of it");
    assert!(refused.contains("DETACH it"), "{refused}");
    world.sql("ALTER TABLE events DETACH PARTITION events_4").await;
    let mended = moved.mended().await.expect("mended");
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{mended:?}");

    // Rows of PostgreSQL go with it; DynamoDB has them, and they come back when there is a place for them.
    world.sql("DROP TABLE events_3").await;
    let refused = moved.step(Phase::HybridRead).await.expect_err("rows are missing");
    assert!(refused.contains("events_3"), "{refused}");
    world
        .sql("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2026-03-01 00:00+00') TO ('2026-04-01 00:00+00')")
        .await;
    let mended = moved.mended().await.expect("mended");
    assert!(mended.left.as_ref().is_some_and(|left| left.sound), "{mended:?}");
    moved.feed().await;
    moved.step(Phase::HybridRead).await.expect("the way back is open");
    assert_eq!(world.count("events").await, 100);
    moved.converges().await;
}

#[tokio::test]
async fn the_owner_of_a_table_goes_on_making_partitions_and_a_completed_one_is_guarded_in_each() {
    let moved = Moved::to(Phase::PostgresOnly).await;
    let world = &moved.world;
    let role = format!("{}_app", world.value::<String>("SELECT current_database()::text").await);
    world
        .sql(&format!(
            "CREATE ROLE {role} NOSUPERUSER; GRANT ALL ON SCHEMA public TO {role}; ALTER TABLE events OWNER TO {role}"
        ))
        .await;
    // Installed again, as a repair does it.
    let fingerprint = world.source.fingerprint(&moved.tables[0]).await.expect("reads");
    world.source.install_capture(&moved.tables[0], &fingerprint).await.expect("installed");
    world
        .sql(&format!("SET ROLE {role}; CREATE TABLE events_4 PARTITION OF events {APRIL}; RESET ROLE"))
        .await;
    world.sql("INSERT INTO events VALUES (md5('a')::uuid, '2026-04-02', 'x')").await;
    assert_eq!(world.count("lockstep.pending").await, 1);
    let epoch = world.source.control().await.expect("a phase").epoch;
    let ending = Ending {
        control_table: "control".to_owned(),
        epoch,
        actor: "test".to_owned(),
        journal_file: "memory".to_owned(),
    };
    let archived = world.source.archive(&moved.tables, &ending, Duration::from_secs(5)).await;
    archived.expect("archived");
    for write in [
        "DELETE FROM events_1",
        "INSERT INTO events_4 VALUES (md5('b')::uuid, '2026-04-02', 'x')",
        "TRUNCATE events_2a",
        "TRUNCATE events",
    ] {
        let refused = world.try_sql(write).await.expect_err("guarded").to_string();
        assert!(refused.contains("its migration is complete"), "{write}: {refused}");
    }
}

/// 1. A partition with many rows is attached, and one of them stays locked. 2. After each wait the marking
/// began with the first row again, and no table was relayed meanwhile.
#[tokio::test]
async fn a_partition_with_a_locked_row_is_taken_in_bit_by_bit_and_holds_up_no_other_table() {
    let schema = format!("{SCHEMA}; CREATE TABLE other (id bigint PRIMARY KEY, note text)");
    let moved = Moved::of(&schema, "[tables.events]\n[tables.other]", Phase::DualWrite).await;
    let world = &moved.world;
    world
        .sql(&format!(
            "CREATE TABLE events_4 (LIKE events INCLUDING ALL);
             INSERT INTO events_4 SELECT lpad(i::text, 32, '0')::uuid, '2026-04-02 00:00+00', 'k', NULL
                 FROM generate_series(1, 2500) AS i;
             ALTER TABLE events ATTACH PARTITION events_4 {APRIL}"
        ))
        .await;
    let mut holder = world.stranger().await;
    run(&mut holder, "BEGIN; SELECT FROM events_4 WHERE id = lpad('2300', 32, '0')::uuid FOR UPDATE").await;
    let (migration, stop) = (moved.migration.clone(), CancellationToken::new());
    let until = stop.clone();
    let relaying = tokio::spawn(async move {
        let progress = Progress::new(&migration.tables);
        relay(&migration, RelayUntil::Cancelled, &progress, &until).await
    });
    eventually("two thousand rows are marked", || async { world.pending("events").await.len() == 2_000 })
        .await;
    let marked = world.pending("events").await;
    for id in 0..4 {
        world.sql(&format!("INSERT INTO other VALUES ({id}, 'not held up')")).await;
        eventually("the other table is relayed", || async { world.pending("other").await.is_empty() }).await;
        assert_eq!(world.pending("events").await, marked, "rows are marked again");
    }
    run(&mut holder, "ROLLBACK").await;
    eventually("all of it is delivered", || async { world.pending("events").await.is_empty() }).await;
    stop.cancel();
    relaying.await.expect("the relay ends").expect("the relay ends well");
    assert_eq!(disagreements(world, "events", "events", &[]).await, [] as [String; 0]);
}
