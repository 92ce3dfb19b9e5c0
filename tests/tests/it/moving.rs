//! Moves to DynamoOnly and back under writers: nothing that was acknowledged is lost, a pause is bounded, and
//! what does not fit in it leaves everything as it was.

use std::time::Duration;

use lockstep::instance::{Instance, InstanceOptions};
use lockstep_coordinator::{Coordinator, CoordinatorError, MigrationContext, StepOptions, StepOutcome};
use lockstep_core::{Kind, Phase, Writes};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{logs, payment, payments};
use lockstep_tests::world::{CutShort, Fleet, LOGS, Notes, PAYMENTS, eventually, run};

use crate::instances::Worker;

const LEASE: Duration = Duration::from_secs(10);
/// Pause that a stopped worker's lease outlasts.
const HASTY: Duration = Duration::from_secs(2);
const CONTROL: &str = "lockstep_control";

/// A migration whose pauses may last so long.
fn pausing(world: &World, pause_max: Duration) -> MigrationContext {
    let mut migration = world.migration();
    migration.options.steps =
        StepOptions { pause_max, catch_up_max: Duration::from_mins(1), ..migration.options.steps };
    migration
}

/// A world in HybridRead, ready for the next step.
async fn hybrid(world: &World, pause_max: Duration) -> Coordinator {
    world.sql(&format!("{}; {}", logs(1, 40), payments(1, 40))).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.relay_until_empty().await;
    assert!(world.record_verdict().await.verdict.is_consistent());
    world.coordinator_of(pausing(world, pause_max)).await
}

async fn step(coordinator: &Coordinator, to: Phase) -> StepOutcome {
    coordinator.step(to, None, &()).await.unwrap_or_else(|error| panic!("to {to}: {error}"))
}

#[track_caller]
fn paused(outcome: &StepOutcome) {
    let pause = outcome.pause.as_ref().expect("a step that moves the truth pauses");
    println!("{} → {}: {:.0} ms {:?}", outcome.from, outcome.phase, pause.took_ms, pause.parts);
    assert!(pause.took_ms <= pause.allowed_ms as f64 && !pause.parts.is_empty(), "{pause:?}");
}

#[tokio::test]
async fn there_and_back_and_there_again_under_writers_loses_nothing() {
    let world = World::start().await;
    let coordinator = hybrid(&world, Duration::from_secs(20)).await;
    let fleet = Fleet::start(&world, LEASE).await;
    // It knows of no DynamoDB: while the truth is there it serves by PostgreSQL's record, and holds no other
    // instance up.
    let options = InstanceOptions { name: "of before".to_owned(), lease: LEASE };
    let of_source = Instance::start(&world.source, options).await.expect("registers");
    for round in 0..2 {
        fleet.until_acknowledged(Phase::HybridRead, 30).await;
        paused(&step(&coordinator, Phase::DynamoOnly).await);
        fleet.until_acknowledged(Phase::DynamoOnly, 100).await;
        if round == 0 {
            let refused =
                world.try_sql(&payment(9_001, 1)).await.expect_err("the source is frozen").to_string();
            assert!(refused.contains("DynamoOnly"), "{refused}");
        }
        {
            let _rest = fleet.at_rest().await;
            world.feed_until_drained().await;
            world.assert_fed().await;
            fleet.assert_in_source(&world).await;
        }
        let back = step(&coordinator, Phase::HybridRead).await;
        paused(&back);
        assert!(back.late_until.is_some());
        fleet.until_acknowledged(Phase::HybridRead, 50).await;
        let _rest = fleet.at_rest().await;
        world.assert_converged().await;
        fleet.assert_in_source(&world).await;
        // The next step there asks for these.
        assert!(world.record_verdict().await.verdict.is_consistent());
    }
    fleet.stop().await;
    of_source.shutdown().await;
    // PostgreSQL hands out ids again, and none that it has.
    world
        .sql("INSERT INTO integration_logs (log_type, service_name, is_success, log_timestamp) VALUES ('x', 'y', true, now())")
        .await;
    for to in [Phase::DualWrite, Phase::PostgresOnly] {
        assert!(step(&coordinator, to).await.pause.is_none());
    }
    world.assert_converged().await;
}

#[track_caller]
fn missed(error: &CoordinatorError, why: &str) {
    let told = error.to_string();
    assert!(
        matches!(error, CoordinatorError::PauseMissed { .. })
            && told.contains(why)
            && told.contains("as it was"),
        "{told}"
    );
}

#[tokio::test]
async fn a_pending_set_that_does_not_empty_in_time_leaves_everything_as_it_was() {
    let world = World::start().await;
    let coordinator = hybrid(&world, Duration::from_secs(2)).await;
    let before = world.source.control().await.expect("a phase");
    world.sql(&payment(501, 1)).await;
    // Its mark cannot be taken out: a key that is locked is passed over.
    let mut holder = world.stranger().await;
    run(&mut holder, "BEGIN; SELECT 1 FROM lockstep.pending FOR UPDATE").await;
    let error = coordinator.step(Phase::DynamoOnly, None, &()).await.expect_err("something is pending");
    missed(&error, "the pending set to be empty");
    let now = world.source.control().await.expect("a phase");
    assert_eq!((now.phase, now.epoch), (before.phase, before.epoch), "nothing was moved");
    assert_eq!(world.control().record().await.expect("read"), None);
    world.sql(&payment(502, 1)).await;
    assert_eq!(world.pending(PAYMENTS).await.len(), 2, "I1");
    assert!(world.source.open_intents().await.expect("journal").is_empty());
    run(&mut holder, "ROLLBACK").await;
    coordinator.close().await;
    // The verdict counts within its epoch, and the epoch is the same.
    let patient = world.coordinator_of(pausing(&world, Duration::from_secs(20))).await;
    paused(&step(&patient, Phase::DynamoOnly).await);
}

#[tokio::test]
async fn an_instance_that_is_stopped_across_a_step_costs_its_lease_or_leaves_everything_as_it_was() {
    let world = World::start().await;
    let hasty = hybrid(&world, HASTY).await;
    let fleet = Fleet::start(&world, LEASE).await;
    fleet.until_acknowledged(Phase::HybridRead, 10).await;
    let mut stopped = Worker::start(&world, "stopped").await;
    stopped.ask("write 1 before").await;
    stopped.signal("-STOP").await;
    let error = hasty.step(Phase::DynamoOnly, None, &()).await.expect_err("one does not answer");
    missed(&error, "instance stopped");
    let record = world.control().record().await.expect("read").expect("it was told");
    let now = world.source.control().await.expect("a phase");
    assert_eq!(
        (now.phase, record.phase),
        (Phase::HybridRead, Phase::HybridRead),
        "it was undone on both sides"
    );
    fleet.until_acknowledged(Phase::HybridRead, 30).await;
    assert_eq!(fleet.acknowledged(Phase::DynamoOnly), 0, "no application has written there");
    {
        let _rest = fleet.at_rest().await;
        world.assert_converged().await;
        assert!(world.record_verdict().await.verdict.is_consistent());
    }
    hasty.close().await;
    // It has not moved yet, and a coordinator that may wait longer gives it up.
    let patient = world.coordinator_of(pausing(&world, Duration::from_secs(20))).await;
    paused(&step(&patient, Phase::DynamoOnly).await);
    patient.close().await;
    stopped.signal("-CONT").await;
    stopped.ask_until("write 2 there", |answer| answer["phase"] == "DynamoOnly").await;
    fleet.until_acknowledged(Phase::DynamoOnly, 30).await;

    stopped.signal("-STOP").await;
    let hasty = world.coordinator_of(pausing(&world, HASTY)).await;
    let error = hasty.step(Phase::HybridRead, None, &()).await.expect_err("one does not answer");
    missed(&error, "instance stopped");
    hasty.close().await;
    let record = world.control().record().await.expect("read").expect("a record");
    assert_eq!((record.phase, record.writes), (Phase::DynamoOnly, Writes::Open));
    assert!(
        record.epoch > record.since,
        "PostgreSQL does not follow pauses; the feed takes what is written after one"
    );
    fleet.until_acknowledged(Phase::DynamoOnly, 30).await;
    // It is told to write while it is stopped, and wakes when the truth has left: it asks, and writes where
    // the truth is.
    stopped.tell("write 3 late").await;
    let patient = world.coordinator_of(pausing(&world, Duration::from_secs(20))).await;
    paused(&step(&patient, Phase::HybridRead).await);
    stopped.signal("-CONT").await;
    let answer = stopped.answer().await;
    assert!(
        answer["phase"] == "HybridRead"
            || answer["error"].as_str().is_some_and(|why| why.starts_with("Fenced")),
        "{answer}"
    );
    fleet.until_acknowledged(Phase::HybridRead, 30).await;
    {
        let _rest = fleet.at_rest().await;
        world.assert_converged().await;
        fleet.assert_in_source(&world).await;
    }
    fleet.stop().await;
}

#[tokio::test]
async fn a_throttled_control_record_delays_the_step_or_undoes_it_and_loses_nothing() {
    let world = World::behind_proxy().await;
    let coordinator = hybrid(&world, Duration::from_secs(20)).await;
    let fleet = Fleet::start(&world, LEASE).await;
    for to in [Phase::DynamoOnly, Phase::HybridRead] {
        // Every other request, whichever part of the step it belongs to; replies are lost as well.
        world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").table(CONTROL).every(2));
        world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").table(CONTROL).every(3));
        world.proxy().script(Rule::new(Fault::Throttle).on("GetItem").table(CONTROL).every(5));
        world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").table(PAYMENTS).every(3));
        loop {
            match coordinator.step(to, None, &()).await {
                Ok(_) => break,
                Err(CoordinatorError::Store(error)) if error.kind != Kind::Misconfigured => {
                    println!("undone: {error}")
                }
                Err(error @ CoordinatorError::Refused(_)) => {
                    // It was undone in a later epoch, and a verdict counts in its own.
                    println!("{error}");
                    let _rest = fleet.at_rest().await;
                    world.relay_until_empty().await;
                    assert!(world.record_verdict().await.verdict.is_consistent());
                }
                Err(error) => panic!("to {to}: {error}"),
            }
        }
        world.proxy().clear();
        fleet.until_acknowledged(to, 30).await;
    }
    {
        let _rest = fleet.at_rest().await;
        world.assert_converged().await;
        fleet.assert_in_source(&world).await;
    }
    fleet.stop().await;
}

#[tokio::test]
async fn a_step_that_is_dropped_at_any_point_is_settled_and_writers_go_on() {
    let world = World::start().await;
    let coordinator = hybrid(&world, Duration::from_secs(20)).await;
    let fleet = Fleet::start(&world, LEASE).await;
    for (from, to) in [(Phase::HybridRead, Phase::DynamoOnly), (Phase::DynamoOnly, Phase::HybridRead)] {
        let (mut polls, mut dropped) = (1, 0);
        loop {
            match CutShort::after(polls, coordinator.step(to, None, &())).await {
                Some(Ok(_)) => break,
                Some(Err(CoordinatorError::Refused(_))) => {
                    // It was undone in a later epoch, and a verdict counts in its own.
                    let _rest = fleet.at_rest().await;
                    world.relay_until_empty().await;
                    assert!(world.record_verdict().await.verdict.is_consistent());
                    continue;
                }
                Some(Err(error)) => panic!("{to} after {polls} polls: {error}"),
                None => {}
            }
            dropped += 1;
            // PostgreSQL may still be at the statement that was under way: an intent that no coordinator has
            // seen.
            eventually("I9: it is settled", || async {
                coordinator.settle().await.expect("settled");
                world.source.open_intents().await.expect("the journal").is_empty()
            })
            .await;
            let before = fleet.acknowledged(from) + fleet.acknowledged(to);
            eventually("writers go on", || async {
                fleet.acknowledged(from) + fleet.acknowledged(to) > before + 3
            })
            .await;
            polls += 1 + polls / 3;
        }
        println!("{to}: dropped {dropped} times, at last after {polls} polls");
        assert!(dropped > 5);
        assert_eq!(world.source.control().await.expect("a phase").phase, to);
    }
    {
        let _rest = fleet.at_rest().await;
        world.assert_converged().await;
        fleet.assert_in_source(&world).await;
    }
    fleet.stop().await;
}

/// 1. The decision of a step back is sent, and its sender dies. 2. Who settles finds writes paused, and is
/// about to let them go on.
/// 3. The decision arrives. No application can write until PostgreSQL has followed it.
#[tokio::test]
async fn a_decision_that_arrives_while_its_step_is_settled_is_followed() {
    let world = World::behind_proxy().await;
    let coordinator = hybrid(&world, Duration::from_secs(20)).await;
    step(&coordinator, Phase::DynamoOnly).await;
    let (decision, opening) = (Gate::new(), Gate::new());
    // The first change of the record is the pause.
    world
        .proxy()
        .script(Rule::new(Fault::Delay(decision.clone())).on("PutItem").table(CONTROL).after(1).times(1));
    tokio::select! {
        done = coordinator.step(Phase::HybridRead, None, &()) => panic!("its decision is held: {done:?}"),
        () = decision.until_held(1) => {}
    }
    world.proxy().script(Rule::new(Fault::Delay(opening.clone())).on("PutItem").table(CONTROL).times(1));
    let arriving = async {
        opening.until_held(1).await;
        let record = world.control().record().await.expect("read").expect("a record");
        assert_eq!((record.phase, record.writes), (Phase::DynamoOnly, Writes::Paused));
        decision.open();
        decision.until_done(1).await;
        opening.open();
    };
    let (settled, ()) = tokio::join!(coordinator.settle(), arriving);
    let settled = settled.expect("settled");
    assert!(settled.iter().any(|said| said.contains("the phase is HybridRead")), "{settled:?}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::HybridRead);
    world.sql(&payment(9_001, 1)).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn the_way_back_is_refused_while_records_are_lost_or_sides_differ() {
    let world = World::start().await;
    let coordinator = hybrid(&world, Duration::from_secs(20)).await;
    step(&coordinator, Phase::DynamoOnly).await;
    world.source.lose_reverse(LOGS, "a shard", "trimmed").await.expect("noted");
    let error = coordinator
        .step(Phase::HybridRead, Some("I know better"), &())
        .await
        .expect_err("PostgreSQL lacks writes");
    assert!(
        matches!(&error, CoordinatorError::Refused(gates) if gates.refusals().contains("--backfill")),
        "{error}"
    );
    world.sql("UPDATE lockstep.reverse_tables SET lost_at = NULL, lost_why = NULL").await;

    // A trigger of the application's that changes what the feed writes, on replicas as well.
    world
        .sql(
            "CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.payment_method := 'meddled'; RETURN NEW; END $$;
             CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION
                 public.meddle();
             ALTER TABLE payments ENABLE ALWAYS TRIGGER meddle",
        )
        .await;
    let app =
        world.registered_app(world.source_options(), Default::default(), Default::default(), LEASE).await;
    let store = app.store::<lockstep_payments::Payments>();
    store
        .update(7_i64, |row| row.transaction_reference = Some("meddled with".to_owned()))
        .await
        .expect("written");
    let error = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("they differ");
    assert!(error.to_string().contains("1 keys of payments differ"), "{error}");
    let record = world.control().record().await.expect("read").expect("a record");
    assert_eq!((record.phase, record.writes), (Phase::DynamoOnly, Writes::Open), "writes go on");
    world.sql("DROP TRIGGER meddle ON payments").await;
    // P23: the next one goes on where this one was, with what was not equal, unless it is about another
    // history.
    let table = world.source.fed_table(&world.payments_table()).await.expect("a table");
    let kept = async || world.source.compared(&table).await.expect("read");
    let before = kept().await.expect("it is kept");
    assert!(before.since.is_some() && before.unequal.len() == 1, "{before:?}");
    for (other, right) in [
        ("server = 'x' || server", "server = pg_catalog.substr(server, 2)"),
        ("epoch = epoch - 1", "epoch = epoch + 1"),
        ("at = at - interval '61 minutes'", "at = at + interval '61 minutes'"),
        ("begun_at = begun_at - interval '25 hours'", "begun_at = begun_at + interval '25 hours'"),
    ] {
        world.sql(&format!("UPDATE lockstep.compared SET {other}")).await;
        assert_eq!(kept().await, None, "{other}");
        world.sql(&format!("UPDATE lockstep.compared SET {right}")).await;
    }
    world.source.keep_compared(&table, &before).await.expect("kept");
    assert_eq!(kept().await, Some(before));
    store
        .update(7_i64, |row| row.transaction_reference = Some("left alone".to_owned()))
        .await
        .expect("written");
    let notes = Notes::default();
    coordinator.step(Phase::HybridRead, None, &notes).await.expect("it is as its item says");
    let told = "payments: the comparison before the way back goes on where it was broken off";
    assert!(notes.all().iter().any(|note| note == told), "{:?}", notes.all());
    app.shutdown().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn nothing_is_relayed_and_nothing_repaired_in_dynamo_only() {
    let world = World::start().await;
    let coordinator = hybrid(&world, Duration::from_secs(20)).await;
    step(&coordinator, Phase::DynamoOnly).await;
    let key = vec!["7".to_owned(), "8".to_owned(), "2099-03-04 05:06:07.000008+00".to_owned()];
    let error = world
        .source
        .mark_for_repair(&world.payments_table(), &[key])
        .await
        .expect_err("the row is not the truth");
    assert!(error.kind == Kind::Refused && error.message.contains("reverse-feed --backfill"), "{error}");
    let items = world.items(PAYMENTS).await;
    world.sql("INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '[7, 8, \"2099-03-04T05:06:07.000008\"]', 1 << 62)").await;
    world.relay_until_empty().await;
    assert_eq!(world.items(PAYMENTS).await.len(), items.len());
    assert_eq!(world.pending(PAYMENTS).await.len(), 1, "it was left alone");
    world.sql("DELETE FROM lockstep.pending").await;
}
