//! Trace of a schedule, recorded from outside by triggers on the tables of `lockstep` and by the proxy before
//! the target, and held against the rules of the model (`lockstep_model::trace`).

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use lockstep::store::WriteOptions;
use lockstep_core::{Phase, SourceKey, Version, place};
use lockstep_model::Mutation;
use lockstep_model::trace::{Event, Happened, refused};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_row, payments};

/// A transaction that is rolled back leaves nothing, as it has done nothing. Both versions of a change are
/// there: an intent is settled at its own, a mark is acknowledged at the one that it had.
const RECORD: &str = "
    CREATE TABLE recorded (n bigserial, at timestamptz DEFAULT clock_timestamp(), xid bigint, what text,
        name text, key text, version bigint);
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
    world.proxy().record_writes();
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

/// Events of both stores in their order. A transaction is where its last event is, which is the order of the
/// commits wherever a lock of one row, or the barrier, orders them. A put is where its answer came, which was
/// before any client heard of it: so what the source does about it comes later, by the clock of this machine.
async fn trace(world: &World) -> Vec<Happened> {
    let sql = "SELECT max(at) OVER (PARTITION BY xid), xid, what, coalesce(name, ''), coalesce(key, ''),
                   coalesce(version, 0)
               FROM recorded ORDER BY max(at) OVER (PARTITION BY xid), xid, n";
    let rows: Vec<(DateTime<Utc>, i64, String, String, String, i64)> =
        sqlx::query_as(sql).fetch_all(world.strangers()).await.expect("the source reads");
    let of_source = rows.into_iter().map(|(at, xid, what, name, key, version)| {
        let event = event(world, &what, &name, key, version);
        (at, Happened { transaction: xid.unsigned_abs(), event })
    });
    let epochs = sqlx::query_scalar("SELECT epoch FROM lockstep.target_epochs").fetch_all(world.strangers());
    let epochs: BTreeSet<i64> = epochs.await.expect("the source reads").into_iter().collect();
    let of_target = world.proxy().writes().into_iter().map(|put| {
        let is_truth = put.applied && epochs.contains(&Version(put.version).epoch().0);
        let place = format!("{} {}", put.table, put.place);
        (put.at, Happened { transaction: 0, event: Event::Put { place, version: put.version, is_truth } })
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

/// Each rule of the trace has something to say of what is recorded.
#[tokio::test]
async fn a_run_there_and_back_is_the_models_and_is_none_without_one_of_its_parts() {
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    world.prepared().await.close().await;
    record(&world).await;
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
    let without = |gone: fn(&Event) -> bool| {
        let rest: Vec<Happened> = trace.iter().filter(|one| !gone(&one.event)).cloned().collect();
        refused(&rest).map(|refused| refused.rule)
    };
    assert_eq!(without(|event| matches!(event, Event::Put { .. })), Some(Mutation::AcknowledgeAnyVersion));
    assert_eq!(without(|event| matches!(event, Event::Acknowledge { .. })), Some(Mutation::FlipOverPending));
    assert_eq!(without(|event| matches!(event, Event::Feed { .. })), Some(Mutation::FlipBackUndrained));
    assert_eq!(without(|event| matches!(event, Event::Pause)), Some(Mutation::FlipBackUnpaused));
    let position = |event: &Event| matches!(event, Event::Position | Event::ReadAgain);
    assert_eq!(without(position), Some(Mutation::PositionBeforeRows));
}
