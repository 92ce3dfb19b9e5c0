//! Surroundings of an application's tables, installed before anything of ours.

use lockstep_core::Epoch;
use lockstep_dynamo::{Target, TargetOptions};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};

use super::program::IDS;

/// Triggers of the application's, before and after; one writes the other table, one moves the target key, one
/// makes an update of a delete.
const TRIGGERS: &str = "
    CREATE FUNCTION settle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE integration_logs SET status_code = NEW.payment_status
            WHERE log_id = NEW.payment_id AND status_code IS DISTINCT FROM NEW.payment_status;
        RETURN NULL; END $$;
    CREATE TRIGGER settle AFTER INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION settle();
    CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN
            UPDATE integration_logs SET processing_time_ms = coalesce(processing_time_ms, 0) + 1
                WHERE log_id = NEW.log_id;
        END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER count_changes AFTER UPDATE OF user_id ON integration_logs
        FOR EACH ROW EXECUTE FUNCTION count_changes();
    CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.user_id := lower(NEW.user_id);
        IF NEW.service_name = 'twin' THEN NEW.service_name := 'twin-' || NEW.log_id; END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON integration_logs FOR EACH ROW EXECUTE FUNCTION tidy();
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF OLD.payment_method <> 'Kept' THEN RETURN OLD; END IF;
        UPDATE payments SET payment_status = 'Gone' WHERE payment_id = OLD.payment_id;
        RETURN NULL; END $$;
    CREATE TRIGGER keep BEFORE DELETE ON payments FOR EACH ROW EXECUTE FUNCTION keep();";

/// References between the tables that move, to ones that stay and from them.
const REFERENCES: &str = "
    UPDATE integration_logs SET application_id = log_id;
    ALTER TABLE integration_logs ADD CONSTRAINT of_payment FOREIGN KEY (application_id)
        REFERENCES payments (payment_id) ON DELETE CASCADE;
    CREATE TABLE receipts (payment_id bigint PRIMARY KEY REFERENCES payments (payment_id) ON DELETE CASCADE);
    INSERT INTO receipts SELECT payment_id FROM payments;
    CREATE TABLE partners (partner_id integer PRIMARY KEY, name text UNIQUE);
    INSERT INTO partners SELECT row_number() OVER (ORDER BY c), c
        FROM (SELECT DISTINCT correlation_id FROM integration_logs) AS d (c);
    ALTER TABLE integration_logs ADD CONSTRAINT of_partner FOREIGN KEY (correlation_id)
        REFERENCES partners (name) ON UPDATE CASCADE ON DELETE SET NULL;";

/// A world with all of it, and rows. The role `ROLE_teller` sees every other payment.
pub(super) async fn stage() -> World {
    let world = World::start().await;
    world.sql(&format!("{}; {}", payments(1, IDS.end), logs(1, IDS.end))).await;
    // Rows that are numbered by PostgreSQL or a counter are none that an actor writes.
    world.sql("SELECT setval(pg_get_serial_sequence('integration_logs', 'log_id'), 10000)").await;
    world.sql(REFERENCES).await;
    world.sql(TRIGGERS).await;
    let database: String = world.value("SELECT current_database()::text").await;
    world
        .sql(&format!(
            "CREATE ROLE {database}_teller;
             GRANT SELECT, UPDATE, DELETE ON payments, integration_logs TO {database}_teller;
             ALTER TABLE payments ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON payments USING (payment_id % 2 = 0)"
        ))
        .await;
    limit(&world).await;
    next_door(&world).await;
    world
}

/// Time-outs for every session from now on, ours as well. A copy of a database has none.
pub(super) async fn limit(world: &World) {
    let database: String = world.value("SELECT current_database()::text").await;
    for (setting, value) in [
        ("lock_timeout", "300ms"),
        ("statement_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("deadlock_timeout", "50ms"),
    ] {
        world.sql(&format!("ALTER DATABASE {database} SET {setting} = '{value}'")).await;
    }
}

/// Another migration in the same account, with a control table of its own, in DynamoOnly.
async fn next_door(world: &World) {
    let options = TargetOptions { control_table: "lockstep_control_2".to_owned(), ..world.target_options() };
    let target = Target::connect(options).await;
    target.belongs_to("another").expect("told for the first time");
    let control = target.control();
    control.create().await.expect("a control table");
    control.enter(Epoch(40)).await.expect("told");
    control.open_writes(Epoch(40)).await.expect("opened");
    control.seed_ids("payments", 9_000, None).await.expect("seeded");
}
