//! Reading rows fast: `COPY … TO STDOUT (FORMAT binary)`, in short statements (PostgreSQL documentation,
//! "COPY").
//!
//! Nothing stays open between chunks: a snapshot held for hours would keep vacuum from working.

use std::ops::Range;
use std::time::Instant;

use futures::TryStreamExt;
use lockstep_core::{AnyTable, Doing, Error, Fields, Kind, Result, Unholdable, Window};
use sqlx::PgConnection;

use super::binding::{list, quote_identifier, quote_literal};
use super::timed::{self, COPY};
use super::window::{window_conditions_sql, window_sql};
use super::{Source, TableBinding};
use crate::sql;

/// A primary key as literals, one a column: the border of a range or the watermark within it. Opaque to
/// everyone else.
pub type KeyBound = Vec<String>;

/// A piece of one table in primary key order: after `after`, up to and including `until`.
#[derive(Clone, Debug, Default)]
pub struct RangeRead {
    /// Rows start after this key; `None` starts at the first row.
    pub after: Option<KeyBound>,
    /// The last key that may be in it; `None` reads to the end.
    pub until: Option<KeyBound>,
    /// Most rows of one chunk.
    pub rows_max: usize,
    /// Only rows of these days.
    pub window: Window,
    /// About how many bytes the next chunk will have; zero where it is unknown. Memory for them is taken at
    /// once: grown as they come, it would be copied several times over.
    pub bytes_expected: usize,
}

impl RangeRead {
    /// Takes the size of the last chunk for that of the next one, which may have up to `rows_max` rows.
    pub fn expect_like(&mut self, bytes: usize, rows: usize) {
        let bytes = bytes.saturating_mul(self.rows_max) / rows.max(1);
        // A little more, because one byte too many would cost what this is to save.
        self.bytes_expected = bytes.saturating_add(bytes / 16);
    }

    /// Goes on behind the `last` of `rows` rows that were read. Returns `false` where these were all there are.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a row whose key is no bound.
    pub fn go_on(&mut self, binding: &TableBinding, rows: usize, last: Option<&[u8]>) -> Result<bool> {
        let Some(last) = last.filter(|_| rows == self.rows_max) else { return Ok(false) };
        let bound = binding.bound_of(last);
        self.after = Some(bound.map_err(|reason| Error::unholdable(binding.name(), &reason))?);
        Ok(true)
    }
}

/// The bytes of one `COPY`, header and trailer included.
#[derive(Debug)]
pub struct CopyChunk {
    bytes: Vec<u8>,
}

/// Most bytes of memory that are taken before anything was read.
const BYTES_EXPECTED_MAX: usize = 16 << 20;
/// "PGCOPY\n\377\r\n\0", flags and the length of the (empty) header extension.
const HEADER_BYTES: usize = 11 + 4 + 4;

impl CopyChunk {
    /// Returns how many bytes were read.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the ranges of its rows; hand each to [`CopyChunk::row`].
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = HEADER_BYTES;
        std::iter::from_fn(move || {
            let (count, _) = self.bytes.get(at..)?.split_first_chunk::<2>()?;
            // A column count of -1 is the trailer.
            let count = u16::try_from(i16::from_be_bytes(*count)).ok()?;
            let start = at + 2;
            let mut end = start;
            for _ in 0..count {
                let (length, _) = self.bytes.get(end..)?.split_first_chunk::<4>()?;
                end += 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            }
            at = end;
            (end <= self.bytes.len()).then_some(start..end)
        })
    }

    /// Returns the fields of a row; hand them to [`Fields::of_copy`].
    pub fn row(&self, row: &Range<usize>) -> &[u8] {
        &self.bytes[row.clone()]
    }

    /// Returns the fields of every row.
    pub fn tuples(&self) -> impl Iterator<Item = &[u8]> {
        self.rows().map(|row| &self.bytes[row])
    }
}

impl Source {
    /// Reads the first rows of `range`, in the order of the primary key, in one short statement of its own.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect; a cancelled read goes on in the background to the end of its chunk.
    #[crate::boxed]
    pub async fn read_chunk(&self, binding: &TableBinding, range: &RangeRead) -> Result<CopyChunk> {
        let key = binding.primary_key_sql("s");
        let mut conditions = Vec::new();
        for (bound, operator) in [(&range.after, ">"), (&range.until, "<=")] {
            if let Some(bound) = bound {
                conditions.push(format!("({key}) {operator} ({})", bound_sql(binding, bound)));
            }
        }
        conditions.extend(window_conditions_sql(&range.window, binding));
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let rows = format!(
            "SELECT {} FROM {} AS s{filter} ORDER BY {key} LIMIT {}",
            binding.columns_sql("s"),
            binding.relation.sql(),
            range.rows_max
        );
        self.copy_out(&rows, &format!("reading {}", binding.relation), range.bytes_expected).await
    }

    /// Reads the rows that have one of these primary keys, in the order of their keys. One that is gone is
    /// left out.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// As [`Source::read_chunk`].
    #[crate::boxed]
    pub async fn read_rows(&self, binding: &TableBinding, keys: &[KeyBound]) -> Result<CopyChunk> {
        let doing = format!("reading rows of {} again", binding.relation);
        let key = binding.primary_key_sql("s");
        // No list is empty in SQL.
        let wanted = match keys.is_empty() {
            true => "false".to_owned(),
            false => {
                let keys = keys.iter().map(|key| format!("({})", bound_sql(binding, key)));
                format!("({key}) IN ({})", list(keys))
            }
        };
        let rows = format!(
            "SELECT {} FROM {} AS s WHERE {wanted} ORDER BY {key} LIMIT {}",
            binding.columns_sql("s"),
            binding.relation.sql(),
            keys.len()
        );
        self.copy_out(&rows, &doing, 0).await
    }

    /// Reads `rows` rows chosen by chance, or all if there are no more: those with the smallest hash of their
    /// primary key under `seed`. So every row has the same chance wherever it lies, unlike with
    /// `TABLESAMPLE`, which takes pages. Choosing takes one pass over the primary key, and a day's window one
    /// over the table.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn sample_rows(
        &self,
        binding: &TableBinding,
        window: &Window,
        rows: usize,
        seed: i64,
    ) -> Result<CopyChunk> {
        let key = binding.primary_key_sql("s");
        let same = binding.primary_key().map(quote_identifier).map(|name| format!("s.{name} = k.{name}"));
        let select = format!(
            "SELECT {columns} FROM (SELECT {key} FROM {relation} AS s{filter}
                                    ORDER BY pg_catalog.hashtextextended(ROW({key})::text, {seed}), {key}
                                        LIMIT {rows}) AS k
             JOIN {relation} AS s ON {same}",
            columns = binding.columns_sql("s"),
            relation = binding.relation.sql(),
            filter = window_sql(window, binding, "WHERE"),
            same = same.collect::<Vec<_>>().join(" AND "),
        );
        self.copy_out(&select, &format!("sampling {}", binding.relation), 0).await
    }

    pub(super) async fn copy_out(
        &self,
        select: &str,
        doing: &str,
        bytes_expected: usize,
    ) -> Result<CopyChunk> {
        let (pool, copy) = (self.pool().clone(), format!("COPY ({select}) TO STDOUT (FORMAT binary)"));
        // A task of its own, which goes on when the caller is cancelled: sqlx gives a connection in the
        // middle of a COPY back to its pool, and its next user reads the answer to another question.
        let reading = tokio::spawn(async move {
            let began = Instant::now();
            let mut connection = pool.acquire().await?;
            let copied = read_all(&mut connection, &copy, bytes_expected).await;
            timed::note(COPY, began.elapsed());
            if copied.is_err() {
                // A COPY that fails leaves its connection as one that is dropped does: the end of the answer
                // is unread.
                drop(connection.detach());
            }
            copied
        });
        let ended = |_| Error::source(Kind::Unavailable, doing, "the reading task ended before it was done");
        let bytes = reading.await.map_err(ended)?.doing(doing)?;
        if bytes.len() < HEADER_BYTES + 2 || !bytes.ends_with(&[0xFF, 0xFF]) {
            return Err(Error::source(Kind::Unavailable, doing, "the COPY stream ended early"));
        }
        Ok(CopyChunk { bytes })
    }

    /// Keys that cut the table into pieces of about equal size, by a sample of its pages; sorted, without
    /// duplicates, and the last one is the table's greatest key at this moment, so that a backfill of a
    /// growing table ends.
    ///
    /// Empty for an empty table.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn sample_bounds(
        &self,
        binding: &TableBinding,
        pieces: usize,
        rows_estimate: i64,
    ) -> Result<Vec<KeyBound>> {
        let doing = format!("sampling the keys of {}", binding.relation);
        let key = binding.primary_key_sql("s");
        let texts = list(binding.primary_key().map(|name| format!("s.{}::text", quote_identifier(name))));
        let relation = binding.relation.sql();
        let descending = list(binding.primary_key().map(|name| format!("s.{} DESC", quote_identifier(name))));
        let last: Option<Vec<String>> = sql::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT ARRAY[{texts}] FROM {relation} AS s ORDER BY {descending} LIMIT 1"
        )))
        .fetch_optional(self.pool())
        .await
        .doing(&doing)?;
        let Some(last) = last else { return Ok(Vec::new()) };
        // Fifty sampled rows a piece place the borders well enough; a small table is read whole.
        let wanted = (pieces * 50) as f64;
        let percent = (100.0 * wanted / rows_estimate.max(1) as f64).clamp(0.001, 100.0);
        let sql = format!(
            "WITH sample AS (SELECT {key} FROM {relation} AS s TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)),
                 placed AS (SELECT ARRAY[{texts}] AS place, ({key}) < ({last}) AS is_before,
                     pg_catalog.row_number() OVER (ORDER BY {key}) AS place_number,
                     pg_catalog.count(*) OVER () AS total FROM sample AS s)
             SELECT p.place FROM placed AS p WHERE p.is_before AND p.place_number % greatest(p.total / {pieces}, 1) = 0
             ORDER BY p.place_number",
            last = bound_sql(binding, &last)
        );
        let mut bounds: Vec<KeyBound> =
            sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(self.pool()).await.doing(&doing)?;
        bounds.push(last);
        Ok(bounds)
    }
}

async fn read_all(connection: &mut PgConnection, copy: &str, bytes_expected: usize) -> sqlx::Result<Vec<u8>> {
    let mut stream = connection.copy_out_raw(&sql::of_this_schema(copy)).await?;
    let mut bytes = Vec::with_capacity(bytes_expected.min(BYTES_EXPECTED_MAX));
    while let Some(part) = stream.try_next().await? {
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

pub(crate) fn bound_sql(binding: &TableBinding, bound: &KeyBound) -> String {
    let types = binding.table.key_columns().iter().map(|column| column.sql_type);
    list(bound.iter().zip(types).map(|(literal, sql_type)| format!("{}::{sql_type}", quote_literal(literal))))
}

/// Returns the primary key of a row, as a bound.
pub(crate) fn bound_of(table: &dyn AnyTable, tuple: &[u8]) -> std::result::Result<KeyBound, Unholdable> {
    let wanted = &table.key_columns()[..table.primary_key_columns()];
    let mut bound = vec![String::new(); wanted.len()];
    let mut fields = Fields::of_copy(tuple);
    for column in table.columns() {
        let field = fields.next()?;
        if let Some(place) = wanted.iter().position(|key| key.name == column.name) {
            bound[place] = (column.literal)(field).map_err(|e| e.of(column.name))?;
        }
    }
    Ok(bound)
}

impl TableBinding {
    /// Returns the primary key of a row that [`Source::read_chunk`] read, as a bound.
    ///
    /// # Errors
    /// When the key has no literal; a table with such keys cannot be split into ranges.
    pub fn bound_of(&self, tuple: &[u8]) -> std::result::Result<KeyBound, Unholdable> {
        bound_of(self.table.as_ref(), tuple)
    }
}
