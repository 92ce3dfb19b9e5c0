//! Reading a table by the blocks of its file (R55): in the order in which rows lie, whatever their keys are.
//!
//! Why that leaves no row out. A row that no statement has touched since capture began stays in its block for
//! as long as the table has this file, so it is seen whenever that block is read, in whatever snapshot: two
//! chunks need none in common. A row that was touched may be in another block by now, in one that was read or
//! in none, and is pending (I1). So is each row in a block that came after the plan was made. `VACUUM` frees
//! places and cuts empty blocks off, and moves no row.
//!
//! `VACUUM FULL`, `CLUSTER` and what swaps files (pg_repack) move rows into other blocks, of another file,
//! and no trigger sees that. So a range is of one file, and a chunk counts only if the table has that file
//! still *after* it was read. One look is enough, as a table does not come back to a file that it has left.

use lockstep_core::{Doing, Error, Kind, Result, Window};

use super::binding::quote_literal;
use super::window::window_conditions_sql;
use super::{CopyChunk, Source, TableBinding};
use crate::sql;

/// The file of relation `c`, which no other table of any server has. A server that was made of a copy of this
/// one, file by file, has the same one, with the same rows in its blocks.
const FILE: &str = "(SELECT i.system_identifier FROM pg_catalog.pg_control_system() i)
    || '/' || (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
    || '/' || c.oid || '/' || pg_catalog.pg_relation_filenode(c.oid)";

/// Layout of a table's rows.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct Heap {
    /// File of the rows; see [`BlockRead::file`].
    pub file: Option<String>,
    /// Blocks that the file has.
    pub blocks: i64,
    /// Reason why it cannot be read by blocks, as the end of a sentence.
    pub unreadable: Option<String>,
    /// Whether it is larger than what the server keeps in its own memory.
    pub exceeds_memory: bool,
    /// Average bytes of a block, with what is stored apart for it.
    pub block_bytes: i64,
    /// Correlation of the order of rows with the first column of the key, from 0 (none) to 1; `None` where
    /// the table was never analysed.
    pub correlation: Option<f64>,
}

/// Some blocks of one file.
#[derive(Clone, Debug)]
pub struct BlockRead {
    /// The first one.
    pub from: i64,
    /// The first one after them.
    pub until: i64,
    /// The file, as `server/database/relation/number`.
    pub file: String,
    /// Only rows of these days.
    pub window: Window,
    /// About how many bytes they have; zero where it is unknown.
    pub bytes_expected: usize,
}

impl Source {
    /// Returns how the rows of a table lie, and in which file.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] where there is no such table.
    #[crate::boxed]
    pub async fn heap(&self, binding: &TableBinding) -> Result<Heap> {
        let doing = format!("looking how rows of {} lie", binding.relation);
        let tells = self.history().await?.is_some();
        let (file, silent) = match tells {
            true => (FILE, "NULL::text"),
            // 1. A source is restored from a dump. 2. Numbers of tables and files are given in the same
            //    order, and are the same. 3. Rows lie in other blocks.
            false => ("NULL::text", "'the server does not tell which one it is'"),
        };
        let sql = format!(
            "SELECT {file} AS file,
                 CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid)
                     / pg_catalog.current_setting('block_size')::bigint ELSE 0 END AS blocks,
                 CASE WHEN c.relkind = 'p' THEN 'it has partitions, each with blocks of its own'
                     WHEN c.relkind <> 'r' THEN 'it is no ordinary table'
                     WHEN a.amname <> 'heap' THEN 'its access method is ' || a.amname
                     WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
                         THEN 'rows of other tables are read through it'
                     WHEN pg_catalog.current_setting('server_version_num')::int < 140000
                         THEN 'PostgreSQL before 14 reads all blocks to find some'
                     WHEN pg_catalog.current_setting('enable_tidscan') <> 'on' THEN 'enable_tidscan is off'
                     WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
                         THEN 'this role may read its columns, and not where rows lie'
                     ELSE {silent} END AS unreadable,
                 pg_catalog.pg_relation_size(c.oid) > pg_catalog.pg_size_bytes(
                     pg_catalog.current_setting('shared_buffers')) AS exceeds_memory,
                 (pg_catalog.pg_relation_size(c.oid) + CASE c.reltoastrelid WHEN 0 THEN 0
                         ELSE pg_catalog.pg_relation_size(c.reltoastrelid) END)
                     / greatest(pg_catalog.pg_relation_size(c.oid)
                         / pg_catalog.current_setting('block_size')::bigint, 1) AS block_bytes,
                 (SELECT pg_catalog.abs(s.correlation::float8) FROM pg_catalog.pg_stats s
                     WHERE s.schemaname = $2 AND s.tablename = $3 AND s.attname = $4 AND NOT s.inherited)
                     AS correlation
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
             WHERE c.oid = pg_catalog.to_regclass($1)::oid"
        );
        loop {
            let found: Option<Heap> = sql::query_as(sqlx::AssertSqlSafe(sql.clone()))
                .bind(binding.relation.sql())
                .bind(&binding.relation.schema)
                .bind(&binding.relation.name)
                .bind(binding.primary_key().next())
                .fetch_optional(self.pool())
                .await
                .doing(&doing)?;
            let no_table = || Error::source(Kind::Misconfigured, &doing, "there is no such table");
            let heap = found.ok_or_else(no_table)?;
            // 1. It is asked how many blocks there are. 2. The table is rewritten, with fewer rows in a
            //    block. 3. It is asked which file that is. The last blocks of this one would be in no range.
            if !tells || self.file(binding, &doing).await? == heap.file {
                return Ok(heap);
            }
        }
    }

    async fn file(&self, binding: &TableBinding, doing: &str) -> Result<Option<String>> {
        let sql =
            format!("SELECT {FILE} FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::oid");
        let file: Option<Option<String>> = sql::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(binding.relation.sql())
            .fetch_optional(self.pool())
            .await
            .doing(doing)?;
        Ok(file.flatten())
    }

    /// Reads whole blocks of a table, in one short statement. `None` where the table has another file since
    /// they were planned: then rows may lie in other blocks, and nothing that was read counts.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// As [`Source::read_chunk`].
    #[crate::boxed]
    pub async fn read_blocks(&self, binding: &TableBinding, read: &BlockRead) -> Result<Option<CopyChunk>> {
        let place = |block: i64| quote_literal(&format!("({block},0)"));
        let mut conditions = vec![format!(
            "s.ctid >= {}::pg_catalog.tid AND s.ctid < {}::pg_catalog.tid",
            place(read.from),
            place(read.until)
        )];
        conditions.extend(window_conditions_sql(&read.window, binding));
        let rows = format!(
            "SELECT {} FROM ONLY {} AS s WHERE {}",
            binding.columns_sql("s"),
            binding.relation.sql(),
            conditions.join(" AND ")
        );
        let doing = format!("reading {}", binding.relation);
        let chunk = self.copy_out(&rows, &doing, read.bytes_expected).await?;
        let now = self.file(binding, &doing).await?;
        Ok((now.as_ref() == Some(&read.file)).then_some(chunk))
    }
}
