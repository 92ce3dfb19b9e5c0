//! Removing a table: only where a migration is taken out, and only when it was asked for.

use lockstep_core::{Error, Kind, Result};

use super::{Target, fault};

impl Target {
    /// Deletes a table with all its items; says whether it was there. Nothing undoes it.
    ///
    /// # Errors
    /// [`Kind::Refused`] where the table is protected from it; [`Kind::Denied`] where this role may not; the
    /// driver's.
    ///
    /// # Cancel safety
    /// Repeat it: a table that is gone, or is going, is gone.
    #[crate::boxed]
    pub async fn remove_table(&self, table: &str) -> Result<bool> {
        let doing = format!("deleting {table} at {}", self.address());
        match self.client.delete_table().table_name(table).send().await {
            Ok(_) => Ok(true),
            Err(e) => match fault::error(doing, e) {
                error if error.message.starts_with("ResourceNotFoundException") => Ok(false),
                // It is being deleted already.
                error if error.message.starts_with("ResourceInUseException") => Ok(true),
                // Asked, and not read off words, which are told as far as they are known.
                error if error.is_validation() && self.protection(table).await?.deletion => Err(Error {
                    kind: Kind::Refused,
                    message: format!(
                        "it is protected from deletion; switch that off first: aws dynamodb update-table \
                        --table-name {table} \
                         --no-deletion-protection-enabled"
                    ),
                    ..error
                }),
                error => Err(error),
            },
        }
    }
}
