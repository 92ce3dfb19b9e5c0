//! Removing a table: only where a migration is taken out, and only when it was asked for.

use aws_sdk_dynamodb::types::TableStatus;
use lockstep_core::{Error, Kind, Result, Retry};

use super::{Backoff, Target, fault};

impl Target {
    /// Deletes a table with all its items; says whether it was there. Nothing undoes it. One that is being
    /// made or changed takes no deletion, and is asked for about five minutes.
    ///
    /// # Errors
    /// [`Kind::Refused`] where the table is protected from it; [`Kind::Denied`] where this role may not;
    /// [`Kind::Unavailable`] where it is still being made or changed; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it: a table that is gone, or is going, is gone.
    #[crate::boxed]
    pub async fn remove_table(&self, table: &str) -> Result<bool> {
        let (mut backoff, mut may_be_done) = (Backoff::patient(), false);
        loop {
            match self.ask_to_remove(table).await {
                Ok(was_there) => return Ok(was_there || may_be_done),
                Err(error) if error.kind.retry() == Retry::Never => return Err(error),
                Err(error) => {
                    may_be_done |= error.kind == Kind::Unknown;
                    backoff.pause(error).await?;
                }
            }
        }
    }

    async fn ask_to_remove(&self, table: &str) -> Result<bool> {
        let doing = format!("deleting {table} at {}", self.address());
        match self.client.delete_table().table_name(table).send().await {
            Ok(_) => Ok(true),
            Err(e) => match fault::error(doing, e) {
                error if error.message.starts_with("ResourceNotFoundException") => Ok(false),
                error if error.message.starts_with("ResourceInUseException") => {
                    self.is_going(table, error).await
                }
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

    /// Tells whether a table whose deletion was refused, as it is in use, is being deleted already. 1. An
    /// index of it is being made. 2. DynamoDB refuses to delete it. 3. Taken for deleted, it stays, and with
    /// schema `lockstep` goes what says whose it is.
    async fn is_going(&self, table: &str, refused: Error) -> Result<bool> {
        let status = match self.ask_for_description(table).await? {
            None => return Ok(true),
            Some(found) => found.table_status.unwrap_or(TableStatus::Active),
        };
        match status {
            TableStatus::Deleting => Ok(true),
            status => Err(Error {
                kind: Kind::Unavailable,
                message: format!(
                    "DynamoDB does not delete it while it is being made or changed; it is {}: run this again \
                     when it is ACTIVE",
                    status.as_str()
                ),
                ..refused
            }),
        }
    }
}
