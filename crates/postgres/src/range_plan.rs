//! Plan of a table's ranges, and how it is stored.

use lockstep_core::{Doing, Result};

use super::KeyBound;
use super::begin::SourceTransaction;
use crate::sql;

/// Way in which a table is cut.
#[derive(Clone, Debug)]
pub enum RangePlan {
    /// Ranges of keys: after the first, up to and including the second.
    Keys(Vec<(Option<KeyBound>, Option<KeyBound>)>),
    /// Ranges of the blocks of a file: from the first, up to the one before the second.
    Blocks {
        /// The file.
        file: String,
        /// First blocks, and the first ones after.
        ranges: Vec<(i64, i64)>,
    },
}

/// Holds the plan of a table: one that is made again or forgotten and a range that is split wait for each
/// other.
///
/// 1. A worker splits a range. 2. Another one sees that the table has another file, or is told to forget the
/// plan, and removes the ranges that it sees. 3. The new half is not among them: its number is taken, its
/// file is gone, and no plan that has a range of that number can be stored.
pub(super) async fn hold_plan(transaction: &mut SourceTransaction, table: &str, doing: &str) -> Result<()> {
    sql::query("SELECT FROM lockstep.tables WHERE name = $1 FOR UPDATE")
        .bind(table)
        .execute(&mut **transaction)
        .await
        .doing(doing)?;
    Ok(())
}

/// Adds the ranges of a plan to a table that has no plan. What is there of an earlier one goes: a worker of
/// an earlier version does not hold the plan while it splits a range.
pub(super) async fn add_ranges(
    transaction: &mut SourceTransaction,
    table: &str,
    plan: &RangePlan,
    doing: &str,
) -> Result<()> {
    sql::query("DELETE FROM lockstep.ranges WHERE table_name = $1")
        .bind(table)
        .execute(&mut **transaction)
        .await
        .doing(doing)?;
    match plan {
        RangePlan::Keys(ranges) => {
            for (number, (lower, upper)) in ranges.iter().enumerate() {
                sql::query(
                    "INSERT INTO lockstep.ranges (table_name, number, lower, upper) VALUES ($1, $2, $3, $4)",
                )
                .bind(table)
                .bind(number as i32)
                .bind(lower)
                .bind(upper)
                .execute(&mut **transaction)
                .await
                .doing(doing)?;
            }
        }
        RangePlan::Blocks { file, ranges } => {
            let (from, until): (Vec<i64>, Vec<i64>) = ranges.iter().copied().unzip();
            sql::query(
                "INSERT INTO lockstep.ranges (table_name, number, lower, upper, until_block, file)
                 SELECT $1, r.number - 1, ARRAY[r.from_block::text], '{}', r.until_block, $2
                 FROM ROWS FROM (pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::bigint[]))
                     WITH ORDINALITY AS r (from_block, until_block, number)",
            )
            .bind(table)
            .bind(file)
            .bind(from)
            .bind(until)
            .execute(&mut **transaction)
            .await
            .doing(doing)?;
        }
    }
    Ok(())
}
