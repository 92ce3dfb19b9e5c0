//! Whose the control table is.
//!
//! 1. Two migrations of one account have control tables of one name, which is the default. 2. One of them
//! moves its truth here. 3. The other one reads that record and takes it for its own: its doctor has
//! PostgreSQL follow a truth that was never here, and its applications write DynamoDB alone. So the record
//! carries the identity of its migration, which PostgreSQL hands out with schema `lockstep`, and a process
//! that knows its own takes no other for it. Leases, counters, columns and cursors carry it too: before
//! either of both has a record here, each would raise the other's counters. What an earlier version made has
//! none, and is ours from its next change on.
//!
//! There is no record before the first step to DynamoOnly, which may be months after the beginning. So the
//! table is claimed when the target tables are made: 1. Two migrations go through DualWrite, and the control
//! table of both has the default name. 2. The second to step is refused, on the day of its cut-over. A claim
//! says whose the table is and nothing of the truth: where there is a record, that alone counts.

use std::sync::{Arc, OnceLock};

use lockstep_core::Advice::{ControlTable, SourceUrl, TargetTablePrefix};
use lockstep_core::{Attributes, Error, Kind, Result};

use super::attributes::{CLAIM, CONTROL, OWNER};
use super::{TargetControl, key, text_at};
use crate::{Target, fault};

/// The identity of the migration that a target is used for, as far as it is known; clones know the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    id: Arc<OnceLock<String>>,
    /// Set once the record was seen to be ours: it stays so.
    seen: Arc<OnceLock<()>>,
}

impl Target {
    /// Tells this target, and every clone of it, which migration it is used for. From then on a control
    /// record of another one is refused, and nothing in its table is changed. Told the same again, it changes
    /// nothing.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where it was told another one before: the source is another database than it
    /// was.
    pub fn belongs_to(&self, id: &str) -> Result<()> {
        let known = self.owner.id.get_or_init(|| id.to_owned());
        if known == id {
            return Ok(());
        }
        let message = format!(
            "the source says that it is of migration {id}, and said {known} before: \
                it was replaced by another database while this process ran. Check \
                {SourceUrl}, then start this process again"
        );
        Err(Error::target(Kind::Misconfigured, "telling migrations apart", message))
    }

    /// Whether it is known which migration this target is used for.
    pub fn has_owner(&self) -> bool {
        self.owner.id.get().is_some()
    }
}

impl TargetControl {
    pub(super) fn owner(&self) -> Option<&str> {
        self.target.owner.id.get().map(String::as_str)
    }

    /// Returns why the record that is there is another migration's, or the claim where there is no record,
    /// and what to do; `None` where it is ours, where there is neither, and where one of both has no identity
    /// yet.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn foreign(&self) -> Result<Option<String>> {
        if let Some(record) = self.read(CONTROL, CONTROL).await? {
            return Ok(self.why_foreign(&record));
        }
        Ok(self.read(CLAIM, CLAIM).await?.as_ref().and_then(|claim| self.why_claimed(claim)))
    }

    /// Claims the table for this migration, which nothing but a record of another one outranks. Repeated, and
    /// where it is not known which migration this is, it changes nothing. Tells whether it was claimed now.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where another migration's record or claim is there; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn claim(&self) -> Result<bool> {
        self.require_own_table().await?;
        if self.owner().is_none() || self.read(CLAIM, CLAIM).await?.is_some() {
            return Ok(false);
        }
        match self.put_own(key(CLAIM, CLAIM), "claiming the control table").await {
            // Another one was faster: whose it is now is what counts.
            Err(error) if error.kind == Kind::Refused => self.require_own_table().await.and(Err(error)),
            done => done.map(|()| true),
        }
    }

    /// Takes the claim of this migration out of the table, which another one may take then. One of another
    /// migration stays.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn give_up_claim(&self) -> Result<()> {
        let Some((if_own, owner)) = self.if_own() else { return Ok(()) };
        let request = self.target.client.delete_item().table_name(&self.table);
        let request = request
            .set_key(Some(key(CLAIM, CLAIM)))
            .condition_expression(if_own)
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_values(":owner", super::text(owner));
        match request.send().await.map_err(|e| fault::error("giving the control table up", e)) {
            Err(error)
                if error.kind == Kind::Refused || error.message.starts_with("ResourceNotFoundException") =>
            {
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// Refuses a record of another migration.
    pub(super) fn require_own(&self, record: &Attributes) -> Result<()> {
        let Some(why) = self.why_foreign(record) else { return Ok(()) };
        Err(Error::target(Kind::Misconfigured, "reading the control table", why))
    }

    /// Refuses to change anything in a table whose record is another migration's, or whose claim is where
    /// there is no record. They are read until the record was once seen to be ours: of a claim that is
    /// nothing said of a record that comes.
    pub(super) async fn require_own_table(&self) -> Result<()> {
        let Some(ours) = self.owner() else { return Ok(()) };
        if self.target.owner.seen.get().is_some() {
            return Ok(());
        }
        let Some(record) = self.read(CONTROL, CONTROL).await? else {
            let claim = self.read(CLAIM, CLAIM).await?;
            let Some(why) = claim.as_ref().and_then(|claim| self.why_claimed(claim)) else { return Ok(()) };
            return Err(Error::target(Kind::Misconfigured, "reading the control table", why));
        };
        self.require_own(&record)?;
        if text_at(&record, OWNER) == Some(ours) {
            self.target.owner.seen.get_or_init(|| ());
        }
        Ok(())
    }

    /// The condition under which an item with an owner of its own may be changed: it is ours, or was made by
    /// a version that named none. `None` where it is not known whose we are.
    pub(super) fn if_own(&self) -> Option<(&'static str, &str)> {
        Some(("(attribute_not_exists(#owner) OR #owner = :owner)", self.owner()?))
    }

    /// An item that is there, or why it is not to be gone by: it is another migration's.
    pub(super) fn own(&self, item: Option<Attributes>) -> Result<Option<Attributes>> {
        item.as_ref().map_or(Ok(()), |item| self.require_own(item))?;
        Ok(item)
    }

    /// Whether the record that is there names this migration for its own; also where it is not known which
    /// that is, or where there is no record.
    ///
    /// One that names none was made by a version that knew no owners, or by a program that has no right to
    /// say where the truth is: 1. In DualWrite another team makes a table of the default name, and an item in
    /// it that says DynamoOnly in a far epoch. 2. An instance starts, takes PostgreSQL for set back, and
    /// writes DynamoDB alone. So against PostgreSQL only a record that names us is believed.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn names_us(&self) -> Result<bool> {
        let Some(ours) = self.owner() else { return Ok(true) };
        let record = self.read(CONTROL, CONTROL).await?;
        Ok(record.is_none_or(|record| text_at(&record, OWNER) == Some(ours)))
    }

    /// The same of a claim, which is all that is left of a migration that was taken out while DynamoDB was
    /// away.
    fn why_claimed(&self, claim: &Attributes) -> Option<String> {
        let why = self.why_foreign(claim)?;
        Some(format!("{why}. If that migration was taken out, delete item {CLAIM} of it"))
    }

    pub(super) fn why_foreign(&self, record: &Attributes) -> Option<String> {
        let theirs = record.get(OWNER)?;
        // What is no text is no identity, and not ours either.
        let theirs = theirs.as_s().map_or("not a text", String::as_str);
        let ours = self.owner()?;
        (ours != theirs).then(|| {
            format!(
                "control table {} belongs to another migration (id {theirs}, ours is \
                    {ours}): it was made for another database or control schema. Set {ControlTable}, or \
                    {TargetTablePrefix}, to a name of this migration's own. Only if \
                    this table is its own, and PostgreSQL was restored to before it had \
                    that id: set migration_id in table `control` of its control schema to '{theirs}'",
                self.table()
            )
        })
    }
}
