//! Primary keys of callers.

use lockstep_core::{AttributeValue, Column, Unholdable};
use sqlx::postgres::PgArguments;

/// A primary key, one value a column, for statements.
pub trait PrimaryKey {
    /// Binds the values in order.
    fn bind(&self, arguments: &mut PgArguments);

    /// The values in order, as attributes of items.
    ///
    /// # Errors
    /// When DynamoDB cannot hold one of them.
    fn attributes(&self) -> Result<Vec<AttributeValue>, Unholdable>;
}

impl<C: Column> PrimaryKey for C {
    fn bind(&self, arguments: &mut PgArguments) {
        Column::bind(self, arguments);
    }

    fn attributes(&self) -> Result<Vec<AttributeValue>, Unholdable> {
        Ok(Column::to_attribute(self)?.into_iter().collect())
    }
}

/// The key of a verb that takes a whole row and so has no key of its own.
pub(crate) enum NoKey {}

impl PrimaryKey for NoKey {
    fn bind(&self, _: &mut PgArguments) {
        match *self {}
    }

    fn attributes(&self) -> Result<Vec<AttributeValue>, Unholdable> {
        match *self {}
    }
}
