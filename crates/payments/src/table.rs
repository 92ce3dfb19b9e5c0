//! Description of the table for the framework.

use chrono::{DateTime, TimeDelta, Utc};
use lockstep::{Aggregate, Item, MigratableTable, Reference, Rule, TargetKey, TargetSchema, Unholdable};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::item;
use crate::row::{Payment, PaymentKey};

/// The statuses a payment may have.
pub const STATUSES: [&str; 6] = ["Pending", "Processing", "Completed", "Failed", "Refunded", "Cancelled"];

/// Seven years with as many leap days as seven years can have: a day too long breaks no retention rule, a day
/// short does.
const SEVEN_YEARS_DAYS: u32 = 7 * 365 + 2;

/// Settings of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaymentsOptions {
    /// Days after `payment_date` that an item may be removed; none, or 0 where the file format has no null,
    /// keeps it.
    pub ttl_days: Option<u32>,
}

impl Default for PaymentsOptions {
    fn default() -> Self {
        Self { ttl_days: Some(SEVEN_YEARS_DAYS) }
    }
}

/// The table `payments`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payments {
    /// Settings of the table.
    pub options: PaymentsOptions,
}

impl From<PaymentsOptions> for Payments {
    fn from(options: PaymentsOptions) -> Self {
        Self { options }
    }
}

impl MigratableTable for Payments {
    type Row = Payment;
    type Key = PaymentKey;

    const NAME: &'static str = "payments";
    const TARGET: TargetSchema = item::TARGET;
    const DAY_COLUMN: Option<&'static str> = Some("payment_date");

    fn key(row: &Payment) -> PaymentKey {
        PaymentKey {
            payment_id: row.payment_id,
            customer_id: row.customer_id,
            payment_date: row.payment_date,
        }
    }

    fn target_key(&self, key: &PaymentKey) -> Result<TargetKey, Unholdable> {
        item::target_key(key)
    }

    fn index_attributes(&self, row: &Payment, item: &mut Item) -> Result<(), Unholdable> {
        item::index_attributes(row, item);
        Ok(())
    }

    fn expires(&self) -> bool {
        self.options.ttl_days.is_some_and(|days| days > 0)
    }

    fn expiry(&self) -> String {
        // An earlier version noted this of a table without one.
        let days = self.options.ttl_days.filter(|days| *days > 0);
        days.map_or_else(|| "off".to_owned(), |days| format!("ttl_days={days}"))
    }

    fn expires_at(&self, row: &Payment) -> Option<DateTime<Utc>> {
        let days = self.options.ttl_days.filter(|days| *days > 0)?;
        row.payment_date.checked_add_signed(TimeDelta::days(days.into()))
    }

    fn rules(&self) -> &'static [Rule<Payment>] {
        RULES
    }

    fn aggregates(&self) -> &'static [Aggregate<Payment>] {
        AGGREGATES
    }

    fn references(&self) -> &'static [Reference] {
        const { &[to("customer_id", "customers"), to("loan_id", "loans")] }
    }
}

const fn to(column: &'static str, table: &'static str) -> Reference {
    Reference { column, to_table: table, to_column: column }
}

const AGGREGATES: &[Aggregate<Payment>] = &[Aggregate {
    name: "payment_amount",
    by: &["currency", "status", "day"],
    group: |payment, group| {
        group.push(&payment.currency);
        group.push(&payment.payment_status);
        group.push_day(payment.payment_date);
    },
    value: Some(|payment| payment.payment_amount.get()),
}];

const RULES: &[Rule<Payment>] = &[
    Rule { name: "payment_id_is_positive", holds: |payment| payment.payment_id > 0 },
    Rule { name: "amount_is_positive", holds: |payment| payment.payment_amount.get() > Decimal::ZERO },
    Rule { name: "currency_is_three_capitals", holds: |payment| is_currency(&payment.currency) },
    Rule { name: "status_is_known", holds: |payment| STATUSES.contains(&payment.payment_status.as_str()) },
    Rule { name: "method_is_named", holds: |payment| !payment.payment_method.trim().is_empty() },
    Rule {
        name: "not_processed_before_created",
        holds: |payment| payment.processed_date.is_none_or(|at| at >= payment.created_date),
    },
    Rule {
        name: "not_updated_before_created",
        holds: |payment| payment.updated_date.is_none_or(|at| at >= payment.created_date),
    },
];

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}
