//! Deliveries since a pass of the validator began, so that the next pass need not read everything (R24).
//!
//! A trigger on the pending set notes each key whose mark is taken out, in the same statement, with the
//! number of the newest pass that it sees. Conclusions of a pass from it:
//!
//! 1. A pass takes its number n behind the closed barrier and commits, and only then reads. So each write
//!    transaction ended before n, or sees it.
//! 2. Outside of write transactions a mark is taken out only after its state, or a newer one, is in the
//!    target. Strict writes take theirs out inside, maybe before their put has landed, but commit only after
//!    it has.
//! 3. So if a key was noted with a number below n, or not at all, then its state was in the target before n
//!    was committed, and whatever pass n reads of that item is that state or a newer one.
//! 4. Hence, of a table on which pass n agreed, only keys noted with n or more, those pending, and those of
//!    open intents can have changed since. Notes below n may be forgotten.
//!
//! Without the barrier: 1. A strict write takes its mark out, before n. 2. Pass n reads row and item, both
//! old, and is content.
//! 3. The put lands, the write commits, and its note of before n is forgotten: the key changed, and no pass
//! looks again.
//!
//! That holds of transactions behind the barrier. A role may take a mark or a dead letter out in one that it
//! opened without: its note has the number of before n, and pass n sees nothing of it. So each note has the
//! number of its transaction, and those that were open when n began are kept.
//!
//! In DynamoOnly nothing is marked. There the reverse feed remembers what it took (`reverse_places`), in the
//! transaction that changes the row.
//!
//! A mark and its note change in one statement, so at every moment a changed key is in one of the three sets;
//! [`Source::changed_keys`] reads all three in one snapshot.

use lockstep_core::{Doing, Result, SourceKey};

use super::Source;
use super::binding::digest_sql;
use super::page::{KEY_BYTES_MAX, KeyDigest, PAGE_BYTES_MAX, key_bytes_sql};
use crate::sql;

/// For how many hours keys are noted after the newest pass began. No validation may go on from a full pass of
/// half that age: the rest is for clocks that are set back.
const NOTED_FOR_H: i32 = 48;
/// Passes of which it is known which transactions had ended when they began. A pass before them forgets
/// nothing.
const PASSES_KEPT: i64 = 1_000;
/// Notes forgotten in one statement: a relay that notes one of them again waits for no longer.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// A key that may have changed.
#[derive(Clone, Debug)]
pub struct ChangedKey {
    /// The key; `None` where it is none that we read: a role marked it, and no item is under it.
    pub key: Option<SourceKey>,
    /// The same as one literal a key column; others, and another number of them, where a role marked what is
    /// no key of the table.
    pub literals: Vec<String>,
}

/// Digest, key and literals of one that changed, and how many were found with it.
type FoundKey = (Vec<u8>, Option<String>, Vec<String>, i64);

/// Keys that may have changed, and where the next page starts.
#[derive(Clone, Debug)]
pub struct ChangedPage {
    /// Keys of the page.
    pub keys: Vec<ChangedKey>,
    /// Place to hand to the next call; `None` when this was the end.
    pub next: Option<KeyDigest>,
}

impl Source {
    /// Begins a pass: from now on whatever is delivered is noted with its number, or a later one. `None`
    /// where schema `lockstep` is not there, or of before this.
    ///
    /// # Errors
    /// [`Kind::Busy`](lockstep_core::Kind::Busy) when write transactions stayed open for too long.
    #[crate::boxed]
    pub async fn begin_pass(&self) -> Result<Option<i64>> {
        let doing = "beginning a pass";
        let is_there: bool =
            sql::query_scalar("SELECT pg_catalog.to_regclass('lockstep.begun_passes') IS NOT NULL")
                .fetch_one(self.pool())
                .await
                .doing(doing)?;
        if !is_there {
            return Ok(None);
        }
        let mut transaction = self.begin_alone().await?;
        let number: i64 = sql::query_scalar(
            "UPDATE lockstep.passes SET number = number + 1,
                 noted_until = greatest(noted_until, pg_catalog.clock_timestamp() + pg_catalog.make_interval(hours => $1)) RETURNING number",
        )
        .bind(NOTED_FOR_H)
        .fetch_one(&mut *transaction)
        .await
        .doing(doing)?;
        // Before anything is read: what is open now may note what this pass does not see.
        sql::query(
            "INSERT INTO lockstep.begun_passes (number, ended) VALUES ($1, pg_catalog.pg_current_snapshot())
             ON CONFLICT (number) DO UPDATE SET ended = excluded.ended",
        )
        .bind(number)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        sql::query("DELETE FROM lockstep.begun_passes WHERE number <= $1 - $2")
            .bind(number)
            .bind(PASSES_KEPT)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(Some(number))
    }

    /// Forgets what was noted before pass `pass`, after it has agreed; returns how many keys. A note by a
    /// transaction that was open when the pass began stays: the pass did not see what it changed. So does
    /// everything where something was found since it began.
    ///
    /// A key that is locked is being noted again, and stays: no session waits here, so none can wait for us
    /// in a circle.
    ///
    /// # Errors
    /// The driver's. A note that is left over only costs one more look.
    #[crate::boxed]
    pub async fn forget_notes(&self, table: &str, pass: i64) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let sql = format!(
                "DELETE FROM lockstep.unverified u USING (
                     SELECT {} AS digest FROM lockstep.unverified n WHERE table_name = $1 AND pass < $2
                         AND EXISTS (
                             SELECT FROM lockstep.begun_passes b
                             WHERE b.number = $2 AND pg_catalog.pg_visible_in_snapshot(n.noted, b.ended))
                         AND NOT EXISTS (
                             SELECT FROM lockstep.found f WHERE f.table_name = $1 AND f.pass >= $2)
                     LIMIT $3 FOR UPDATE OF n SKIP LOCKED) AS d
                 WHERE u.table_name = $1 AND {} = d.digest",
                digest_sql("key"),
                digest_sql("u.key"),
            );
            let done = sql::query(sqlx::AssertSqlSafe(sql))
                .bind(table)
                .bind(pass)
                .bind(FORGOTTEN_AT_ONCE)
                .execute(self.pool())
                .await
                .doing("forgetting keys that agree")?
                .rows_affected();
            forgotten += done;
            if done < FORGOTTEN_AT_ONCE.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }

    /// Returns the next `limit` keys after `after`, in the order of their digests, that may have changed
    /// since they were verified: noted, pending, or of open intents; `fed`, also those whose items came back
    /// through the reverse feed.
    ///
    /// Pages are of several snapshots. A key that changed before the first one is in one of the three sets
    /// all the time until a pass that read it forgets it, so it is on its page whenever that is read.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn changed_keys(
        &self,
        table: &str,
        after: Option<&KeyDigest>,
        limit: i64,
        fed: bool,
    ) -> Result<ChangedPage> {
        let doing = "reading which keys have changed";
        let digest = digest_sql("key");
        // Each set gives that many keys, and not rows: 1. A strict operation ends unknown, is made again and
        // ends unknown: two intents of each of its keys. 2. A thousand rows of them are five hundred keys,
        // which is less than a page. 3. It is taken for the last one, and of the keys behind it nothing is
        // looked at.
        let part = |set: &str| {
            format!(
                "(SELECT DISTINCT ON ({digest}) key FROM lockstep.{set}
                  WHERE table_name = $1 AND key IS NOT NULL AND ($2::bytea IS NULL OR {digest} > $2)
                  ORDER BY {digest} LIMIT $3)"
            )
        };
        let sets: &[&str] = match fed {
            true => &["unverified", "pending", "intents", "reverse_places", "reverse_again"],
            false => &["unverified", "pending", "intents"],
        };
        let changed = sets.iter().map(|set| part(set)).collect::<Vec<_>>().join(" UNION ALL ");
        let sql = format!(
            // PostgreSQL takes the key apart, and not we: a number must keep all its digits. One that is
            // NULL, as a role may mark it, is of no row. A page is bounded as one of the pending set is. Keys
            // are one where they print the same: 1. `[1]` is noted. 2. A role marks `[1.0]`, which is equal
            // as a document. 3. A UNION of both says one of them, and of `[1]` nothing may be left.
            "SELECT w.digest, w.key::text, ARRAY(
                SELECT coalesce(e.value, '') FROM pg_catalog.jsonb_array_elements_text(w.key)
                    WITH ORDINALITY AS e (value, n) ORDER BY e.n), w.found
             FROM (SELECT q.*, pg_catalog.count(*) OVER () AS found,
                       pg_catalog.sum(q.key_bytes) OVER (ORDER BY q.digest ROWS UNBOUNDED PRECEDING)
                       - q.key_bytes AS before
                   FROM (SELECT CASE WHEN {key_bytes} <= {KEY_BYTES_MAX} THEN key END AS key,
                             {digest} AS digest,
                             CASE WHEN {key_bytes} <= {KEY_BYTES_MAX} THEN {key_bytes} ELSE 0 END AS key_bytes
                         FROM (SELECT DISTINCT ON ({digest}) key FROM ({changed}) AS changed
                             ORDER BY {digest} LIMIT $3) AS changed
                         ORDER BY {digest}) AS q) AS w
             WHERE w.before < {PAGE_BYTES_MAX} ORDER BY w.digest",
            key_bytes = key_bytes_sql("key"),
        );
        let rows: Vec<FoundKey> = sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(table)
            .bind(after.map(|after| after.0.as_slice()))
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .doing(doing)?;
        let is_cut = rows.last().is_some_and(|(.., found)| *found == limit || *found > rows.len() as i64);
        let next = rows.last().filter(|_| is_cut).map(|(digest, ..)| KeyDigest(digest.clone()));
        let of_row = |(_, key, literals, _): FoundKey| ChangedKey {
            key: key.and_then(|key| SourceKey::parse(&key).ok()),
            literals,
        };
        Ok(ChangedPage { keys: rows.into_iter().map(of_row).collect(), next })
    }
}
