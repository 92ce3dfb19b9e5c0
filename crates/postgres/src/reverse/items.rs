//! Items that were read from the target itself, for a reverse backfill.

use std::collections::HashSet;

use lockstep_core::{Attributes, Doing, Phase, Result, Version, is_tombstone, place, version_of};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::FedTable;
use super::apply::{Applied, apply};
use super::entry::{Entry, State, key_at, live_at};
use super::feeding::finish_feeding;
use super::foreign::note_ahead;
use super::remember::{Guard, Why, note_again};
use crate::Source;
use crate::binding::{digest_sql, text_digest_sql};
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, keys_sql};
use crate::sql;

impl Source {
    /// Applies items that were read from the target itself, under the same guard as the stream's; for a
    /// reverse backfill. Tombstones and what came from the source are passed over; an item without a version
    /// is noted to be read again.
    ///
    /// # Errors
    /// As [`Source::apply_reverse`], but for positions, of which there is none.
    #[crate::boxed]
    pub async fn apply_items(&self, table: &FedTable, items: &[Attributes]) -> Result<Applied> {
        self.apply_some(table, items, false).await
    }

    /// Applies items whose rows were seen to differ from them, whatever their version: where the target is
    /// the truth, what came from here once is the truth as well, and another writer has changed the row past
    /// the feed. In every other phase nothing is done.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    #[crate::boxed]
    pub async fn put_back_items(&self, table: &FedTable, items: &[Attributes]) -> Result<Applied> {
        self.apply_some(table, items, true).await
    }

    async fn apply_some(&self, table: &FedTable, items: &[Attributes], differ: bool) -> Result<Applied> {
        let name = table.binding.name();
        let (mut transaction, epochs, writer) = self.begin_feeding(table).await?;
        if differ && epochs.now.phase != Phase::DynamoOnly {
            return Ok(Applied::default());
        }
        let (mut entries, mut skipped, mut again) = (Vec::new(), 0, 0);
        for item in items.iter().filter(|item| !is_tombstone(item)) {
            let Some(version) = version_of(item) else {
                again += 1;
                let why = Why { text: "the item has no version", for_good: false, version: None };
                note_again(&mut transaction, name, &place(item), None, why).await?;
                continue;
            };
            if epochs.is_ahead(version) {
                again += 1;
                let key = key_at(&*table.binding.table, item, item);
                note_ahead(&mut transaction, &table.binding, &[(place(item), version, key)]).await?;
                continue;
            }
            if !differ && !epochs.may_be_news(version) {
                skipped += 1;
                continue;
            }
            match live_at(&*table.binding.table, item, item) {
                Ok(state) => {
                    entries.push(Entry { place: place(item), version, state, into_empty: false });
                }
                Err(why) => {
                    again += 1;
                    let why = Why { text: &why, for_good: true, version: Some(version) };
                    note_again(&mut transaction, name, &place(item), None, why).await?;
                }
            }
        }
        let applied = apply(&mut transaction, &writer, &entries, Guard::AtLeast).await?;
        finish_feeding(transaction, name).await?;
        Ok(Applied { again: again + applied.again, skipped: applied.skipped + skipped, ..applied })
    }

    /// Deletes rows whose items went. A place of which the feed knows more is left to the feed, and a dead
    /// letter of before DynamoOnly stays, as PostgreSQL alone has it.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    #[crate::boxed]
    pub async fn delete_fed(&self, table: &FedTable, gone: &[GoneRow]) -> Result<Applied> {
        let name = table.binding.name();
        let (mut transaction, epochs, writer) = self.begin_feeding(table).await?;
        if epochs.now.phase != Phase::DynamoOnly {
            return Ok(Applied::default());
        }
        let asked = gone.iter().filter(|row| row.unasked && !epochs.may_be_news(row.version));
        let asked: Vec<&GoneRow> = asked.collect();
        let letters = dead_letters_among(&mut transaction, table, &asked).await?;
        let unmade: Vec<&GoneRow> =
            asked.iter().enumerate().filter(|(n, _)| !letters.contains(n)).map(|(_, row)| *row).collect();
        let news = gone.iter().filter(|row| epochs.may_be_news(row.version));
        let entries: Vec<Entry> = news.chain(unmade.iter().copied()).map(GoneRow::entry).collect();
        let applied = apply(&mut transaction, &writer, &entries, Guard::AtLeast).await?;
        note_unmade(&mut transaction, name, &unmade).await?;
        finish_feeding(transaction, name).await?;
        Ok(Applied { skipped: applied.skipped + letters.len() as u64, ..applied })
    }
}

/// A row without a live item.
#[derive(Clone, Debug)]
pub struct GoneRow {
    /// Place of its item.
    pub place: String,
    /// Version of the tombstone there; [`Version::INITIAL_LOAD`] where nothing is there.
    pub version: Version,
    /// Source key, as SQL literals.
    pub key: Vec<String>,
    /// Whether it goes although no tombstone of a DynamoOnly is there. A tombstone that came from the source
    /// says nothing by itself: the source has had the row again since, or no item can hold it. But it does
    /// where SQL could write past the triggers of capture, as the target has had no such row since.
    pub unasked: bool,
}

impl GoneRow {
    fn entry(&self) -> Entry {
        Entry {
            place: self.place.clone(),
            version: self.version,
            state: State::Gone(self.key.clone()),
            into_empty: false,
        }
    }
}

/// Returns which of these rows are dead letters of before DynamoOnly.
pub(super) async fn dead_letters_among(
    connection: &mut PgConnection,
    table: &FedTable,
    rows: &[&GoneRow],
) -> Result<HashSet<usize>> {
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let doing = "looking for dead letters among rows without items";
    let sql = format!(
        "SELECT k.n FROM {} AS k JOIN lockstep.dead_letters x ON x.table_name = $1 AND {} = {}",
        keys_sql(&table.binding, 2),
        digest_sql("x.key"),
        digest_sql("k.key"),
    );
    let mut arguments = PgArguments::default();
    arguments.add(table.binding.name()).map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    bind_keys(&mut arguments, &table.binding, rows.iter().map(|row| &row.key).enumerate())?;
    let found: Vec<i32> =
        sql::query_scalar_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await.doing(doing)?;
    Ok(found.into_iter().map(|n| n as usize).collect())
}

/// Has rows that PostgreSQL would not let go yet go later: one that another row refers to is noted as one to
/// be read again, and there its item, which is not, would say nothing.
async fn note_unmade(connection: &mut PgConnection, name: &str, rows: &[&GoneRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE lockstep.reverse_again SET ridden = true, made = true WHERE table_name = $1
             AND {} = ANY (ARRAY(SELECT {} FROM pg_catalog.unnest($2::text[]) AS asked))",
        text_digest_sql("place"),
        text_digest_sql("asked"),
    );
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(rows.iter().map(|row| row.place.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .doing("noting rows that have no item")
        .map(drop)
}
