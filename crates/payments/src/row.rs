//! The row, as PostgreSQL has it.

use chrono::{DateTime, Utc};
use lockstep::Scaled;

lockstep::row! {
    /// Money received for a loan.
    pub struct Payment {
        /// Identity.
        pub payment_id: i64,
        /// Customer who paid.
        pub customer_id: i64,
        /// Loan that it is for.
        pub loan_id: i64,
        /// Amount, in `currency`.
        pub payment_amount: Scaled<2> = "numeric(18,2)",
        /// ISO 4217 code.
        pub currency: String = "character(3)",
        /// The date the payment counts for.
        pub payment_date: DateTime<Utc>,
        /// Method of payment, for example `SepaDirectDebit`.
        pub payment_method: String,
        /// Status of the payment; one of [`STATUSES`](crate::STATUSES).
        pub payment_status: String,
        /// Name that the bank gives it.
        pub transaction_reference: Option<String>,
        /// Time at which it was settled, or was found to fail.
        pub processed_date: Option<DateTime<Utc>>,
        /// Time at which the row was made.
        pub created_date: DateTime<Utc>,
        /// Time at which it was last changed.
        pub updated_date: Option<DateTime<Utc>>,
    }
}

lockstep::row! {
    /// The primary key, then the other columns that the target key is made of.
    pub struct PaymentKey {
        /// Identity.
        pub payment_id: i64,
        /// Customer who paid.
        pub customer_id: i64,
        /// The date the payment counts for.
        pub payment_date: DateTime<Utc>,
    }
}
