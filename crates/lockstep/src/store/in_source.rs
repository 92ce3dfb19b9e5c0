//! Verbs in a source transaction. Each runs its statements behind the barrier and notes which keys have which
//! state now; how that ends, and how it reaches the target, is the writer's.

use lockstep_core::{Doing, Error, Fields, Kind, MigratableTable, Result, Row, SourceKey};
use lockstep_postgres::{WITH_ID, id_of};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::change::{Change, State};
use super::transaction::WriteTransaction;
use super::verb::{KEY_STAYS, Met, Operand, Touched, Verb};
use super::{PrimaryKey, Store};

impl<R: Row, K: PrimaryKey> Operand<'_, R, K> {
    /// The values, bound in the order of a statement.
    pub(super) fn arguments(&self) -> PgArguments {
        match self {
            Self::Row(row) => bound(*row),
            Self::Key(key) => bound_key(*key),
        }
    }
}

impl<T: MigratableTable> Store<T> {
    /// Does what `verb` says in a transaction of the source, and notes which keys it changed.
    ///
    /// # Errors
    /// PostgreSQL's. The transaction can then only be rolled back.
    ///
    /// # Cancel safety
    /// Nothing is committed. Whether the transaction has this change is not known: roll it back.
    pub(crate) async fn change_in_source<K: PrimaryKey, F: FnMut(&mut T::Row) -> bool>(
        &self,
        write: &mut WriteTransaction,
        verb: Verb<'_, T::Row, K, F>,
    ) -> Result<Met<T::Row>> {
        self.require_place(&mut write.sql, write.control.epoch).await?;
        let (now, left) = match verb {
            Verb::Put(row) => {
                let upsert = &self.writes(&mut write.sql).await?.sql.upsert;
                match self.run(write, upsert, bound(row)).await? {
                    Some(put) => (Some(self.read_row(&put)?), self.read_old_key(&put)?),
                    // A trigger did something else instead, and that is committed.
                    None => (None, None),
                }
            }
            Verb::Insert(row) => {
                let insert = &self.writes(&mut write.sql).await?.sql.insert;
                let inserted = self.run(write, insert, bound(row)).await?;
                (inserted.map(|row| self.read_row(&row)).transpose()?, None)
            }
            Verb::Update(key, mut change) => {
                let Some((old_key, mut row)) = self.lock(write, bound_key(key)).await? else {
                    return Ok(Met::Nothing);
                };
                // As PostgreSQL reads it, since a key that no item can have is one all the same.
                let id = |row: &T::Row| {
                    let literals = T::key(row).literals().ok()?;
                    Some(literals.into_iter().take(T::PRIMARY_KEY_COLUMNS).collect::<Vec<_>>())
                };
                let before = id(&row);
                if !change(&mut row) {
                    return Ok(Met::Other(row));
                }
                // 1. The function renames row A to B. 2. The statement goes by the primary key, and there
                // is a row B. 3. All that it had is overwritten with what A has, and A stays.
                if before.is_some() && id(&row) != before {
                    return Err(Error::source(Kind::Invalid, format!("writing {}", T::NAME), KEY_STAYS));
                }
                let update = &self.writes(&mut write.sql).await?.sql.update;
                let written = self.run(write, update, bound(&row)).await?;
                let written = written.map(|row| self.read_row(&row)).transpose()?;
                let left = written.is_some().then_some(old_key);
                (written, left)
            }
            Verb::Delete(key) => {
                let deleted = self.run(write, &self.shared.sql.delete, bound_key(key)).await?;
                (None, deleted.map(|row| self.read_key(&row)).transpose()?)
            }
        };
        Ok(Met::Changed(self.note(&mut write.changes, now, left)))
    }

    /// Reads a row and locks it until the transaction ends.
    async fn lock(
        &self,
        write: &mut WriteTransaction,
        key: PgArguments,
    ) -> Result<Option<(SourceKey, T::Row)>> {
        let sql = AssertSqlSafe(self.shared.sql.select_for_update.clone());
        let found = sqlx::query_with(sql, key).fetch_optional(&mut *write.sql).await;
        found.doing(&format!("writing {}", T::NAME))?.map(|row| self.read_row(&row)).transpose()
    }

    /// Notes where the row is now, and which key it left, if it is another one.
    pub(super) fn note(
        &self,
        changes: &mut Vec<Change>,
        row: Option<(SourceKey, T::Row)>,
        left: Option<SourceKey>,
    ) -> Touched<T::Row> {
        let binding = &self.shared.binding;
        let left = left.filter(|left| row.as_ref().is_none_or(|(key, _)| key != left));
        let (key, row) = row.unzip();
        let state = |row| State::Row(self.shared.table.encode(row));
        let now = key.zip(row.as_ref()).map(|(key, row)| Change::note(changes, binding, key, state(row)));
        let gone = left.map(|key| Change::note(changes, binding, key, State::Gone));
        Touched::in_source(row, now.into_iter().chain(gone).collect())
    }

    /// Runs a statement that changes one row at most, and returns what it returned. The number of the
    /// transaction comes with it.
    async fn run(
        &self,
        write: &mut WriteTransaction,
        sql: &str,
        arguments: PgArguments,
    ) -> Result<Option<PgRow>> {
        let sql = AssertSqlSafe(format!("{sql}{WITH_ID}"));
        let found = sqlx::query_with(sql, arguments).fetch_optional(&mut *write.sql).await;
        let found = found.doing(&format!("writing {}", T::NAME))?;
        if let Some(row) = &found {
            write.id = Some(id_of(row)?);
        }
        Ok(found)
    }

    pub(super) fn read_row(&self, row: &PgRow) -> Result<(SourceKey, T::Row)> {
        Ok((self.read_key(row)?, self.read_fields(row)?))
    }

    /// The key that a statement returned.
    pub(super) fn read_key(&self, row: &PgRow) -> Result<SourceKey> {
        let key: String = row.try_get(self.shared.sql.key_at).map_err(|e| bad_row::<T>(e.to_string()))?;
        self.parse_key(&key)
    }

    pub(super) fn parse_key(&self, key: &str) -> Result<SourceKey> {
        SourceKey::parse(key).map_err(|e| bad_row::<T>(e.to_string()))
    }

    /// The row itself.
    pub(super) fn read_fields(&self, row: &PgRow) -> Result<T::Row> {
        Fields::of_query(row, 0, T::Row::from_fields).map_err(|e| bad_row::<T>(e.to_string()))
    }

    /// The key that the row had before an upsert.
    pub(super) fn read_old_key(&self, row: &PgRow) -> Result<Option<SourceKey>> {
        let key: Option<String> =
            row.try_get(self.shared.sql.key_at + 1).map_err(|e| bad_row::<T>(e.to_string()))?;
        key.map(|text| self.parse_key(&text)).transpose()
    }
}

fn bad_row<T: MigratableTable>(why: String) -> Error {
    Error::source(Kind::Invalid, format!("reading a row of {}", T::NAME), why)
}

fn bound(row: &impl Row) -> PgArguments {
    let mut arguments = PgArguments::default();
    row.bind(&mut arguments);
    arguments
}

fn bound_key(key: &impl PrimaryKey) -> PgArguments {
    let mut arguments = PgArguments::default();
    key.bind(&mut arguments);
    arguments
}
