//! The row, as PostgreSQL has it.

use chrono::{DateTime, Utc};
use lockstep::Json;

lockstep::row! {
    /// One call to another service.
    pub struct IntegrationLog {
        /// Identity.
        pub log_id: i64,
        /// The loan application the call was made for, if it was made for one.
        pub application_id: Option<i32>,
        /// Kind of call, for example `CreditCheck`.
        pub log_type: String,
        /// Service that was called.
        pub service_name: String,
        /// Request that was sent.
        pub request_data: Option<Json>,
        /// Response that came back.
        pub response_data: Option<Json>,
        /// Status in the service's own words, often an HTTP status.
        pub status_code: Option<String>,
        /// Whether the call did what it was made for.
        pub is_success: bool,
        /// Message of what went wrong.
        pub error_message: Option<String>,
        /// Time that the service took, in milliseconds.
        pub processing_time_ms: Option<i32>,
        /// Time of the call.
        pub log_timestamp: DateTime<Utc>,
        /// Correlation id shared by the calls of one operation.
        pub correlation_id: Option<String>,
        /// Person or system that the call was made for.
        pub user_id: Option<String>,
    }
}

lockstep::row! {
    /// The primary key, then the other columns that the target key is made of.
    pub struct LogKey {
        /// Identity.
        pub log_id: i64,
        /// Service that was called.
        pub service_name: String,
        /// Time of the call.
        pub log_timestamp: DateTime<Utc>,
    }
}
