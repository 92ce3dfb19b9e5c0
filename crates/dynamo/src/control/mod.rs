//! The control table: what an application must know of its migration while PostgreSQL may be down.
//!
//! A small table of its own, so that streams, scans and validation of the target tables never meet it.
//! Everything in it is read strongly consistent. In reading order: `attributes` (names that several modules
//! use), `record` (phase, epoch, whether writes wait), `owner` (whose it is), `leases` (who serves by it),
//! `lease_item` (what an item says of that), `ids` (counters of identity keys), `columns` (what PostgreSQL
//! can hold), `places` (where the row of an id lives), `renumber` (items with versions of others), `purges`
//! (how far one has come).

mod attributes;
mod columns;
mod ids;
mod lease_item;
mod leases;
mod owner;
mod places;
mod purges;
mod record;
mod renumber;

pub use ids::IdBlock;
pub(crate) use leases::Leases;
pub use leases::LeasesSeen;
pub(crate) use owner::Owner;
pub use places::Place;
pub(crate) use renumber::is_renumbered;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::Advice::Doctor;
use lockstep_core::{Attributes, Error, KeyType, Kind, PK, Result, SK, TargetSchema};

use super::{TableStanding, Target, fault};

/// Key schema of every control table.
pub const CONTROL_SCHEMA: TargetSchema =
    TargetSchema { partition: KeyType::S, sort: Some(KeyType::S), indexes: &[] };

/// A handle on the control table; cheap to clone.
#[derive(Clone, Debug)]
pub struct TargetControl {
    target: Target,
    table: String,
}

impl TargetControl {
    /// As [`Target::request_lifetime`].
    pub fn request_lifetime(&self) -> std::time::Duration {
        self.target.request_lifetime()
    }
}

impl Target {
    /// The control table of this migration, as its options name it. Nothing is sent yet.
    pub fn control(&self) -> TargetControl {
        TargetControl { target: self.clone(), table: self.options.control_table.clone() }
    }
}

impl TargetControl {
    /// Name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The target that it is in.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Creates the table, unless it is there. Safe to repeat. It is protected by [`TargetControl::protect`]:
    /// that may wait for minutes, and a decision that is under way cannot.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] when a table of that name is something else, or another migration's; the
    /// driver's.
    #[crate::boxed]
    pub async fn create(&self) -> Result<()> {
        let there = match self.target.describe(&self.table, &CONTROL_SCHEMA).await? {
            TableStanding::There(there) if there.active => there,
            _ => self.target.create_unprotected(&self.table, &CONTROL_SCHEMA).await?,
        };
        match there.mismatches.as_slice() {
            [] => {
                self.require_own_table().await?;
                // Places of rows that expire. Without it they stay, which costs their storage and no more.
                if let Err(error) = self.target.ensure_expiry(&self.table).await {
                    tracing::warn!(table = self.table, "places of expired rows will not be removed: {error}");
                }
                Ok(())
            }
            wrong => {
                let message = format!("{}; choose another name or remove it", wrong.join("; "));
                Err(Error::target(Kind::Misconfigured, format!("creating {}", self.table), message))
            }
        }
    }

    /// Protects the table as [`Target::protect`] does.
    ///
    /// # Errors
    /// Those of [`Target::protect`].
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn protect(&self) -> Result<()> {
        self.target.protect(&self.table).await
    }

    /// Reads one item; `None` also where the table was never made.
    async fn read(&self, partition: &str, sort: &str) -> Result<Option<Attributes>> {
        let request = self.target.client.get_item().table_name(&self.table).consistent_read(true);
        match request.set_key(Some(key(partition, sort))).send().await {
            Ok(output) => Ok(output.item),
            Err(e) => match fault::error(format!("reading {}", self.table), e) {
                error if error.message.starts_with("ResourceNotFoundException") => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Puts an item under our identity, unless another migration's is there.
    async fn put_own(&self, mut item: Attributes, doing: &str) -> Result<()> {
        let place = key(text_at(&item, PK).unwrap_or_default(), text_at(&item, SK).unwrap_or_default());
        let request = self.target.client.put_item().table_name(&self.table);
        let request = match self.if_own() {
            Some((if_own, owner)) => {
                item.insert(attributes::OWNER.to_owned(), text(owner));
                request.condition_expression(if_own).expression_attribute_values(":owner", text(owner))
            }
            // That it has no owner is all that can be asked.
            None => request.condition_expression("attribute_not_exists(#owner)"),
        };
        let sent =
            request.expression_attribute_names("#owner", attributes::OWNER).set_item(Some(item)).send().await;
        match sent.map(drop).map_err(|e| fault::error(doing, e)) {
            Err(error) if error.kind == Kind::Refused => {
                let (partition, sort) = (text_at(&place, PK), text_at(&place, SK));
                self.own(self.read(partition.unwrap_or_default(), sort.unwrap_or_default()).await?)?;
                Err(error)
            }
            done => done,
        }
    }

    fn damaged(&self, what: &str) -> Error {
        Error::target(
            Kind::Misconfigured,
            format!("reading {}", self.table),
            format!("{what} does not parse; see {Doctor}"),
        )
    }
}

fn key(partition: &str, sort: &str) -> Attributes {
    Attributes::from([(PK.to_owned(), text(partition)), (SK.to_owned(), text(sort))])
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text_at<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn number_at<N: std::str::FromStr>(item: &Attributes, name: &str) -> Option<N> {
    item.get(name)?.as_n().ok()?.parse().ok()
}
