//! `integration_logs`: every call the loan platform makes to another service, one row each (R1).
//!
//! Words: a *log* is one call. Its *service* is who was called; its *day* is the UTC day of `log_timestamp`.
//! An *error* is a log whose `is_success` is false. A *write shard* is one of several partitions that one
//! service's day is spread over.
//!
//! Read the modules in this order: [`IntegrationLog`] and [`LogKey`] (row); where a log lives in the target
//! and why (`item`); [`IntegrationLogs`] and its options; what applications ask (`queries`); how
//! coordinated operations are logged ([`OperationLogs`]).
//!
//! ```
//! use lockstep::MigratableTable;
//! use lockstep_integration_logs::{IntegrationLogs, LogKey};
//!
//! let table = IntegrationLogs::default();
//! let key = LogKey {
//!     log_id: 42,
//!     service_name: "credit-bureau".to_owned(),
//!     log_timestamp: lockstep::parse_fixed_width("2026-01-31T23:59:59.000001Z")?,
//! };
//! let target = table.target_key(&key)?;
//! assert_eq!(target.partition.as_s().map(String::as_str), Ok("credit-bureau#2026-01-31"));
//! # Ok::<(), lockstep::Unholdable>(())
//! ```

mod item;
mod operation;
mod queries;
mod row;
mod table;

#[cfg(test)]
mod tests;

pub use item::{BY_APPLICATION, BY_CORRELATION, BY_ID, ERRORS_BY_DAY};
pub use operation::OperationLogs;
pub use queries::{DAYS_MAX, DayCount, LogQueries};
pub use row::{IntegrationLog, LogKey};
pub use table::{IntegrationLogs, IntegrationLogsOptions};
