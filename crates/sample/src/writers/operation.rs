//! Operations of a writer.

use chrono::{DateTime, Utc};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;

/// One thing a writer does, with everything it needs to do it.
///
/// `to` is a row that new values are taken from; which ones, [`touch_log`](super::touch_log) and its siblings
/// say. Ids in it count only where the operation inserts, and only if they were not left to the sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Inserts a log.
    InsertLog(IntegrationLog),
    /// Inserts several logs by one statement.
    InsertLogs(Vec<IntegrationLog>),
    /// Changes columns of a log that decide neither its key nor its place.
    TouchLog {
        /// Id of the log.
        log_id: i64,
        /// New values.
        to: IntegrationLog,
    },
    /// The same for several logs by one statement.
    TouchLogs {
        /// Ids of the logs.
        log_ids: Vec<i64>,
        /// New values.
        to: IntegrationLog,
    },
    /// Changes columns that decide where a log lives in the target.
    MoveLog {
        /// Id of the log.
        log_id: i64,
        /// The new service, if it changes.
        service_name: Option<String>,
        /// The new time, if it changes.
        log_timestamp: Option<DateTime<Utc>>,
    },
    /// Deletes a log.
    DeleteLog {
        /// Id of the log.
        log_id: i64,
    },
    /// Deletes a log and inserts another under the same key.
    ReinsertLog {
        /// Id of the log.
        log_id: i64,
        /// The other one, except for its key.
        to: IntegrationLog,
        /// Whether both are done in one transaction, so that no reader sees it gone.
        together: bool,
    },
    /// Inserts a payment.
    InsertPayment(Payment),
    /// Inserts several payments by one statement.
    InsertPayments(Vec<Payment>),
    /// Changes columns of a payment that do not decide its key.
    TouchPayment {
        /// Id of the payment.
        payment_id: i64,
        /// New values.
        to: Payment,
    },
    /// Changes columns that decide where a payment lives in the target.
    MovePayment {
        /// Id of the payment.
        payment_id: i64,
        /// The new customer, if it changes.
        customer_id: Option<i64>,
        /// The new date, if it changes.
        payment_date: Option<DateTime<Utc>>,
    },
    /// Deletes a payment.
    DeletePayment {
        /// Id of the payment.
        payment_id: i64,
    },
    /// Deletes a payment and inserts another under the same key.
    ReinsertPayment {
        /// Id of the payment.
        payment_id: i64,
        /// The other one, except for its key.
        to: Payment,
        /// Whether both are done in one transaction, so that no reader sees it gone.
        together: bool,
    },
    /// Inserts a payment and the log of its making in one transaction.
    PayAndLog {
        /// The payment.
        payment: Payment,
        /// Log of the operation.
        log: IntegrationLog,
    },
    /// Touches a payment and logs that in one transaction.
    SettleAndLog {
        /// Id of the payment.
        payment_id: i64,
        /// New values.
        to: Payment,
        /// The log.
        log: IntegrationLog,
    },
    /// Like [`Operation::PayAndLog`], but thinks better of it: nothing may come of it anywhere.
    RollBack {
        /// The payment that is not made.
        payment: Payment,
        /// The log that is not kept.
        log: IntegrationLog,
    },
}

macro_rules! kinds {
    ($($name:ident $label:literal),* $(,)?) => {
        /// An [`Operation`] without its data, for counts and weights.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "documented where the data is")]
        pub enum Kind { $($name),* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the label, in snake case.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }
        }

        impl Operation {
            /// Returns the kind of the operation.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name { .. } => Kind::$name),* }
            }
        }
    };
}

kinds! {
    InsertLog "insert_log", InsertLogs "insert_logs", TouchLog "touch_log", TouchLogs "touch_logs", MoveLog "move_log",
    DeleteLog "delete_log", ReinsertLog "reinsert_log",
    InsertPayment "insert_payment", InsertPayments "insert_payments", TouchPayment "touch_payment",
    MovePayment "move_payment", DeletePayment "delete_payment", ReinsertPayment "reinsert_payment",
    PayAndLog "pay_and_log", SettleAndLog "settle_and_log", RollBack "roll_back",
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.label())
    }
}
