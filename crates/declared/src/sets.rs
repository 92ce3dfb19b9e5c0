//! Arrays as sets of DynamoDB, and uuids as bytes.

use std::cmp::Ordering;

use lockstep_core::text::hex;
use lockstep_core::{AttributeValue, Unholdable};

use crate::numbers::of_numbers;

/// Returns the set of an array's elements, in ascending order.
///
/// # Errors
/// When another array has the same set, so that this one would not come back.
pub(crate) fn set(
    elements: Vec<Option<AttributeValue>>,
    ascends: bool,
) -> Result<AttributeValue, Unholdable> {
    let Some(elements) = elements.into_iter().collect::<Option<Vec<_>>>() else {
        return Err(Unholdable::because("has an element that is NULL, which no set of DynamoDB holds"));
    };
    let mut sorted = elements.clone();
    sorted.sort_by(ordering);
    if sorted.windows(2).any(|pair| ordering(&pair[0], &pair[1]) == Ordering::Equal) {
        return Err(Unholdable::because("has an element twice, of which a set of DynamoDB holds one"));
    }
    if ascends && sorted != elements {
        return Err(Unholdable::because(
            "has elements that do not ascend, and a set of DynamoDB keeps no order; \
             \"unordered_set\" gives it up",
        ));
    }
    of_ascending(sorted).ok_or_else(|| Unholdable::because("is empty, which no set of DynamoDB is"))
}

/// Returns the elements of a set; `None` of what is none.
pub(crate) fn elements(set: &AttributeValue) -> Option<Vec<AttributeValue>> {
    Some(match set {
        AttributeValue::Ss(texts) => texts.iter().cloned().map(AttributeValue::S).collect(),
        AttributeValue::Ns(numbers) => numbers.iter().cloned().map(AttributeValue::N).collect(),
        AttributeValue::Bs(blobs) => blobs.iter().cloned().map(AttributeValue::B).collect(),
        _ => return None,
    })
}

fn of_ascending(elements: Vec<AttributeValue>) -> Option<AttributeValue> {
    let (mut texts, mut numbers, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
    for element in elements {
        match element {
            AttributeValue::N(digits) => numbers.push(digits),
            AttributeValue::B(blob) => blobs.push(blob),
            AttributeValue::S(text) => texts.push(text),
            // No other is an element of a set.
            _ => return None,
        }
    }
    if !texts.is_empty() {
        return Some(AttributeValue::Ss(texts));
    }
    if !numbers.is_empty() {
        return Some(AttributeValue::Ns(numbers));
    }
    (!blobs.is_empty()).then_some(AttributeValue::Bs(blobs))
}

fn ordering(one: &AttributeValue, other: &AttributeValue) -> Ordering {
    match (one, other) {
        (AttributeValue::N(one), AttributeValue::N(other)) => of_numbers(one, other),
        (AttributeValue::S(one), AttributeValue::S(other)) => one.cmp(other),
        (AttributeValue::B(one), AttributeValue::B(other)) => one.as_ref().cmp(other.as_ref()),
        // All are of one kind.
        _ => Ordering::Equal,
    }
}

/// Returns the 16 bytes of a uuid in small letters.
pub(crate) fn uuid_bytes(text: &str) -> Result<Vec<u8>, Unholdable> {
    hex::read(&format!("\\x{}", text.replace('-', "")))
}

/// Returns the text of a uuid that is held as bytes.
pub(crate) fn uuid_text(bytes: &[u8]) -> String {
    let digits = hex::printed(bytes);
    let digits = digits.trim_start_matches("\\x");
    let ends = [0, 8, 12, 16, 20, digits.len()];
    ends.windows(2).map(|part| &digits[part[0]..part[1]]).collect::<Vec<_>>().join("-")
}
