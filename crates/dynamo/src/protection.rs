//! Protection of a table, once it is the truth, from being lost by one call: deletion protection and
//! continuous backups.

use aws_sdk_dynamodb::types::{PointInTimeRecoverySpecification, PointInTimeRecoveryStatus};
use lockstep_core::Advice::{DeletionProtection, PointInTimeRecovery};
use lockstep_core::{Error, Kind, Result, Retry};

use super::{Backoff, Target, fault};

/// Code of the answer that backups are being set up.
const NOT_YET: &str = "ContinuousBackupsUnavailableException";

/// Protection of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Whether it can be deleted only after the protection was taken away.
    pub deletion: bool,
    /// Whether it can be restored as it was at any second; `None` where the endpoint does not say, as
    /// emulators do not.
    pub recovery: Option<bool>,
}

impl Protection {
    /// Returns what is missing, and how to get it; `None` where nothing is.
    pub fn missing(self) -> Option<String> {
        let keys: Vec<String> = [
            (!self.deletion).then_some(DeletionProtection.to_string()),
            (self.recovery == Some(false)).then_some(PointInTimeRecovery.to_string()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let lacks = self.lacks(Some(true))?;
        Some(format!("{lacks}: set {} and prepare again", keys.join(" and ")))
    }

    /// Returns what is not proven to be on, in words; `None` where both are. An endpoint that does not say is
    /// no proof: the caller is about to give up the only other copy.
    pub fn unproven(self) -> Option<String> {
        self.lacks(None)
    }

    /// Returns what is not on, in words, where an endpoint that does not say counts as `silent`.
    fn lacks(self, silent: Option<bool>) -> Option<String> {
        let recovery = match self.recovery.or(silent) {
            Some(true) => None,
            Some(false) => Some("it cannot be restored as it was a moment ago"),
            None => Some("the endpoint does not say that it can be restored"),
        };
        let lacks: Vec<&str> =
            (!self.deletion).then_some("one call deletes it").into_iter().chain(recovery).collect();
        (!lacks.is_empty()).then(|| lacks.join(", and "))
    }
}

impl Target {
    /// Returns how a table is protected now.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] for a table that is not there.
    #[crate::boxed]
    pub async fn protection(&self, table: &str) -> Result<Protection> {
        let doing = format!("asking how {table} is protected");
        let found = self.ask_for_description(table).await?;
        let found =
            found.ok_or_else(|| Error::target(Kind::Misconfigured, doing, "there is no such table"))?;
        let backups = self.client.describe_continuous_backups().table_name(table).send().await.ok();
        let recovery = backups.and_then(|backups| backups.continuous_backups_description).map(|backups| {
            let status = backups
                .point_in_time_recovery_description
                .and_then(|recovery| recovery.point_in_time_recovery_status);
            status == Some(PointInTimeRecoveryStatus::Enabled)
        });
        Ok(Protection { deletion: found.deletion_protection_enabled == Some(true), recovery })
    }

    /// Protects a table as the options say. A protection that is on stays on. Waits for about five minutes
    /// where the backups of a new table are being set up.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn protect(&self, table: &str) -> Result<()> {
        let doing = format!("protecting {table}");
        let (deletion, recovery) = (self.options.deletion_protection, self.options.point_in_time_recovery);
        if !deletion && !recovery {
            return Ok(());
        }
        let now = self.protection(table).await?;
        if deletion && !now.deletion {
            let sent =
                self.client.update_table().table_name(table).deletion_protection_enabled(true).send().await;
            sent.map_err(|e| fault::error(&doing, e))?;
        }
        if recovery && now.recovery != Some(true) {
            let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
            let on = on.map_err(|e| Error::target(Kind::Invalid, &doing, e.to_string()))?;
            let switch = || async {
                let request = self.client.update_continuous_backups().table_name(table);
                let sent = request.point_in_time_recovery_specification(on.clone()).send().await;
                sent.map(drop).map_err(|e| fault::error(&doing, e))
            };
            let (mut brief, mut patient) = (Backoff::brief(), Backoff::patient());
            while let Err(error) = switch().await {
                // Right after a table was made its backups are being set up, for seconds or minutes.
                match error.kind.retry() {
                    _ if error.message.starts_with(NOT_YET) => patient.pause(error).await?,
                    Retry::Never => return Err(error),
                    _ => brief.pause(error).await?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_protected_is_named_with_its_key() {
        let missing = |deletion, recovery| Protection { deletion, recovery }.missing();
        assert_eq!(missing(true, Some(true)), None);
        assert!(!missing(false, None).expect("one call").contains("restored"));
        let both = missing(false, Some(false)).expect("neither is on");
        assert!(both.contains(&format!("{DeletionProtection} and {PointInTimeRecovery}")), "{both}");
        let unproven = |deletion, recovery| Protection { deletion, recovery }.unproven();
        assert_eq!(unproven(true, Some(true)), None);
        for (deletion, recovery) in
            [(true, None), (true, Some(false)), (false, Some(true)), (false, Some(false)), (false, None)]
        {
            let said = unproven(deletion, recovery).expect("something is not on");
            assert_eq!(said.contains("one call"), !deletion, "{said}");
            assert_eq!(said.contains("restored"), recovery != Some(true), "{said}");
        }
        assert!(!missing(true, Some(false)).expect("no backups").contains(&DeletionProtection.to_string()));
    }
}
