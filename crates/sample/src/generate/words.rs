//! The words that rows are made of, and how to draw them.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

/// Services and how often each is called: one is hot, so that one partition of the target is.
pub const SERVICES: [(u32, &str); 7] = [
    (52, "credit-bureau"),
    (18, "payment-gateway"),
    (10, "kyc-provider"),
    (8, "notifications"),
    (6, "core-banking"),
    (4, "fraud-screening"),
    (2, "document-archive"),
];

/// Customers' names in several scripts, right to left and combining marks among them.
pub(super) const NAMES: [&str; 12] = [
    "Anna Müller",
    "José García",
    "李小龙",
    "محمد علي",
    "נועה כהן",
    "Siobhán O'Brien",
    "山田 太郎",
    "Łukasz Żółć",
    "Nguyễn Văn An",
    "Ολγα Παπαδοπούλου",
    "Zoe\u{301} \"Zed\" Smith",
    "🦊 Fuchs GmbH",
];

/// Currencies and how often each is used.
pub(super) const CURRENCIES: [(u32, &str); 6] =
    [(50, "EUR"), (25, "USD"), (12, "GBP"), (6, "JPY"), (4, "CHF"), (3, "PLN")];

/// Error messages, as other people's systems write them.
pub(super) const FAILURES: [(&str, &str); 8] = [
    ("504", "upstream timed out after 30000 ms"),
    ("503", "service unavailable: retry later"),
    ("500", "java.lang.NullPointerException\n\tat com.bureau.Score.compute(Score.java:42)"),
    ("422", "field \"dateOfBirth\": invalid value"),
    ("401", "token expired"),
    ("E-17", "Ungültige Anfrage: Straße fehlt"),
    ("TIMEOUT", "接続がタイムアウトしました"),
    ("DECLINED", "تم رفض الطلب 🚫"),
];

/// Returns one of `items`, all equally likely.
pub(crate) fn pick<T: Copy>(rng: &mut impl Rng, items: &[T]) -> T {
    *items.choose(rng).expect("the lists of this module are not empty")
}

/// Returns one of `items`, by weight.
pub(crate) fn weighted<T: Copy>(rng: &mut impl Rng, items: &[(u32, T)]) -> T {
    let mut left = rng.random_range(0..items.iter().map(|(weight, _)| weight).sum());
    for (weight, item) in items {
        if left < *weight {
            return *item;
        }
        left -= weight;
    }
    unreachable!("the number drawn is below the sum of the weights")
}

/// True `percent` times in a hundred.
pub(crate) fn chance(rng: &mut impl Rng, percent: u32) -> bool {
    rng.random_ratio(percent, 100)
}
