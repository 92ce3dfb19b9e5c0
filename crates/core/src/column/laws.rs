//! The law of every column, with random values: what an item holds reads back as it was, and so does what a
//! key holds.

use std::fmt::Debug;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Column, text};
use crate::attribute::Attribute;

fn reads_back<C: Column + PartialEq + Debug>(value: &C) {
    let attribute = value.to_attribute().expect("it can be held");
    let read = C::from_attribute(attribute.as_ref().map(Attribute::from)).expect("it reads back");
    assert_eq!(&read, value);
    assert!(read.same(value) && value.difference(&read).is_none());
    assert_eq!(Some(value.clone()).to_attribute(), Ok(attribute));
}

fn is_a_key<C: Column + PartialEq + Debug>(value: &C) {
    reads_back(value);
    let literal = value.literal().expect("it has a literal");
    let element = serde_json::Value::String(literal);
    assert_eq!(C::from_key(&element).as_ref(), Ok(value));
}

/// Microseconds since 1970 of the years 0001 to 9999.
fn moments() -> impl Strategy<Value = NaiveDateTime> {
    (-62_135_596_800_000_000_i64..253_402_300_800_000_000)
        .prop_map(|us| DateTime::from_timestamp_micros(us).expect("in range").naive_utc())
}

fn texts() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(
        proptest::collection::vec(
            proptest::sample::select(vec![
                'a',
                '"',
                '\\',
                '{',
                '}',
                ',',
                ' ',
                '\t',
                'N',
                'U',
                'L',
                'ä',
                '\u{1F600}',
            ]),
            0..6,
        )
        .prop_map(|characters| characters.into_iter().collect::<String>()),
    )
}

proptest! {
    #[test]
    fn what_has_no_zone_reads_back(
        at in moments(),
        day in moments(),
        clock in 0_u32..86_400,
        us in 0_u32..1_000_000,
    ) {
        is_a_key(&at);
        is_a_key::<NaiveDate>(&day.date());
        is_a_key(&NaiveTime::from_num_seconds_from_midnight_opt(clock, us * 1_000).expect("in range"));
    }

    #[test]
    fn ids_and_bytes_read_back(id in any::<u128>(), bytes in any::<Vec<u8>>()) {
        is_a_key(&Uuid::from_u128(id));
        is_a_key(&bytes);
    }

    /// The digits are those of a declared table, which reads what PostgreSQL prints.
    #[test]
    fn floats_read_back(double in any::<f64>(), real in any::<f32>()) {
        if double == 0.0 || (1e-130..9.9e125).contains(&double.abs()) {
            reads_back(&double);
            let printed = text::float::attribute(&format!("{double}"), false);
            prop_assert_eq!(text::float::of_double(double), printed);
        } else {
            prop_assert!(double.to_attribute().is_err());
        }
        if real.is_finite() {
            reads_back(&real);
            prop_assert_eq!(text::float::of_real(real), text::float::attribute(&format!("{real:e}"), true));
        }
    }

    #[test]
    fn decimals_of_a_scale_of_their_own_read_back(number in any::<i64>(), scale in 0_u32..=28) {
        let value = Decimal::from_i128_with_scale(number.into(), scale);
        reads_back(&value);
        prop_assert!(value.same(&value) && !value.same(&(value + Decimal::ONE)));
    }

    #[test]
    fn arrays_read_back(
        elements in proptest::collection::vec(texts(), 0..6),
        numbers in any::<Vec<i64>>(),
        others in any::<Vec<Option<i32>>>(),
        small in any::<Vec<i16>>(),
    ) {
        let whole: Vec<String> = elements.iter().flatten().cloned().collect();
        reads_back(&elements);
        reads_back(&whole);
        reads_back(&numbers);
        reads_back(&others);
        reads_back(&small);
    }
}
