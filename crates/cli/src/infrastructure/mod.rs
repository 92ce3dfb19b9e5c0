//! The tables that Lockstep would create, as files for those who create tables by other means (R41).
//!
//! What is printed is what Lockstep makes, with a stream switched on beforehand, and protected: deletion
//! protection and point-in-time recovery are on. A table made from it is adopted as it stands.

mod aws_cli;
mod cloudformation;
mod terraform;

use lockstep_core::{Index, KeyAttribute, KeyType, Naming, Projected, TargetSchema};
use lockstep_dynamo::CONTROL_SCHEMA;
use lockstep_postgres::TableBinding;

pub(crate) use aws_cli::aws_cli;
pub(crate) use cloudformation::cloudformation;
pub(crate) use terraform::terraform;

/// One DynamoDB table.
#[derive(Clone, Debug)]
pub(crate) struct Blueprint {
    /// Name of the table, prefix included.
    pub name: String,
    /// Keys and indexes of the table.
    pub schema: TargetSchema,
    /// Names of its attributes.
    pub naming: Naming,
    /// Whether its items may expire.
    pub expires: bool,
    /// Whether its stream is read: those of tables that move are, the control table's is not.
    pub stream: bool,
}

impl Blueprint {
    /// Returns those of every table that moves, then that of the control table.
    pub(crate) fn all(tables: &[TableBinding], control_table: String) -> Vec<Self> {
        let moved = tables.iter().map(|binding| Self {
            name: binding.target_name.clone(),
            schema: binding.table.target(),
            naming: binding.table.naming(),
            expires: binding.table.expires(),
            stream: true,
        });
        let control = Self {
            name: control_table,
            schema: CONTROL_SCHEMA,
            naming: Naming::USUAL,
            expires: false,
            stream: false,
        };
        moved.chain([control]).collect()
    }

    /// Returns the attribute that expiry goes by, if there is one.
    fn expiry(&self) -> Option<&'static str> {
        self.expires.then_some(self.naming.names().expiry)
    }
}

fn letter(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::S => "S",
        KeyType::N => "N",
    }
}

fn projection(index: &Index) -> &'static str {
    match index.projection {
        Projected::Keys => "KEYS_ONLY",
        Projected::List(_) => "INCLUDE",
        Projected::All => "ALL",
    }
}

/// Returns the attributes of a projection that lists them.
fn listed(index: &Index) -> Option<&'static [&'static str]> {
    match index.projection {
        Projected::List(names) => Some(names),
        _ => None,
    }
}

/// Returns a key's attributes with what they are in it.
fn roles(key: impl Iterator<Item = KeyAttribute>) -> impl Iterator<Item = (KeyAttribute, &'static str)> {
    key.zip(["HASH", "RANGE"])
}

#[cfg(test)]
mod tests;
