//! Reading one row, from the store that the phase and the policy say.

use chrono::Utc;
use lockstep_core::{
    Attributes, Doing, Error, Kind, MigratableTable, Phase, Result, Row, TargetKey, Unholdable, is_tombstone,
    version_of,
};
use lockstep_dynamo::Backoff;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;

use super::reads::{Answer, Asked, Comparison, ReadFrom, ReadRoute, SourceCause, hash_of_place};
use super::{PrimaryKey, Store};

impl<T: MigratableTable> Store<T> {
    /// Reads the row of a whole key.
    ///
    /// | phase | who answers |
    /// |---|---|
    /// | PostgresOnly, DualWrite | PostgreSQL |
    /// | HybridRead | DynamoDB, strongly consistent; PostgreSQL on a miss, on an error, and where the [policy](super::reads) says so |
    /// | DynamoOnly | DynamoDB |
    ///
    /// A row past its expiry is not answered, by either store and in any phase: DynamoDB may remove it at any
    /// time, so answering it would depend on who is asked. [`Store::get_source`] still does, as the source
    /// keeps it.
    ///
    /// While PostgreSQL is away, HybridRead goes on as long as the phase is known. A hit is then marked
    /// [`ReadFrom::TargetAlone`]; a miss is an error and not "no row", because only PostgreSQL could have
    /// said so (I8).
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(payments: Store<Payments>, key: Payments::Key) -> Result<()> {
    /// match payments.get(&key).await? {
    ///     Some(payment) => drop(payment),
    ///     None => println!("no such row, in either store"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The source's, when it had to be asked; in DynamoOnly the target's; [`Kind::Fenced`] when the
    /// instance's lease is over.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn get(&self, key: &T::Key) -> Result<Option<T::Row>> {
        self.get_marked(key).await.map(|answer| answer.value)
    }

    /// As [`Store::get`], and says who answered.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, key: Payments::Key,
    /// # ) -> Result<()> {
    /// let answer = payments.get_marked(&key).await?;
    /// if answer.from.is_degraded() {
    ///     eprintln!("{:?} answered", answer.from);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Store::get`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn get_marked(&self, key: &T::Key) -> Result<Answer<Option<T::Row>>> {
        let (value, from) = self.shared.phase.serve(|control| self.get_in(key, control.phase)).await?;
        self.shared.reads.count(from);
        Ok(Answer { value: value.filter(|row| !self.is_expired(row)), from })
    }

    async fn get_in(&self, key: &T::Key, phase: Phase) -> Result<(Option<T::Row>, ReadFrom)> {
        if phase.reads_target() {
            let answered = self.get_routed(key, phase).await?;
            // A share of what the target answers while the source is the truth is checked against it.
            if phase == Phase::HybridRead && matches!(answered.1, ReadFrom::Target | ReadFrom::TargetAlone) {
                self.shadow_get(key);
            }
            return Ok(answered);
        }
        let row = self.get_from_source(key).await?;
        if phase == Phase::DualWrite {
            self.shadow_get(key);
        }
        Ok((row, ReadFrom::Source(SourceCause::Phase)))
    }

    async fn get_routed(&self, key: &T::Key, phase: Phase) -> Result<(Option<T::Row>, ReadFrom)> {
        let place = self.shared.table.target_key(key).and_then(|place| place.check().map(|()| place));
        let Ok(place) = place else {
            // A key that no item can have.
            let from = ReadFrom::Source(SourceCause::Miss);
            return match phase {
                Phase::DynamoOnly => Ok((None, ReadFrom::Target)),
                _ => Ok((self.get_from_source(key).await?, from)),
            };
        };
        let cause = match self.shared.reads.route(phase, Asked::Key(hash_of_place(&place))).await {
            ReadRoute::TargetOnly => {
                let found = Backoff::brief().retry(|| self.get_from_target(&place)).await?;
                return Ok((found.filter(|row| Self::has_key(row, key)), ReadFrom::Target));
            }
            ReadRoute::TargetThenSource(from) => match self.get_from_target(&place).await {
                Ok(Some(row)) if Self::has_key(&row, key) => return Ok((Some(row), from)),
                Ok(_) => SourceCause::Miss,
                Err(error) => {
                    tracing::debug!(table = T::NAME, kind = ?error.kind, "reading from PostgreSQL instead: {error}");
                    SourceCause::Error
                }
            },
            ReadRoute::Source(cause) => cause,
        };
        Ok((self.get_from_source(key).await?, ReadFrom::Source(cause)))
    }

    /// Tells whether a row has this whole key. Several may share a place, as when the target knows the day
    /// of a time only, and PostgreSQL answers for none but the one that was asked for.
    fn has_key(row: &T::Row, key: &T::Key) -> bool {
        match (T::key(row).literals(), key.literals()) {
            (Ok(of_row), Ok(asked)) => of_row == asked,
            _ => false,
        }
    }

    /// `None` on a miss and on a tombstone.
    pub(super) async fn get_from_target(&self, place: &TargetKey) -> Result<Option<T::Row>> {
        let found = self.shared.target.get(&self.shared.binding.target_name, place).await?;
        found
            .filter(|attributes| !is_tombstone(attributes))
            .map(|attributes| self.decoded(&attributes))
            .transpose()
    }

    pub(super) fn decoded(&self, attributes: &Attributes) -> Result<T::Row> {
        let bad = |reason: Unholdable| {
            Error::target(Kind::Invalid, format!("reading an item of {}", T::NAME), reason.to_string())
        };
        T::decode(attributes).map_err(bad)
    }

    pub(super) async fn get_from_source(&self, key: &T::Key) -> Result<Option<T::Row>> {
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        self.fetch_source(&self.shared.sql.select_by_key, arguments).await
    }

    async fn fetch_source(&self, sql: &str, arguments: PgArguments) -> Result<Option<T::Row>> {
        let found = sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments)
            .fetch_optional(self.shared.source.pool())
            .await
            .doing(&format!("reading {}", T::NAME))?;
        found.map(|row| self.read_row(&row).map(|(_, row)| row)).transpose()
    }

    /// Reads the row of a primary key from PostgreSQL, whatever the phase and its expiry.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>,
    /// # ) -> Result<()> {
    /// let row = payments.get_source(42_i64).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The source's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn get_source(&self, key: impl PrimaryKey) -> Result<Option<T::Row>> {
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        self.fetch_source(&self.shared.sql.select, arguments).await
    }

    /// Says whether DynamoDB may have removed the row by now. By whole seconds, as DynamoDB does.
    pub(super) fn is_expired(&self, row: &T::Row) -> bool {
        self.shared.table.expires_at(row).is_some_and(|at| at.timestamp() <= Utc::now().timestamp())
    }
}

/// Tries of a comparison whose key keeps changing.
const COMPARE_TRIES: usize = 3;

impl<T: MigratableTable> Store<T> {
    fn shadow_get(&self, key: &T::Key) {
        let reads = &self.shared.reads;
        if reads.is_shadowed() {
            let (store, key) = (self.clone(), key.clone());
            reads.shadow().spawn(T::NAME, "get", async move { store.compare(&key).await });
        }
    }

    /// Reads one key from both stores and compares by value: what a shadow read does, and a gate may do.
    ///
    /// The item is read before and after the row. The row, and whether its key is pending, come from one
    /// snapshot in between; so an item that did not change around it, of a key that is not pending in it,
    /// must hold that very row.
    ///
    /// ```no_run
    /// # use lockstep::store::reads::Comparison;
    /// # use lockstep::{MigratableTable, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, key: Payments::Key,
    /// # ) -> Result<()> {
    /// match payments.compare(&key).await? {
    ///     Comparison::Agree => println!("both stores answer the same"),
    ///     Comparison::Differ(place) => eprintln!("they differ: {place}"),
    ///     Comparison::NotComparable => println!("the key is pending, or kept changing"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the store that did not answer.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn compare(&self, key: &T::Key) -> Result<Comparison> {
        let bad = |reason: Unholdable| Error::unholdable(T::NAME, &reason);
        let (place, literals) =
            (self.shared.table.target_key(key).map_err(bad)?, [key.literals().map_err(bad)?]);
        let (target, binding) = (&self.shared.target, &self.shared.binding);
        for _ in 0..COMPARE_TRIES {
            let before = target.get(&binding.target_name, &place).await?;
            let state = self.shared.source.look_up(binding, &literals).await?;
            let after = target.get(&binding.target_name, &place).await?;
            if before.as_ref().and_then(version_of) != after.as_ref().and_then(version_of) {
                continue;
            }
            let Some(state) = state.first().filter(|state| state.pending.is_none() && !state.dead_letter)
            else {
                return Ok(Comparison::NotComparable);
            };
            let row = state
                .with_fields(T::Row::from_fields)
                .transpose()
                .map_err(bad)?
                .filter(|row| !self.is_expired(row));
            let item = after.filter(|item| !is_tombstone(item)).map(|item| self.decoded(&item));
            let item = item.filter(|row| !matches!(row, Ok(row) if !Self::has_key(row, key)));
            return Ok(match (row, item) {
                (_, Some(Err(error))) => Comparison::Differ(error.message),
                (None, None) => Comparison::Agree,
                (Some(row), Some(Ok(found))) => match row.differing(&found) {
                    columns if columns.is_empty() => Comparison::Agree,
                    columns => Comparison::Differ(format!("a row differs in {}", columns.join(", "))),
                },
                (None, Some(Ok(found))) if self.is_expired(&found) => Comparison::Agree,
                (None, Some(Ok(_))) => Comparison::Differ("a row is in the target only".to_owned()),
                (Some(_), None) => Comparison::Differ("a row is missing in the target".to_owned()),
            });
        }
        Ok(Comparison::NotComparable)
    }
}
