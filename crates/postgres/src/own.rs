//! Migration that a handle on the source is used for, and what keeps it from reading another one's schema.
//!
//! A process may sleep for days. 1. A relay of the first migration is suspended with its machine. 2. That
//! migration is completed, and a second one begins in the database. 3. The relay wakes, takes a share of the
//! second one's pending keys, and delivers none of them. So a handle that has once heard the identity of its
//! migration reads phase and tables of no other one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use lockstep_core::Advice::Doctor;
use lockstep_core::{Error, Kind, Result};

use crate::sql;

use super::Source;

/// Identity of the migration of a [`Source`], as far as it was heard; every clone has the same.
#[derive(Clone, Debug, Default)]
pub struct OwnMigration {
    id: Arc<RwLock<Option<String>>>,
    aside: Arc<AtomicBool>,
}

impl OwnMigration {
    /// Notes the identity of the migration.
    pub fn set(&self, id: &str) {
        *self.id.write().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
    }

    /// Notes whether schema `lockstep` is that of a later migration: see [`Source::is_aside`].
    pub fn set_aside(&self, aside: bool) {
        self.aside.store(aside, Ordering::Release);
    }

    fn get(&self) -> Option<String> {
        self.id.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses what was read of a schema of identity `found`, where that is known to be another migration's.
    pub(crate) fn require(&self, found: Option<&str>, kind: Kind, doing: &str) -> Result<()> {
        let (Some(found), Some(own)) = (found, self.get()) else { return Ok(()) };
        if found == own {
            return Ok(());
        }
        let message = format!(
            "schema {} is by now that of another migration (id {found}), and this process is of {own}, \
             which was completed or taken out while it did not look: nothing of the other one is read or \
             changed. See {Doctor}",
            sql::control_schema()
        );
        Err(Error::source(kind, doing, message))
    }
}

impl Source {
    /// Returns the note of which migration this handle is of.
    pub fn own(&self) -> &OwnMigration {
        &self.own
    }

    /// Tells whether schema `lockstep` of this database is known to be another migration's, which began when
    /// the one of this handle was complete. As it was last found; nothing is asked.
    pub fn is_aside(&self) -> bool {
        self.own.aside.load(Ordering::Acquire)
    }

    /// Notes that schema `lockstep` is another migration's: from then on every clone of this handle takes it
    /// for gone. Or that it is not.
    pub fn set_aside(&self, aside: bool) {
        self.own.set_aside(aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_knows_its_migration_reads_no_other_ones_schema() {
        let own = OwnMigration::default();
        let clone = own.clone();
        let refused = |found| own.require(found, Kind::Refused, "reading").err();
        assert!(refused(Some("b")).is_none(), "it has not heard of its own");
        clone.set("a");
        assert!(refused(Some("a")).is_none() && refused(None).is_none());
        let said = refused(Some("b")).expect("another one's");
        assert!(said.kind == Kind::Refused && said.message.contains("id b"), "{said}");
    }
}
