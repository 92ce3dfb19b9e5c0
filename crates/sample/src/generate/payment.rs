//! A payment at a time.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use lockstep_core::Scaled;
use lockstep_payments::Payment;
use rand::{Rng, RngExt};
use sqlx::types::Decimal;

use super::words::{CURRENCIES, chance, pick, weighted};
use super::{LOANS, customer_of_loan, documents};

const STATUSES: [(u32, &str); 6] =
    [(78, "Completed"), (8, "Pending"), (4, "Processing"), (5, "Failed"), (4, "Refunded"), (1, "Cancelled")];
const METHODS: [(u32, &str); 5] =
    [(45, "SepaDirectDebit"), (25, "Card"), (15, "BankTransfer"), (10, "AchDebit"), (5, "Cash")];

/// Returns a payment that was last touched at `at`.
pub fn payment(rng: &mut impl Rng, payment_id: i64, at: DateTime<Utc>) -> Payment {
    let loan_id = rng.random_range(1..=LOANS);
    let currency = weighted(rng, &CURRENCIES);
    let payment_status = weighted(rng, &STATUSES);
    let age_us = rng.random_range(0..172_800_000_000_i64);
    let created_date = at - TimeDelta::microseconds(age_us);
    // Whatever happens to a payment happens between its creation and `at`.
    let later = |rng: &mut _| created_date + TimeDelta::microseconds(RngExt::random_range(rng, 0..=age_us));
    let is_settled = matches!(payment_status, "Completed" | "Failed" | "Refunded");
    Payment {
        payment_id,
        customer_id: customer_of_loan(loan_id),
        loan_id,
        payment_amount: amount(rng, currency),
        currency: currency.to_owned(),
        payment_date: if chance(rng, 40) { at.date_naive().and_time(NaiveTime::MIN).and_utc() } else { at },
        payment_method: weighted(rng, &METHODS).to_owned(),
        payment_status: payment_status.to_owned(),
        transaction_reference: transaction_reference(rng),
        processed_date: is_settled.then(|| later(rng)),
        created_date,
        updated_date: chance(rng, 70).then(|| later(rng)),
    }
}

/// Mostly instalments, now and then a whole loan; yen have no hundredths.
fn amount(rng: &mut impl Rng, currency: &str) -> Scaled<2> {
    let units = if rng.random_ratio(1, 200) {
        rng.random_range(50_000..2_500_000)
    } else {
        rng.random_range(10..3_000)
    };
    let hundredths = if currency == "JPY" || chance(rng, 30) { 0 } else { rng.random_range(0..100) };
    Scaled::new(Decimal::new(units * 100 + hundredths, 2)).expect("nine digits fit")
}

fn transaction_reference(rng: &mut impl Rng) -> Option<String> {
    match rng.random_range(0..100) {
        0..10 => None,
        10 => Some(String::new()),
        11..15 => Some(
            pick(rng, &["Rate März – Müller", "支払い 3月", "قسط مارس", "thanks 🙏", "a\tb\\c"]).to_owned(),
        ),
        _ => Some(format!("TX-{}", documents::hex(rng, 20))),
    }
}
