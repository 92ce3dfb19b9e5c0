//! The partitions of a declaratively partitioned table: which they are, and that each of them is captured.
//! How a new one is taken in is in `take_in`.
//!
//! PostgreSQL clones the capture trigger of the parent to each partition, to a new one before it can hold a
//! row, and to one that is attached. So a row that is written is captured, whichever name the statement uses,
//! and a row that moves to another partition is captured as a deletion and an insertion. Three things pass
//! the triggers. *TRUNCATE of one partition*: its triggers are not cloned, so each partition is given one.
//! *ATTACH of a table with rows*: all of them are marked. *DETACH and DROP*: the rows are gone without a
//! word. So the fingerprint names each partition, with the transaction that attached it; one that is not
//! there any more, or was attached again, stops everything until an operator has said that its rows are
//! deleted.
//!
//! A partition is *known* once the recorded fingerprint names it. Nothing that was read while there was one
//! that is not known is delivered. 1. A partition is made, and filled. 2. A relay delivers its rows. 3. It is
//! dropped before anything has recorded that it was there. 4. Its items stay, and nothing shows it.

use lockstep_core::{Doing, Kind, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::binding::quote_identifier;
use super::trigger_names::truncate_trigger_name;
use super::{Source, TableBinding};
use crate::sql::{self, Run as _};

/// Begins a line about a partition in a fingerprint.
pub(super) const PARTITION: &str = "\nlockstep partition: ";
/// Put before the attachment of a partition that was attached with rows while DynamoDB is the truth: whatever
/// becomes of it is a change.
pub(super) const STRANGE: &str = "!";
/// Text that stands for a trigger that is not there.
pub(super) const NONE: &str = "-";

/// The partitions of relation `$1` that hold rows, with the transactions that attached them and their
/// ancestors. To be put behind `WITH RECURSIVE`.
pub(super) const TREE: &str = "tree (oid, chain) AS (
    SELECT i.inhrelid, ARRAY[i.xmin::text] FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
        WHERE i.inhparent = pg_catalog.to_regclass($1)::oid AND p.relkind = 'p'
            AND (pg_catalog.to_jsonb(i) ->> 'inhdetachpending')::boolean IS NOT TRUE
    UNION ALL SELECT i.inhrelid, tree.chain || i.xmin::text FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
        WHERE (pg_catalog.to_jsonb(i) ->> 'inhdetachpending')::boolean IS NOT TRUE)";

/// A line for each partition of relation `c`, which is `$1`; see [`Leaf`].
///
/// *born*: made as a partition, so it was empty and captured when it began. `ATTACH` updates the entries of
/// all columns; of a table that was made as a partition at least one is as it was made, by the transaction
/// that attached it and gave it its trigger. *captured*: its trigger is a clone of the parent's, touched by
/// nothing but the transaction that made it.
pub(super) const LINES: &str = r"(SELECT pg_catalog.string_agg(E'\nlockstep partition: ' || pg_catalog.concat_ws(' ', l.oid,
        pg_catalog.array_to_string(t.chain, '.'), coalesce(pg_catalog.pg_relation_filenode(l.oid), 0),
        CASE WHEN pg_catalog.pg_relation_filenode(l.oid) = l.oid THEN 'fresh' ELSE 'moved' END,
        CASE WHEN EXISTS (SELECT FROM pg_attribute s JOIN pg_attribute a USING (attrelid)
                 JOIN pg_trigger g ON g.tgrelid = l.oid AND g.tgname LIKE 'zz\_lockstep\_capture\_%' AND g.xmin = s.xmin
                 WHERE s.attrelid = l.oid AND s.attnum = -1 AND s.xmin::text = t.chain[pg_catalog.cardinality(t.chain)]
                     AND a.attnum > 0 AND a.xmin = s.xmin AND a.cmin = s.cmin) THEN 'born' ELSE 'attached' END,
        CASE WHEN EXISTS (SELECT FROM pg_trigger p JOIN pg_trigger g ON g.tgname = p.tgname AND g.tgfoid = p.tgfoid
                 WHERE p.tgrelid = c.oid AND p.tgname LIKE 'zz\_lockstep\_capture\_%' AND g.tgrelid = l.oid AND g.tgparentid <> 0
                     AND g.tgenabled = 'A' AND (g.xmin = p.xmin OR g.xmin::text = ANY (t.chain)))
             THEN 'captured' ELSE 'open' END,
        coalesce((SELECT g.oid || ':' || g.xmin FROM pg_trigger g WHERE g.tgrelid = l.oid AND g.tgenabled = 'A'
                 AND g.tgname LIKE 'zz\_lockstep\_truncate\_%' LIMIT 1), '-'),
        pg_catalog.translate(l.oid::regclass::text, E'\n', ' ')), '' ORDER BY l.oid)
    FROM tree t JOIN pg_class l ON l.oid = t.oid WHERE l.relkind <> 'p')";

/// Query for the reasons why partitions of relation `c` cannot be read or captured, as rows of one sentence.
pub(super) const HIDES: &str = r"SELECT 'partition: its partition ' || l.oid::regclass::text || CASE
        WHEN l.relkind <> 'r' THEN ' is a foreign table: its rows are written where no trigger of this server sees it'
        WHEN l.relpersistence <> 'p' THEN ' is UNLOGGED: a crash of the server empties it, and no trigger fires'
        WHEN pg_catalog.row_security_active(l.oid) THEN ' has row level security, which hides rows of it from this role'
        ELSE ' has a rule that rewrites what is written to it' END
    FROM tree t JOIN pg_class l ON l.oid = t.oid
    WHERE l.relkind NOT IN ('r', 'p') OR l.relpersistence <> 'p' OR pg_catalog.row_security_active(l.oid)
        OR EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = l.oid AND r.ev_type <> '1' AND r.ev_enabled <> 'D')";

/// A partition that holds rows, as a line of a fingerprint tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) oid: String,
    /// The transactions that attached it and its ancestors.
    pub(super) attached: String,
    /// The file of its rows.
    pub(super) file: String,
    /// Whether that is the one it was made with: it was never truncated or rewritten.
    pub(super) fresh: bool,
    pub(super) born: bool,
    pub(super) captured: bool,
    /// The trigger that refuses `TRUNCATE`.
    pub(super) guard: String,
    pub(super) name: String,
}

impl Leaf {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(8, ' ');
        let mut word = || words.next().map(str::to_owned);
        Some(Self {
            oid: word()?,
            attached: word()?,
            file: word()?,
            fresh: word()? == "fresh",
            born: word()? == "born",
            captured: word()? == "captured",
            guard: word()?,
            name: word()?,
        })
    }

    /// Returns the partitions in lines, each of which begins with [`PARTITION`].
    pub(super) fn all(lines: &str) -> Vec<Self> {
        lines.split(PARTITION).skip(1).filter_map(Self::read).collect()
    }

    /// Tells whether `other` is this partition, and was attached all the time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.oid == other.oid && self.attached == other.attached
    }

    /// Tells whether rows of this known partition may have gone since: it was emptied or rewritten, and
    /// nothing refused that.
    pub(super) fn was_emptied(&self, now: &Self) -> bool {
        self.guard == NONE && self.file != now.file
    }

    /// Returns the record of this known partition, where its file has moved and no value of it has changed.
    pub(super) fn followed(self, now: &[Self]) -> Self {
        match now.iter().find(|now| now.is(&self)) {
            Some(now) => Self { guard: self.guard, ..now.clone() },
            None => self,
        }
    }

    /// Tells whether it is there, and its rows lie where they were made.
    pub(super) fn is_still_among(&self, now: &[Self]) -> bool {
        let attached = self.attached.trim_start_matches(STRANGE);
        now.iter().any(|now| self.oid == now.oid && attached == now.attached && self.file == now.file)
    }

    /// Tells whether it came with rows of which DynamoDB, which is the truth, may have none.
    pub(super) fn is_strange(&self) -> bool {
        self.attached.starts_with(STRANGE)
    }

    /// Tells whether it is the same relation, however it was attached.
    pub(super) fn has_oid_of(&self, other: &Self) -> bool {
        self.oid == other.oid
    }

    fn line(&self) -> String {
        let Self { oid, attached, file, guard, name, .. } = self;
        let words = |is, yes, no| if is { yes } else { no };
        let (fresh, born) = (words(self.fresh, "fresh", "moved"), words(self.born, "born", "attached"));
        let captured = words(self.captured, "captured", "open");
        format!("{PARTITION}{oid} {attached} {file} {fresh} {born} {captured} {guard} {name}")
    }
}

/// Lines for partitions.
pub(super) fn lines(leaves: &[Leaf]) -> String {
    leaves.iter().map(Leaf::line).collect()
}

/// Returns the statement that reads the lines of the relation that is called `relation`, an expression.
pub(super) fn lines_sql(relation: &str) -> String {
    format!(
        "WITH RECURSIVE {TREE} SELECT coalesce({LINES}, '') FROM pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::oid"
    )
    .replace("$1", relation)
}

/// Returns the partitions of a relation as they are now.
pub(super) async fn read(connection: &mut PgConnection, binding: &TableBinding) -> Result<Vec<Leaf>> {
    let found: Option<String> = sql::query_scalar(AssertSqlSafe(lines_sql("$1")))
        .bind(binding.relation.sql())
        .fetch_optional(connection)
        .await
        .doing("reading the partitions of a table")?;
    Ok(Leaf::all(&found.unwrap_or_default()))
}

/// Returns the reason why the partitions of a table are not all captured; `known` are those of the recorded
/// fingerprint.
pub(super) fn uncaptured(known: &[Leaf], now: &[Leaf]) -> Option<String> {
    for leaf in now {
        if !leaf.captured {
            let name = &leaf.name;
            return Some(format!(
                "the capture trigger of partition {name} was dropped or disabled, or was for a while"
            ));
        }
        let guard = known.iter().find(|other| other.is(leaf)).map(|known| known.guard.as_str());
        if guard.is_some_and(|guard| guard != NONE && guard != leaf.guard) {
            return Some(format!(
                "the TRUNCATE trigger of partition {} was dropped, disabled or replaced",
                leaf.name
            ));
        }
    }
    None
}

/// Has each of these partitions refuse `TRUNCATE`. The caller holds a lock that keeps writers out, or takes
/// only what is free at once.
pub(super) async fn guard(connection: &mut PgConnection, binding: &TableBinding, leaf: &Leaf) -> Result<()> {
    let doing = "having a partition refuse TRUNCATE";
    let Some(relation) = relation(connection, leaf).await? else { return Ok(()) };
    let trigger = quote_identifier(&truncate_trigger_name(binding));
    for statement in [
        format!("DROP TRIGGER IF EXISTS {trigger} ON {relation}"),
        format!(
            "CREATE TRIGGER {trigger} BEFORE TRUNCATE ON {relation}
             FOR EACH STATEMENT EXECUTE FUNCTION lockstep.refuse_truncate('partition')"
        ),
        format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {trigger}"),
    ] {
        connection.execute(AssertSqlSafe(statement)).await.doing(doing)?;
    }
    Ok(())
}

/// Returns the name of a partition, as SQL takes it; `None` where it is gone.
pub(super) async fn relation(connection: &mut PgConnection, leaf: &Leaf) -> Result<Option<String>> {
    sql::query_scalar(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::text::oid AND c.relkind = 'r'",
    )
    .bind(&leaf.oid)
    .fetch_optional(connection)
    .await
    .doing("looking for a partition")
}

/// The capture function must be callable by who makes partitions: with each one PostgreSQL makes a trigger in
/// that role's name. The owner of the parent is who may, and could run code with our writes already.
pub(super) async fn let_the_owner_make_some(
    connection: &mut PgConnection,
    binding: &TableBinding,
    function: &str,
) -> Result<()> {
    let doing = "letting the owner of a table make partitions";
    let owner: Option<String> = sql::query_scalar(
        "SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) FROM pg_class c
         WHERE c.oid = pg_catalog.to_regclass($1)::oid AND c.relkind = 'p'
             AND c.relowner <> (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user)",
    )
    .bind(binding.relation.sql())
    .fetch_optional(&mut *connection)
    .await
    .doing(doing)?;
    let Some(owner) = owner else { return Ok(()) };
    let grant = format!("GRANT EXECUTE ON FUNCTION {function}() TO {owner}");
    connection.execute(AssertSqlSafe(grant)).await.doing(doing).map(drop)
}

/// Has partitions that do not refuse `TRUNCATE` yet refuse it, where that needs no waiting: a partition that
/// is being written to is asked again the next time. Until then its file tells.
pub(super) async fn guard_what_is_free(
    source: &Source,
    binding: &TableBinding,
    leaves: &mut [Leaf],
) -> Result<()> {
    let doing = "having a partition refuse TRUNCATE";
    for leaf in leaves.iter_mut().filter(|leaf| leaf.guard == NONE) {
        let mut transaction = source.begin(doing).await?;
        let Some(relation) = relation(&mut transaction, leaf).await? else { continue };
        let lock = format!("LOCK TABLE ONLY {relation} IN SHARE ROW EXCLUSIVE MODE NOWAIT");
        match sql::query(AssertSqlSafe(lock)).persistent(false).execute(&mut *transaction).await.doing(doing)
        {
            // Of another role: a guard is a help, and without it the file tells.
            Err(error) if matches!(error.kind, Kind::Busy | Kind::Denied) => continue,
            done => done?,
        };
        // A partition that was emptied before the lock shows by its file.
        let is_it = |now: &Leaf| leaf.is(now) && now.file == leaf.file;
        let Some(mut now) = read(&mut transaction, binding).await?.into_iter().find(is_it) else { continue };
        // Another process may have been first. To put ours in the place of its trigger would make what it
        // records look replaced.
        if now.guard == NONE {
            guard(&mut transaction, binding, leaf).await?;
            now = match read(&mut transaction, binding).await?.into_iter().find(is_it) {
                Some(guarded) => guarded,
                None => continue,
            };
        }
        transaction.commit().await.doing(doing)?;
        leaf.guard = now.guard;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_reads_back_whatever_it_is_called() {
        for name in ["events_2026_01", "\"My Shop\".\"a b  c\"", "- - 'x"] {
            let leaf = Leaf {
                oid: "16400".to_owned(),
                attached: "731.740".to_owned(),
                file: "16400".to_owned(),
                fresh: true,
                born: false,
                captured: true,
                guard: NONE.to_owned(),
                name: name.to_owned(),
            };
            assert_eq!(Leaf::all(&lines(&[leaf.clone(), leaf.clone()])), [leaf.clone(), leaf]);
        }
    }
}
