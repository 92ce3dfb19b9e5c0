//! Numbers that rows were given in DynamoOnly, and that no sequence is to give once more.
//!
//! 1. A table's key is a shop and a number, and PostgreSQL numbers the rows. 2. In DynamoOnly nothing does,
//! so the application puts row (7, 501). 3. The feed brings it, and the sequence stands at 500 as before.
//! 4. The way back is taken, and PostgreSQL gives 501 once more: to shop 7, which fails, or to another,
//! whose rows then share it. The same with a number that is in no key, and with items that another program
//! puts past the counter of a key of one column. So the feed sets a sequence above each number that it
//! reads, also of rows that are gone again by then, and of those that PostgreSQL refuses. A sequence knows
//! no rollback.

use std::collections::BTreeMap;

use lockstep_core::{AnyRow, Result, ids_end};
use sqlx::postgres::PgConnection;

use crate::sequences::{NumberedColumn, raise_above};

/// A column that a sequence numbers, as the feed reads it.
#[derive(Clone, Debug)]
pub(super) struct FedNumber {
    pub(super) numbered: NumberedColumn,
    /// Place among the columns of the source key, if it is one.
    in_key: Option<usize>,
    /// The least number that no row is given.
    end: i64,
}

impl FedNumber {
    /// `None` for a sequence that counts down: no number is above its own.
    pub(super) fn of(numbered: NumberedColumn, binding: &crate::TableBinding) -> Option<Self> {
        let key = binding.table.key_columns();
        let in_key = key.iter().position(|column| column.name == numbered.column);
        let column = binding.table.columns().iter().find(|column| column.name == numbered.column)?;
        let end = ids_end(column.sql_type).unwrap_or(i64::MAX);
        (numbered.increment > 0).then_some(Self { numbered, in_key, end })
    }
}

/// Sets the sequences of a table's columns above the numbers of these rows, and of rows with these source
/// keys.
pub(super) async fn keep_clear(
    connection: &mut PgConnection,
    numbers: &[FedNumber],
    rows: &[&dyn AnyRow],
    keys: &[Vec<String>],
) -> Result<()> {
    let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
    for FedNumber { numbered, in_key, end } in numbers {
        let of_rows = rows.iter().filter_map(|row| row.number(numbered.column));
        let of_keys = keys.iter().filter_map(|key| key.get((*in_key)?)?.parse().ok());
        let found = of_rows.chain(of_keys).filter(|number| number < end).max();
        if let Some(found) = found {
            // Columns may share a sequence.
            let known = highest.entry(&numbered.sequence).or_insert(found);
            *known = found.max(*known);
        }
    }
    raise_above(connection, &highest.into_iter().collect::<Vec<_>>()).await
}
