//! Whether a relation is still what capture was installed on, and whether all of its rows can be seen (I13,
//! I15).
//!
//! What was captured is kept as one text, the *fingerprint*: a line for each column, one for the key, then a
//! line that says which columns these are and when they were last rewritten, then one for each partition (see
//! [`partitions`]), then one for each thing that hides rows or lets them be written past the triggers. The
//! last kind is never part of what is captured: capture is not installed over it.
//!
//! Why names and types are not enough. 1. A comparison says consistent. 2. `ALTER COLUMN amount TYPE
//! numeric(18,2) USING round(amount * 1.19, 2)` rewrites every row; no trigger fires, and the type is the one
//! it was. 3. The step to DynamoOnly makes the amounts from before it the truth. Likewise a column that was
//! dropped and added again, or two that swapped names.

use lockstep_core::Advice::{Doctor, RepairState, RollbackToPostgresOnly, Uninstall};
use lockstep_core::{ColumnTypes, Doing, Result};
use sqlx::postgres::PgConnection;
use std::borrow::Cow;

use super::fingerprint::{DOING, fingerprint};
use super::partitions::{self, Leaf, PARTITION};
use super::{Source, TableBinding};
use crate::sql;

/// Begins the line that tells columns of one name apart.
const SHAPE: &str = "\nlockstep shape: ";
/// Begins a line about rows that cannot be seen.
const HIDES: &str = "\nlockstep hides: ";

/// Begins what such a line says where nothing keeps two rows from having one key.
const KEYLESS: &str = "key: ";

/// Begins the line about the key, which comes last.
pub(super) const KEY: &str = "PRIMARY KEY ";

/// Returns the line of the key, where there is one.
pub(super) fn key_line(columns: &str) -> Option<&str> {
    columns.lines().next_back().filter(|line| line.starts_with(KEY))
}

/// Relation of a table to what was captured of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is the one that was captured, and all of its rows can be seen.
    Same,
    /// Names and types are the same, but a statement about the table has changed values, or put another
    /// column in the place of one, and no trigger saw it; or its key has another order by now, so that what
    /// was read of it up to some key is not what lies before that key.
    Rewritten,
    /// Columns came, went, or have another type, a line of the fingerprint for each, and the key is the one
    /// it was. A build that knows the columns as they are may take them, see [`Source::take_columns`].
    Columns {
        /// Those that were not there, or have another type.
        came: Vec<String>,
        /// Those that are no longer there as they were.
        gone: Vec<String>,
    },
    /// The key is another one; columns may be others besides.
    Changed,
    /// Partitions went, or came with what no trigger saw; a sentence for each.
    Partitions(Vec<String>),
    /// Partitions were added and are captured, and are not recorded yet: see [`Source::record_shape`]. Their
    /// names.
    Grown(Vec<String>),
    /// Rows of it cannot be seen, or can be written past the triggers; a sentence for each way.
    Hidden(Vec<String>),
}

/// A fingerprint, taken apart.
struct Parts<'a> {
    /// Columns and key, all that an older Lockstep has recorded.
    columns: &'a str,
    /// Identity of the columns, the transactions that touched them, the file of the rows, and the order of
    /// the key, which is empty in a record of an older Lockstep.
    shape: Option<[&'a str; 4]>,
    leaves: Vec<Leaf>,
    hides: Vec<String>,
}

impl<'a> Parts<'a> {
    fn of(fingerprint: &'a str) -> Self {
        // From the end: what comes before it holds names that the user has chosen.
        let Some((columns, rest)) = fingerprint.rsplit_once(SHAPE) else {
            return Self { columns: fingerprint, shape: None, leaves: Vec::new(), hides: Vec::new() };
        };
        let mut lines = rest.split(HIDES);
        let shape = lines.next().unwrap_or_default();
        let leaves = Leaf::all(shape);
        let mut words = shape.split(PARTITION).next().unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default();
        let shape = Some([word(), word(), word(), word()]);
        Self { columns, shape, leaves, hides: lines.map(str::to_owned).collect() }
    }
}

fn sorted(columns: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = columns.lines().collect();
    lines.sort_unstable();
    lines
}

/// Returns the lines of `of` that `other` does not have.
fn beside(of: &str, other: &str) -> Vec<String> {
    let mut lines = sorted(of);
    for line in sorted(other) {
        if let Some(at) = lines.iter().position(|of| *of == line) {
            lines.remove(at);
        }
    }
    lines.into_iter().map(str::to_owned).collect()
}

/// Returns what hides rows of a relation with this fingerprint, as `kind: sentence`.
pub fn hides(fingerprint: &str) -> Vec<String> {
    Parts::of(fingerprint).hides
}

/// Returns the partitions in a fingerprint.
pub(super) fn leaves_of(fingerprint: &str) -> Vec<Leaf> {
    Parts::of(fingerprint).leaves
}

/// Returns a fingerprint with these partitions in place of its own, and nothing that hides rows.
pub(super) fn with_leaves(fingerprint: &str, leaves: &[Leaf]) -> String {
    let Parts { columns, shape, .. } = Parts::of(fingerprint);
    let Some(shape) = shape else { return fingerprint.to_owned() };
    format!("{columns}{SHAPE}{}{}", shape.join(" ").trim_end(), partitions::lines(leaves))
}

/// Returns, as one text, what the order depends on in which rows are read by their key: while it is the same,
/// two reads that begin where the one before ended have met every row. It is another one after any change of
/// a column, and so also after one that was made and undone.
pub fn read_order(fingerprint: &str) -> String {
    Parts::of(fingerprint)
        .shape
        .map(|[_, touched, _, order]| format!("{touched} {order}"))
        .unwrap_or_default()
}

/// Returns the columns and the key in a fingerprint: what stays the same through everything that changes no
/// value.
pub fn columns_of(fingerprint: &str) -> &str {
    Parts::of(fingerprint).columns
}

/// Tells whether the file of the rows, or that of a partition that was there all the time, is another one
/// than it was recorded. `VACUUM FULL` and `CLUSTER` do that and change no row; `SET UNLOGGED`, a crash and
/// `SET LOGGED` do it as well, and have emptied the table.
pub fn is_moved(recorded: &str, now: &str) -> bool {
    let (recorded, now) = (Parts::of(recorded), Parts::of(now));
    let (Some([_, _, file, _]), Some([_, _, file_now, _])) = (recorded.shape, now.shape) else {
        return false;
    };
    file != file_now || moved(&recorded, &now)
}

/// Tells whether the file of a partition that was there all the time is another one.
fn moved(captured: &Parts<'_>, now: &Parts<'_>) -> bool {
    captured.leaves.iter().any(|leaf| now.leaves.iter().any(|now| leaf.is(now) && leaf.file != now.file))
}

/// Judges what became of partitions.
fn of_leaves(known: &[Leaf], now: &[Leaf]) -> Shape {
    let mut changes = Vec::new();
    for leaf in known {
        let name = &leaf.name;
        match now.iter().find(|now| leaf.is(now)) {
            None => changes.push(format!(
                "partition {name} was detached, dropped, or attached again: rows of it went, and no trigger saw that"
            )),
            Some(now) if leaf.was_emptied(now) => changes
                .push(format!("partition {name} was truncated or rewritten before it refused that, and no trigger saw it")),
            Some(_) => {}
        }
    }
    let new: Vec<&Leaf> = now.iter().filter(|leaf| !known.iter().any(|known| known.is(leaf))).collect();
    for Leaf { name, .. } in new.iter().filter(|leaf| !leaf.fresh) {
        changes.push(format!(
            "partition {name} was attached, and may have been truncated or rewritten before it was seen"
        ));
    }
    if !changes.is_empty() {
        Shape::Partitions(changes)
    } else if new.is_empty() {
        Shape::Same
    } else {
        Shape::Grown(new.iter().map(|leaf| leaf.name.clone()).collect())
    }
}

impl Shape {
    /// Compares what was captured with what is there now.
    pub fn of(captured: &str, now: &str) -> Self {
        let (captured, now) = (Parts::of(captured), Parts::of(now));
        // In whatever order: one that was dropped and added again comes last.
        let (captured_columns, now_columns) = (captured.columns, now.columns);
        let is_changed = sorted(captured_columns) != sorted(now_columns);
        // A primary key that was dropped is a change, and undoing it repairs the key as well.
        let is_of_change = is_changed && now.hides.iter().all(|way| way.starts_with(KEYLESS));
        if !now.hides.is_empty() && !is_of_change {
            return Self::Hidden(now.hides);
        }
        let (Some([columns, touched, file, order]), Some([columns_now, touched_now, file_now, order_now])) =
            (captured.shape, now.shape)
        else {
            // One of the two is of a Lockstep that recorded no shape.
            return if captured.columns == now.columns { Self::Same } else { Self::Changed };
        };
        if is_changed {
            if now.hides.is_empty() && key_line(captured_columns) == key_line(now_columns) {
                let came = beside(now_columns, captured_columns);
                Self::Columns { came, gone: beside(captured_columns, now_columns) }
            } else {
                Self::Changed
            }
        } else if columns != columns_now
            || (order != order_now && !order.is_empty() && !order_now.is_empty())
            || (touched != touched_now && (file != file_now || moved(&captured, &now)))
        {
            Self::Rewritten
        } else {
            of_leaves(&captured.leaves, &now.leaves)
        }
    }

    /// Returns what is wrong, in a sentence; `None` where nothing is.
    pub fn wrong(&self) -> Option<String> {
        Some(match self {
            Self::Same => return None,
            Self::Rewritten => "a statement such as ALTER TABLE has rewritten its values, or put another column in the place of \
                                one of the same name, or its key sorts by another collation, and no trigger saw that"
                .to_owned(),
            Self::Columns { came, gone } if gone.is_empty() => {
                format!("a column was added since capture was installed, and is not taken yet: {}",
                    came.join(", "))
            }
            Self::Columns { came, gone } => format!(
                "its columns have changed since capture was installed, and are not taken yet: {} went{}{}",
                gone.join(", "),
                if came.is_empty() { "" } else { ", and there is " },
                came.join(", ")
            ),
            Self::Changed => "its key has changed since capture was installed".to_owned(),
            Self::Partitions(changes) => changes.join("; "),
            Self::Grown(names) => format!("partition {} was added, and is not taken in yet", names.join(" and ")),
            Self::Hidden(ways) => ways.join("; "),
        })
    }

    /// Returns what to do about it.
    pub fn next(&self) -> Cow<'static, str> {
        match self {
            Self::Same => "nothing".into(),
            Self::Rewritten => {
                format!("run {Doctor}, then {RepairState}, which takes the table as it is \
                    now and compares both stores").into()
            }
            Self::Columns { gone, .. } => {
                let undo = if gone.is_empty() { "drop the column" } else { "undo the change" };
                format!("run a build that knows the columns as they are, everywhere (a declared table is \
                 read again at \
                    each start), then {Doctor} and {RepairState}, which takes them and brings each row; \
                     or {undo}. \
                    While DynamoDB is the truth they cannot be taken: {undo}, and repeat it after the way \
                     back").into()
            }
            Self::Changed => {
                format!("undo the change of the table, or end this migration \
                    ({RollbackToPostgresOnly}, then {Uninstall}) and start again").into()
            }
            Self::Partitions(_) => {
                format!("attach what is to stay, or run {Doctor}, then {RepairState}, which \
                    takes the partitions as they are now: the items of rows that went \
                    are deleted").into()
            }
            Self::Grown(_) => {
                "a relay, a comparison or the next try of a step takes it in: run the command again".into()
            }
            Self::Hidden(ways) if ways.iter().all(|way| way.starts_with(KEYLESS)) => {
                "leave one row of each key, and make the unique index, and NOT NULL of its columns, again; \
                 then the same command goes on"
                    .into()
            }
            Self::Hidden(_) => {
                "let the role of this session see every row of an ordinary table: see docs/runbook.md, \"Source tables\"".into()
            }
        }
    }
}

/// Row level security of a table, with the settings of our role.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct RowSecurity {
    /// The role of this session.
    pub role: String,
    /// Policies of the table, where row level security is on.
    pub policies: Vec<String>,
    /// `session_replication_role` of this session.
    pub replication_role: String,
}

impl Source {
    /// Returns the policies that a table has, whether or not they apply to us.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn row_security(&self, binding: &TableBinding) -> Result<RowSecurity> {
        sql::query_as(
            "SELECT current_user::text AS role, pg_catalog.current_setting('session_replication_role') AS replication_role,
                    ARRAY(SELECT p.polname::text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                          WHERE c.oid = pg_catalog.to_regclass($1)::oid AND c.relrowsecurity
                              ORDER BY 1) AS policies",
        )
        .bind(binding.relation.sql())
        .fetch_one(self.pool())
        .await
        .doing("asking for row level security")
    }

    /// Returns the columns and the key of a relation as text, with its shape and what hides rows of it; empty
    /// when it is gone. Cheap enough to ask after every read; compare it by [`Shape::of`].
    ///
    /// It is asked for after a chunk was read and before anything of it is acknowledged: a column that was
    /// added before the read is then seen, so no row with values in a column we do not know is ever settled.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn fingerprint(&self, binding: &TableBinding) -> Result<String> {
        // By the session that was asked last: each new one plans the statement first, which takes longer than
        // to run it.
        let mut session = self.session(DOING).await?;
        let found = fingerprint(&mut *session, binding).await?;
        session.keep();
        self.see_order(binding, read_order(&found));
        Ok(found)
    }

    /// Notes the order in which a relation is read now.
    pub(super) fn see_order(&self, binding: &TableBinding, order: String) {
        self.plans.see(binding.name(), order);
    }
}

/// Types of the columns of a relation; those of enums with their labels, as `ColumnTypes` of the core has
/// them.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn column_types(connection: &mut PgConnection, binding: &TableBinding) -> Result<ColumnTypes> {
    let types = column_types_of(connection, std::slice::from_ref(binding)).await?;
    Ok(types.into_iter().next().unwrap_or_else(|| ColumnTypes::new(Vec::new())))
}

/// Returns the same of several relations, in their order, by one statement.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn column_types_of(
    connection: &mut PgConnection,
    tables: &[TableBinding],
) -> Result<Vec<ColumnTypes>> {
    let found: Vec<(i64, String, String)> = sql::query_as(
        "SELECT asked.nth - 1, a.attname::text,
             pg_catalog.format_type(a.atttypid, a.atttypmod)
                 || coalesce((SELECT ' enum '
                         || pg_catalog.json_agg(e.enumlabel::text ORDER BY e.enumsortorder)::text
                     FROM pg_enum e WHERE e.enumtypid = a.atttypid), '')
                 || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
         FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS asked (relation, nth)
         JOIN pg_attribute a ON a.attrelid = pg_catalog.to_regclass(asked.relation)::oid
             AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind(tables.iter().map(|binding| binding.relation.sql()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
    .doing(DOING)?;
    let mut types = vec![Vec::new(); tables.len()];
    for (at, column, sql_type) in found {
        types[at as usize].push((column, sql_type));
    }
    Ok(types.into_iter().map(ColumnTypes::new).collect())
}

/// Longest wait for a table while the barrier is closed: every writer waits for as long.
pub(super) const HELD_UP_FOR: std::time::Duration = std::time::Duration::from_millis(200);

#[cfg(test)]
mod tests;
