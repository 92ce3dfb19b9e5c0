//! Store of the truth: moved by a decision and its copy, repaired after a crash between them, and followed by
//! instances.

use std::time::Duration;

use lockstep::migration::Migration;
use lockstep::store::WriteOptions;
use lockstep_coordinator::truth::{copy_to_target, flip_to_source, settle};
use lockstep_core::{Epoch, InstanceState, Kind, Phase, TargetRecord, Writes, version_of};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{payment, payment_key};
use lockstep_tests::world::{LOCK_TIMEOUT, PAYMENTS, WorldOptions, eventually, nowhere};

const CONTROL: &str = "lockstep_control";
const LEASE: Duration = Duration::from_secs(10);

async fn record(world: &World) -> TargetRecord {
    world.control().record().await.expect("read").expect("a record")
}

async fn source_says(world: &World) -> (Phase, Epoch) {
    let control = world.source.control().await.expect("a phase");
    (control.phase, control.epoch)
}

#[tokio::test]
async fn a_move_that_was_decided_is_finished_whichever_way_it_went() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let (control, tables) = (world.control(), world.tables());
    let mended = async || {
        settle(&world.source, &control, &tables, LOCK_TIMEOUT, false).await.expect("mended").is_some()
    };
    assert!(!mended().await && control.record().await.expect("no table yet").is_none());
    assert_eq!(
        copy_to_target(&world.source, &control).await.expect_err("nothing was decided").kind,
        Kind::Refused
    );

    let there = world.decide_target().await;
    assert_eq!(source_says(&world).await, (Phase::DynamoOnly, there));
    assert!(mended().await && !mended().await);
    assert_eq!((record(&world).await.control().epoch, record(&world).await.writes), (there, Writes::Paused));
    control.open_writes(there).await.expect("opened");
    control.open_writes(there).await.expect("again");

    let paused = control.pause_writes(there).await.expect("paused");
    assert_eq!(control.pause_writes(there).await.expect("again"), paused);
    let back = control.leave(paused, Phase::HybridRead).await.expect("decided");
    assert_eq!(control.leave(paused, Phase::HybridRead).await.expect("again"), back);
    assert_eq!(source_says(&world).await, (Phase::DynamoOnly, there), "not copied yet");
    assert!(mended().await && !mended().await);
    assert_eq!(source_says(&world).await, (Phase::HybridRead, back));
    let version: i64 = world.value("SELECT nextval('lockstep.version_seq')").await;
    assert!(version > back.floor(), "I2: what the source writes now outranks what the target wrote");

    let again = world.truth_in_target().await;
    assert!(again > back);
    assert_eq!((record(&world).await.since, record(&world).await.writes), (again, Writes::Open));
}

#[tokio::test]
async fn what_a_dead_coordinator_sent_changes_nothing_when_it_arrives_late() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let control = world.control();
    let there = world.truth_in_target().await;
    let paused = control.pause_writes(there).await.expect("paused");
    let now = record(&world).await;
    control.enter(there).await.expect("the copy of the decision, once more");
    assert_eq!(record(&world).await, now, "writes stay paused");
    assert_eq!(control.open_writes(there).await.expect_err("the epoch is over").kind, Kind::Refused);
    control.open_writes(paused).await.expect("the step gives up");
    assert_eq!(
        control.leave(paused, Phase::HybridRead).await.expect_err("writes are open").kind,
        Kind::Refused
    );
    let paused = control.pause_writes(paused).await.expect("paused");
    let tables = world.tables();
    let back =
        flip_to_source(&world.source, &control, &tables, paused, LOCK_TIMEOUT).await.expect("moved back");
    control.enter(there).await.expect("changes nothing");
    assert_eq!(control.open_writes(paused).await.expect_err("the truth has left").kind, Kind::Refused);
    let now = record(&world).await;
    assert_eq!((now.phase, now.epoch), (Phase::HybridRead, back));
}

#[tokio::test]
async fn an_application_follows_the_truth_there_and_back_with_its_lease() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let app = Migration::connect(world.production(world.url(), LEASE)).await.expect("connected");
    let logs = app.store::<IntegrationLogs>();
    let mut phases = Vec::new();
    for round in 0..2 {
        let outcome = logs.insert(&crate::store::row(0, "in the source")).await.expect("written");
        phases.push(outcome.control.phase);
        let there = world.truth_in_target().await;
        // Only the source told it: it is sent on, waits for nothing, and writes there.
        let outcome = logs.insert(&crate::store::row(0, "in the target")).await.expect("written");
        assert_eq!(
            (outcome.control.phase, outcome.control.epoch),
            (Phase::DynamoOnly, there),
            "round {round}"
        );
        eventually("its lease is in the target and nowhere else", || async {
            let (here, there) = (world.source.instances().await, world.control().instances().await);
            here.expect("read").is_empty() && there.expect("read").len() == 1
        })
        .await;
        let paused = world.control().pause_writes(there).await.expect("paused");
        eventually("it acknowledges the pause", || async {
            world.control().instances().await.expect("read").iter().all(|row| row.has_acknowledged(paused))
        })
        .await;
        let tables = world.tables();
        let back = flip_to_source(&world.source, &world.control(), &tables, paused, LOCK_TIMEOUT)
            .await
            .expect("moved back");
        eventually("its lease is in the source and nowhere else", || async {
            let (here, there) = (world.source.instances().await, world.control().instances().await);
            there.expect("read").is_empty()
                && here.expect("read").iter().any(|row| row.has_acknowledged(back))
        })
        .await;
    }
    assert_eq!(phases, [Phase::HybridRead; 2]);
    app.shutdown().await;
    assert!(world.source.instances().await.expect("read").is_empty());
}

/// I7: what is acknowledged was applied before the pause was.
#[tokio::test]
async fn a_pause_waits_for_the_write_under_way_and_lets_none_begin() {
    let world = World::behind_proxy().await.dynamo_only(&payment(1, 1)).await;
    let writes = WriteOptions { inline_timeout_ms: 30_000, ..WriteOptions::default() };
    let app =
        Migration::connect(world.production(&nowhere(), LEASE).writes(writes)).await.expect("connected");
    let payments = app.store::<Payments>();
    let (epoch, gate) = (record(&world).await.epoch, Gate::new());
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").table(PAYMENTS).times(1));
    let first = {
        let payments = payments.clone();
        tokio::spawn(async move { Payments::update_status(&payments, 1, "Pending", "Processing").await })
    };
    gate.until_held(1).await;
    let paused = world.control().pause_writes(epoch).await.expect("paused");
    let renewed = async || {
        world
            .control()
            .instances()
            .await
            .expect("read")
            .into_iter()
            .next()
            .expect("it is registered")
            .renewals
    };
    let begun = renewed().await;
    eventually("it has heard of the pause", || async { renewed().await > begun + 3 }).await;
    let rows = world.control().instances().await.expect("read");
    assert!(!rows[0].has_acknowledged(paused), "I7: a write is under way");
    let second = {
        let payments = payments.clone();
        tokio::spawn(async move { Payments::update_status(&payments, 1, "Processing", "Completed").await })
    };
    gate.open();
    assert!(first.await.expect("no panic").expect("written").is_changed());
    eventually("it acknowledges the pause", || async {
        world.control().instances().await.expect("read").iter().all(|row| row.has_acknowledged(paused))
    })
    .await;
    assert!(!second.is_finished(), "writes wait");
    let item = world.live_at(&world.payments_table(), &payment_key(1, 1)).await;
    assert_eq!(version_of(&item).expect("a version").0, epoch.floor() + 1);
    world.control().open_writes(paused).await.expect("opened");
    assert!(second.await.expect("no panic").expect("written").is_changed());
    let item = world.live_at(&world.payments_table(), &payment_key(1, 1)).await;
    assert_eq!(version_of(&item).expect("a version").0, paused.floor() + 1, "above the epoch");
    app.shutdown().await;
    assert!(world.control().instances().await.expect("read").is_empty());
}

/// I7, I8: a write that is answered when the lease is over may come after everything was drained, so it is
/// not acknowledged.
#[tokio::test]
async fn a_write_is_not_acknowledged_after_the_lease_and_none_is_sent() {
    // The lease is over before the request is given up, or the write.
    let patient =
        WorldOptions { proxied: true, request_timeout: Duration::from_secs(20), ..WorldOptions::default() };
    let world = World::with(patient).await.dynamo_only(&payment(1, 1)).await;
    let writes = WriteOptions { inline_timeout_ms: 20_000, ..WriteOptions::default() };
    let options = world.production(&nowhere(), Duration::from_secs(4)).writes(writes);
    let app = Migration::connect(options).await.expect("connected");
    let (payments, gate, epoch) = (app.store::<Payments>(), Gate::new(), record(&world).await.epoch);
    let key = lockstep_payments::PaymentKey {
        payment_id: 1,
        customer_id: 1,
        payment_date: crate::stage::at("2099-03-04T05:06:07.000008Z"),
    };
    let row = payments.get(&key).await.expect("the lease lasts").expect("a row");
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").table(PAYMENTS));
    let write = {
        let payments = payments.clone();
        tokio::spawn(async move { payments.put(&row).await })
    };
    gate.until_held(1).await;
    world.proxy().script(Rule::new(Fault::Unavailable).table(CONTROL));
    let error = write.await.expect("no panic").expect_err("the lease is over");
    assert_eq!(error.kind, Kind::Unknown, "{error}");
    assert_eq!(payments.get(&key).await.expect_err("fenced").kind, Kind::Fenced);
    assert_eq!(payments.delete(1).await.expect_err("fenced").kind, Kind::Fenced);
    gate.open();
    world.proxy().clear();
    eventually("it serves again", || async { payments.get(&key).await.is_ok() }).await;
    // Unknown was the word: the request was still on its way.
    eventually("it has arrived", || async {
        let item = world.live_at(&world.payments_table(), &payment_key(1, 1)).await;
        version_of(&item).is_some_and(|version| version.epoch() == epoch)
    })
    .await;
    app.shutdown().await;
}

#[tokio::test]
async fn an_instance_that_was_given_up_writes_nothing_until_it_has_registered_again() {
    let world = World::start().await.dynamo_only(&payment(1, 1)).await;
    let app = world.app_without_source(LEASE).await;
    let rows = world.control().instances().await.expect("read");
    eventually("it is given up", || async {
        let rows = world.control().instances().await.expect("read");
        world.control().expire_instance(&rows[0]).await.expect("noted")
    })
    .await;
    eventually("it registers again", || async {
        let now = world.control().instances().await.expect("read");
        now[0].id == rows[0].id && now[0].state == InstanceState::Live && now[0].epoch.is_some()
    })
    .await;
    assert!(
        Payments::update_status(&app.store(), 1, "Pending", "Processing")
            .await
            .expect("written")
            .is_changed()
    );
    app.shutdown().await;
}

#[tokio::test]
async fn with_postgres_down_an_application_starts_only_where_the_truth_is_in_the_target() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let error =
        Migration::connect(world.production(&nowhere(), LEASE)).await.err().expect("PostgreSQL is down");
    assert!(error.kind == Kind::Unavailable && error.message.contains("source.url"), "{error}");
    world.truth_in_target().await;
    world.app_without_source(LEASE).await.shutdown().await;
    world.truth_in_source().await;
    let error =
        Migration::connect(world.production(&nowhere(), LEASE)).await.err().expect("PostgreSQL is down");
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
}
