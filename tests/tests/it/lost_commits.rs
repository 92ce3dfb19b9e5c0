//! A commit whose answer is lost, in every way of writing: what the caller is told is true, or that it is
//! unknown (I8). And PostgreSQL away: what needs it says so, and reads of the target go on.

use std::sync::Arc;
use std::time::Duration;

use lockstep::instance::LEASE_MAX;
use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep::store::{Delivery, ReadFrom, ReadOptions, WriteFailed, WriteMode, WriteOptions};
use lockstep_core::{Error, Kind, MigratableTable, Phase, Side};
use lockstep_integration_logs::{IntegrationLogs, LogQueries, OperationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::Gate;
use lockstep_tests::faults::source::{SourceFault, SourceFaultKind, SourceRule};
use lockstep_tests::world::rows::{log_row, payment};
use lockstep_tests::world::{WorldOptions, eventually, within};

use crate::stage::some;
use crate::strict::strict;

/// The statement that looks a commit up.
const LOOK_UP: &str = "SELECT CASE WHEN $1::text::xid8";
/// Far longer than any caller may be kept waiting.
const BOUND: Duration = Duration::from_secs(30);

/// Answer that a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Written,
    Failed,
    Unknown,
}

/// The ways of writing that end in one commit.
#[derive(Clone, Copy, Debug)]
enum Call {
    Put,
    Batch,
    UpdateStatus,
    Coordinated,
}

const CALLS: [Call; 4] = [Call::Put, Call::Batch, Call::UpdateStatus, Call::Coordinated];

impl Call {
    /// Returns the statement that commits it. One row, best effort, is one call: no transaction is left to be
    /// looked up, so it stays unknown.
    fn commit(self, at_once: bool) -> (&'static str, Option<Told>) {
        match self {
            Self::Put if at_once => {
                (r#"SELECT * FROM lockstep."upsert_integration_logs_"#, Some(Told::Unknown))
            }
            _ => ("COMMIT", None),
        }
    }

    async fn prepare(self, world: &World, id: i64) {
        if matches!(self, Self::UpdateStatus | Self::Coordinated) {
            world.sql(&payment(id, 1)).await;
        }
    }

    async fn make(self, app: &Migration, id: i64) -> Told {
        let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
        match self {
            Self::Put => told(logs.put(&log_row(id, "u")).await),
            Self::Batch => {
                let rows = [0, 1, 2].map(|n| log_row(id * 10 + n, "u"));
                let outcomes = logs.put_batch(&rows).await;
                let told = outcomes
                    .iter()
                    .map(|outcome| outcome.as_ref().map_or_else(|e| told_by(e), |_| Told::Written));
                let told: Vec<Told> = told.collect();
                assert!(told.iter().all(|one| *one == told[0]), "one transaction: {told:?}");
                told[0]
            }
            Self::UpdateStatus => told(Payments::update_status(&payments, id, "Pending", "Completed").await),
            Self::Coordinated => {
                let (sink, name) = (Arc::new(OperationLogs::of("payments")), format!("op-{id}"));
                let change = |p: &mut lockstep_payments::Payment| p.payment_status = "Completed".to_owned();
                told(
                    Operation::run(app, sink, "Settle", &name, async |o| {
                        o.update(&payments, id, change).await.map(drop)
                    })
                    .await,
                )
            }
        }
    }

    /// Whether PostgreSQL has it: all of it, or nothing.
    async fn is_written(self, world: &World, id: i64) -> bool {
        let count = async |what: String| world.value::<i64>(&format!("SELECT count(*) FROM {what}")).await;
        let settled = || count(format!("payments WHERE payment_id = {id} AND payment_status = 'Completed'"));
        match self {
            Self::Put => count(format!("integration_logs WHERE log_id = {id}")).await == 1,
            Self::Batch => {
                let rows = count(format!("integration_logs WHERE log_id / 10 = {id}")).await;
                assert!(rows == 0 || rows == 3, "{rows} of one transaction");
                rows == 3
            }
            Self::UpdateStatus => settled().await == 1,
            Self::Coordinated => {
                let logged = format!(
                    "integration_logs WHERE correlation_id = 'op-{id}' AND log_type = 'OperationSuccess'"
                );
                let both = (settled().await, count(logged).await);
                assert!(
                    both == (0, 0) || both == (1, 1),
                    "a payment without its log, or a log without its payment: {both:?}"
                );
                both.0 == 1
            }
        }
    }
}

fn told<T>(outcome: Result<T, Error>) -> Told {
    outcome.map_or_else(|error| told_by(&error), |_| Told::Written)
}

fn told_by(error: &Error) -> Told {
    match WriteFailed::of(error) {
        Some(fates) if matches!(fates.source, Delivery::Unknown(_)) => {
            assert_eq!(error.kind, Kind::Unknown, "{error}");
            Told::Unknown
        }
        _ => {
            assert_ne!(error.kind, Kind::Unknown, "{error}");
            Told::Failed
        }
    }
}

async fn world(writes: WriteOptions) -> (World, Migration) {
    let world = World::behind_both_proxies().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(writes);
    (world, app)
}

/// Each way of writing, under each thing that can happen to its commit.
async fn check_commits(writes: WriteOptions) {
    let at_once = writes.dual_write == WriteMode::BestEffort;
    let (world, app) = world(writes).await;
    let proxy = world.source_proxy();
    let mut id = 100;
    for call in CALLS {
        let (committed_by, lost) = call.commit(at_once);
        let commit = |fault| SourceRule::new(fault).on(committed_by).times(1);
        let next = async |id: &mut i64| {
            proxy.clear();
            *id += 1;
            call.prepare(&world, *id).await;
            *id
        };

        let n = next(&mut id).await;
        proxy.script(commit(SourceFault::LoseReply));
        assert_eq!(call.make(&app, n).await, lost.unwrap_or(Told::Written), "{call:?}: it was looked up");
        assert!(call.is_written(&world, n).await, "{call:?}");

        let n = next(&mut id).await;
        proxy.script(commit(SourceFault::Cut));
        // Unknown, if the server takes long to notice.
        assert_ne!(call.make(&app, n).await, Told::Written, "{call:?}: it never arrived");
        assert!(!call.is_written(&world, n).await, "{call:?}");

        let n = next(&mut id).await;
        proxy.script(commit(SourceFault::LoseReply));
        proxy.script(SourceRule::new(SourceFault::Cut).on(LOOK_UP));
        assert_eq!(call.make(&app, n).await, Told::Unknown, "{call:?}: no server could be asked");
        assert!(call.is_written(&world, n).await, "{call:?}");

        if lost.is_some() {
            // Its statement is several messages, and half of them late is nothing that can happen.
            continue;
        }
        let n = next(&mut id).await;
        let late = Gate::new();
        proxy.script(commit(SourceFault::CutThenApplyLate(late.clone())));
        assert_eq!(call.make(&app, n).await, Told::Unknown, "{call:?}: it is still on its way");
        assert!(!call.is_written(&world, n).await, "{call:?}");
        late.open();
        late.until_done(1).await;
        assert!(call.is_written(&world, n).await, "{call:?}: it has arrived");
    }
    proxy.clear();
    let calls = CALLS.len() as u64;
    let looked_up = calls - u64::from(at_once);
    assert_eq!(proxy.injected(SourceFaultKind::LoseReply), 2 * calls);
    assert_eq!(proxy.injected(SourceFaultKind::CutThenApplyLate), looked_up);
    assert_eq!(app.write_counts().commits_looked_up, 4 * looked_up);
    world.assert_converged().await;
    assert_eq!(world.intents().await, 0);
}

#[tokio::test]
async fn of_a_best_effort_commit_that_was_lost_the_truth_is_told_or_that_it_is_unknown() {
    check_commits(WriteOptions::default()).await;
}

#[tokio::test]
async fn of_a_strict_commit_that_was_lost_the_truth_is_told_or_that_it_is_unknown() {
    check_commits(strict()).await;
}

/// Each turn the fault comes one message, or one statement, later, until one gets through.
async fn check_everywhere(writes: WriteOptions, fault: impl Fn(u64) -> SourceRule) {
    let (world, app) = world(writes).await;
    let proxy = world.source_proxy();
    let injected = || proxy.injected(SourceFaultKind::Cut) + proxy.injected(SourceFaultKind::LoseReply);
    for n in 0.. {
        assert!(n < 200, "a write takes fewer than 200 messages");
        let (id, before) = (1_000 + n as i64, injected());
        proxy.script(fault(n).times(1));
        let told = Call::Put.make(&app, id).await;
        proxy.clear();
        let written = Call::Put.is_written(&world, id).await;
        match told {
            Told::Written => assert!(written, "I8: told that it is there, cut at {n}"),
            Told::Failed => assert!(!written, "I8: told that it is not, cut at {n}"),
            Told::Unknown => {}
        }
        // 1. An earlier turn cut connections. 2. The pool has one of them still, and gives it out. So a write
        // may fail in a turn without a fault, but not in every one.
        if injected() == before && told == Told::Written {
            if n > 4 {
                break;
            }
            // It went over a connection that had written before, and was four messages: cut off, the next one
            // opens its own.
            proxy.cut_all().await;
        }
    }
    world.assert_converged().await;
}

#[tokio::test]
async fn wherever_the_connection_is_cut_what_a_best_effort_write_says_is_true() {
    check_everywhere(WriteOptions::default(), |n| SourceRule::new(SourceFault::Cut).any_frame().after(n))
        .await;
}

#[tokio::test]
async fn wherever_the_connection_is_cut_what_a_strict_write_says_is_true() {
    check_everywhere(strict(), |n| SourceRule::new(SourceFault::Cut).any_frame().after(n)).await;
}

#[tokio::test]
async fn whichever_answer_is_lost_what_a_strict_write_says_is_true() {
    check_everywhere(strict(), |n| SourceRule::new(SourceFault::LoseReply).after(n)).await;
}

/// 1. The commit leaves. 2. PostgreSQL goes away. 3. Every question how it ended waits for a connection that
/// never comes.
#[tokio::test]
async fn a_caller_does_not_wait_for_ever_to_hear_how_its_commit_ended() {
    let (world, app) = world(strict()).await;
    let late = Gate::new();
    world.source_proxy().script(SourceRule::new(SourceFault::DelayReply(late.clone())).on("COMMIT").times(1));
    let logs = app.store::<IntegrationLogs>();
    let put = tokio::spawn(async move { logs.put(&log_row(1, "u")).await });
    late.until_held(1).await;
    world.source_proxy().down().await;
    let outcome = within(Duration::from_secs(12), put).await.expect("no panic");
    assert_eq!(told(outcome), Told::Unknown);
    world.source_proxy().up().await;
    assert!(Call::Put.is_written(&world, 1).await);
    world.assert_converged().await;
}

#[tokio::test]
async fn while_postgres_is_down_reads_of_the_target_go_on_and_the_rest_says_what_is_wrong() {
    let options = WorldOptions {
        connect_timeout: Duration::from_secs(3),
        source_proxied: true,
        ..WorldOptions::default()
    };
    let world = World::with(options).await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    coordinator.close().await;
    let reads = ReadOptions { max_staleness_ms: 50, standing_poll_ms: 10, ..ReadOptions::default() };
    let app = world.registered_app(world.source_options(), WriteOptions::default(), reads, LEASE_MAX).await;
    let logs = app.store::<IntegrationLogs>();
    let mut row = log_row(1, "u");
    row.application_id = Some(7);
    logs.put(&row).await.expect("written");
    let key = IntegrationLogs::key(&row);

    world.source_proxy().down().await;
    let answer = within(BOUND, logs.get_marked(&key)).await.expect("the target answers");
    assert_eq!((answer.value.as_ref(), answer.from), (Some(&row), ReadFrom::TargetAlone));
    let page = within(BOUND, logs.by_application(7).page(some(10), None)).await.expect("the target answers");
    assert_eq!((page.rows.len(), page.from), (1, ReadFrom::TargetAlone));
    assert!(answer.from.is_degraded() && logs.reads().counts().target_alone >= 2);
    let no_such = IntegrationLogs::key(&log_row(404, "u"));
    let errors = [
        within(BOUND, logs.get(&no_such))
            .await
            .map(drop)
            .expect_err("only PostgreSQL could say that there is none"),
        within(BOUND, logs.put(&log_row(2, "u"))).await.map(drop).expect_err("PostgreSQL decides"),
        within(BOUND, logs.delete(1)).await.map(drop).expect_err("PostgreSQL decides"),
    ];
    for error in errors {
        assert_eq!((error.side, error.kind), (Side::Source, Kind::Unavailable), "{error}");
        assert!(error.to_string().contains("PostgreSQL does not answer"), "it says what is wrong: {error}");
    }

    world.source_proxy().up().await;
    eventually("the mark goes", || async {
        logs.get_marked(&key).await.is_ok_and(|answer| answer.from == ReadFrom::Target)
    })
    .await;
    logs.put(&log_row(2, "u")).await.expect("written");
    app.shutdown().await;
    world.assert_converged().await;
}
