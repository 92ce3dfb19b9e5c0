//! Expiry of a table: by which attribute DynamoDB removes its items.
//!
//! That it is on says nothing by itself: 1. A table was made beforehand with expiry on `expires_at`, and
//! the source has a column of that name. 2. "It is on" was all that was asked. 3. While DynamoDB is the
//! truth, it removes rows that live.

use aws_sdk_dynamodb::types::{TimeToLiveSpecification, TimeToLiveStatus};
use lockstep_core::{Error, Kind, Result};
use serde::Serialize;

use super::{Backoff, Target, fault};

/// No column and no attribute of ours is called so: what is asked about it changes nothing.
const OF_NOTHING: &str = "_lockstep_asks_only";

/// Attribute by which the items of a table expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableExpiry {
    /// Attribute that carries the expiry of a row.
    Ours,
    /// No expiry; also where the endpoint knows none.
    Off,
    /// Attribute that is none of ours.
    Other {
        /// Name of it.
        attribute: String,
        /// Name of ours.
        ours: String,
    },
    /// Attribute whose expiry is being switched off, which can take an hour and cannot be hurried.
    Ending(String),
}

impl TableExpiry {
    /// Returns why Lockstep may not work with it, and what to do about it by hand in `table`; `None` where it
    /// may, once it has switched on what is off.
    pub fn wrong(&self, table: &str) -> Option<(String, String)> {
        match self {
            Self::Ours | Self::Off => None,
            Self::Other { attribute, ours } => Some((
                format!(
                    "its items expire by attribute `{attribute}`: DynamoDB removes rows that live, and none \
                     by `{ours}`"
                ),
                format!(
                    "switch that off: aws dynamodb update-time-to-live --table-name {table} \
                     --time-to-live-specification Enabled=false,AttributeName={attribute}; it can take an \
                     hour until it is DISABLED"
                ),
            )),
            Self::Ending(attribute) => Some((
                format!("expiry of its items by attribute `{attribute}` is being switched off"),
                "wait until it is DISABLED, for up to an hour (aws dynamodb describe-time-to-live)"
                    .to_owned(),
            )),
        }
    }
}

impl Target {
    /// Returns the attribute by which the items of `table` expire.
    ///
    /// # Errors
    /// The driver's; [`Kind::Denied`] without the right to ask.
    ///
    /// # Cancel safety
    /// It only reads.
    #[crate::boxed]
    pub async fn expiry(&self, table: &str) -> Result<TableExpiry> {
        let doing = format!("asking by what items of {table} expire");
        let asked = self.client.describe_time_to_live().table_name(table).send().await;
        let found = match asked.map_err(|e| fault::error(&doing, e)) {
            Ok(found) => found.time_to_live_description,
            Err(error) if fault::is_not_known(&error) => None,
            Err(error) => return Err(error),
        };
        let Some(found) = found else { return Ok(TableExpiry::Off) };
        let (attribute, ours) = (found.attribute_name.unwrap_or_default(), self.naming(table).names().expiry);
        Ok(match found.time_to_live_status {
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) if attribute == ours => {
                TableExpiry::Ours
            }
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => {
                TableExpiry::Other { attribute, ours: ours.to_owned() }
            }
            Some(TimeToLiveStatus::Disabling) => TableExpiry::Ending(attribute),
            Some(TimeToLiveStatus::Disabled) => TableExpiry::Off,
            // Of a state that is not known nothing is concluded (I18).
            status => {
                let message = format!("the answer has a status that is not known: {status:?}");
                return Err(Error::target(Kind::Unknown, doing, message));
            }
        })
    }

    /// Switches expiry on where it is off: a table that was made by hand, restored, or made by a run that
    /// ended between making it and this, would keep its items for ever.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] where its items expire by another attribute.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn ensure_expiry(&self, table: &str) -> Result<()> {
        let doing = format!("switching on expiry of {table}");
        let require = |found: &TableExpiry| match found.wrong(table) {
            Some((wrong, next)) => {
                Err(Error::target(Kind::Misconfigured, &doing, format!("{wrong}; {next}")))
            }
            None => Ok(*found == TableExpiry::Ours),
        };
        if require(&Backoff::brief().retry(|| self.expiry(table)).await?)? {
            return Ok(());
        }
        match Backoff::brief().retry(|| self.set_expiry(table, self.naming(table).names().expiry, true)).await
        {
            // Of two who switch it on, one is refused, as it is on already; so is the second request of one
            // whose first answer was lost. By which attribute is asked, and not read off the words.
            Err(error) if error.is_validation() => match require(&self.expiry(table).await?)? {
                true => Ok(()),
                false => Err(error),
            },
            done => done,
        }
    }

    /// Proves the right to switch on expiry of a table where it is off, or that is yet to be made, and
    /// changes nothing: it asks to switch off what is off. `false` where the endpoint cannot switch it on at
    /// all: a table whose rows expire could be captured and made there, and its backfill would never begin.
    ///
    /// # Errors
    /// [`Kind::Denied`] without the right; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn prove_expiry(&self, table: &str) -> Result<bool> {
        match self.set_expiry(table, OF_NOTHING, false).await {
            Err(error) if error.is_validation() || error.message.starts_with("ResourceNotFoundException") => {
                Ok(true)
            }
            Err(error) if fault::is_not_known(&error) => Ok(false),
            done => done.map(|()| true),
        }
    }

    async fn set_expiry(&self, table: &str, attribute: &str, on: bool) -> Result<()> {
        let doing = format!("switching on expiry of {table}");
        let specification = TimeToLiveSpecification::builder().enabled(on).attribute_name(attribute).build();
        let specification = specification.map_err(|e| Error::target(Kind::Invalid, &doing, e.to_string()))?;
        let request = self.client.update_time_to_live().table_name(table);
        let sent = request.time_to_live_specification(specification).send().await;
        sent.map_err(|e| fault::error(doing, e)).map(drop)
    }
}
