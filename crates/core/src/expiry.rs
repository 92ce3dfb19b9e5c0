//! Time for which an item that expires stays at least, so that its version outlives every older state of its
//! row.
//!
//! The guard orders states among which the target still has one. 1. A row at version 11 expires next year,
//! and its put is delayed. 2. Version 12 sets the expiry into the past, and is put. 3. DynamoDB removes the
//! item. 4. The put of version 11 arrives, finds nothing, and the row is there again for a year. So the item
//! of version 12 stays for longer than any older put may still be on its way: a state leaves within a minute
//! after it was read, and its signature is good for fifteen. No read answers a row that is past its expiry
//! meanwhile, for that goes by the row's own columns.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::attribute::TTL_ATTRIBUTE;
use crate::item::Item;

/// Shortest time, in seconds, for which an item stays after a put: that, and the error of a slow clock.
const STAYS_S: i64 = 60 * 60;
/// Time, in seconds, that the clock of the machine that put an item may have been ahead.
const AHEAD_S: i64 = 24 * 60 * 60;

/// Returns the expiry that an item gets that is put now, where the row's own comes earlier than it may.
fn put_off(expiry: &AttributeValue, now_s: i64) -> Option<AttributeValue> {
    let stays_until_s = now_s.saturating_add(STAYS_S);
    seconds(expiry)
        .is_some_and(|at_s| at_s < stays_until_s)
        .then(|| AttributeValue::N(stays_until_s.to_string()))
}

impl Item {
    /// Returns the same item, put at `now_s` (seconds since 1970): it expires an hour after that at the
    /// earliest.
    #[must_use]
    pub fn staying(mut self, now_s: i64) -> Self {
        if let Some(later) = self.get(TTL_ATTRIBUTE).and_then(|expiry| put_off(expiry, now_s)) {
            self.replace(TTL_ATTRIBUTE, later);
        }
        self
    }
}

/// Tells whether `found` is what became of the expiry `expected` of a row, as seen at `now_s`: the same, or
/// later because the row was about to expire, or had, when it was put. An item that may go too early is never
/// one.
pub(crate) fn is_expiry(expected: &AttributeValue, found: &AttributeValue, now_s: i64) -> bool {
    let (Some(row_s), Some(item_s)) = (seconds(expected), seconds(found)) else { return false };
    let latest_s = now_s.saturating_add(STAYS_S).saturating_add(AHEAD_S);
    row_s == item_s || (row_s < item_s && item_s <= latest_s)
}

fn seconds(expiry: &AttributeValue) -> Option<i64> {
    expiry.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_000_000;

    fn number(at_s: i64) -> AttributeValue {
        AttributeValue::N(at_s.to_string())
    }

    fn expiring(at_s: i64) -> Item {
        let mut item = Item::default();
        item.push("id", number(1));
        item.push(TTL_ATTRIBUTE, number(at_s));
        item
    }

    #[test]
    fn an_item_stays_for_an_hour_after_it_was_put_and_one_that_stays_longer_is_as_its_row_says() {
        for (row_s, stays_until_s) in
            [(0, NOW_S + STAYS_S), (NOW_S + STAYS_S - 1, NOW_S + STAYS_S), (NOW_S + STAYS_S, NOW_S + STAYS_S)]
        {
            let item = expiring(row_s).staying(NOW_S);
            assert_eq!(item.get(TTL_ATTRIBUTE), Some(&number(stays_until_s)), "{row_s}");
            assert_eq!(item.get("id"), Some(&number(1)));
        }
        let far = NOW_S + STAYS_S + 1;
        assert_eq!(expiring(far).staying(NOW_S), expiring(far));
        assert_eq!(Item::default().staying(NOW_S), Item::default(), "what does not expire is left alone");
    }

    #[test]
    fn an_expiry_that_was_put_off_agrees_and_one_that_comes_too_early_or_much_too_late_does_not() {
        let agrees = |row_s, item_s| is_expiry(&number(row_s), &number(item_s), NOW_S);
        assert!(agrees(5, 5) && agrees(NOW_S * 9, NOW_S * 9));
        assert!(agrees(5, NOW_S + STAYS_S) && agrees(NOW_S - 9, NOW_S - 8) && agrees(5, NOW_S - 8));
        assert!(!agrees(NOW_S, NOW_S - 1), "it could go while its row is still there");
        assert!(!agrees(5, NOW_S + STAYS_S + AHEAD_S + 1), "nothing of ours put it off for so long");
        assert!(!agrees(NOW_S * 9, NOW_S * 9 + 1), "it was not about to expire");
        assert!(!is_expiry(&number(5), &AttributeValue::S("5".to_owned()), NOW_S));
    }
}
