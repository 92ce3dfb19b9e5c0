//! The laws of what is held by choice: it reads back as it was, or it is refused.

use lockstep_core::text::hex;
use lockstep_core::{Attribute, AttributeValue};
use proptest::prelude::*;

use super::Kind;
use crate::sets::uuid_text;

/// A value as DynamoDB gives it back: sets in another order, numbers as it writes them.
fn given_back(value: &AttributeValue) -> AttributeValue {
    let again = |digits: &String| match digits.split_once('.') {
        None => format!("{digits}.0"),
        Some((whole, fraction)) => format!("{whole}{fraction}E-{}", fraction.len()),
    };
    match value {
        AttributeValue::N(digits) if !digits.contains('E') => AttributeValue::N(again(digits)),
        AttributeValue::Ns(set) => AttributeValue::Ns(set.iter().rev().map(again).collect()),
        AttributeValue::Ss(set) => AttributeValue::Ss(set.iter().rev().cloned().collect()),
        AttributeValue::Bs(set) => AttributeValue::Bs(set.iter().rev().cloned().collect()),
        other => other.clone(),
    }
}

#[track_caller]
fn reads_back(kind: Kind, printed: &str) -> String {
    let value = kind.of_text(printed).unwrap_or_else(|why| panic!("{printed}: {}", why.reason));
    let again = given_back(&value);
    let again = kind.of_attribute(Attribute::from(&again));
    assert_eq!(again.as_ref(), Ok(&value), "{printed}");
    let input = kind.to_input(&value);
    assert_eq!(kind.of_text(&input_as_printed(kind, &input)).as_ref(), Ok(&value), "{printed}");
    assert!(kind.same(&value, &value));
    input
}

/// Returns the text that PostgreSQL prints of one that it was given.
fn input_as_printed(kind: Kind, input: &str) -> String {
    let of = |unit: &str, input: &str| input.replace(&format!("0 {unit} "), "");
    if kind == Kind::Interval && input.starts_with("0 mons 0 days") {
        return of("days", &of("mons", input));
    }
    input.to_owned()
}

fn set(element: &'static Kind, ascends: bool) -> Kind {
    Kind::Set { element, ascends }
}

fn array(elements: &[String]) -> String {
    let elements = elements.iter().map(|element| Some(element.as_str().into()));
    lockstep_core::text::array::printed(elements)
}

proptest! {
    #[test]
    fn what_is_held_by_choice_reads_back(
        id in any::<u128>(),
        digits in any::<i64>(),
        places in 0_usize..20,
        double in any::<f64>(),
        real in any::<f32>(),
        us in any::<i64>(),
    ) {
        let hex = format!("{id:032x}");
        let id = uuid_text(&hex::read(&format!("\\x{hex}")).expect("bytes"));
        prop_assert_eq!(&reads_back(Kind::UuidBytes, &id), &id);
        let number = format!("{digits}.{}", "0".repeat(places));
        prop_assert_eq!(reads_back(Kind::Number, &number), digits.to_string());
        reads_back(Kind::Number, &format!("{digits}e-{places}"));
        let printed = reads_back(Kind::FloatText { single: false }, &format!("{double:e}"));
        let read: f64 = printed.parse().expect("a number");
        prop_assert!(read == double || read.is_nan() && double.is_nan());
        let printed = reads_back(Kind::FloatText { single: true }, &format!("{real:e}"));
        let read: f32 = printed.parse().expect("a number");
        prop_assert!(read == real || read.is_nan() && real.is_nan());
        let (hours, rest) = (us.unsigned_abs() / 3_600_000_000, us.unsigned_abs() % 3_600_000_000);
        let sign = if us < 0 { "-" } else { "" };
        let time = format!("{sign}{hours}:00:{}", rest / 1_000_000 % 60);
        reads_back(Kind::Interval, &time);
    }

    #[test]
    fn a_set_comes_back_as_the_array_that_it_was(
        texts in proptest::collection::btree_set("[a\"\\\\{},ä NUL]{0,4}", 1..8),
        numbers in proptest::collection::btree_set(any::<i64>(), 1..8),
        blobs in proptest::collection::btree_set(any::<Vec<u8>>(), 1..8),
    ) {
        let texts: Vec<String> = texts.into_iter().collect();
        let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
        let blobs: Vec<String> = blobs.iter().map(|blob| hex::printed(blob)).collect();
        let all: [(&'static Kind, _); 3] =
            [(&Kind::Text, texts), (&Kind::Integer, numbers), (&Kind::Bytes, blobs)];
        for (element, mut elements) in all {
            let printed = array(&elements);
            prop_assert_eq!(&reads_back(set(element, true), &printed), &printed);
            elements.reverse();
            let reversed = array(&elements);
            prop_assert_eq!(&reads_back(set(element, false), &reversed), &printed);
            prop_assert_eq!(set(element, true).of_text(&reversed).is_ok(), elements.len() == 1);
        }
    }
}

#[test]
fn what_would_not_come_back_is_refused_with_the_reason() {
    for (kind, printed, why) in [
        (set(&Kind::Text, false), "{}", "is empty"),
        (set(&Kind::Text, false), "{a,NULL}", "NULL"),
        (set(&Kind::Text, false), "{a,b,a}", "twice"),
        (set(&Kind::Scaled(2), false), "{1.5,1.50}", "twice"),
        (set(&Kind::Integer, true), "{10,9}", "do not ascend"),
        (set(&Kind::Text, false), "{{a},{b}}", "one dimension"),
        (set(&Kind::Double, false), "{NaN}", "NaN"),
        (Kind::Number, "NaN", "NaN"),
        (Kind::Number, "123456789012345678901234567890123456789", "38 digits"),
        (Kind::Document, "{\"\": 1}", "empty"),
        (Kind::Interval, "infinity", "infinite"),
    ] {
        let refused = kind.of_text(printed).expect_err(printed);
        assert!(refused.reason.contains(why), "{printed}: {}", refused.reason);
    }
    for (kind, found) in [
        (Kind::UuidBytes, AttributeValue::B(vec![0; 15].into())),
        (Kind::UuidBytes, AttributeValue::S("00000000-0000-0000-0000-000000000000".to_owned())),
        (Kind::Number, AttributeValue::S("1".to_owned())),
        (Kind::FloatText { single: true }, AttributeValue::N("1".to_owned())),
        (Kind::FloatText { single: true }, AttributeValue::S("1e300".to_owned())),
        (set(&Kind::Text, false), AttributeValue::L(vec![AttributeValue::S("a".to_owned())])),
        (set(&Kind::Text, false), AttributeValue::Ns(vec!["1".to_owned()])),
        (Kind::Interval, AttributeValue::S("1 day".to_owned())),
    ] {
        assert!(kind.of_attribute(Attribute::from(&found)).is_err(), "{kind:?} of {found:?}");
    }
}
