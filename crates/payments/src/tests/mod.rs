//! Claims about the table; the properties are in [`lossless`].

mod hostile;
mod lossless;

use chrono::TimeDelta;
use lockstep::{Item, MigratableTable, Row, Scaled, TTL_ATTRIBUTE, parse_fixed_width};
use rust_decimal::Decimal;

use crate::{Payment, Payments, PaymentsOptions};

fn payment() -> Payment {
    let payment_date = parse_fixed_width("2026-01-31T00:00:00.000000Z").expect("a timestamp");
    Payment {
        payment_id: 42,
        customer_id: 7,
        loan_id: 9,
        payment_amount: Scaled::new(Decimal::new(10_050, 2)).expect("fits"),
        currency: "EUR".to_owned(),
        payment_date,
        payment_method: "Card".to_owned(),
        payment_status: "Completed".to_owned(),
        transaction_reference: None,
        processed_date: Some(payment_date),
        created_date: payment_date,
        updated_date: None,
    }
}

fn options(json: &str) -> Payments {
    Payments { options: serde_json::from_str(json).expect("valid options") }
}

fn encode(table: &Payments, payment: &Payment) -> Item {
    MigratableTable::encode(table, payment).expect("fits")
}

#[track_caller]
fn check(item: &Item, attribute: &str, expected: &str) {
    let value = item.get(attribute).unwrap_or_else(|| panic!("no {attribute}"));
    let text = value.as_s().or_else(|_| value.as_n()).expect("a string or a number");
    assert_eq!(text, expected, "{attribute}");
}

#[test]
fn keys_are_as_required() {
    let item = encode(&Payments::default(), &payment());
    check(&item, "PK", "7");
    assert!(item.get("PK").is_some_and(|pk| pk.is_n()));
    check(&item, "SK", "2026-01-31T00:00:00.000000Z#0000000000000000042");
    check(&item, "GSI1PK", "STATUS#Completed");
    check(&item, "GSI2PK", "LOAN#9");
    check(&item, "GSI3PK", "METHOD#Card");
    check(&item, "payment_id", "42");
    check(&item, "payment_amount", "100.50");
    let seven_years_on = parse_fixed_width("2033-01-31T00:00:00.000000Z").expect("a timestamp");
    check(&item, TTL_ATTRIBUTE, &seven_years_on.timestamp().to_string());
}

#[test]
fn the_source_types_are_exact() {
    let spec = |name| Payment::COLUMNS.iter().find(|column| column.name == name).expect("a column");
    for (column, accepted, refused) in
        [("payment_amount", "numeric(18,2)", "numeric(20,2)"), ("currency", "character(3)", "text")]
    {
        assert!((spec(column).accepts)(accepted), "{column} {accepted}");
        assert!(!(spec(column).accepts)(refused), "{column} {refused}");
    }
}

#[test]
fn expiry_may_be_moved_and_may_be_off() {
    check(&encode(&options(r#"{"ttl_days": 1}"#), &payment()), TTL_ATTRIBUTE, "1769904000");
    assert_eq!(options(r#"{"ttl_days": 1}"#).expiry(), "ttl_days=1");
    for off in [r#"{"ttl_days": null}"#, r#"{"ttl_days": 0}"#] {
        assert_eq!(encode(&options(off), &payment()).get(TTL_ATTRIBUTE), None, "{off}");
        assert_eq!(options(off).expiry(), "off", "{off}");
    }
    assert!(serde_json::from_str::<PaymentsOptions>(r#"{"ttl": 1}"#).is_err());
}

#[test]
fn rules_name_what_is_wrong() {
    let broken = |payment: &Payment| -> Vec<&str> {
        Payments::default()
            .rules()
            .iter()
            .filter(|rule| !(rule.holds)(payment))
            .map(|rule| rule.name)
            .collect()
    };
    let amount = |hundredths| Scaled::new(Decimal::new(hundredths, 2)).expect("fits");
    let early = payment().created_date - TimeDelta::microseconds(1);
    assert_eq!(broken(&payment()), Vec::<&str>::new());
    assert_eq!(broken(&Payment { payment_amount: amount(0), ..payment() }), ["amount_is_positive"]);
    assert_eq!(broken(&Payment { payment_amount: amount(-1), ..payment() }), ["amount_is_positive"]);
    assert_eq!(broken(&Payment { currency: "eur".to_owned(), ..payment() }), ["currency_is_three_capitals"]);
    assert_eq!(broken(&Payment { currency: "ÉÉ".to_owned(), ..payment() }), ["currency_is_three_capitals"]);
    assert_eq!(broken(&Payment { payment_status: "completed".to_owned(), ..payment() }), ["status_is_known"]);
    assert_eq!(
        broken(&Payment { processed_date: Some(early), ..payment() }),
        ["not_processed_before_created"]
    );
    assert_eq!(broken(&Payment { updated_date: Some(early), ..payment() }), ["not_updated_before_created"]);
}
