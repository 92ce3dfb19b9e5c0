//! A probe: a guarded write into a table, in a place that no row of it has, read back and taken out again.
//!
//! It is a tombstone below every version that a row can have. So every reader passes over it; a row that is
//! there is newer, and is neither replaced nor removed; and a row that comes to be there replaces it as if
//! nothing were there. It has no attributes of indexes, so no index holds it. The place does not change, so
//! that what a crash left behind is removed by the next probe.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{
    Attributes, Error, Kind, MARK_ATTRIBUTE, PROBE_ATTRIBUTE, Result, TargetKey, TargetSchema, Version,
    tombstone,
};

use super::own_place::PROBE;
use super::{Landed, Target, fault};

/// Version of a probe: below that of the initial load, which is the lowest that a row has.
const VERSION: Version = Version(-2);

/// A probe of one target table. Calls come one after the other.
#[derive(Debug)]
pub struct TargetProbe<'a> {
    target: &'a Target,
    table: &'a str,
    key: TargetKey,
    run: String,
}

impl Target {
    /// Returns a probe of `table`, for the run named `run`. Nothing is sent yet.
    pub fn probe<'a>(&'a self, table: &'a str, schema: &TargetSchema, run: String) -> TargetProbe<'a> {
        TargetProbe { target: self, table, key: PROBE.key(schema, 0), run }
    }
}

impl TargetProbe<'_> {
    /// Puts the probe the way rows are put. The probe of an earlier run is removed first.
    ///
    /// # Errors
    /// The driver's; [`Kind::Refused`] when something that is no probe is in its place: that is left alone.
    ///
    /// # Cancel safety
    /// The probe may stay, which every reader passes over, and which the next one removes.
    #[crate::boxed]
    pub async fn put(&self) -> Result<()> {
        self.remove().await?;
        if self.there().await?.is_some() {
            let message = "something that is no probe of Lockstep is where one would be; it is left as it is";
            return Err(Error::target(Kind::Refused, format!("probing {}", self.table), message));
        }
        match self.put_once().await? {
            Landed::Applied => Ok(()),
            Landed::Superseded => {
                let message = "another test operation is under way; run it again when that has ended";
                Err(Error::target(Kind::Refused, format!("probing {}", self.table), message))
            }
        }
    }

    /// Tells whether the same put, sent again, is refused: that is what keeps an older state from replacing a
    /// newer one.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_guarded(&self) -> Result<bool> {
        Ok(self.put_once().await? == Landed::Superseded)
    }

    /// Tells whether the table holds what this probe put, read strongly consistent.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_there(&self) -> Result<bool> {
        let run = self.there().await?.and_then(|item| item.get(PROBE_ATTRIBUTE)?.as_s().ok().cloned());
        Ok(run.as_ref() == Some(&self.run))
    }

    /// Removes the probe; whatever else is in its place stays.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn remove(&self) -> Result<()> {
        let request =
            self.target.client.delete_item().table_name(self.table).set_key(Some(self.key.to_attributes()));
        let request = request
            .condition_expression("attribute_exists(#p)")
            .expression_attribute_names("#p", PROBE_ATTRIBUTE);
        match request
            .send()
            .await
            .map_err(|e| fault::error(format!("removing the probe of {}", self.table), e))
        {
            Err(error) if error.kind == Kind::Refused => Ok(()),
            sent => sent.map(drop),
        }
    }

    async fn put_once(&self) -> Result<Landed> {
        let mut item = tombstone(self.key.clone(), VERSION);
        item.push(MARK_ATTRIBUTE, AttributeValue::N("0".to_owned()));
        item.push(PROBE_ATTRIBUTE, AttributeValue::S(self.run.clone()));
        Ok(self.target.put_guarded(self.table, item, VERSION).await?.landed)
    }

    async fn there(&self) -> Result<Option<Attributes>> {
        self.target.get(self.table, &self.key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_probe_is_below_that_of_every_row() {
        assert!(VERSION < Version::INITIAL_LOAD);
    }
}
