//! Quality (R25): rules, references and sums, from the passes of an ordinary comparison; and what a report
//! shows of all that.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, Phase};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_key, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::{Quality, QualityRating, Report};
use serde_json::Value;

use crate::process::{self, ended};

async fn tamper(world: &World, binding: &TableBinding, key: &str, change: impl FnOnce(&mut Attributes)) {
    let mut item = world.live_at(binding, key).await;
    change(&mut item);
    let put = world.plain_target.client().put_item().table_name(&binding.target_name).set_item(Some(item));
    put.send().await.expect("put");
}

fn payment_of(payment_id: i64) -> String {
    payment_key(payment_id, 1 + payment_id % 50)
}

async fn migrated(world: &World) {
    world.sql(&logs(1, 50)).await;
    world.sql(&payments(1, 40)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
}

fn quality<'a>(report: &'a Report, table: &str) -> &'a Quality {
    let table = report.tables.iter().find(|t| t.name == table).expect("a table");
    table.quality.as_ref().expect("it was judged")
}

#[tokio::test]
async fn rules_references_and_sums_of_both_sides_come_from_one_comparison() {
    let world = World::start().await;
    migrated(&world).await;
    let sql = "UPDATE payments SET payment_amount = 0 WHERE payment_id = 1; UPDATE payments SET payment_amount = -1, currency = 'eur' \
               WHERE payment_id = 2; UPDATE payments SET currency = 'USD' WHERE payment_id > 20";
    world.sql(sql).await;
    world.sql("UPDATE integration_logs SET application_id = 1 + (log_id > 46)::int * 2000000000").await;
    world.relay_until_empty().await;
    let report = world.validate().await;
    assert!(report.verdict.is_consistent(), "what both stores have is no difference: {report:#?}");
    let found = quality(&report, PAYMENTS);
    assert!(found.at_rest && found.failures.is_empty(), "{found:?}");
    assert_eq!(found.source, found.target);
    assert_eq!((found.source.rows, found.source.rows_broken), (40, 2));
    let broken = |rule: &str| found.source.rules.iter().find(|of| of.rule == rule).expect("a rule");
    assert_eq!((broken("amount_is_positive").rows, broken("currency_is_three_capitals").rows), (2, 1));
    assert_eq!(broken("currency_is_three_capitals").keys.len(), 1);
    assert_eq!(broken("status_is_known").rows, 0);
    let dangling: Vec<_> = found.references.iter().map(|of| of.dangling).collect();
    assert_eq!(dangling, [Some(0), Some(0)]);
    let of_logs = &quality(&report, LOGS).references[0];
    assert_eq!(
        (of_logs.dangling, of_logs.keys.len(), of_logs.to.as_str()),
        (Some(4), 4, "applications.application_id")
    );
    assert_eq!(found.rating, Some(QualityRating::Poor), "38 of 40 have no problem");

    let sum = &found.sums[0];
    assert!(sum.agrees() && sum.groups == 3, "{sum:?}");
    let of_all: String = world.value("SELECT sum(payment_amount)::text FROM payments").await;
    assert_eq!((sum.source.sum.as_deref(), sum.source.rows), (Some(of_all.as_str()), 40));
    assert_eq!((found.days.len(), found.days[0].source, found.days[0].target), (1, 40, 40));
    assert_eq!(found.days[0].day, "2099-03-04");
}

#[tokio::test]
async fn one_cent_in_one_row_is_a_sum_that_differs_and_shows_no_amount() {
    let world = World::start().await;
    migrated(&world).await;
    tamper(&world, &world.payments_table(), &payment_of(3), |item| {
        item.insert("payment_amount".to_owned(), AttributeValue::N("3.26".to_owned()));
    })
    .await;
    let report = world.validate().await;
    let reasons = report.verdict.reasons().join("; ");
    assert!(reasons.contains("the sums of `payment_amount` differ, in 1 groups"), "{reasons}");
    let sum = &quality(&report, PAYMENTS).sums[0];
    assert_eq!((sum.totals_agree, sum.groups_differing), (false, 1));
    assert_eq!(
        (&sum.source.sum, &sum.differing[0].target.sum),
        (&None, &None),
        "their difference is the row's"
    );
}

#[tokio::test]
async fn the_same_rows_under_the_same_seed_have_the_same_digest() {
    let world = World::start().await;
    migrated(&world).await;
    let digests = async |arguments: &[&str]| {
        let (_, json) = command(&world, &[&["validate", "--quiescent", "--json"], arguments].concat()).await;
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["schema_version"], 2);
        assert_eq!(json["manifest"]["configuration_sha256"].as_str().map(str::len), Some(64));
        json["manifest"]["tables"][1]["digests"].clone()
    };
    let first = digests(&[]).await;
    assert_eq!(first["source"], first["target"], "{first}");
    let seed = first["seed"].as_str().expect("a seed").to_owned();
    assert_eq!(digests(&["--digest-seed", &seed]).await, first);
    world.sql("UPDATE payments SET payment_amount = payment_amount + 0.01 WHERE payment_id = 7").await;
    world.relay_until_empty().await;
    assert_ne!(digests(&["--digest-seed", &seed]).await["source"], first["source"]);
}

/// Runs the command; what it printed to stdout, and to both.
async fn command(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ended(process::command(world, arguments)).await;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.stdout.is_empty() || !arguments.contains(&"--json") {
        text += &String::from_utf8_lossy(&output.stderr);
    }
    (output.status.code(), text)
}

#[tokio::test]
async fn no_form_of_a_masked_report_contains_a_planted_secret() {
    let world = World::start().await;
    migrated(&world).await;
    let secret = |n: u32| format!("Geheim-{n}-4929 1234");
    for n in 1..=4_u32 {
        world
            .sql(&format!(
                "UPDATE payments SET transaction_reference = '{}' WHERE payment_id = {n}",
                secret(n)
            ))
            .await;
    }
    world
        .sql(&format!(
            "UPDATE integration_logs SET error_message = '{}', request_data = '{{\"{}\": [1]}}' WHERE log_id = 5",
            secret(5),
            secret(6)
        ))
        .await;
    world.relay_until_empty().await;
    let of_payments = world.payments_table();
    let text = |n: u32| AttributeValue::S(secret(n));
    tamper(&world, &of_payments, &payment_of(1), |item| {
        drop(item.insert("transaction_reference".to_owned(), text(10)))
    })
    .await;
    tamper(&world, &of_payments, &payment_of(2), |item| drop(item.insert("GSI3PK".to_owned(), text(11))))
        .await;
    tamper(&world, &of_payments, &payment_of(3), |item| {
        drop(item.insert("payment_status".to_owned(), text(12)))
    })
    .await;
    tamper(&world, &of_payments, &payment_of(4), |item| drop(item.insert("surprise".to_owned(), text(13))))
        .await;
    tamper(&world, &of_payments, &payment_of(8), |item| {
        item.insert("payment_amount".to_owned(), AttributeValue::N("492912.34".to_owned()));
    })
    .await;
    let log = lockstep_tests::world::rows::log_key(5, "service-0");
    tamper(&world, &world.logs_table(), &log, |item| {
        item.insert("error_message".to_owned(), text(14));
        item.insert("request_data".to_owned(), AttributeValue::S(format!("{{\"{}\": [2]}}", secret(6))));
    })
    .await;

    let page = std::env::temp_dir().join(format!("lockstep-report-{}.html", std::process::id()));
    let path = page.to_str().expect("a path");
    let mut forms = Vec::new();
    for arguments in [
        &["validate", "--no-relay", "--json", "--html", path][..],
        &["validate", "--no-relay", "--latency", "3"],
        &["report"],
        &["report", "--json"],
        &["repair", "--last"],
    ] {
        let (code, text) = command(&world, arguments).await;
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains("transaction_reference"), "{arguments:?} says which field: {text}");
        forms.push(text);
    }
    forms.push(std::fs::read_to_string(&page).expect("the page was written"));
    assert!(forms.last().expect("a page").contains("transaction_reference"));
    let (_, again) = command(&world, &["report", "--html", path]).await;
    assert!(again.contains("written"), "{again}");
    forms.push(std::fs::read_to_string(&page).expect("the page was written again"));
    std::fs::remove_file(&page).expect("removed");
    for form in &forms {
        for planted in ["Geheim", "4929 1234", "492912.34"] {
            assert!(!form.contains(planted), "{planted} is in: {form}");
        }
    }
    let (_, unmasked) = command(&world, &["validate", "--no-relay", "--unmasked"]).await;
    assert!(unmasked.contains(&secret(10)) && unmasked.contains("492912.34"), "{unmasked}");
    let (_, recorded) = command(&world, &["report", "--json"]).await;
    assert!(
        !recorded.contains("Geheim") && !recorded.contains("492912.34"),
        "what is recorded is masked all the same"
    );
}
