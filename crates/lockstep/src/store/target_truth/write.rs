//! The calls that change rows, in DynamoOnly. Each reads what is there, and replaces exactly that, or tries
//! again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use lockstep_core::{AttributeValue, Error, Item, Kind, MigratableTable, Result, Row, TargetKey};
use lockstep_dynamo::{Backoff, TargetControl};
use tokio::time::Instant;

use super::Permit;
use super::change::{Base, Change};
use super::find::{Found, Id};
use super::send::Sent;
use crate::store::{Delivery, PrimaryKey, Store, Swap, WriteOutcome};

/// The tries of one call.
struct Tries {
    backoff: Backoff,
    deadline: Instant,
}

impl<T: MigratableTable> Store<T> {
    pub(in crate::store) async fn put_in_target(
        &self,
        permit: Permit,
        row: &T::Row,
    ) -> Result<WriteOutcome<T::Row>> {
        let row = &self.fitted(&permit, row.clone()).await?;
        let id = self.id_of_row(row)?;
        self.keep_ids_clear_of(&id).await?;
        let likely = self.target_key_of(row)?;
        let mut tries = self.tries();
        loop {
            let found = self.find(&id, Some(&likely)).await?;
            let change = self.change_to(found, Some(row)).await?;
            match self.shared.writer.send_changes(&permit, &[change], tries.deadline).await? {
                Sent::Applied => return Ok(outcome(&permit, Some(row.clone()), true)),
                Sent::Raced => tries.again().await?,
            }
        }
    }

    pub(crate) async fn insert_in_target(
        &self,
        permit: Permit,
        row: &T::Row,
    ) -> Result<WriteOutcome<T::Row>> {
        let row = &self.fitted(&permit, row.clone()).await?;
        let mut tries = self.tries();
        loop {
            let (row, change) = self.numbered(row).await?;
            match self.shared.writer.send_changes(&permit, &[change], tries.deadline).await? {
                Sent::Applied => return Ok(outcome(&permit, Some(row), true)),
                // Another caller chose this very id after we had taken it: it has it.
                Sent::Raced => tries.again().await?,
            }
        }
    }

    pub(in crate::store) async fn update_in_target(
        &self,
        permit: Permit,
        key: &impl PrimaryKey,
        change: impl FnMut(&mut T::Row),
    ) -> Result<WriteOutcome<T::Row>> {
        let control = permit.control;
        Ok(match self.swap_in_target(permit, key, |_| true, change).await? {
            Swap::Changed(outcome) => outcome,
            Swap::NotFound | Swap::WasOther(_) => {
                WriteOutcome { row: None, found: false, control, target: Delivery::NotDue }
            }
        })
    }

    pub(in crate::store) async fn swap_in_target(
        &self,
        permit: Permit,
        key: &impl PrimaryKey,
        mut expected: impl FnMut(&T::Row) -> bool,
        mut change: impl FnMut(&mut T::Row),
    ) -> Result<Swap<T::Row>> {
        let id = self.id_of_key(key)?;
        let mut tries = self.tries();
        loop {
            let found = self.find(&id, None).await?;
            let Some((_, item)) = &found.live else { return answered(&permit, Swap::NotFound).await };
            let mut row = self.decoded(item)?;
            if !expected(&row) {
                return answered(&permit, Swap::WasOther(row)).await;
            }
            change(&mut row);
            let row = self.fitted(&permit, row).await?;
            let changed = self.change_to(found, Some(&row)).await?;
            match self.shared.writer.send_changes(&permit, &[changed], tries.deadline).await? {
                Sent::Applied => return Ok(Swap::Changed(outcome(&permit, Some(row), true))),
                Sent::Raced => tries.again().await?,
            }
        }
    }

    pub(in crate::store) async fn delete_in_target(
        &self,
        permit: Permit,
        key: &impl PrimaryKey,
    ) -> Result<WriteOutcome<T::Row>> {
        let id = self.id_of_key(key)?;
        let mut tries = self.tries();
        loop {
            let found = self.find(&id, None).await?;
            if found.live.is_none() {
                let target = Delivery::NotDue;
                return answered(
                    &permit,
                    WriteOutcome { row: None, found: false, control: permit.control, target },
                )
                .await;
            }
            let change = self.change_to(found, None).await?;
            match self.shared.writer.send_changes(&permit, &[change], tries.deadline).await? {
                Sent::Applied => return Ok(outcome(&permit, None, true)),
                Sent::Raced => tries.again().await?,
            }
        }
    }

    /// Puts each row by itself, several at once; one after another where a row comes twice.
    pub(in crate::store) async fn put_each(
        &self,
        rows: &[T::Row],
    ) -> Vec<Result<WriteOutcome<T::Row>, Arc<Error>>> {
        let ids: HashSet<String> =
            rows.iter().filter_map(|row| self.id_of_row(row).ok()).map(|id| id.text).collect();
        let width =
            if ids.len() == rows.len() { self.shared.writer.options().puts_in_flight_max.max(1) } else { 1 };
        let putting: Vec<_> =
            rows.iter().map(|row| Box::pin(async { self.put(row).await.map_err(Arc::new) })).collect();
        stream::iter(putting).buffered(width).collect().await
    }

    /// The row with an id of its own, and the change that makes it. Nothing is read: no other row has the id.
    pub(super) async fn numbered(&self, row: &T::Row) -> Result<(T::Row, Change)> {
        let unholdable = |reason| Error::unholdable(T::NAME, &reason);
        let writer = &self.shared.writer;
        let ([column], true) = (&T::Key::COLUMNS[..T::PRIMARY_KEY_COLUMNS], Self::has_number()) else {
            let message =
                "its primary key is no number that could be counted up; use `put` with a key of your own";
            return Err(Error::target(Kind::Invalid, format!("inserting into {}", T::NAME), message));
        };
        let id = writer.ids().next(&self.control(), T::NAME, writer.options().id_block).await?;
        let mut item = Item::default();
        row.clone().into_item(&mut item).map_err(unholdable)?;
        let mut attributes = item.into_attributes();
        attributes.insert(column.name.to_owned(), AttributeValue::N(id.to_string()));
        let row = T::Row::from_item(&attributes).map_err(unholdable)?;
        let found = Found { id: self.id_of_row(&row)?, place: None, live: None };
        let to =
            (self.target_key_of(&row)?, self.shared.table.encode(&row).map_err(unholdable)?, Base::default());
        let change = self.change_of(found, Some(to))?;
        Ok((row, change))
    }

    /// The change that gives what was found a new state, or none.
    pub(super) async fn change_to(&self, found: Found, row: Option<&T::Row>) -> Result<Change> {
        let Some(row) = row else { return self.change_of(found, None) };
        if self.id_of_row(row)? != found.id {
            let message = "the primary key of a row does not change; delete it and put another";
            return Err(Error::target(Kind::Invalid, format!("writing {}", T::NAME), message));
        }
        let item = self.shared.table.encode(row).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        let key = self.target_key_of(row)?;
        let base = match &found.live {
            Some((from, there)) if *from == key => Base::of(Some(there))?,
            // Most often nothing, or the tombstone of an earlier stay.
            _ => {
                let name = &self.shared.binding.target_name;
                Base::of(Backoff::brief().retry(|| self.shared.target.get(name, &key)).await?.as_ref())?
            }
        };
        self.change_of(found, Some((key, item, base)))
    }

    fn change_of(&self, found: Found, to: Option<(TargetKey, Item, Base)>) -> Result<Change> {
        let from = found.live.map(|(key, item)| Base::of(Some(&item)).map(|base| (key, base))).transpose()?;
        Ok(Change {
            table: T::NAME,
            target_name: self.shared.binding.target_name.clone(),
            id: found.id.text,
            from,
            to,
            place: Self::has_places().then_some(found.place),
        })
    }

    /// Before a row of an id that the caller chose is written.
    pub(super) async fn keep_ids_clear_of(&self, id: &Id) -> Result<()> {
        match id.number().filter(|_| Self::has_number()) {
            Some(number) => self.shared.writer.ids().keep_clear_of(&self.control(), T::NAME, number).await,
            None => Ok(()),
        }
    }

    fn has_number() -> bool {
        T::PRIMARY_KEY_COLUMNS == 1
            && matches!(T::Key::COLUMNS[0].sql_type, "bigint" | "integer" | "smallint")
    }

    pub(super) fn control(&self) -> TargetControl {
        self.shared.writer.control()
    }

    fn tries(&self) -> Tries {
        let options = self.shared.writer.options();
        let millis = |ms: u64| Duration::from_millis(ms.max(1));
        let (first, longest) = (millis(options.retry_delay_ms), millis(options.retry_delay_ms_max));
        Tries {
            backoff: Backoff::new(first, longest, options.race_tries_max),
            deadline: Instant::now() + options.inline_timeout(),
        }
    }
}

impl Tries {
    async fn again(&mut self) -> Result<()> {
        let lost = || {
            Error::target(
                Kind::Busy,
                "writing",
                "others changed the row each time; nothing was written, try again",
            )
        };
        match tokio::time::timeout_at(self.deadline, self.backoff.pause(lost())).await {
            Ok(paused) => paused,
            Err(_) => Err(lost()),
        }
    }
}

fn outcome<R>(permit: &Permit, row: Option<R>, found: bool) -> WriteOutcome<R> {
    WriteOutcome { row, found, control: permit.control, target: Delivery::Applied }
}

/// A value that was only read, and may be told only while it was the truth.
async fn answered<V>(permit: &Permit, value: V) -> Result<V> {
    if permit.is_answered_in_time().await {
        return Ok(value);
    }
    Err(Error::target(
        Kind::Fenced,
        "writing",
        "the lease was over when the row had been read; nothing was written, try again",
    ))
}
