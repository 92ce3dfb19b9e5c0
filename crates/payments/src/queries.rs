//! Queries of applications about the payments (R2), the same in every phase and newest first, that is by
//! `payment_date`.
//!
//! Ties of a date are broken by `payment_id`, the higher first. A payment past its expiry is not answered;
//! see [`lockstep::store::query`] for what holds of every query.

use std::ops::RangeBounds;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep::store::query::{Partitions, TimeRange};
use lockstep::{AttributeValue, CanaryQueries, Index, MigratableTable, Query, Result, Selection, Store};

use crate::item::{self, BY_ID, BY_LOAN, BY_METHOD, BY_STATUS};
use crate::row::Payment;
use crate::table::Payments;

/// The order of every query: that of the sort key.
const ORDER: &[&str] = &["payment_date", "payment_id"];
const DATE: &str = "payment_date";

/// The queries of a store of payments. Dates are those the payments count for.
///
/// ```no_run
/// use lockstep::{Cursor, Page, Store};
/// use lockstep_payments::{Payment, PaymentQueries, Payments};
///
/// /// One page of an HTTP API: the cursor came from the page before, as text.
/// async fn page(payments: &Store<Payments>, customer_id: i64, cursor: Option<Cursor>) -> lockstep::Result<Page<Payment>> {
///     let limit = std::num::NonZeroUsize::new(20).expect("not zero");
///     payments.by_customer(customer_id, ..).page(limit, cursor.as_ref()).await
/// }
/// ```
pub trait PaymentQueries {
    /// Returns the payment with an id. In the target an index finds its key, and the item is then read from
    /// the table: the index is eventually consistent, the item is not. In DynamoOnly a payment is found by id
    /// a moment after it was written or moved.
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    fn by_id(&self, payment_id: i64) -> impl Future<Output = Result<Option<Payment>>> + Send;

    /// Returns the payments of a customer within a range of dates; `..` for all. Strongly consistent in the
    /// target.
    fn by_customer(&self, customer_id: i64, dates: impl RangeBounds<DateTime<Utc>>) -> Selection<Payments>;

    /// Returns the payments for a loan. Eventually consistent in the target.
    fn by_loan(&self, loan_id: i64) -> Selection<Payments>;

    /// Returns the payments of a status within a range of dates; `..` for all. Eventually consistent in the
    /// target: a payment whose status just changed may be seen under the old one for a moment.
    fn by_status(&self, status: &str, dates: impl RangeBounds<DateTime<Utc>>) -> Selection<Payments>;

    /// Returns the payments made in one way within a range of dates; `..` for all. Eventually consistent in
    /// the target.
    fn by_method(&self, method: &str, dates: impl RangeBounds<DateTime<Utc>>) -> Selection<Payments>;
}

impl PaymentQueries for Store<Payments> {
    async fn by_id(&self, payment_id: i64) -> Result<Option<Payment>> {
        let partition = Partitions::one(AttributeValue::N(payment_id.to_string()));
        self.select(Query::new("by_id", ORDER, partition).matching("payment_id", &payment_id).on(BY_ID))
            .first()
            .await
    }

    fn by_customer(&self, customer_id: i64, dates: impl RangeBounds<DateTime<Utc>>) -> Selection<Payments> {
        let partition = Partitions::one(AttributeValue::N(customer_id.to_string()));
        let query = Query::new("by_customer", ORDER, partition).matching("customer_id", &customer_id);
        self.select(query.within(DATE, alive(self.table(), dates)))
    }

    fn by_loan(&self, loan_id: i64) -> Selection<Payments> {
        let query = in_index("by_loan", BY_LOAN, item::of_loan(loan_id)).matching("loan_id", &loan_id);
        self.select(query.within(DATE, alive(self.table(), ..)))
    }

    fn by_status(&self, status: &str, dates: impl RangeBounds<DateTime<Utc>>) -> Selection<Payments> {
        let query = in_index("by_status", BY_STATUS, item::of_status(status))
            .matching("payment_status", &status.to_owned());
        self.select(query.within(DATE, alive(self.table(), dates)))
    }

    fn by_method(&self, method: &str, dates: impl RangeBounds<DateTime<Utc>>) -> Selection<Payments> {
        let query = in_index("by_method", BY_METHOD, item::of_method(method))
            .matching("payment_method", &method.to_owned());
        self.select(query.within(DATE, alive(self.table(), dates)))
    }
}

impl CanaryQueries for Payments {
    fn canary_queries(store: &Store<Self>, row: &Payment) -> Vec<(&'static str, Selection<Self>)> {
        let (at, day) = (row.payment_date, TimeDelta::days(1));
        let from = at.checked_sub_signed(day).unwrap_or(at);
        let around = || {
            (
                std::ops::Bound::Included(from),
                at.checked_add_signed(day).map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
            )
        };
        vec![
            ("by customer", store.by_customer(row.customer_id, ..)),
            ("by loan", store.by_loan(row.loan_id)),
            ("by status and date", store.by_status(&row.payment_status, around())),
            ("by method and date", store.by_method(&row.payment_method, around())),
        ]
    }
}

fn in_index(name: &'static str, index: Index, partition: String) -> Query<Payments> {
    Query::new(name, ORDER, Partitions::one(AttributeValue::S(partition))).on(index)
}

/// Returns the part of a range whose payments have not expired: the others need not be read to be left out.
fn alive(table: &Payments, dates: impl RangeBounds<DateTime<Utc>>) -> TimeRange {
    let dates = TimeRange::of(dates);
    let days = table.options.ttl_days.filter(|_| table.expires());
    days.and_then(TimeRange::alive_since).map_or(dates, |since| dates.not_before(since))
}
