//! R4: what goes in comes out, or is refused with a reason.

use lockstep::{AnyTable, AttributeValue, Attributes, Item, MigratableTable, Row, SourceKey, Version};
use proptest::prelude::*;

use super::hostile;
use crate::{Payment, PaymentKey, Payments};

/// The item as DynamoDB gives it back: numbers lose zeros at the end, the point with them, and the sign of
/// zero.
fn stored(item: Item) -> Attributes {
    let mut attributes = item.at(Version(7)).into_attributes();
    for value in attributes.values_mut() {
        if let AttributeValue::N(number) = value {
            *number = normalised(number);
        }
    }
    attributes
}

fn normalised(number: &str) -> String {
    let short =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// The source key of a payment as `jsonb_build_array` prints it.
fn printed(payment: &Payment) -> String {
    let seconds = payment.payment_date.format("%Y-%m-%dT%H:%M:%S").to_string();
    let micros = format!("{:06}", payment.payment_date.timestamp_subsec_micros());
    let at = match micros.trim_end_matches('0') {
        "" => seconds,
        fraction => format!("{seconds}.{fraction}"),
    };
    format!("[{}, {}, \"{at}\"]", payment.payment_id, payment.customer_id)
}

proptest! {
    #[test]
    fn a_payment_survives_the_target(payment in hostile::payment()) {
        let item = MigratableTable::encode(&Payments::default(), &payment).expect("small enough");
        let back = Payments::decode(&stored(item)).expect("decodes");
        prop_assert_eq!(back.differing(&payment), Vec::<&str>::new());
        prop_assert_eq!(back.payment_amount.to_string(), payment.payment_amount.to_string());
        prop_assert_eq!(back, payment);
    }

    #[test]
    fn amounts_come_back_with_their_scale(amount in hostile::amount(), payment in hostile::payment()) {
        let item = MigratableTable::encode(&Payments::default(), &Payment { payment_amount: amount, ..payment }).expect("fits");
        let back = Payments::decode(&stored(item)).expect("decodes").payment_amount;
        prop_assert_eq!(back.scale(), 2);
        prop_assert_eq!(back.mantissa(), amount.mantissa());
    }

    #[test]
    fn null_is_absence_and_empty_text_is_not(payment in hostile::payment()) {
        let item = MigratableTable::encode(&Payments::default(), &payment).expect("small enough");
        prop_assert_eq!(item.get("transaction_reference").is_some(), payment.transaction_reference.is_some());
        prop_assert_eq!(item.get("processed_date").is_some(), payment.processed_date.is_some());
        prop_assert_eq!(item.get("updated_date").is_some(), payment.updated_date.is_some());
    }

    #[test]
    fn the_key_postgresql_prints_is_the_key_of_the_row(payment in hostile::payment()) {
        let source_key = SourceKey::parse(&printed(&payment)).expect("a JSON array");
        let key = Payments::key(&payment);
        prop_assert_eq!(&PaymentKey::from_key(&source_key.0).expect("decodes"), &key);
        let of_source = AnyTable::target_key(&Payments::default(), &source_key).expect("a key");
        prop_assert_eq!(of_source, MigratableTable::target_key(&Payments::default(), &key).expect("a key"));
    }

    #[test]
    fn payments_with_different_ids_never_share_a_key(payment in hostile::payment(), other in hostile::id()) {
        prop_assume!(payment.payment_id != other);
        let key = Payments::key(&payment);
        let twin = PaymentKey { payment_id: other, ..key.clone() };
        let table = Payments::default();
        let (a, b) = (MigratableTable::target_key(&table, &key), MigratableTable::target_key(&table, &twin));
        prop_assert_ne!(a.expect("a key"), b.expect("a key"));
    }

    #[test]
    fn a_payment_over_400_kb_is_refused_with_a_reason(payment in hostile::payment(), bytes in 300_000..500_000_usize) {
        let payment = Payment { transaction_reference: Some("é".repeat(bytes / 2)), ..payment };
        let encoded = MigratableTable::encode(&Payments::default(), &payment);
        match &encoded {
            Ok(item) => prop_assert!(item.bytes() <= lockstep::ITEM_BYTES_MAX),
            Err(refusal) => {
                prop_assert!(bytes > 400_000, "{refusal}");
                prop_assert!(refusal.reason.contains("bytes"), "{refusal}");
            }
        }
        prop_assert!(encoded.is_err() || bytes <= lockstep::ITEM_BYTES_MAX);
    }
}
