//! One page of the pending set: marks with the rows they name, of bounded size.
//!
//! 1. A role that may write a table, or marks, puts in five hundred of 200 MB: they compress. 2. A page of
//! them does not fit into memory, and the relay is killed, at each start by the same page. So PostgreSQL
//! measures before it sends: what no item could hold is sent as its size alone, and a page ends where it is
//! full.

use chrono::{DateTime, Utc};
use lockstep_core::{ColumnSpec, Fields, SourceKey, Version};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::TableBinding;
use super::binding::{digest_sql, list, quote_identifier};

/// Bytes of a source key, as JSON, above which it is not read: the keys of an item have 3,072 together. Those
/// between are read, so that the reason of a dead letter names the key that is too long.
pub(super) const KEY_BYTES_MAX: i32 = 1024 * 1024;
/// Bytes of a row, as PostgreSQL prints it, above which it is not read. An item has 409,600; what an encoding
/// saves is less than a factor of ten, as a list of truths has it, or a text of backslashes in an array.
const ROW_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// Bytes of keys and rows after which a page ends. A page has one mark more than fits.
pub(super) const PAGE_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Place of a key in the order of the pending set, and of what was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDigest(pub(super) Vec<u8>);

/// Reason that the dead letter gives; lists of dead letters and a diagnosis show it.
const NO_KEY: &str =
    "the mark does not read as a key of this table: no capture trigger made it, and no row is behind it";

/// A mark that is set aside unread.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    pub(super) digest: KeyDigest,
    pub(super) version: Version,
    pub(super) reason: String,
}

impl Unreadable {
    pub(super) fn no_key(digest: KeyDigest, version: Version) -> Self {
        Self { digest, version, reason: NO_KEY.to_owned() }
    }

    pub(super) fn too_long(digest: KeyDigest, version: Version, bytes: i32) -> Self {
        let reason = format!("the key has {bytes} bytes; the keys of an item have 2048 and 1024 at most");
        Self { digest, version, reason }
    }
}

/// One pending key with the row it names, both from one snapshot.
pub struct PendingRow {
    /// The key.
    pub key: SourceKey,
    /// The version of its newest state in that snapshot.
    pub version: Version,
    row: PgRow,
    exists: bool,
    /// Whether there is a row of that primary key.
    is_there: bool,
    bytes: i64,
}

/// Columns before the row's own in the statement that reads a page. They are read by their place: a table may
/// have a `version` and a `key` of its own, and the driver gives the last column of a name.
const ROW_AT: usize = 8;

impl PendingRow {
    /// Runs `read` over the row's fields; `None` when the row is gone, so that a tombstone is due, and for a
    /// row of [`PendingRow::bytes_too_many`], which was not read.
    pub fn with_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        (self.exists && self.is_read()).then(|| Fields::of_query(&self.row, ROW_AT, read))
    }

    /// Runs `read` over the fields of the row that has this primary key under another source key; `None`
    /// where there is none, or where it has more bytes than any item.
    pub fn with_moved_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let is_moved = self.is_there && !self.exists;
        (is_moved && self.is_read()).then(|| Fields::of_query(&self.row, ROW_AT, read))
    }

    /// Returns the bytes of a row of this key that has more than any item could hold; it was not read.
    pub fn bytes_too_many(&self) -> Option<i64> {
        (self.exists && !self.is_read()).then_some(self.bytes)
    }

    /// Returns the bytes of key and row that PostgreSQL has sent.
    pub fn bytes_read(&self) -> usize {
        let of = |at: usize| {
            self.row.try_get_raw(at).ok().and_then(|value| value.as_bytes().ok().map(<[u8]>::len))
        };
        (0..self.row.len()).filter_map(of).sum()
    }

    fn is_read(&self) -> bool {
        self.bytes <= ROW_BYTES_MAX
    }
}

/// Pending keys of one table, and where the next page starts.
pub struct PendingBatch {
    /// The keys with their rows.
    pub rows: Vec<PendingRow>,
    /// Place to hand to the next call; `None` when this was the end of the set.
    pub next: Option<KeyDigest>,
    /// Time at which the snapshot was taken, by the source's clock.
    pub read_at: DateTime<Utc>,
    /// Marks that do not read as a key.
    pub(super) unreadable: Vec<Unreadable>,
}

impl PendingBatch {
    /// Returns the end of the set.
    pub fn nothing() -> Self {
        Self { rows: Vec::new(), next: None, read_at: DateTime::UNIX_EPOCH, unreadable: Vec::new() }
    }

    /// Makes the page of what [`page_sql`] found, of `limit` keys.
    pub(super) fn of(found: Vec<PgRow>, limit: usize) -> Self {
        let read_at = found.first().map_or_else(Utc::now, |row| row.get(4));
        let mut page = Self { read_at, ..Self::nothing() };
        let mut is_cut = found.len() == limit;
        let mut last = None;
        for row in found {
            // Each row after it lies beyond as well.
            let Some(digest) = row.get::<Option<Vec<u8>>, _>(5).map(KeyDigest) else {
                is_cut = true;
                break;
            };
            last = Some(digest.clone());
            let version = Version(row.get(1));
            let key = row.get::<Option<String>, _>(0);
            match key.as_deref().map(SourceKey::parse) {
                Some(Ok(key)) => page.rows.push(PendingRow {
                    key,
                    version,
                    exists: row.get(2),
                    is_there: row.get(3),
                    bytes: row.get(7),
                    row,
                }),
                Some(Err(_)) => page.unreadable.push(Unreadable::no_key(digest, version)),
                None => page.unreadable.push(Unreadable::too_long(digest, version, row.get(6))),
            }
        }
        page.next = last.filter(|_| is_cut);
        page
    }
}

/// Returns the statement that reads marks of table `$1` with the rows they name, `$3` of them at most;
/// `which` is the condition on `key` and may use other parameters.
pub(super) fn page_sql(binding: &TableBinding, which: &str, order_sql: &str) -> String {
    let columns = binding.table.columns();
    let own = |c: &ColumnSpec| format!("s.{}", quote_identifier(c.name));
    let inner = list(columns.iter().enumerate().map(|(at, c)| format!("{} AS c{at}", own(c))));
    let outer = list(columns.iter().enumerate().map(|(at, c)| {
        let read = format!(
            "(CASE WHEN w.before < {PAGE_BYTES_MAX} AND w.row_bytes <= {ROW_BYTES_MAX} THEN w.c{at} END)"
        );
        binding.table.selected(c, &read)
    }));
    let bytes: Vec<String> = columns.iter().filter_map(|c| bytes_sql(c, &own(c))).collect();
    let bytes = if bytes.is_empty() { "0::bigint".to_owned() } else { bytes.join(" + ") };
    format!(
        "SELECT CASE WHEN w.before < {PAGE_BYTES_MAX} THEN w.key::text END, w.version, w.is_present,
            w.is_there, pg_catalog.statement_timestamp(),
            CASE WHEN w.before < {PAGE_BYTES_MAX} THEN w.digest END, w.key_bytes, w.row_bytes, {outer}
         FROM (SELECT m.*, pg_catalog.sum(m.weight)
                   OVER (ORDER BY m.digest {order_sql} ROWS UNBOUNDED PRECEDING) - m.weight AS before
               FROM (SELECT q.*, CASE WHEN q.key IS NULL THEN 0 ELSE q.key_bytes END
                         + CASE WHEN q.row_bytes > {ROW_BYTES_MAX} THEN 0 ELSE q.row_bytes END AS weight
                     FROM (SELECT p.key, p.version, p.digest, p.key_bytes, {bytes} AS row_bytes,
                               coalesce({present_key} = p.key, false) AS is_present,
                               s.{first_key} IS NOT NULL AS is_there, {inner}
                           FROM (SELECT CASE WHEN {key_bytes} <= {KEY_BYTES_MAX} THEN key END AS key, version,
                                     {of_mark} AS digest, {key_bytes} AS key_bytes
                                 FROM lockstep.pending WHERE table_name = $1 AND {which}
                                 ORDER BY {of_mark} {order_sql} LIMIT $3) AS p
                           LEFT JOIN {relation} AS s ON {same_row} OFFSET 0) AS q) AS m) AS w
         ORDER BY w.digest {order_sql}",
        key_bytes = key_bytes_sql("key"),
        of_mark = digest_sql("key"),
        first_key = quote_identifier(binding.table.key_columns()[0].name),
        present_key = binding.key_sql("s"),
        relation = binding.relation.sql(),
        same_row = binding.row_of_primary_key_sql("s", "p.key"),
    )
}

/// Returns the bytes of a source key as JSON.
pub(super) fn key_bytes_sql(key: &str) -> String {
    format!("pg_catalog.octet_length({key}::text)")
}

/// Types whose values have a few bytes always.
const SMALL: &[&str] = &[
    "bigint",
    "integer",
    "smallint",
    "boolean",
    "uuid",
    "date",
    "double precision",
    "real",
    "oid",
    "interval",
];
/// Bytes of a stored value up to which it is not printed to be measured; compressed, it has 255 times as many
/// at most.
const STORED_BYTES_SMALL: i32 = 512;

/// Returns the bytes of a column as it is sent, near enough; `None` where they are few whatever its value is.
/// No cast but PostgreSQL's own is used: one of another role would run that role's function.
fn bytes_sql(column: &ColumnSpec, name: &str) -> Option<String> {
    let sql_type = column.sql_type;
    if SMALL.contains(&sql_type) || (sql_type.starts_with("time") && !sql_type.ends_with("[]")) {
        return None;
    }
    let is_text = !sql_type.ends_with("[]")
        && (sql_type == "text"
            || sql_type.starts_with("character varying")
            || sql_type.starts_with("character("));
    let bytes = if is_text {
        // The length is beside the value, so nothing is decompressed; the blanks that pad one are not stored.
        format!("pg_catalog.octet_length({name}::pg_catalog.text)")
    } else if sql_type == "bytea" {
        format!("pg_catalog.octet_length({name})")
    } else {
        format!(
            "CASE WHEN pg_catalog.pg_column_size({name}) > {STORED_BYTES_SMALL}
                 THEN pg_catalog.octet_length(pg_catalog.format('%s', {name}))
                 ELSE pg_catalog.pg_column_size({name}) END"
        )
    };
    Some(format!("coalesce({bytes}, 0)::bigint"))
}
