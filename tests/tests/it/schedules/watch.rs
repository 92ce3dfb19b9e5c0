//! Watchers: of both stores while everything goes on, and of what is left when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::DateTime;
use lockstep_core::{
    Attributes, Control, Epoch, MigratableTable, SourceKey, TargetKey, TargetRecord, Truth, Version,
    is_tombstone, truth, version_of,
};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, PAYMENTS};
use sqlx::AssertSqlSafe;

use super::model::{Key, Model, State, Told};

/// Pause between looks: those who are looked at need the machine as well.
const LOOK: Duration = Duration::from_millis(10);

/// Notes every change that commits, whichever session makes it, and the phase it was made in, as a trigger
/// sees it. The token is what the change wrote; a row deleted has none.
const AUDIT: &str = "
    CREATE TABLE audit (xid text, table_name text, id bigint, token text, epoch bigint);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    BEGIN
        INSERT INTO audit SELECT pg_current_xact_id()::text, TG_TABLE_NAME, (changed ->> TG_ARGV[0])::bigint,
            CASE WHEN TG_OP <> 'DELETE' THEN changed ->> TG_ARGV[1] END, c.epoch FROM lockstep.control c;
        RETURN NULL;
    END $$;
    CREATE TRIGGER zz_audit AFTER INSERT OR UPDATE OR DELETE ON integration_logs
        FOR EACH ROW EXECUTE FUNCTION audit('log_id', 'user_id');
    CREATE TRIGGER zz_audit AFTER INSERT OR UPDATE OR DELETE ON payments
        FOR EACH ROW EXECUTE FUNCTION audit('payment_id', 'transaction_reference');";

/// Begins to note what commits.
pub(crate) async fn audit(world: &World) {
    world.sql(AUDIT).await;
}

/// Reads what the source holds.
async fn rows(world: &World) -> BTreeMap<Key, State> {
    let sql = "SELECT 0, log_id, coalesce(user_id, 'first') FROM integration_logs
               UNION ALL SELECT 1, payment_id, coalesce(transaction_reference, 'first') FROM payments";
    let found: Vec<(i32, i64, String)> =
        sqlx::query_as(sql).fetch_all(world.strangers()).await.expect("the source reads");
    found
        .into_iter()
        .map(|(table, id, token)| (Key([LOGS, PAYMENTS][table as usize], id), State::Holds(token)))
        .collect()
}

/// Reads what the target holds.
///
/// # Panics
/// When a row is there twice, under two keys.
async fn items(world: &World) -> BTreeMap<Key, State> {
    let mut found = BTreeMap::new();
    let mut insert = |key, token: Option<String>| {
        let before = found.insert(key, State::Holds(token.unwrap_or_else(|| "first".to_owned())));
        assert_eq!(before, None, "I7: {key:?} is in the target twice");
    };
    for item in world.items(LOGS).await.iter().filter(|item| !is_tombstone(item)) {
        let log = IntegrationLogs::decode(item).expect("an item decodes");
        insert(Key(LOGS, log.log_id), log.user_id);
    }
    for item in world.items(PAYMENTS).await.iter().filter(|item| !is_tombstone(item)) {
        let payment = Payments::decode(item).expect("an item decodes");
        insert(Key(PAYMENTS, payment.payment_id), payment.transaction_reference);
    }
    found
}

/// Both records of where the truth is, past every proxy.
async fn records(world: &World) -> (Control, Option<TargetRecord>) {
    let sql = "SELECT phase::text, epoch FROM lockstep.control";
    let (phase, epoch): (String, i64) =
        sqlx::query_as(sql).fetch_one(world.strangers()).await.expect("the source reads");
    let phase = phase.parse().expect("a phase");
    let source =
        Control { phase, epoch: Epoch(epoch), changed_at: DateTime::UNIX_EPOCH, writes_paused: false };
    (source, world.control().record().await.expect("the target reads"))
}

/// Reads what the truth holds, and a moment from before it was looked at; `None` if it moved meanwhile.
async fn truth_now(world: &World, model: &Model) -> Option<(BTreeMap<Key, State>, u64)> {
    let before = records(world).await;
    let moment = model.moment();
    // On its way, no application writes and both stores have everything: it is looked for where it goes.
    let held = match truth(&before.0, before.1.as_ref()) {
        Truth::InTarget | Truth::ToTarget(_) => items(world).await,
        Truth::InSource | Truth::ToSource(..) => rows(world).await,
        // Of two records that were read one after the other this proves nothing, unless neither has changed.
        Truth::Lost if records(world).await == before => {
            panic!("the records contradict each other: {before:?}")
        }
        Truth::Lost => return None,
    };
    (records(world).await == before).then_some((held, moment))
}

/// I7, I3: the truth holds what was acknowledged, or something newer, wherever it is.
pub(crate) async fn check_truth(world: &World, model: &Model) {
    let (held, moment) = loop {
        if let Some(found) = truth_now(world, model).await {
            break found;
        }
    };
    for key in model.keys() {
        let state = held.get(&key).unwrap_or(&State::Absent);
        assert_eq!(model.objection(key, state, moment), None, "I7");
    }
}

/// Looks at the truth again and again. Never ends.
pub(crate) async fn watch_truth(world: &World, model: &Model) {
    loop {
        check_truth(world, model).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// I2, I3: of each place in the target, the version never goes back. Never ends.
pub(crate) async fn watch_versions(world: &World) {
    let mut seen: BTreeMap<String, Version> = BTreeMap::new();
    loop {
        for table in [LOGS, PAYMENTS] {
            for item in world.items(table).await {
                let (place, version) =
                    (place(table, &item), version_of(&item).expect("every item has a version"));
                let before = seen.insert(place.clone(), version);
                assert!(before <= Some(version), "I2: {place} went from {before:?} back to {version:?}");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn place(table: &str, item: &Attributes) -> String {
    format!("{table} {:?}", TargetKey::of(item).expect("every item has a key"))
}

/// I1: whatever differs between the stores is known. Asked when no application writes and no relay delivers.
pub(crate) async fn check_known(world: &World) {
    let sql = "SELECT table_name, key::text FROM lockstep.pending UNION SELECT table_name, key::text FROM lockstep.intents";
    let open: Vec<(String, String)> =
        sqlx::query_as(sql).fetch_all(world.strangers()).await.expect("the source reads");
    let mut known = BTreeSet::new();
    for (table, key) in open {
        let key = SourceKey::parse(&key).expect("a source key");
        let binding =
            world.tables().into_iter().find(|binding| binding.name() == table).expect("one of ours");
        let target_key = binding.table.target_key(&key).expect("a key that the target can hold");
        known.insert((binding.name(), format!("{target_key:?}")));
    }
    for (table, place, what) in world.differences().await {
        assert!(known.contains(&(table, place.clone())), "I1: not pending: {table}: {place} {what}");
    }
}

/// I5, I8: what the audit says of phases, and of what callers were told.
pub(crate) async fn check_audit(world: &World, model: &Model) {
    let sql = "SELECT coalesce(string_agg(xid, ' '), '') FROM
               (SELECT xid FROM audit GROUP BY xid HAVING count(DISTINCT epoch) > 1) AS split";
    assert_eq!(world.value::<String>(sql).await, "", "I5: transactions in two phases");
    let sql = "SELECT DISTINCT table_name, id, token FROM audit WHERE token IS NOT NULL";
    let found: Vec<(String, i64, String)> = sqlx::query_as(AssertSqlSafe(sql.to_owned()))
        .fetch_all(world.strangers())
        .await
        .expect("the source reads");
    let committed: BTreeSet<(&str, i64, &str)> =
        found.iter().map(|(t, id, token)| (t.as_str(), *id, token.as_str())).collect();
    for (Key(table, id), token, told) in model.told() {
        let is_there = committed.contains(&(table, id, token.as_str()));
        match told {
            Told::Acknowledged => {
                assert!(is_there || token == "first", "I8: {token} of {table} {id} was told to be written")
            }
            Told::Nothing => assert!(!is_there, "I8: {token} of {table} {id} was told to have failed"),
            // Of several of one row the feed may bring the last one only.
            Told::AcknowledgedByTarget | Told::Unknown => {}
        }
    }
}
