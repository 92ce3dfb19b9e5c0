//! Instances: processes that are stopped, killed or cut off serve by no phase that is over, and hold no step
//! up for longer than a lease.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lockstep::instance::{Instance, InstanceOptions, LEASE_MAX};
use lockstep::store::Store;
use lockstep_coordinator::{InstanceEnd, StepOutcome};
use lockstep_core::{InstanceState, Kind, Phase};
use lockstep_postgres::{flip_phase, take_exclusive};
use lockstep_tests::world::rows::{log, log_key};
use lockstep_tests::world::{Notes, eventually, within};
use lockstep_tests::{World, worker};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longer than a machine under load stands still, as a worker that gets no time lets its lease go.
pub(crate) const LEASE: Duration = Duration::from_secs(4);

/// A process with a store under an instance, and the role that it logs in as.
pub(crate) struct Worker {
    id: i64,
    child: Child,
    role: String,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub(crate) async fn start(world: &World, name: &str) -> Self {
        Self::leased(world, name, LEASE).await
    }

    pub(crate) async fn leased(world: &World, name: &str, lease: Duration) -> Self {
        let database: String = world.value("SELECT current_database()::text").await;
        let role = format!("{database}_{name}");
        // Roles are the cluster's: each worker has its own, so that it can be locked out.
        world.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'worker'")).await;
        let (_, place) = world.url().split_once('@').expect("a URL with a password");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
            .args([worker::ARGUMENT, name, &lease.as_millis().to_string()])
            .env("LOCKSTEP_SOURCE__URL", format!("postgres://{role}:worker@{place}"))
            .env("LOCKSTEP_TARGET__ENDPOINT_URL", world.plain_target.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the worker starts");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut worker = Self { id: 0, child, role, stdin, stdout };
        worker.id = worker.answer().await["id"].as_i64().expect("it says its id");
        worker
    }

    async fn three(world: &World) -> [Self; 3] {
        let (a, b, c) =
            tokio::join!(Self::start(world, "a"), Self::start(world, "b"), Self::start(world, "c"));
        [a, b, c]
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
    }

    pub(crate) async fn answer(&mut self) -> Value {
        let line = within(Duration::from_mins(3), self.stdout.next_line())
            .await
            .expect("readable")
            .expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    pub(crate) async fn ask(&mut self, line: &str) -> Value {
        self.tell(line).await;
        self.answer().await
    }

    /// Asks until the answer is `expected`.
    pub(crate) async fn ask_until(&mut self, line: &str, expected: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.ask(line).await;
            if expected(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{line}: {answer}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let done = Command::new("kill").args([signal, &pid]).status().await.expect("kill runs");
        assert!(done.success(), "kill {signal} {pid}");
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("SIGKILL");
    }

    /// Cuts it off: it gets no new connection, and loses the ones whose last statement is like `pattern`.
    async fn lock_out(&self, world: &World, pattern: &str) {
        world.sql(&format!("ALTER ROLE {} NOLOGIN", self.role)).await;
        let Self { role, .. } = self;
        let gone = format!(
            "NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = '{role}' AND query ILIKE '{pattern}')"
        );
        eventually("its sessions are gone", || async {
            world
                .sql(&format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}' AND query ILIKE '{pattern}'"
                ))
                .await;
            world.try_value(&format!("SELECT {gone}")).await.unwrap_or(false)
        })
        .await;
    }

    async fn let_in(&self, world: &World) {
        world.sql(&format!("ALTER ROLE {} LOGIN", self.role)).await;
    }
}

#[track_caller]
fn end_of(outcome: &StepOutcome, worker: &Worker) -> (InstanceEnd, Duration) {
    let wait = outcome.instances.iter().find(|wait| wait.id == worker.id);
    let wait = wait.unwrap_or_else(|| panic!("{} was not waited for: {:?}", worker.id, outcome.instances));
    (wait.end, Duration::from_millis(wait.waited_ms))
}

#[track_caller]
fn refused(answer: &Value) {
    let error = answer["error"].as_str().unwrap_or_else(|| panic!("it was served: {answer}"));
    assert!(error.starts_with("Fenced") && error.contains("answers again"), "{error}");
}

#[tokio::test]
async fn a_process_stopped_across_two_steps_is_refused_when_it_wakes_and_recovers_by_itself() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    let [mut a, mut b, mut c] = Worker::three(&world).await;
    a.ask("write 1 old").await;
    assert_eq!(a.ask("read 1").await, json!({ "user_id": "old" }), "from the target");
    a.signal("-STOP").await;
    let first = coordinator.step(Phase::DualWrite, None, &()).await.expect("it waits, and goes on");
    assert_eq!(end_of(&first, &a).0, InstanceEnd::LeaseOver);
    assert_eq!([end_of(&first, &b).0, end_of(&first, &c).0], [InstanceEnd::Acknowledged; 2]);
    let second = coordinator.step(Phase::PostgresOnly, None, &()).await.expect("nothing to wait for");
    assert!(
        second.instances.iter().all(|wait| wait.id != a.id),
        "it was given up once: {:?}",
        second.instances
    );
    world.sql("UPDATE integration_logs SET user_id = 'new' WHERE log_id = 1").await;

    // It wakes where it can reach the target and nothing else: what it knows says that the target may be
    // read.
    a.lock_out(&world, "%").await;
    a.tell("read 1").await;
    a.signal("-CONT").await;
    refused(&a.answer().await);
    a.let_in(&world).await;
    a.ask_until("read 1", |answer| answer["user_id"] == "new").await;
    assert_eq!(a.ask("phase").await["phase"], "PostgresOnly");
    for worker in [&mut b, &mut c] {
        assert_eq!(worker.ask("read 1").await, json!({ "user_id": "new" }), "no other instance was held up");
    }
    let rows = world.source.instances().await.expect("instances");
    assert!(rows.iter().all(|row| row.state == InstanceState::Live) && rows.len() == 3, "{rows:?}");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_stopped_process_writes_nothing_under_the_phase_that_it_knew() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    let [mut a, mut b, _c] = Worker::three(&world).await;
    assert_eq!(a.ask("write 1 before").await["phase"], "HybridRead");
    a.signal("-STOP").await;
    a.tell("write 2 after").await;
    for back in [Phase::DualWrite, Phase::PostgresOnly] {
        coordinator.step(back, None, &()).await.expect("it goes on");
    }
    let now = world.source.control().await.expect("a phase");
    a.signal("-CONT").await;
    assert_eq!(
        a.answer().await,
        json!({ "phase": "PostgresOnly", "epoch": now.epoch }),
        "I5: it asked behind the barrier"
    );
    assert_eq!(world.item(&world.logs_table(), &log_key(2, "a")).await, None, "it left the target alone");
    assert_eq!(b.ask("write 3 after").await["epoch"], json!(now.epoch));
    let stale: i64 = world
        .value("SELECT count(*) FROM lockstep.pending WHERE key->>0 IN ('2', '3') AND version >> 40 <> (SELECT epoch FROM lockstep.control)")
        .await;
    assert_eq!(stale, 0, "I2: no version of an older epoch");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_killed_process_is_waited_for_one_lease_once_and_by_name() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let [mut a, b, mut c] = Worker::three(&world).await;
    let pid = a.child.id().expect("it runs").to_string();
    a.child.kill().await.expect("SIGKILL");
    let notes = Notes::default();
    let outcome = coordinator.step(Phase::PostgresOnly, None, &notes).await.expect("it waits, and goes on");
    let (end, waited) = end_of(&outcome, &a);
    assert_eq!(end, InstanceEnd::LeaseOver);
    assert!(waited >= LEASE, "I6: not before its lease is over: {waited:?}");
    assert_eq!(end_of(&outcome, &b).0, InstanceEnd::Acknowledged);
    let said = notes.all().join("\n");
    assert!(
        said.contains("waiting for instance a (host")
            && said.contains(&pid)
            && said.contains(&format!("its lease of {} ms", LEASE.as_millis())),
        "{said}"
    );
    assert!(!said.contains("instance b") && !said.contains("instance c"), "no step waits for them: {said}");

    let second = coordinator.step(Phase::DualWrite, None, &()).await.expect("no instance to wait for");
    assert!(
        second.instances.iter().all(|wait| wait.id != a.id),
        "it was given up once: {:?}",
        second.instances
    );
    // One that ends as it should is not waited for at all.
    drop(c.stdin);
    assert!(c.child.wait().await.expect("it ends").success());
    let status =
        lockstep_coordinator::status(&world.source, &world.target, &world.tables()).await.expect("status");
    let listed: Vec<_> = status.instances.iter().map(|row| (row.name.as_str(), row.state)).collect();
    assert_eq!(listed, [("b", InstanceState::Live), ("a", InstanceState::Expired)]);
    let b_row = &status.instances[0];
    assert_eq!(
        (b_row.epoch, b_row.pid),
        (status.epoch.map(|epoch| epoch.0), i64::from(b.child.id().expect("it runs")))
    );
    assert!(b_row.lease_left_ms > 0 && b_row.lease_left_ms <= b_row.lease_ms, "{b_row:?}");
    let journal = serde_json::to_string(&world.source.journal(20).await.expect("the journal")).expect("JSON");
    assert!(journal.contains("lease_over"), "the journal keeps whom a step waited for");
}

#[tokio::test]
async fn a_phase_is_heard_of_well_within_a_second_and_polled_when_nothing_is_heard() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let mut a = Worker::start(&world, "a").await;
    let mut heard = Vec::new();
    let there_and_back = [Phase::PostgresOnly, Phase::DualWrite].into_iter().cycle();
    for to in there_and_back.clone().take(10) {
        let outcome = coordinator.step(to, None, &()).await.expect("nothing refuses");
        let (end, waited) = end_of(&outcome, &a);
        assert_eq!(end, InstanceEnd::Acknowledged);
        heard.push(waited);
        assert_eq!(a.ask("phase").await, json!({ "phase": to, "epoch": outcome.epoch }));
    }
    // Polled three times a lease, half of them would take more than half a second.
    heard.sort();
    assert!(heard[5] < Duration::from_millis(150), "ten phases were heard of in {heard:?}");

    a.lock_out(&world, "LISTEN%").await;
    for to in there_and_back.take(4) {
        let outcome = coordinator.step(to, None, &()).await.expect("nothing refuses");
        let (end, waited) = end_of(&outcome, &a);
        assert_eq!(end, InstanceEnd::Acknowledged);
        assert!(waited < LEASE, "polling takes a third of a lease at most: {waited:?}");
        assert_eq!(a.ask("phase").await, json!({ "phase": to, "epoch": outcome.epoch }));
    }
    let listening = format!(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = '{}' AND query ILIKE 'LISTEN%')",
        a.role
    );
    assert!(!world.value::<bool>(&listening).await, "nothing could be heard");
    a.let_in(&world).await;
    eventually("it listens again", || world.value::<bool>(&listening)).await;
}

#[tokio::test]
async fn cut_off_from_postgresql_it_serves_for_one_lease_and_then_nothing_until_it_is_back() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await;
    let mut a = Worker::start(&world, "a").await;
    a.ask("write 1 there").await;
    let before = world.source.instances().await.expect("instances");
    a.lock_out(&world, "%").await;
    let (begun, mut served) = (Instant::now(), 0);
    let over = loop {
        let asked = begun.elapsed();
        let answer = a.ask("read 1").await;
        if answer["error"].is_string() {
            break answer;
        }
        assert_eq!(answer, json!({ "user_id": "there" }), "from the target, while the lease lasts");
        // The lease began before. How long an answer is on its way is up to two pipes of a busy machine.
        assert!(asked <= LEASE, "I6: asked after its lease, and served: {asked:?}");
        served += 1;
    };
    refused(&over);
    assert!(served > 0, "the lease outlasts a short absence");
    assert_eq!(a.ask("phase").await, json!({ "error": "fenced" }));
    a.let_in(&world).await;
    a.ask_until("read 1", |answer| answer["user_id"] == "there").await;
    let after = world.source.instances().await.expect("instances");
    assert_eq!(
        (after.len(), after[0].id),
        (1, before[0].id),
        "no step gave it up, so it is the same registration"
    );
    assert!(after[0].renewals > before[0].renewals);
}

/// I9 with I6: a coordinator that finishes the step of a dead coordinator waits for the instances as that one
/// would have.
#[tokio::test]
async fn a_crash_after_the_flip_is_finished_only_when_the_leases_are_over() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let a = Worker::start(&world, "a").await;
    a.signal("-STOP").await;
    let control = world.source.control().await.expect("a phase");
    let detail = json!({ "from": control.phase, "to": Phase::PostgresOnly, "epoch_before": control.epoch });
    world.source.journal_intent("the dead", "change phase", &detail).await.expect("journalled");
    let mut transaction = world.source.pool().begin().await.expect("begins");
    take_exclusive(&mut transaction, Duration::from_secs(5)).await.expect("no application writes");
    flip_phase(&mut transaction, Phase::PostgresOnly).await.expect("flips");
    transaction.commit().await.expect("commits");
    let begun = Instant::now();
    let coordinator = world.coordinator().await;
    assert!(begun.elapsed() >= LEASE, "I6: recovered after {:?}", begun.elapsed());
    assert!(
        coordinator.recovered()[0].contains("the phase is PostgresOnly"),
        "{:?}",
        coordinator.recovered()
    );
    assert_eq!(world.source.instances().await.expect("instances")[0].state, InstanceState::Expired);
}

/// A program flips past the coordinator, which the protocol knows nothing of: the next step must still not
/// leave an instance behind.
#[tokio::test]
async fn a_step_does_not_begin_while_an_instance_is_behind() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let a = Worker::start(&world, "a").await;
    a.signal("-STOP").await;
    let mut transaction = world.source.pool().begin().await.expect("begins");
    take_exclusive(&mut transaction, Duration::from_secs(5)).await.expect("no application writes");
    flip_phase(&mut transaction, Phase::PostgresOnly).await.expect("flips");
    transaction.commit().await.expect("commits");
    let (begun, notes) = (Instant::now(), Notes::default());
    tokio::select! {
        ended = coordinator.step(Phase::DualWrite, None, &notes) => {
            ended.expect("it goes on when the lease is over");
            assert!(begun.elapsed() >= LEASE, "I6: two behind after {:?}", begun.elapsed());
        }
        () = eventually("the phase has changed", || async {
            world.source.control().await.expect("a phase").phase == Phase::DualWrite
        }) => assert!(begun.elapsed() >= LEASE, "I6: flipped after {:?}", begun.elapsed()),
    }
    assert!(notes.all().iter().any(|note| note.contains("waiting for instance a")), "{:?}", notes.all());
}

/// 1. A process is stopped inside a write transaction, and holds the barrier. 2. No process ends it. 3. No
/// step is taken any more.
/// And I9: a crash of the server must not forget an intent whose effect is in the target.
#[tokio::test]
async fn sessions_end_what_is_left_open_and_keep_what_they_commit_whatever_the_database_says() {
    let world = World::start().await;
    let database: String = world.value("SELECT current_database()::text").await;
    world.sql(&format!("ALTER DATABASE {database} SET synchronous_commit = off")).await;
    let settings: (String, String) =
        sqlx::query_as("SELECT current_setting('synchronous_commit'), current_setting('idle_in_transaction_session_timeout')")
            .fetch_one(world.another_source().await.pool())
            .await
            .expect("settings");
    assert_eq!(settings, ("on".to_owned(), "30s".to_owned()));
}

async fn instance(world: &World, lease: Duration) -> Instance {
    let options = InstanceOptions { name: "in this process".to_owned(), lease };
    Instance::start(&world.source, options).await.expect("registers")
}

#[tokio::test]
async fn an_instance_that_cannot_start_says_what_to_do() {
    let world = World::start().await;
    let error =
        Instance::start(&world.source, InstanceOptions::default()).await.expect_err("nothing is installed");
    assert!(
        error.kind == Kind::Misconfigured && error.message.contains("migrate --through PostgresOnly"),
        "{error}"
    );
    let hasty = InstanceOptions { lease: Duration::from_millis(10), ..InstanceOptions::default() };
    let error = Instance::start(&world.source, hasty).await.expect_err("no renewal fits in it");
    assert!(error.message.contains("at least 1000 ms"), "{error}");
    let endless =
        InstanceOptions { lease: LEASE_MAX + Duration::from_millis(1), ..InstanceOptions::default() };
    let error =
        Instance::start(&world.source, endless).await.expect_err("no coordinator would know when it is over");
    assert!(error.message.contains("at most 60000 ms"), "{error}");
}

#[tokio::test]
async fn an_instance_that_shuts_down_deregisters_and_serves_nothing_more() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    world.sql(&log(1, "a")).await;
    let instance = instance(&world, LEASE_MAX).await;
    let store = Store::<lockstep_integration_logs::IntegrationLogs>::with_phase(
        world.source.clone(),
        world.target.clone(),
        Default::default(),
        world.logs_table(),
        instance.phase(),
    );
    let key = lockstep_tests::worker::key(1);
    assert!(store.get(&key).await.expect("served").is_some());
    instance.shutdown().await;
    assert_eq!(store.get(&key).await.expect_err("nothing is served").kind, Kind::Fenced);
    assert!(world.source.instances().await.expect("instances").is_empty());
    let outcome = within(Duration::from_mins(2), coordinator.step(Phase::PostgresOnly, None, &()))
        .await
        .expect("steps");
    assert!(outcome.instances.is_empty(), "no instance to wait for");
    // The barrier, and not the lease, is what makes writes safe.
    assert_eq!(store.delete(1).await.expect("written").control.phase, Phase::PostgresOnly);
}

/// 1. A reader asks under HybridRead. 2. Its answer is late, and the phase changes meanwhile. 3. Given away,
/// the answer would be one of a phase that may be two behind by then.
#[tokio::test]
async fn an_answer_that_comes_in_another_phase_is_not_given_away() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let instance = instance(&world, LEASE_MAX).await;
    let seen = std::sync::Mutex::new(Vec::new());
    let phase = instance.phase();
    let answered = phase.serve(|control| {
        let (coordinator, seen) = (&coordinator, &seen);
        async move {
            seen.lock().expect("no panic").push(control.phase);
            if control.phase == Phase::DualWrite {
                // Returns when this instance has acknowledged.
                coordinator.step(Phase::PostgresOnly, None, &()).await.expect("steps");
            }
            Ok(control.phase)
        }
    });
    assert_eq!(answered.await.expect("served"), Phase::PostgresOnly);
    assert_eq!(*seen.lock().expect("no panic"), [Phase::DualWrite, Phase::PostgresOnly]);
    let again_and_again = phase.serve(|control| {
        let coordinator = &coordinator;
        async move {
            let to = if control.phase == Phase::DualWrite { Phase::PostgresOnly } else { Phase::DualWrite };
            coordinator.step(to, None, &()).await.expect("steps");
            Ok(())
        }
    });
    assert_eq!(again_and_again.await.expect_err("bounded").kind, Kind::Fenced);
    instance.shutdown().await;
}
