//! Many tables: what is asked inside a pause is asked of all of them at once, and so a pause does not grow
//! with their number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{
    FeedProgress, MigrationContext, Progress, RelayUntil, StepOutcome, keep_feeding, relay,
};
use lockstep_core::Phase;
use lockstep_postgres::{Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::{WorldOptions, backfill, eventually, within};
use lockstep_validator::{CancellationToken, ValidateOptions, validate};

use super::{bound, migration};

const FEW: usize = 2;
/// More wait for DynamoDB's bound on listing shards, ten a second, and not for what is asked here.
const MANY: usize = 14;

/// Begins the pause of a step to DynamoOnly: the barrier.
const BARRIER: &str = "pg_advisory_xact_lock(";
/// Comes right before the pause of the way back.
const BEFORE_STOP: &str = "INSERT INTO lockstep.target_epochs VALUES ($1) ON CONFLICT";

/// Asked again and again while something is waited for, or once the pause is over: how often is up to the
/// clock, or holds up no writer.
const NOT_COUNTED: [&str; 9] = [
    "SELECT s.shards, s.finished, s.markers",
    // The feed that stands by tries to take the place of the one that runs, over a new connection each time.
    "pg_try_advisory_lock(",
    "FROM pg_locks WHERE",
    "set_config(",
    "'transaction_read_only'",
    "-> 'contract'",
    "FROM lockstep.reverse_tables t",
    "pg_control_system()",
    "lockstep.history_marks",
];

/// Tables in a chain of foreign keys, each numbered by a sequence.
fn schema(tables: usize) -> (String, String) {
    let (mut sql, mut declared) = (String::new(), String::new());
    for n in 0..tables {
        let parent = n.saturating_sub(1);
        sql += &format!(
            "CREATE TABLE many_{n} (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL,
                 parent bigint REFERENCES many_{parent});
             INSERT INTO many_{n} (name) SELECT 'row ' || i FROM generate_series(1, 5) AS i;"
        );
        declared += &format!("[tables.many_{n}]\n");
    }
    (sql, declared)
}

struct Many {
    world: World,
    migration: MigrationContext,
    tables: usize,
}

impl Many {
    async fn of(tables: usize) -> Self {
        Self::with(tables, WorldOptions { source_proxied: true, ..WorldOptions::default() }).await
    }

    async fn with(tables: usize, options: WorldOptions) -> Self {
        let world = World::with(options).await;
        let (sql, declared) = schema(tables);
        world.sql(&sql).await;
        let tables_of_it = bound(&world, &declared).await.expect("the tables are bound");
        let mut migration = migration(&world, &tables_of_it);
        // How long a pause takes is a matter of the machine; what it asks is not.
        migration.options.steps.pause_max = Duration::from_secs(20);
        // No shard is split here, and a listing more is one less for what the step waits for.
        migration.options.reverse_feed.follow.list_every = Duration::from_secs(30);
        Self { world, migration, tables }
    }

    async fn relayed(&self) {
        let progress = Progress::new(&self.migration.tables);
        let relayed = relay(&self.migration, RelayUntil::Empty, &progress, &CancellationToken::new()).await;
        relayed.expect("relayed");
    }

    async fn validated(&self) {
        let options =
            ValidateOptions { quiescent: true, wait_for_pending: false, ..ValidateOptions::default() };
        let tables = &self.migration.tables;
        let progress = lockstep_validator::ValidationProgress::new(tables);
        let (source, target) = (&self.migration.source, &self.world.plain_target);
        let report = validate(source, target, tables, &options, &progress, &CancellationToken::new()).await;
        let epoch = source.control().await.expect("a phase").epoch;
        let json = serde_json::to_value(&report).expect("JSON");
        assert!(report.verdict.is_consistent(), "{json}");
        source.record_verdict(epoch, true, &json).await.expect("recorded");
    }

    /// Takes a step; what it has run since `from`.
    async fn step(&self, to: Phase, from: &str) -> (StepOutcome, BTreeMap<String, usize>) {
        self.relayed().await;
        self.validated().await;
        let coordinator = self.world.coordinator_of(self.migration.clone()).await;
        self.world.source_proxy().record();
        let taken = coordinator.step(to, None, &()).await.expect("nothing refuses");
        let run = self.world.source_proxy().recorded();
        coordinator.close().await;
        let begun = run.iter().position(|sql| sql.contains(from)).expect("it pauses");
        let mut counted = BTreeMap::new();
        for sql in
            run.into_iter().skip(begun).filter(|sql| !NOT_COUNTED.iter().any(|some| sql.contains(some)))
        {
            *counted.entry(sql).or_default() += 1;
        }
        (taken, counted)
    }

    /// There and back, with a feed of another process beside, whose statements are not counted; what was run
    /// in each pause.
    async fn there_and_back(&self) -> [BTreeMap<String, usize>; 2] {
        let coordinator = self.world.coordinator_of(self.migration.clone()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        backfill(&coordinator).await;
        coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses");
        coordinator.close().await;
        self.step_before_the_truth_moves().await;
        let past_the_proxy =
            SourceOptions { url: self.world.url().to_owned(), ..self.world.source_options() };
        let beside = Source::connect(&past_the_proxy).await.expect("the source answers");
        let (of_feed, stop) =
            (MigrationContext { source: beside, ..self.migration.clone() }, CancellationToken::new());
        let until = stop.clone();
        let feeding = tokio::spawn(async move {
            let progress = Arc::new(FeedProgress::new(&of_feed.tables));
            keep_feeding(&of_feed, &of_feed.options.reverse_feed, &progress, &until).await
        });
        let (there, of_there) = self.step(Phase::DynamoOnly, BARRIER).await;
        let (back, of_back) = self.step(Phase::HybridRead, BEFORE_STOP).await;
        stop.cancel();
        feeding.await.expect("the feed ends").expect("the feed ends well");
        for (way, taken) in [("there", there), ("back", back)] {
            println!("{} tables, {way}: {:?}", self.tables, taken.pause);
        }
        [of_there, of_back]
    }

    async fn step_before_the_truth_moves(&self) {
        self.relayed().await;
        self.validated().await;
        let coordinator = self.world.coordinator_of(self.migration.clone()).await;
        coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses");
        coordinator.close().await;
    }
}

/// With 14 tables the pause of the way back was missed on a busy machine, and with 68 that of the way there:
/// each table was asked some ten things, one after the other. In a pause no statement is run once a table.
#[tokio::test]
async fn many_tables_go_there_and_back_and_a_pause_asks_no_more_than_of_two() {
    let (few, many) = (Many::of(FEW).await, Many::of(MANY).await);
    let (of_few, of_many) = (few.there_and_back().await, many.there_and_back().await);
    for ((way, of_few), of_many) in ["there", "back"].into_iter().zip(of_few).zip(of_many) {
        let of_few = |sql: &String| of_few.get(sql).copied().unwrap_or(0);
        // The count of questions by the clock differs a little, that of questions about each table by the
        // number of tables.
        let grown: Vec<(&String, usize, usize)> = of_many
            .iter()
            .map(|(sql, times)| (sql, of_few(sql), *times))
            .filter(|(_, few, many)| *many >= few + (MANY - FEW) * 3 / 4)
            .collect();
        assert!(grown.is_empty(), "{way}: {grown:#?}");
        // Statements that name the tables have another text, and are one each.
        let new = of_many.keys().filter(|sql| of_few(sql) == 0).count();
        assert!(new < (MANY - FEW) / 2, "{way}: {new} statements that two tables do not need");
    }
}

/// Fifty tables are fed, and no process writes. Each noted every second that its shard had nothing, and asked
/// every two seconds, by four statements, what to read again: some 150 statements a second for nothing.
#[tokio::test]
async fn a_feed_that_has_nothing_to_do_notes_and_asks_of_all_tables_at_once() {
    const NOTES: usize = 4;
    let notes = |run: &[String]| {
        run.iter().filter(|sql| sql.contains("SKIP LOCKED") && sql.contains("empty_at")).count()
    };
    let many = Many::of(MANY).await;
    let coordinator = many.world.coordinator_of(many.migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.close().await;
    let (of_feed, stop) = (many.migration.clone(), CancellationToken::new());
    let until = stop.clone();
    let feeding = tokio::spawn(async move {
        let progress = Arc::new(FeedProgress::new(&of_feed.tables));
        keep_feeding(&of_feed, &of_feed.options.reverse_feed, &progress, &until).await
    });
    let proxy = many.world.source_proxy();
    let all_known = async || {
        eventually("each shard is known", || async {
            many.world.count("lockstep.reverse_shards").await == MANY as i64
        })
        .await;
    };
    all_known().await;
    proxy.record();
    within(Duration::from_secs(20), proxy.until_run(|run| notes(run) >= NOTES)).await;
    let run = proxy.recorded();
    let mut counted: BTreeMap<&String, usize> = BTreeMap::new();
    for sql in &run {
        *counted.entry(sql).or_default() += 1;
    }
    // What each table does once as it begins may still be among them.
    counted.retain(|_, times| *times >= MANY * NOTES / 2);
    assert!(counted.is_empty(), "asked of each table by itself: {counted:#?}");

    let names: Vec<&str> = many.migration.tables.iter().map(|binding| binding.name()).collect();
    let standings = many.migration.source.reverse_standings(&names).await.expect("asked");
    let longest_s = standings.values().map(|standing| standing.lag_s).fold(0.0, f64::max);
    assert!(standings.len() == MANY && longest_s < 10.0, "each is noted as read a moment ago: {longest_s} s");
    // A shard that is not known any more is noted by itself, and is known again.
    many.world.sql("DELETE FROM lockstep.reverse_shards").await;
    all_known().await;
    stop.cancel();
    feeding.await.expect("the feed ends").expect("the feed ends well");
}

/// A relay goes through four tables at once. Where that many have a target that takes nothing, each gives way
/// after some seconds, and the others are delivered.
#[tokio::test]
async fn more_tables_that_wait_than_are_gone_through_at_once_hold_up_no_other() {
    const HELD: usize = 5;
    let options = WorldOptions {
        proxied: true,
        // Else what was read would be too old first.
        request_lifetime: Duration::from_mins(1),
        ..WorldOptions::default()
    };
    let many = Many::with(HELD + 1, options).await;
    let coordinator = many.world.coordinator_of(many.migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.close().await;
    let proxy = many.world.proxy();
    for binding in &many.migration.tables[..HELD] {
        let rule = Rule::new(Fault::Throttle).on("PutItem").on("BatchExecuteStatement");
        proxy.script(rule.table(&binding.target_name));
        many.world.sql(&format!("UPDATE {} SET name = 'changed'", binding.name())).await;
    }
    let (of_relay, stop) = (many.migration.clone(), CancellationToken::new());
    let until = stop.clone();
    let relaying = tokio::spawn(async move {
        let progress = Progress::new(&of_relay.tables);
        relay(&of_relay, RelayUntil::Cancelled, &progress, &until).await
    });
    proxy.until(|counts| counts.injected(Fault::Throttle.kind()) > 50).await;
    let free = many.migration.tables[HELD].name();
    for round in 0..2 {
        many.world.sql(&format!("UPDATE {free} SET name = 'round {round}'")).await;
        eventually("the table whose target takes everything is delivered", || async {
            many.world.pending(free).await.is_empty()
        })
        .await;
    }
    proxy.clear();
    for binding in &many.migration.tables {
        eventually("every table is delivered", || async {
            many.world.pending(binding.name()).await.is_empty()
        })
        .await;
    }
    stop.cancel();
    relaying.await.expect("the relay ends").expect("the relay ends well");
}
