//! Reading a table by the blocks of its file (R55): in the order in which rows lie, whatever their keys are.
//!
//! Why that leaves no row out. A row that no statement has touched since capture began stays in its block for
//! as long as the table has this file, so it is seen whenever that block is read, in whatever snapshot: two
//! chunks need none in common. A row that was touched may be in another block by now, in one that was read or
//! in none, and is pending (I1). So is each row in a block that came after the plan was made. `VACUUM` frees
//! places and cuts empty blocks off, and moves no row.
//!
//! `VACUUM FULL`, `CLUSTER` and what swaps files (pg_repack) move rows that no trigger sees into other blocks:
//! of another file. So a range is of one file, and a chunk counts only if the table has that file still
//! *after* it was read. One look is enough, as a table does not come back to a file that it has left.

use lockstep_core::{Doing, Error, Kind, Result, Window};

use super::binding::quote_literal;
use super::{CopyChunk, Source, TableBinding};
use crate::window_conditions_sql;

/// The file of relation `c`, which no other table of this server has.
const FILE: &str =
    "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
    || '/' || c.oid || '/' || pg_catalog.pg_relation_filenode(c.oid)";

/// How rows of a table lie.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Heap {
    /// Its file; see [`BlockRead::file`].
    pub file: Option<String>,
    /// Blocks that the file has.
    pub blocks: i64,
    /// Why it cannot be read by blocks, as the end of a sentence.
    pub unreadable: Option<String>,
    /// Whether it is larger than what the server keeps in its own memory.
    pub exceeds_memory: bool,
    /// How far rows lie in the order of the first column of the key, from 0 (not at all) to 1; `None` where
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
    /// The file, as `server/database/relation/number`. The server is left out where it does not tell.
    pub file: String,
    /// Only rows of these days.
    pub window: Window,
    /// About how many bytes they have; zero where it is unknown.
    pub bytes_expected: usize,
}

impl Source {
    /// How the rows of a table lie, and in which file.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] where there is no such table.
    #[crate::boxed]
    pub async fn heap(&self, binding: &TableBinding) -> Result<Heap> {
        let doing = format!("looking how rows of {} lie", binding.relation);
        let sql = format!(
            "SELECT {FILE} AS file,
                 CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid)
                     / pg_catalog.current_setting('block_size')::bigint ELSE 0 END AS blocks,
                 CASE WHEN c.relkind <> 'r' THEN 'it has partitions, each with blocks of its own'
                     WHEN a.amname <> 'heap' THEN 'its access method is ' || a.amname
                     WHEN pg_catalog.current_setting('server_version_num')::int < 140000
                         THEN 'PostgreSQL before 14 reads all blocks to find some'
                     WHEN pg_catalog.current_setting('enable_tidscan') <> 'on' THEN 'enable_tidscan is off'
                     END AS unreadable,
                 pg_catalog.pg_relation_size(c.oid)
                     > pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')) AS exceeds_memory,
                 (SELECT pg_catalog.abs(s.correlation::float8) FROM pg_catalog.pg_stats s
                     WHERE s.schemaname = $2 AND s.tablename = $3 AND s.attname = $4 AND NOT s.inherited)
                     AS correlation
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
             WHERE c.oid = pg_catalog.to_regclass($1)::oid"
        );
        let found: Option<Heap> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(binding.relation.sql())
            .bind(&binding.relation.schema)
            .bind(&binding.relation.name)
            .bind(binding.primary_key().next())
            .fetch_optional(self.pool())
            .await
            .doing(&doing)?;
        let mut heap =
            found.ok_or_else(|| Error::source(Kind::Misconfigured, doing, "there is no such table"))?;
        let history = self.history().await?.unwrap_or_default();
        let server = history.split('/').next().unwrap_or_default();
        heap.file = heap.file.map(|file| format!("{server}/{file}"));
        Ok(heap)
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
        let sql =
            format!("SELECT {FILE} FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::oid");
        let now: Option<Option<String>> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(binding.relation.sql())
            .fetch_optional(self.pool())
            .await
            .doing(&doing)?;
        Ok((now.flatten().as_deref() == Some(of_server(&read.file))).then_some(chunk))
    }
}

/// The file as its server knows it.
fn of_server(file: &str) -> &str {
    file.split_once('/').map_or(file, |(_, of_server)| of_server)
}

/// Whether two looks saw one file. A server that does not tell its name is taken for the one that did, as
/// it would be without files.
pub fn is_same_file(one: &str, other: &str) -> bool {
    let servers = [one, other].map(|file| file.split('/').next().unwrap_or_default());
    let one_server = servers[0] == servers[1] || servers.contains(&"");
    one_server && of_server(one) == of_server(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_of_one_server_where_both_tell() {
        assert!(is_same_file("7/1/2/3", "7/1/2/3"));
        assert!(is_same_file("/1/2/3", "7/1/2/3") && is_same_file("7/1/2/3", "/1/2/3"));
        assert!(!is_same_file("8/1/2/3", "7/1/2/3"), "restored from a dump, with numbers that are the same");
        assert!(!is_same_file("/1/2/4", "7/1/2/3") && !is_same_file("7/1/2/4", "7/1/2/3"));
    }
}
