//! Meaning of logical replication of schema `lockstep`. Pure.

use lockstep_core::Advice::{Doctor, UninstallCopy};
use lockstep_postgres::{Replicated, control_schema};

use super::finding::Finding;

/// Advice for who publishes all tables while a migration is under way.
pub(crate) const KEEP_IT_HERE: &str = "publish the tables that subscribers read by their names (CREATE \
    PUBLICATION .. FOR TABLE) in place of all, and begin no Blue/Green deployment and no upgrade by logical \
    replication before the migration has ended";

/// Says what is to be done in a database that another one's schema is brought to.
pub(crate) fn next_of_a_copy() -> String {
    format!(
        "run commands on the database that publishes. If this one takes its place, drop the subscription, then \
         {Doctor}; if it is used for itself, drop the subscription, then {UninstallCopy}"
    )
}

/// Judges what goes out and what comes in.
pub(super) fn findings(seen: &Replicated) -> Vec<Finding> {
    let outward = seen.carries().map(|carries| {
        Finding::attention(
            carries,
            "a subscriber without this schema, or with an older one, stops at the first row of it, and this \
             server keeps WAL for it until the disk is full",
            KEEP_IT_HERE,
        )
    });
    let inward = (!seen.subscriptions.is_empty()).then(|| {
        Finding::broken(
            format!(
                "this database is a copy: subscription {} brings it the schema {} of another one",
                seen.subscriptions.join(", "),
                control_schema()
            ),
            "its marks and its phase are those of the database that publishes, and what a command does here \
             would be done to the rows of that one",
            next_of_a_copy(),
        )
    });
    inward.into_iter().chain(outward).collect()
}
