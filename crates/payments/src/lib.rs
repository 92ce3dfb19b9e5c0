//! `payments`: money received for loans, one row each (R2).
//!
//! Words: a *payment* belongs to a customer and a loan, both of which stay in PostgreSQL. Its *status*
//! changes during its life; the date it counts for, `payment_date`, seldom does, but may: then its item
//! moves.
//!
//! Read the modules in this order: [`Payment`] and [`PaymentKey`]; where a payment lives in the target and
//! why (`item`); [`Payments`] and its options; what applications ask (`queries`); changing a status
//! (`status`).
//!
//! ```
//! use lockstep::MigratableTable;
//! use lockstep_payments::{PaymentKey, Payments};
//!
//! let key = PaymentKey {
//!     payment_id: 42,
//!     customer_id: 7,
//!     payment_date: lockstep::parse_fixed_width("2026-01-31T00:00:00.000000Z")?,
//! };
//! let target = Payments::default().target_key(&key)?;
//! assert_eq!(target.partition.as_n().map(String::as_str), Ok("7"));
//! # Ok::<(), lockstep::Unholdable>(())
//! ```

mod item;
mod queries;
mod row;
mod status;
mod table;

#[cfg(test)]
mod tests;

pub use item::{BY_ID, BY_LOAN, BY_METHOD, BY_STATUS};
pub use queries::PaymentQueries;
pub use row::{Payment, PaymentKey};
pub use table::{Payments, PaymentsOptions, STATUSES};
