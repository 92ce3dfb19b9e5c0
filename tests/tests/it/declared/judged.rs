//! Quality of declared tables: rules, references and sums of a declaration, judged as those of a table in
//! Rust.

use lockstep_core::{AttributeValue, Phase};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::rows::payments;
use lockstep_validator::{CancellationToken, Quality, Report, ValidateOptions, validate};

use super::bound;
use super::partitions::Moved;

const DECLARED: &str = r##"
[tables.payments]
partition = "{customer_id}"
sort = "{payment_date}#{payment_id:019}"
expires = "payment_date + 2557d"
day_column = "payment_date"
[tables.payments.indexes.by_id]
partition = "{payment_id}"
[tables.payments.rules]
amount_is_positive = "payment_amount > 0"
currency_is_known = "currency in ('USD', 'EUR', 'GBP')"
status_is_named = "payment_status is not empty"
[tables.payments.sums.payment_amount]
value = "payment_amount"
by = ["currency", "payment_status", "payment_date:day"]
[tables.payments.references]
customer_id = "customers.customer_id"
loan_id = "loans.loan_id"
"##;

async fn judged(world: &World, tables: &[TableBinding]) -> Report {
    let (progress, cancel) = (lockstep_validator::ValidationProgress::new(tables), CancellationToken::new());
    let options = ValidateOptions { quiescent: true, ..ValidateOptions::default() };
    validate(&world.source, &world.plain_target, tables, &options, &progress, &cancel).await
}

fn quality(report: &Report) -> &Quality {
    report.tables[0].quality.as_ref().expect("it was judged")
}

#[tokio::test]
async fn rules_references_and_sums_of_a_declaration_are_judged_on_both_sides() {
    let world = World::start().await;
    world.sql(&payments(1, 40)).await;
    let spoil = "UPDATE payments SET payment_amount = 0 WHERE payment_id = 1; UPDATE payments SET \
     payment_amount = -1, currency = 'eur' \
                 WHERE payment_id = 2; UPDATE payments SET currency = 'USD' WHERE payment_id > 20";
    world.sql(spoil).await;
    let typed: Vec<TableBinding> =
        world.tables().into_iter().filter(|binding| binding.name() == "payments").collect();
    let tables = bound(&world, DECLARED).await.expect("it binds");
    let moved = Moved::begun(world, tables, Phase::DualWrite).await;
    moved.relayed().await.expect("the relay ends well");
    let report = judged(&moved.world, &moved.tables).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    let found = quality(&report);
    assert!(found.at_rest && found.failures.is_empty() && found.source == found.target, "{found:?}");
    assert_eq!((found.source.rows, found.source.rows_broken), (40, 2));
    let broken: Vec<(&str, u64)> =
        found.source.rules.iter().map(|rule| (rule.rule.as_str(), rule.rows)).collect();
    let expected = [("amount_is_positive", 2), ("currency_is_known", 1), ("status_is_named", 0)];
    assert_eq!(broken, expected);
    assert_eq!(found.references.iter().map(|of| of.dangling).collect::<Vec<_>>(), [Some(0), Some(0)]);
    let sum = &found.sums[0];
    let all: String = moved.world.value("SELECT sum(payment_amount)::text FROM payments").await;
    assert!(sum.agrees() && sum.by == ["currency", "payment_status", "payment_date:day"], "{sum:?}");
    assert_eq!((sum.source.sum.as_deref(), sum.source.rows), (Some(all.as_str()), 40));
    // The table in Rust says the same of the same rows.
    let rows = |table: &TableBinding| {
        let mut judgement = lockstep_core::Judgement::default();
        let table = table.clone();
        let source = moved.world.source.clone();
        async move {
            let range = lockstep_postgres::RangeRead { rows_max: 100, ..Default::default() };
            let chunk = source.read_chunk(&table, &range).await.expect("read");
            for tuple in chunk.tuples() {
                let mut fields = lockstep_core::Fields::of_copy(tuple);
                table.table.encode_judged(&mut fields, &mut judgement).expect("it fits");
            }
            judgement
        }
    };
    let (by_crate, by_words) = (rows(&typed[0]).await, rows(&moved.tables[0]).await);
    assert_eq!(by_crate.totals, by_words.totals);
    assert_eq!(by_crate.groups, by_words.groups);
    assert_eq!(by_crate.broken["amount_is_positive"], by_words.broken["amount_is_positive"]);
}

/// 1. One cent is another one in one item, and no reader looks at that item. 2. At rest the sums differ.
#[tokio::test]
async fn one_cent_in_one_item_of_a_declared_table_is_a_sum_that_differs() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    let tables = bound(&world, DECLARED).await.expect("it binds");
    let moved = Moved::begun(world, tables, Phase::DualWrite).await;
    moved.relayed().await.expect("the relay ends well");
    let client = moved.world.plain_target.client();
    let mut item = moved.world.items("payments").await.into_iter().next().expect("there are some");
    item.insert("payment_amount".to_owned(), AttributeValue::N("0.01".to_owned()));
    client.put_item().table_name("payments").set_item(Some(item)).send().await.expect("put");
    let report = judged(&moved.world, &moved.tables).await;
    let reasons = report.verdict.reasons().join("; ");
    assert!(reasons.contains("the sums of `payment_amount` differ, in 1 groups"), "{reasons}");
}
