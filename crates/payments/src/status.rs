//! Changing the status of a payment, safe against every other caller that does.

use chrono::{SubsecRound, Utc};
use lockstep::{Error, Kind, Result, Store, Swap};

use crate::row::Payment;
use crate::table::{Payments, STATUSES};

impl Payments {
    /// Changes the status of a payment from `from` to `to`, and says so in `updated_date`. Of several callers
    /// who expect the same status exactly one changes it: the row is locked while it is compared, in every
    /// mode and phase.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when `to` is not one of [`STATUSES`]; else as for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn update_status(
        store: &Store<Self>,
        payment_id: i64,
        from: &str,
        to: &str,
    ) -> Result<Swap<Payment>> {
        if !STATUSES.contains(&to) {
            let message = format!("there is no such status; there are: {}", STATUSES.join(", "));
            return Err(Error::source(Kind::Invalid, "changing the status of a payment", message));
        }
        let change = |payment: &mut Payment| {
            to.clone_into(&mut payment.payment_status);
            // PostgreSQL keeps microseconds; a clock that is behind must not date it before its making.
            payment.updated_date = Some(payment.created_date.max(Utc::now().trunc_subsecs(6)));
        };
        store.update_if(payment_id, |payment| payment.payment_status == from, change).await
    }
}
