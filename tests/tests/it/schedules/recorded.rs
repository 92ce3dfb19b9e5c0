//! Trace of a schedule, recorded from outside by triggers on the tables of `lockstep` and by a proxy through
//! which everything reaches the target, and held against the rules of the model (`lockstep_model::trace`).

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use lockstep::store::WriteOptions;
use lockstep_core::{Phase, SourceKey, Version, place};
use lockstep_model::Mutation;
use lockstep_model::trace::{Event, Happened, refused};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule, What};
use lockstep_tests::world::WorldOptions;
use lockstep_tests::world::rows::{logs, payment_row, payments};

use crate::undrained;

/// A transaction that is rolled back leaves nothing, as it has done nothing. Both versions of a change are
/// there: an intent is settled at its own, a mark is acknowledged at the one that it had. A transaction is
/// where its commit is, and not its last event: a strict write takes its marks out while its puts are under
/// way, and commits once they are answered.
const RECORD: &str = "
    CREATE TABLE recorded (n bigserial, xid bigint, what text, name text, key text, version bigint);
    CREATE TABLE committed (xid bigint, at timestamptz);
    CREATE FUNCTION commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$ BEGIN
        INSERT INTO public.committed VALUES (NEW.xid, clock_timestamp());
        RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER commit AFTER INSERT ON recorded DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION commit();
    CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
    DECLARE
        was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
        now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
        found jsonb := coalesce(now, was);
    BEGIN
        INSERT INTO public.recorded (xid, what, name, key, version) VALUES (
            pg_current_xact_id()::text::bigint, TG_TABLE_NAME || ' ' || TG_OP, found ->> 'table_name',
            coalesce(found ->> 'phase', found ->> 'place', found ->> 'key'),
            coalesce(found ->> 'version', found ->> 'repair_version')::bigint);
        RETURN NULL;
    END $$;
    CREATE TRIGGER zz_record AFTER INSERT OR UPDATE OF version OR DELETE ON lockstep.pending
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER INSERT OR DELETE ON lockstep.intents
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER INSERT OR UPDATE ON lockstep.dead_letters
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER INSERT ON lockstep.journal
        FOR EACH ROW WHEN (NEW.step LIKE '%stop writes') EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER UPDATE OF phase ON lockstep.control
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER INSERT OR UPDATE OF version ON lockstep.reverse_places
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER INSERT OR UPDATE OF position ON lockstep.reverse_shards
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER DELETE ON lockstep.reverse_again
        FOR EACH ROW EXECUTE FUNCTION record();";

/// Begins to record.
pub(crate) async fn record(world: &World) {
    world.sql(RECORD).await;
    world.record_writes();
}

/// Holds what was recorded against the model.
///
/// # Panics
/// When a rule of the model was broken, with the events before.
pub(crate) async fn check(world: &World) {
    let trace = trace(world).await;
    assert!(!trace.is_empty(), "nothing was recorded");
    if let Some(refused) = refused(&trace) {
        panic!("{refused}, after {:#?}", &trace[refused.at.saturating_sub(10)..=refused.at]);
    }
}

/// Events of both stores in their order. A put is where its answer came, which was before any client heard of
/// it: so what the source commits about it comes later, by the clock of this machine.
async fn trace(world: &World) -> Vec<Happened> {
    let sql = "SELECT c.at, r.xid, what, coalesce(name, ''), coalesce(key, ''), coalesce(version, 0)
               FROM recorded r JOIN (SELECT xid, max(at) AS at FROM committed GROUP BY xid) c USING (xid)
               ORDER BY c.at, r.xid, n";
    let rows: Vec<(DateTime<Utc>, i64, String, String, String, i64)> =
        sqlx::query_as(sql).fetch_all(world.strangers()).await.expect("the source reads");
    let of_source = rows.into_iter().map(|(at, xid, what, name, key, version)| {
        let event = event(world, &what, &name, key, version);
        (at, Happened { transaction: xid.unsigned_abs(), event })
    });
    let epochs = sqlx::query_scalar("SELECT epoch FROM lockstep.target_epochs").fetch_all(world.strangers());
    let epochs: BTreeSet<i64> = epochs.await.expect("the source reads").into_iter().collect();
    let of_target = world.writes().into_iter().map(|written| {
        let (call, place) = (written.call, written.place);
        let event = match written.what {
            What::Left => Event::Leave { call, place },
            What::Applied(version) => {
                let is_truth = epochs.contains(&Version(version).epoch().0);
                Event::Put { call, place, version, is_truth }
            }
            What::Seen(version) => Event::See { place, version },
            What::Removed => Event::Remove { place },
            What::Unread => panic!("{place} has written items, and which is not recorded"),
        };
        (written.at, Happened { transaction: 0, event })
    });
    let mut trace: Vec<(DateTime<Utc>, Happened)> = of_source.chain(of_target).collect();
    trace.sort_by_key(|(at, _)| *at);
    trace.into_iter().map(|(_, one)| one).collect()
}

fn event(world: &World, what: &str, name: &str, text: String, version: i64) -> Event {
    let key = format!("{name} {text}");
    match what {
        "pending INSERT" | "pending UPDATE" => Event::Mark { key, version },
        "pending DELETE" => Event::Acknowledge { place: place_of(world, name, &text), key, version },
        "dead_letters INSERT" | "dead_letters UPDATE" => Event::SetAside { key },
        "intents INSERT" => Event::Intend { key, repair: version },
        "intents DELETE" => Event::Settle { key, repair: version },
        "journal INSERT" => Event::Pause,
        "control UPDATE" => Event::Flip(flipped(&text)),
        "reverse_places INSERT" | "reverse_places UPDATE" => Event::Feed { place: key, version },
        "reverse_again DELETE" => Event::ReadAgain,
        "reverse_shards INSERT" | "reverse_shards UPDATE" => Event::Position,
        other => panic!("{other} is recorded and has no event"),
    }
}

/// Item of a source key; `None` where the target can hold none.
fn place_of(world: &World, name: &str, key: &str) -> Option<String> {
    let binding = world.tables().into_iter().find(|binding| binding.name() == name).expect("a table");
    let key = SourceKey::parse(key).expect("a source key");
    let key = binding.table.target_key(&key).ok()?;
    Some(format!("{} {}", binding.target_name, place(&key.to_attributes())))
}

fn flipped(phase: &str) -> lockstep_model::Phase {
    match phase.parse().expect("a phase") {
        Phase::PostgresOnly => lockstep_model::Phase::PostgresOnly,
        Phase::DualWrite => lockstep_model::Phase::DualWrite,
        Phase::HybridRead => lockstep_model::Phase::HybridRead,
        Phase::DynamoOnly => lockstep_model::Phase::DynamoOnly,
    }
}

/// A world whose trace is recorded from here on, with a proxy before the target.
async fn recorded() -> World {
    let options = WorldOptions { proxied: true, recorded: true, ..WorldOptions::default() };
    let world = World::with(options).await;
    world.prepared().await.close().await;
    record(&world).await;
    world
}

/// Each rule of the trace has something to say of what is recorded.
#[tokio::test]
async fn a_run_there_and_back_is_the_models_and_is_none_without_one_of_its_parts() {
    let world = recorded().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    let app = world.app(WriteOptions::default());
    let store = app.store::<Payments>();
    store.put(&payment_row(1, 1, "inline")).await.expect("written");
    world.sql("UPDATE integration_logs SET user_id = 'by a stranger' WHERE log_id < 5").await;
    world.relay_until_empty().await;
    world.step_to(&coordinator, Phase::DynamoOnly).await;
    store.put(&payment_row(1, 1, "there")).await.expect("written");
    world.step_to(&coordinator, Phase::HybridRead).await;
    coordinator.close().await;
    app.shutdown().await;

    let trace = trace(&world).await;
    assert_eq!(refused(&trace), None, "{trace:#?}");
    let rule = |trace: &[Happened]| refused(trace).map(|refused| refused.rule);
    let without = |gone: fn(&Event) -> bool| {
        rule(&trace.iter().filter(|one| !gone(&one.event)).cloned().collect::<Vec<_>>())
    };
    // A put of the relay is known by its answer, or where another one has been quicker by what is there.
    let is_there = |event: &Event| matches!(event, Event::Put { .. } | Event::See { .. });
    assert_eq!(without(is_there), Some(Mutation::AcknowledgeAnyVersion));
    assert_eq!(without(|event| matches!(event, Event::Acknowledge { .. })), Some(Mutation::FlipOverPending));
    assert_eq!(without(|event| matches!(event, Event::Feed { .. })), Some(Mutation::FlipBackUndrained));
    assert_eq!(without(|event| matches!(event, Event::Pause)), Some(Mutation::FlipBackUnpaused));
    let position = |event: &Event| matches!(event, Event::Position | Event::ReadAgain);
    assert_eq!(without(position), Some(Mutation::PositionBeforeRows));

    let puts = trace.iter().filter(|one| matches!(&one.event, Event::Put { version, .. } if *version > 0));
    let Some(Event::Put { place, version, .. }) = puts.map(|one| one.event.clone()).next_back() else {
        panic!("nothing was put: {trace:#?}")
    };
    for version in [version - 1, version] {
        let late = [
            Event::Leave { call: u64::MAX, place: place.clone() },
            Event::Put { call: u64::MAX, place: place.clone(), version, is_truth: false },
        ];
        let late = late.map(|event| Happened { transaction: 0, event });
        assert_eq!(rule(&[&trace[..], &late].concat()), Some(Mutation::GuardLetsOlderThrough));
    }
}

/// Asked is only whether the trace is the model's: a mistake that breaks a rule is found by the rule.
#[tokio::test]
async fn a_mark_that_is_raised_while_its_key_is_delivered_is_acknowledged_as_the_models() {
    let world = recorded().await;
    world.sql(&logs(1, 1)).await;
    world.relay_until_empty().await;
    let gate = Gate::new();
    world.sql("UPDATE integration_logs SET user_id = 'older' WHERE log_id = 1").await;
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").times(1));
    tokio::join!(world.relay_until_empty(), async {
        gate.until_held(1).await;
        world.sql("UPDATE integration_logs SET user_id = 'newer' WHERE log_id = 1").await;
        gate.open();
    });
    check(&world).await;
}

/// As above.
#[tokio::test]
async fn a_step_back_over_a_feed_that_is_behind_is_the_models() {
    let world = recorded().await;
    let coordinator = undrained::coordinator(&world, Phase::DynamoOnly, 60).await;
    let _ = undrained::step_past_the_feed(&world, &coordinator).await;
    check(&world).await;
    world.step_to(&coordinator, Phase::HybridRead).await;
    check(&world).await;
}

/// As above.
#[tokio::test]
async fn a_put_that_the_network_repeats_is_applied_as_the_models() {
    let world = recorded().await;
    world.sql(&logs(1, 1)).await;
    world.relay_until_empty().await;
    world.sql("UPDATE integration_logs SET user_id = 'twice' WHERE log_id = 1").await;
    world.proxy().script(Rule::new(Fault::Duplicate).on("PutItem"));
    world.relay_until_empty().await;
    assert!(world.proxy().counts().injected(FaultKind::Duplicate) > 0);
    check(&world).await;
}
