//! The place of the control record, and the attributes of it that several modules name.

/// Partition and sort key of the control record.
pub(super) const CONTROL: &str = "CONTROL";
/// Partition and sort key of what names the migration that a table is of while there is no record yet.
pub(super) const CLAIM: &str = "CLAIM";
/// The attribute that says whose an item is; see `owner`.
pub(super) const OWNER: &str = "owner";
/// The attribute of the record that says that leases are spread, and its value; see `leases`.
pub(super) const LEASES: &str = "leases";
pub(super) const SPREAD: &str = "spread";
