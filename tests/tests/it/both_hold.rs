//! I16: until completion, what one store accepts the other can hold. What cannot be held is refused to its
//! writer as PostgreSQL would refuse it; what comes round the writers is set aside by name, and the rows
//! after it follow.

use std::time::Duration;

use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep::store::WriteOutcome;
use lockstep_coordinator::{FeedUntil, drained};
use lockstep_core::{Column, Error, Json, Kind, Phase, Scaled};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, OperationLogs};
use lockstep_payments::{Payment, Payments};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, logs, payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually};
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;

use crate::history::diagnosis;

fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn document(text: &str) -> Option<Json> {
    Some(Json::parse(text).expect("a document"))
}

fn correlated(log_id: i64, user_id: &str) -> IntegrationLog {
    IntegrationLog { correlation_id: Some("op".to_owned()), ..log_row(log_id, user_id) }
}

/// Logs that PostgreSQL refuses, and with which SQLSTATE.
fn refused_logs() -> Vec<(&'static str, IntegrationLog)> {
    let row = || correlated(900, "u");
    vec![
        ("22021", IntegrationLog { error_message: Some("a\0b".to_owned()), ..row() }),
        ("22021", IntegrationLog { service_name: "a\0b".to_owned(), ..row() }),
        ("22P05", IntegrationLog { request_data: document(r#"{"a": ["x\u0000"]}"#), ..row() }),
        ("22P02", IntegrationLog { request_data: document(r#"{"a": "\ud83d"}"#), ..row() }),
        ("22003", IntegrationLog { response_data: document("[1e999999]"), ..row() }),
        ("54001", IntegrationLog { response_data: document(&deep(150_000)), ..row() }),
        ("22001", IntegrationLog { status_code: Some("123456".to_owned()), ..row() }),
        ("23502", IntegrationLog { correlation_id: None, ..row() }),
    ]
}

fn refused_payments() -> Vec<(&'static str, Payment)> {
    let row = || payment_row(900, 1, "r");
    let amount = |whole: i128| Scaled::new(Decimal::from_i128_with_scale(whole * 100, 2)).expect("28 digits");
    vec![
        ("22001", Payment { currency: "EURO".to_owned(), ..row() }),
        ("22003", Payment { payment_amount: amount(10_i128.pow(16)), ..row() }),
        ("22021", Payment { transaction_reference: Some("\0".to_owned()), ..row() }),
    ]
}

/// Columns of the source are narrower than the row struct says.
const NARROW: &str = "ALTER TABLE integration_logs ALTER COLUMN status_code TYPE varchar(5), ALTER COLUMN correlation_id SET NOT NULL";

#[track_caller]
fn refused<R: std::fmt::Debug>(outcome: Result<WriteOutcome<R>, Error>, what: &str) {
    let error = outcome.expect_err(what);
    assert_eq!(error.kind, Kind::Invalid, "{what}: {error}");
}

async fn stage() -> (World, Migration) {
    let world = World::start().await;
    world.sql(NARROW).await;
    let rows = format!("{}; {}", logs(1, 20), payments(1, 20));
    let world = world.dynamo_only(&rows).await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    (world, app)
}

#[tokio::test]
async fn what_postgresql_would_refuse_is_refused_to_the_writer_and_nothing_is_written() {
    let (world, app) = stage().await;
    let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
    let before = (world.items(LOGS).await, world.items(PAYMENTS).await);
    for (code, row) in refused_logs() {
        refused(logs.put(&row).await, code);
        refused(logs.insert(&row).await, code);
        let changed = logs.update(7, |log| *log = IntegrationLog { log_id: log.log_id, ..row.clone() }).await;
        refused(changed, code);
        assert!(logs.put_batch(std::slice::from_ref(&row)).await.remove(0).is_err(), "{code}");
    }
    for (code, row) in refused_payments() {
        refused(payments.put(&row).await, code);
        let sink = std::sync::Arc::new(OperationLogs::of("payments"));
        let together = Operation::run(&app, sink, "Settle", "op", async |operation| {
            operation.put(&payments, &row).await
        });
        assert!(together.await.is_err(), "{code}");
    }
    let after = (world.items(LOGS).await, world.items(PAYMENTS).await);
    let of_operations = after.0.iter().filter(|item| !before.0.contains(item)).count();
    assert_eq!(after.1, before.1);
    assert!(
        after.0.len() >= before.0.len() && of_operations <= 2 * refused_payments().len(),
        "only what operations log"
    );
    // PostgreSQL says the same of each of them, and takes what is as deep as a writer may have it.
    for (text, code) in
        [(deep(150_000), "54001"), (r#"["\u0000"]"#.to_owned(), "22P05"), ("1e999999".to_owned(), "22003")]
    {
        let error = sqlx::query("SELECT $1::text::jsonb")
            .bind(text)
            .execute(world.strangers())
            .await
            .expect_err(code);
        assert_eq!(
            error.into_database_error().and_then(|e| e.code().map(|c| c.into_owned())).as_deref(),
            Some(code)
        );
    }
    for text in [deep(6_000), "[1e131071, 1e-16383]".to_owned()] {
        sqlx::query("SELECT $1::text::jsonb")
            .bind(&text)
            .execute(world.strangers())
            .await
            .expect("PostgreSQL takes it");
        logs.put(&IntegrationLog { response_data: document(&text), ..correlated(901, "u") })
            .await
            .expect("so do we");
    }
    app.shutdown().await;
}

#[tokio::test]
async fn a_short_text_is_padded_as_its_column_pads_it_and_the_way_back_stays_open() {
    let world = World::start().await;
    let coordinator = world.prepared().await;
    world.sql(&payments(1, 20)).await;
    backfill(&coordinator).await;
    for to in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        world.step_to(&coordinator, to).await;
    }
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let store = app.store::<Payments>();
    let put =
        store.put(&Payment { currency: "US".to_owned(), ..payment_row(50, 1, "r") }).await.expect("taken");
    assert_eq!(put.row.expect("the row").currency, "US ", "as PostgreSQL would have returned it");
    let updated = store.update(7, |payment| payment.currency = "X  ".to_owned()).await.expect("taken");
    assert_eq!(updated.row.expect("the row").currency, "X  ");
    app.shutdown().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("the way back is open");
    coordinator.close().await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM payments WHERE currency IN ('US', 'X')").await, 2);
    world.assert_converged().await;
}

/// Runs the feed until something is done beside it.
async fn beside_a_feed<V>(world: &World, work: impl Future<Output = V>) -> V {
    let cancel = CancellationToken::new();
    let work = async {
        let done = work.await;
        cancel.cancel();
        done
    };
    let (fed, done) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), work);
    fed.expect("the feed goes on");
    done
}

/// Written round the stores, or by one that did not ask: the feed sets it aside and goes on.
#[tokio::test]
async fn what_postgresql_cannot_hold_is_set_aside_by_name_and_the_feed_goes_on() {
    let world = World::start().await;
    world.sql(NARROW.replace(", ALTER COLUMN correlation_id SET NOT NULL", "").as_str()).await;
    world.sql("CREATE INDEX logs_by_user ON integration_logs (user_id)").await;
    let coordinator = world.prepared().await;
    world.sql(&logs(1, 30)).await;
    backfill(&coordinator).await;
    coordinator.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let table = IntegrationLogs::default();
    let noise: String =
        (0..1_000_u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    let bad: Vec<IntegrationLog> = refused_logs()
        .into_iter()
        .filter(|(code, _)| *code != "23502")
        .chain([("54000", IntegrationLog { user_id: Some(noise), ..correlated(900, "u") })])
        .enumerate()
        .map(|(n, (_, row))| IntegrationLog { log_id: 900 + n as i64, ..row })
        .collect();
    for (n, row) in bad.iter().enumerate() {
        world.put_item(&table, row, epoch).await;
        world.put_item(&table, &correlated(1_000 + n as i64, "innocent"), epoch).await;
    }
    let there = format!("SELECT count(*) = {} FROM integration_logs WHERE user_id = 'innocent'", bad.len());
    beside_a_feed(&world, eventually("the rows after them follow", || world.value::<bool>(&there))).await;
    let letters = world.source.dead_letters(LOGS, 100).await.expect("lists");
    assert_eq!(letters.len(), bad.len(), "{letters:?}");
    assert!(
        letters.iter().all(|letter| letter.stage == "reverse-feed" && letter.reason.contains("SQLSTATE")),
        "{letters:?}"
    );
    let found = diagnosis(&world).await;
    assert!(
        found.findings.iter().any(|f| f.what.contains(&format!("{} rows cannot be held", bad.len()))),
        "{found:?}"
    );
    let migration = world.migration();
    let binding = world.logs_table();
    let through = async || {
        beside_a_feed(&world, drained(&migration, &binding, Duration::from_secs(8)))
            .await
            .expect("the stores answer")
    };
    let waits = through().await;
    assert!(!waits.through && waits.waits_for[0].contains("PostgreSQL would not have"), "{waits:?}");
    let acknowledged =
        lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("acknowledges");
    assert_eq!(acknowledged, bad.len() as u64);
    let now = through().await;
    assert!(now.through, "{now:?}");
    // One that is mended through an application comes, and is a dead letter no more.
    world.put_item(&table, &IntegrationLog { error_message: None, ..bad[0].clone() }, epoch).await;
    assert!(through().await.through);
    assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counts"), (bad.len() as i64 - 1, 0));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM integration_logs WHERE log_id = 900").await, 1);
}

#[test]
fn a_document_is_fitted_whatever_its_shape() {
    for text in ["", "[", "\"", "\"\\u00", "\"\\ud83d\\u", "-", "1e", "{\"a\":"] {
        // None of these parses, so none is ever asked about; it must not be a panic all the same.
        assert!(Json::parse(text).is_err(), "{text}");
    }
    let fitted = |text: &str| Json::parse(text).expect("a document").fitted("jsonb");
    assert!(fitted(r#"{"\u0041": [1.50e+3, "\\", "\"", "\ud83d\ude00"]}"#).is_ok());
    assert!(fitted(r#"{"a\u0000": 1}"#).is_err());
}

/// 1. An application writes another value than PostgreSQL computes. 2. The feed leaves that column to
/// PostgreSQL, and so does a reverse backfill: the advice to run one led in a circle.
#[tokio::test]
async fn a_computed_value_that_an_item_has_otherwise_is_named_and_the_way_back_opens_once_it_is_corrected() {
    let world = World::start().await;
    world.sql("ALTER TABLE payments DROP COLUMN currency").await;
    world
        .sql("ALTER TABLE payments ADD COLUMN currency char(3) NOT NULL GENERATED ALWAYS AS ('EUR') STORED")
        .await;
    let coordinator = world.prepared().await;
    world.sql(&payments(1, 3).replace("currency, ", "").replace("'EUR', ", "")).await;
    backfill(&coordinator).await;
    for to in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        world.step_to(&coordinator, to).await;
    }
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let store = app.store::<Payments>();
    store.put(&Payment { currency: "USD".to_owned(), ..payment_row(50, 1, "r") }).await.expect("taken");
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("they differ").to_string();
    assert!(refused.contains("PostgreSQL computes currency by itself"), "{refused}");
    store.put(&Payment { currency: "EUR".to_owned(), ..payment_row(50, 1, "r") }).await.expect("taken");
    app.shutdown().await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("the way back is open");
    coordinator.close().await;
}
