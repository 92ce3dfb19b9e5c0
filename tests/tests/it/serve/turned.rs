//! Settings that operators turn while everything runs: followed within a second, over when its time is, led
//! by a ramp, and turned back by the daemon itself when too much differs.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use lockstep::migration::Migration;
use lockstep::store::{ReadOptions, Share, WriteOptions};
use lockstep_core::settings::CANARY_PERCENT;
use lockstep_core::{MigratableTable, Phase};
use lockstep_payments::Payments;
use lockstep_postgres::Turn;
use lockstep_tests::World;
use lockstep_tests::world::PAYMENTS;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{eventually, run};
use serde_json::{Value, json};

use super::served::Served;
use crate::process::{command, ended};
use crate::roles::{grants, role};

pub(super) async fn world(phase: Phase) -> World {
    let world = World::start().await;
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(phase).await.close().await;
    world
}

pub(super) fn leads(status: &Value) -> bool {
    status["daemon"]["role"] == "leader" && status["installed"] == true
}

/// Says whether an operator has paused the relay, and it has heard of it.
pub(super) fn relay_rests(status: &Value) -> bool {
    let parts = status["daemon"]["parts"].as_array().expect("parts");
    parts.iter().any(|part| part["name"] == "relay" && part["state"] == "paused")
}

/// An application with the rights of the runbook and no more.
pub(super) async fn application(world: &World, name: &str, reads: ReadOptions) -> Migration {
    let (role, source) = role(world, name).await;
    world.sql(&grants(&role)).await;
    world.registered_app(source, WriteOptions::default(), reads, Duration::from_secs(10)).await
}

pub(super) fn canary(app: &Migration) -> f64 {
    app.store::<Payments>().reads().options().canary_percent.into()
}

/// The journal's lines of a kind, newest first.
pub(super) async fn journal(served: &Served, step: &str) -> Vec<Value> {
    let entries = served.get("/v1/journal?limit=200").await.json()["entries"].clone();
    let all = entries.as_array().expect("entries").iter();
    all.filter(|entry| entry["step"] == step).cloned().collect()
}

/// R49: who may write one row of one table of ours follows what is set, and what it counts is added up.
#[tokio::test]
async fn what_an_operator_sets_an_application_follows_within_a_second_and_no_longer_than_it_holds() {
    let world = world(Phase::HybridRead).await;
    let served = Served::of(&world).await;
    served.until("it leads", leads).await;
    let app = application(&world, "follows", ReadOptions::default()).await;
    assert_eq!(canary(&app), 100.0);

    // Several times, as a machine that stands still makes one of them late.
    let (mut set_at, mut followed) = (Instant::now(), Vec::new());
    for percent in [3.0, 4.0, 5.0] {
        let body = json!({ "set": { "canary_percent": percent, "max_staleness_ms": 250 }, "for_s": 12, "actor": "ann", "reason": "ticket 4711" });
        set_at = Instant::now();
        let set = served.post("/v1/settings", &body).await;
        assert_eq!(set.status, StatusCode::OK, "{}", set.text);
        assert_eq!(set.json()["settings"]["canary_percent"]["value"], percent);
        eventually("the application follows", || async { canary(&app) == percent }).await;
        followed.push(set_at.elapsed());
    }
    assert!(followed.iter().any(|after| *after < Duration::from_secs(2)), "{followed:?}");
    assert_eq!(app.store::<Payments>().reads().options().max_staleness_ms, 250);
    served
        .until("the page shows it", |status| {
            let settings = status["daemon"]["settings"].as_array().expect("settings");
            settings.iter().any(|one| one["name"] == "canary_percent" && one["reason"] == "ticket 4711")
        })
        .await;
    eventually("it is over by itself", || async { canary(&app) == 100.0 }).await;
    assert!(set_at.elapsed() >= Duration::from_secs(12), "{:?}", set_at.elapsed());

    // The same by the command line, which needs no daemon and no DynamoDB.
    let mut set = command(
        &world,
        &["set", "hybrid_read", "best-effort", "--for", "1h", "--reason", "throttled", "--json"],
    );
    set.env("LOCKSTEP_TARGET__ENDPOINT_URL", "http://127.0.0.1:1");
    let set = ended(set).await;
    assert_eq!(set.status.code(), Some(0), "{}", String::from_utf8_lossy(&set.stderr));
    let shown: Value = serde_json::from_slice(&set.stdout).expect("one JSON document");
    let settings = shown["settings"].as_array().expect("settings");
    assert!(settings.iter().any(|one| one["name"] == "hybrid_read" && !one["until"].is_null()), "{shown}");
    let entry = journal(&served, "set hybrid_read").await.pop().expect("it is journalled");
    assert_eq!(
        entry["detail"],
        json!({ "name": "hybrid_read", "value": "best_effort", "reason": "throttled", "for_s": 3600 })
    );
    let entry = journal(&served, "set canary_percent").await.pop().expect("it is journalled");
    assert_eq!((&entry["actor"], &entry["detail"]["for_s"]), (&json!("ann via serve"), &json!(12)));

    for (wrong, says) in [
        (&["set", "canary_percent", "101"][..], "from 0 to 100"),
        (&["set", "no_such_setting", "1"], "there are: canary_percent"),
        (&["set", "canary_percent", "5", "--for", "soon"], "length of time"),
        (&["set", "spend_cap_usd", "--ramp", "1,2", "--hold", "1m"], "a ramp leads a percentage"),
    ] {
        let output = ended(command(&world, wrong)).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {stderr}");
        assert!(stderr.contains(says), "{wrong:?}: {stderr}");
    }
    app.shutdown().await;
}

#[tokio::test]
async fn a_ramp_rises_by_itself_and_waits_while_something_differs() {
    let world = world(Phase::HybridRead).await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served.until("it leads", leads).await;
    let ramp = json!({ "ramp": { "name": "canary_percent", "steps": [1, 5, 100], "hold_s": 4 }, "reason": "go live" });
    let begun = served.post("/v1/settings", &ramp).await;
    assert_eq!(begun.json()["settings"]["canary_percent"]["value"], 1.0, "{}", begun.text);
    // Before the next step is asked for, something is found.
    world.source.count_up(&[(PAYMENTS, "shadow.differ", 1)]).await.expect("counted");
    served
        .until("the ramp says why it waits", |status| {
            let parts = status["daemon"]["parts"].as_array().expect("parts");
            parts.iter().any(|part| part["name"] == "ramp" && part["why"].to_string().contains("differ"))
        })
        .await;
    let value = async || {
        world
            .value::<f64>(
                "SELECT (value #>> '{}')::float8 FROM lockstep.settings WHERE name = 'canary_percent'",
            )
            .await
    };
    assert_eq!(value().await, 1.0, "it has not risen");
    // It is counted no more: a day has passed.
    world.sql("DELETE FROM lockstep.counts").await;
    eventually("it is at its end", || async { value().await == 100.0 }).await;
    eventually("nothing leads it any more", || async {
        world.value::<i64>("SELECT count(*) FROM lockstep.settings WHERE name LIKE 'ramp.%'").await == 0
    })
    .await;
    let steps: Vec<Value> = journal(&served, "set canary_percent")
        .await
        .iter()
        .rev()
        .map(|entry| entry["detail"]["value"].clone())
        .collect();
    assert_eq!(steps, [json!(1.0), json!(5.0), json!(100.0)]);
}

/// The share that a ramp leads, as it is set.
const CANARY_IS: &str =
    "SELECT (value #>> '{}')::float8 FROM lockstep.settings WHERE name = 'canary_percent'";
/// Request of an operator whose readers are given wrong answers.
const CANARY_OFF: &str =
    "UPDATE lockstep.settings SET value = '0', actor = 'ben' WHERE name = 'canary_percent';
     DELETE FROM lockstep.settings WHERE name = 'ramp.canary_percent'";

/// 1. The daemon reads that the next step of a ramp is due. 2. An operator sets the share to 0. 3. The daemon
/// takes the step.
#[tokio::test]
async fn a_step_of_a_ramp_is_not_taken_once_an_operator_has_set_its_share() {
    let world = world(Phase::HybridRead).await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served.until("it leads", leads).await;
    let ramp = json!({ "ramp": { "name": "canary_percent", "steps": [1, 2, 3, 4, 5, 100], "hold_s": 2 } });
    let begun = served.post("/v1/settings", &ramp).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.text);
    let mut operator = world.stranger().await;
    run(&mut operator, "BEGIN").await;
    run(&mut operator, CANARY_OFF).await;
    eventually("the daemon has decided on a step", || world.is_held_up()).await;
    run(&mut operator, "COMMIT").await;
    served
        .until("it has looked again", |status| {
            let parts = status["daemon"]["parts"].as_array().expect("parts");
            parts.iter().any(|part| {
                part["name"] == "ramp" && part["why"].to_string().contains("no ramp is under way")
            })
        })
        .await;
    assert_eq!(world.value::<f64>(CANARY_IS).await, 0.0);
    let ramps = "SELECT count(*) FROM lockstep.settings WHERE name LIKE 'ramp.%'";
    assert_eq!(world.value::<i64>(ramps).await, 0);
}

#[tokio::test]
async fn what_was_decided_by_a_setting_that_is_another_by_now_is_not_turned() {
    let world = World::start().await;
    world.source.migrate_schema().await.expect("made");
    let (led_by, more) = ("ramp.canary_percent", json!({}));
    let (ramp, quarter, half) = (json!({ "at": 0 }), json!(25.0), json!(50.0));
    let begun = [
        Turn { name: CANARY_PERCENT, value: Some(&quarter), expect: Some(None), ..Turn::default() },
        Turn { name: led_by, value: Some(&ramp), expect: Some(None), ..Turn::default() },
    ];
    assert!(world.source.turn(&begun, "ann", None, &more).await.expect("asked"), "there is none yet");
    assert!(!world.source.turn(&begun, "ann", None, &more).await.expect("asked"), "there is one now");

    let read = world.source.settings().await.expect("read");
    let row = |name: &str| read.iter().find(|row| row.name == name);
    let step = [
        Turn {
            name: CANARY_PERCENT,
            value: Some(&half),
            expect: Some(row(CANARY_PERCENT)),
            ..Turn::default()
        },
        Turn { name: led_by, value: Some(&ramp), expect: Some(row(led_by)), ..Turn::default() },
    ];
    let mut operator = world.stranger().await;
    run(&mut operator, "BEGIN").await;
    run(&mut operator, CANARY_OFF).await;
    let (turned, ()) = tokio::join!(world.source.turn(&step, "ann", None, &more), async {
        eventually("the step waits for the operator", || world.is_held_up()).await;
        run(&mut operator, "COMMIT").await;
    });
    assert!(!turned.expect("asked"));
    assert_eq!(world.value::<f64>(CANARY_IS).await, 0.0);
    assert_eq!(world.value::<i64>("SELECT count(*) FROM lockstep.settings").await, 1);
    // By another person to the same value is another decision too.
    let read = world.source.settings().await.expect("read");
    world.sql("UPDATE lockstep.settings SET actor = 'cay'").await;
    let back = Turn { name: CANARY_PERCENT, value: None, expect: Some(read.first()), ..Turn::default() };
    assert!(!world.source.turn(&[back], "ben", None, &more).await.expect("asked"));
    // One whose time is over is none.
    world.sql("UPDATE lockstep.settings SET until = clock_timestamp() - interval '1 second'").await;
    assert!(world.source.turn(&begun, "ann", None, &more).await.expect("asked"));
}

/// The second transaction waits for the first one, and has begun to look before it.
#[tokio::test]
async fn what_two_transactions_change_at_once_the_control_record_has_both_of() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let set =
        |name| format!("INSERT INTO lockstep.settings (name, value, actor) VALUES ('{name}', '5', 'ann')");
    let change = |name| format!("UPDATE lockstep.tables SET expiry = 'of {name}' WHERE name = '{name}'");
    for (first, second, both) in [
        (
            set("canary_percent"),
            set("shadow_percent"),
            "SELECT settings ?& ARRAY['canary_percent', 'shadow_percent'] FROM lockstep.control",
        ),
        (
            change("payments"),
            change("integration_logs"),
            r#"SELECT contract @> '[{"expiry": "of payments"}, {"expiry": "of integration_logs"}]'
               FROM lockstep.control"#,
        ),
    ] {
        let (mut one, mut other) = (world.stranger().await, world.stranger().await);
        run(&mut one, "BEGIN").await;
        run(&mut one, &first).await;
        tokio::join!(run(&mut other, &second), async {
            eventually("the second waits for the first", || world.is_held_up()).await;
            run(&mut one, "COMMIT").await;
        });
        assert!(world.value::<bool>(both).await, "{second}");
    }
}

/// R48: 1. An item is tampered with, and DynamoDB answers reads. 2. Shadow reads of an application see it. 3.
/// No person is there.
#[tokio::test]
async fn too_many_differences_in_hybrid_read_step_reads_back_and_a_new_verdict_is_asked_for() {
    let world = world(Phase::HybridRead).await;
    let served = Served::with(
        &world,
        &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0"), ("LOCKSTEP_SERVE__MISMATCHES_MAX", "2")],
    )
    .await;
    served.until("it leads", leads).await;
    // A share that was reached and is held, when something begins to differ.
    let held = json!({ "set": { "canary_percent": 55 }, "actor": "ann", "reason": "held" });
    assert_eq!(served.post("/v1/settings", &held).await.status, StatusCode::OK);
    let reads = ReadOptions { shadow_percent: Share::ALL, ..ReadOptions::default() };
    let app = application(&world, "shadows", reads).await;
    let store = app.store::<Payments>();
    let keys: Vec<_> = {
        let mut keys = Vec::new();
        for id in 1..=4_i64 {
            let row = store.get_source(id).await.expect("asked").expect("a row");
            keys.push(Payments::key(&row));
            let place = store.table().target_key(&Payments::key(&row)).expect("a key").to_attributes();
            world
                .plain_target
                .client()
                .update_item()
                .table_name(PAYMENTS)
                .set_key(Some(place))
                .update_expression("SET transaction_reference = :other")
                .expression_attribute_values(
                    ":other",
                    lockstep_core::AttributeValue::S("tampered".to_owned()),
                )
                .send()
                .await
                .expect("tampered with");
        }
        keys
    };
    for key in &keys {
        store.get(key).await.expect("answered");
    }
    served
        .until("reads are back", |status| {
            status["phase"] == "DualWrite"
                && status["daemon"]["alerts"]
                    .as_array()
                    .expect("alerts")
                    .iter()
                    .any(|alert| alert["name"] == "reads_stepped_back" && alert["severity"] == "critical")
        })
        .await;
    let asked = journal(&served, "asked to rollback").await.pop().expect("who and why is journalled");
    assert_eq!(asked["actor"], "monitor via serve");
    assert!(asked["detail"]["reason"].to_string().contains("differences"), "{asked}");
    let row = async || {
        let settings = world.source.settings().await.expect("read");
        settings.into_iter().find(|row| row.name == CANARY_PERCENT).map(|row| (row.value, row.actor))
    };
    let ann = Some((json!(55.0), "ann via serve".to_owned()));
    eventually("the share is what it was", || async { row().await == ann }).await;
    eventually("an application follows it", || async { canary(&app) == 55.0 }).await;

    // Another daemon tells of it as well: the one that stepped back may be gone.
    assert_eq!(served.end().await, Some(0));
    let variables = [("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0"), ("LOCKSTEP_SERVE__MISMATCHES_MAX", "2")];
    let served = Served::with(&world, &variables).await;
    served
        .until("it is told on", |status| {
            let alerts = status["daemon"]["alerts"].as_array().expect("alerts");
            leads(status) && alerts.iter().any(|alert| alert["name"] == "reads_stepped_back")
        })
        .await;

    // Shadow reads of DualWrite see it as well, and the gate of the way forward refuses by them.
    world.record_verdict().await;
    for key in &keys {
        store.get(key).await.expect("answered");
    }
    let refusing = async || {
        let gates = served.get("/v1/gates?to=HybridRead").await.json()["gates"].clone();
        gates.as_array().is_some_and(|gates| {
            gates.iter().any(|gate| gate["name"] == "shadow reads agree" && gate["passed"] == false)
        })
    };
    eventually("the gate refuses", refusing).await;
    eventually("all of them are reported", || async {
        let of_epoch = "SELECT coalesce(sum(count), 0)::bigint FROM lockstep.counts
                        WHERE name = 'shadow.differ' AND epoch = (SELECT epoch FROM lockstep.control)";
        world.value::<i64>(of_epoch).await == 4
    })
    .await;
    // The way on: repair, compare, and nothing differs since.
    let repaired = served.done("/v1/repair", &json!({ "reason": "tampered with" })).await;
    assert_eq!(
        (&repaired["state"], &repaired["result"]["verified"]),
        (&json!("succeeded"), &json!(4)),
        "{repaired}"
    );
    let compared = served.done("/v1/validate", &json!({})).await;
    assert_eq!(compared["result"]["verdict"], "consistent", "{compared}");
    let stepped = served.done("/v1/advance", &json!({ "to": "HybridRead" })).await;
    assert_eq!(stepped["state"], "succeeded", "{stepped}");
    served
        .until("the alert is over", |status| {
            let alerts = status["daemon"]["alerts"].as_array().expect("alerts");
            alerts.iter().all(|alert| alert["name"] != "reads_stepped_back")
        })
        .await;
    app.shutdown().await;
}

/// R48: what applications count is added up where the daemon reads it, by the rights that they have.
#[tokio::test]
async fn writes_and_operations_of_applications_are_counted_and_what_did_not_end_is_told() {
    let world = world(Phase::DualWrite).await;
    let served = Served::of(&world).await;
    served.until("it leads", leads).await;
    let app = application(&world, "counts", ReadOptions::default()).await;
    let store = app.store::<Payments>();
    for id in 1..=5_i64 {
        store.update(id, |row| row.customer_id += 1).await.expect("written");
    }
    let sum = async |name: &str| {
        world
            .value::<i64>(&format!(
                "SELECT coalesce(sum(count), 0)::bigint FROM lockstep.counts WHERE name = '{name}'"
            ))
            .await
    };
    eventually("they are reported", || async { sum("write.committed").await == 5 }).await;
    // Operations that began a while ago: of a thousand, four did not end.
    let more =
        [("", "operation.begun", 1_000), ("", "operation.committed", 996), ("", "write.committed", 995)];
    world.source.count_up(&more).await.expect("counted");
    world.sql("UPDATE lockstep.counts SET since = since - interval '5 minutes'").await;
    served
        .until("it is told", |status| {
            let counted = &status["daemon"]["counted"];
            let alerts = status["daemon"]["alerts"].as_array().expect("alerts");
            counted["operations_open"] == 4
                && counted["write_success_percent"] == 100.0
                && alerts.iter().any(|a| a["name"] == "coordinated_operations" && a["severity"] == "warning")
        })
        .await;
    world.source.count_up(&[("", "write.failed", 2)]).await.expect("counted");
    served
        .until("so are writes that fail", |status| {
            let alerts = status["daemon"]["alerts"].as_array().expect("alerts");
            alerts.iter().any(|alert| alert["name"] == "write_success" && alert["severity"] == "critical")
        })
        .await;
    let metrics = served.open("/metrics").await.text;
    assert!(metrics.contains("lockstep_operations_open 4"), "{metrics}");
    app.shutdown().await;
}

/// R50: what is spent is told, and at the cap what can be stopped is stopped, until the cap is raised.
#[tokio::test]
async fn at_the_cap_copying_and_comparing_stop_and_go_on_when_it_is_raised() {
    let world = world(Phase::DualWrite).await;
    let served = Served::of(&world).await;
    served.until("it leads", leads).await;
    world.source.count_up(&[(PAYMENTS, "spent.write_units", 2_000_000)]).await.expect("counted");
    served.post("/v1/settings", &json!({ "set": { "spend_cap_usd": 1 }, "reason": "budget" })).await;
    served
        .until("it stops", |status| {
            let paused = status["daemon"]["paused"].as_array().expect("pauses");
            let of = |part: &str| {
                paused.iter().any(|pause| pause["part"] == part && pause["actor"] == "spend cap via serve")
            };
            of("backfill") && of("sampling")
        })
        .await;
    let cost = served.get("/v1/cost").await.json();
    assert!(cost["spend"]["usd"].as_f64() >= Some(1.25), "{cost}");
    let shown = ended(command(&world, &["cost", "--json"])).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("one JSON document");
    assert_eq!((&shown["cap_usd"], &shown["prices_as_of"]), (&json!(1.0), &json!("2025-01-01")), "{shown}");
    served.post("/v1/settings", &json!({ "set": { "spend_cap_usd": 100 }, "reason": "more" })).await;
    served.until("it goes on", |status| status["daemon"]["paused"] == json!([])).await;
}
