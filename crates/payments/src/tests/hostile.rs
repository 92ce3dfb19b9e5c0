//! Values that break converters: what PostgreSQL can hold, at its edges.

use chrono::{DateTime, Utc};
use lockstep::Scaled;
use proptest::option;
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::Payment;

/// First microsecond of the year 1, where timestamps of our era begin, and last one of the year 9999.
const ERA_US: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// Largest `numeric(18,2)`, in hundredths.
const AMOUNT_MAX: i64 = 999_999_999_999_999_999;

/// Text as PostgreSQL can hold it: anything but NUL.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[^\\x00]{0,24}",
        1 => prop::sample::select(vec!["", " ", "\u{feff}", "a\tb\\n\r\n", "#", "مرحبا", "👩‍👩‍👧‍👦", "e\u{301}", "\u{10ffff}", "NULL", "\""])
            .prop_map(str::to_owned),
    ]
}

pub(super) fn timestamp() -> impl Strategy<Value = DateTime<Utc>> {
    let edge = prop::sample::select(vec![
        *ERA_US.start(),
        *ERA_US.end(),
        -1,
        0,
        1,
        946_684_800_000_000,
        951_782_400_000_000,
    ]);
    prop_oneof![4 => ERA_US, 1 => edge]
        .prop_map(|us| DateTime::from_timestamp_micros(us).expect("within chrono's range"))
}

pub(super) fn id() -> impl Strategy<Value = i64> {
    prop_oneof![2 => any::<i64>(), 1 => prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]), 2 => 1..1_000_000_i64]
}

pub(super) fn amount() -> impl Strategy<Value = Scaled<2>> {
    let edge = prop::sample::select(vec![
        0,
        1,
        -1,
        10,
        100,
        1_050,
        -1_000,
        AMOUNT_MAX,
        -AMOUNT_MAX,
        100_000_000_000_000_000,
    ]);
    prop_oneof![3 => -AMOUNT_MAX..=AMOUNT_MAX, 1 => edge, 1 => -100_000..100_000_i64]
        .prop_map(|hundredths| Scaled::new(Decimal::new(hundredths, 2)).expect("18 digits fit"))
}

/// A row whose every column is hostile.
pub(super) fn payment() -> impl Strategy<Value = Payment> {
    let who = (id(), id(), id());
    let what = (amount(), text(), text(), text(), option::of(text()));
    let when = (timestamp(), option::of(timestamp()), timestamp(), option::of(timestamp()));
    (who, what, when).prop_map(|(who, what, when)| {
        let (payment_id, customer_id, loan_id) = who;
        let (payment_amount, currency, payment_method, payment_status, transaction_reference) = what;
        let (payment_date, processed_date, created_date, updated_date) = when;
        Payment {
            payment_id,
            customer_id,
            loan_id,
            payment_amount,
            currency,
            payment_date,
            payment_method,
            payment_status,
            transaction_reference,
            processed_date,
            created_date,
            updated_date,
        }
    })
}
