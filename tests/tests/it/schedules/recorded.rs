//! Trace of a schedule, recorded from outside by triggers on the tables of `lockstep`, and held against the
//! rules of the model (`lockstep_model::trace`).

use lockstep_core::Phase;
use lockstep_model::trace::{Event, Happened, refused};
use lockstep_tests::World;

/// A transaction that is rolled back leaves nothing, as it has done nothing. Both versions of a change are
/// there: an intent is settled at its own, a mark is acknowledged at the one that it had.
const RECORD: &str = "
    CREATE TABLE recorded (n bigserial, xid bigint, what text, key text, version bigint);
    CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
    DECLARE
        was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
        now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
        found jsonb := coalesce(now, was);
    BEGIN
        INSERT INTO public.recorded (xid, what, key, version) VALUES (
            pg_current_xact_id()::text::bigint, TG_TABLE_NAME || ' ' || TG_OP,
            coalesce(found ->> 'phase', (found ->> 'table_name') || ' ' || coalesce(found ->> 'place', found ->> 'key')),
            coalesce(found ->> 'version', found ->> 'repair_version')::bigint);
        RETURN NULL;
    END $$;
    CREATE TRIGGER zz_record AFTER INSERT OR UPDATE OF version OR DELETE ON lockstep.pending
        FOR EACH ROW EXECUTE FUNCTION record();
    CREATE TRIGGER zz_record AFTER INSERT OR DELETE ON lockstep.intents
        FOR EACH ROW EXECUTE FUNCTION record();
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

/// Transactions in the order of their last events, which is the order of their commits wherever a lock of one
/// row, or the barrier, orders them.
async fn trace(world: &World) -> Vec<Happened> {
    let sql = "SELECT xid, what, coalesce(key, ''), coalesce(version, 0) FROM recorded
               ORDER BY max(n) OVER (PARTITION BY xid), n";
    let rows: Vec<(i64, String, String, i64)> =
        sqlx::query_as(sql).fetch_all(world.strangers()).await.expect("the source reads");
    rows.into_iter()
        .map(|(xid, what, key, version)| Happened {
            transaction: xid.unsigned_abs(),
            event: event(&what, key, version),
        })
        .collect()
}

fn event(what: &str, key: String, version: i64) -> Event {
    match what {
        "pending INSERT" | "pending UPDATE" => Event::Mark { key, version },
        "pending DELETE" => Event::Acknowledge { key, version },
        "intents INSERT" => Event::Intend { key, repair: version },
        "intents DELETE" => Event::Settle { key, repair: version },
        "control UPDATE" => Event::Flip(flipped(&key)),
        "reverse_places INSERT" | "reverse_places UPDATE" => Event::Feed { place: key, version },
        "reverse_again DELETE" => Event::ReadAgain,
        "reverse_shards INSERT" | "reverse_shards UPDATE" => Event::Position,
        other => panic!("{other} is recorded and has no event"),
    }
}

fn flipped(phase: &str) -> lockstep_model::Phase {
    match phase.parse().expect("a phase") {
        Phase::PostgresOnly => lockstep_model::Phase::PostgresOnly,
        Phase::DualWrite => lockstep_model::Phase::DualWrite,
        Phase::HybridRead => lockstep_model::Phase::HybridRead,
        Phase::DynamoOnly => lockstep_model::Phase::DynamoOnly,
    }
}
