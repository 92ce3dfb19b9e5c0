//! Writing one row in one round trip, wherever one statement says all there is to say.
//!
//! The store believes in a phase, the source checks that belief behind the barrier, and answers with the row
//! and its versions (`postgres/calls.rs`). Best effort, that call is the whole transaction. Strict, it stands
//! for the statements between `BEGIN` and the intent. A store that is behind, or finds no function, opens a
//! transaction.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use lockstep_core::{Control, MigratableTable, Result, SourceKey};
use lockstep_postgres::{
    Call, CallEnd, Called, Mark, Marked, Marks, RowStatements, TableBinding, call, call_sql,
};
use sqlx::postgres::PgArguments;

use super::acknowledge::{Beside, Started};
use super::best_effort::Committed;
use super::change::{Change, State};
use super::commit::Commit;
use super::outcome::Written;
use super::route::{Calling, Ending, Route};
use super::transaction::WriteTransaction;
use super::verb::{Statement, Touched};
use super::{Delivery, PrimaryKey, Store, WriteFailed, WriteOutcome};

/// The calls of a table, built once.
pub(super) struct Calls {
    upsert: String,
    insert: String,
    delete: String,
    /// The epoch in which the source had no such functions. They come with capture, so a later epoch may have
    /// them.
    missing_in: AtomicI64,
}

impl Calls {
    pub(super) fn new(binding: &TableBinding, statements: &RowStatements) -> Self {
        let sql = |call| call_sql(call, binding, statements);
        let missing_in = AtomicI64::new(0);
        Self { upsert: sql(Call::Upsert), insert: sql(Call::Insert), delete: sql(Call::Delete), missing_in }
    }

    fn sql(&self, call: Call) -> &str {
        match call {
            Call::Upsert => &self.upsert,
            Call::Insert => &self.insert,
            Call::Delete => &self.delete,
        }
    }
}

impl<T: MigratableTable> Store<T> {
    /// Tries the one-round-trip path that `route` names. Returns `None`, with nothing written, when the phase
    /// as this process knows it, or a missing function of PostgreSQL, rules it out; the caller then begins
    /// the write where the truth is.
    ///
    /// # Errors
    /// As for [`Store::put`]. A lost answer leaves no transaction to be looked up, so it is
    /// [`Kind::Unknown`](lockstep_core::Kind).
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub(super) async fn at_once<K: PrimaryKey>(
        &self,
        Statement { call, operand }: Statement<'_, T::Row, K>,
        calling: Calling,
        beside: Option<&Beside>,
    ) -> Result<Option<WriteOutcome<T::Row>>> {
        // If the target had the truth last, the caller asks for a permit: that waits while a step has paused
        // writes, and asks both stores once the lease is over.
        if self.shared.phase.is_in_target() {
            return Ok(None);
        }
        // If the phase is not known here, the caller asks for it in its transaction.
        let Ok(control) = self.shared.phase.current().await else { return Ok(None) };
        let Route::Statement(ending) = self.shared.writer.route(control, calling) else { return Ok(None) };
        let missing_in =
            self.shared.writes.get().map(|writes| writes.calls.missing_in.load(Ordering::Relaxed));
        if missing_in == Some(control.epoch.0) {
            return Ok(None);
        }
        let ended = match ending {
            Ending::Alone | Ending::ThenPut => {
                let then_put = ending == Ending::ThenPut;
                self.freely(call, operand.arguments(), control, then_put, beside).await?
            }
            Ending::PutFirst => self.strictly(call, operand.arguments(), control, calling).await?,
        };
        match ended {
            Ended::Done(outcome) => Ok(Some(outcome)),
            Ended::Stale => Ok(None),
            Ended::Missing => {
                if let Some(writes) = self.shared.writes.get() {
                    writes.calls.missing_in.store(control.epoch.0, Ordering::Relaxed);
                }
                Ok(None)
            }
        }
    }

    /// The call as a transaction of its own; what follows is best effort.
    async fn freely(
        &self,
        kind: Call,
        arguments: PgArguments,
        control: Control,
        then_put: bool,
        beside: Option<&Beside>,
    ) -> Result<Ended<T::Row>> {
        let writer = &self.shared.writer;
        let doing = format!("writing {}", T::NAME);
        // Apart from the call, so that a server that is not there is not taken for a lost answer.
        let mut connection = writer.source().session(&doing).await?;
        self.require_place(&mut connection, control.epoch).await?;
        let calls = &self.writes(&mut connection).await?.calls;
        let asked_at = Instant::now();
        let marks = if then_put { Marks::Versions } else { Marks::Unasked };
        let unheard = writer.unheard(T::NAME);
        let ended = call(&mut connection, calls.sql(kind), arguments, control.epoch, marks, &doing).await;
        if !matches!(ended, CallEnd::Lost(_)) {
            unheard.heard();
        }
        if matches!(ended, CallEnd::Done(_) | CallEnd::NoRow(_)) {
            connection.keep();
        }
        let called = match ended {
            CallEnd::Done(called) => called,
            CallEnd::NoRow(_) => return Ok(Ended::Done(nothing(control))),
            CallEnd::Stale => return Ok(Ended::Stale),
            CallEnd::Missing => return Ok(Ended::Missing),
            CallEnd::Refused(error) => return Err(error),
            CallEnd::Lost(error) => {
                let lost = Err(WriteFailed::unknown(error, |_| Delivery::NotDue));
                return writer
                    .counted(T::NAME, lost)
                    .map(|written| Ended::Done(Touched::NOTHING.outcome(&written)));
            }
        };
        let mut write = Noted::default();
        let touched = match self.note_called(&mut write, kind, &called) {
            Ok(touched) => touched,
            // 1. A trigger has made a value that the row type does not read. 2. It is committed. 3. Told that
            // nothing was written, the caller writes once more, and there are two rows.
            Err(error) => {
                let keys = [self.read_key(&called.row).ok(), self.read_old_key(&called.row).ok().flatten()];
                drop(writer.owe_keys(keys.into_iter().flatten().map(|key| (T::NAME, key))));
                return writer
                    .counted(T::NAME, Err(WriteFailed::unread(error)))
                    .map(|written| Ended::Done(Touched::NOTHING.outcome(&written)));
            }
        };
        let owed = writer.owe(write.marks.iter().map(|mark| &write.changes[mark.of]));
        self.shared.phase.learn(control, asked_at);
        let Noted { changes, marks } = write;
        let committed = Committed { control, changes, marks, owed, together: false };
        let written = writer.after_commit(committed, beside).await;
        Ok(Ended::Done(touched.outcome(&writer.counted(T::NAME, Ok(written))?)))
    }

    /// The call inside a transaction, which commits when the target has its state.
    async fn strictly(
        &self,
        kind: Call,
        arguments: PgArguments,
        control: Control,
        calling: Calling,
    ) -> Result<Ended<T::Row>> {
        let writer = &self.shared.writer;
        let doing = format!("writing {}", T::NAME);
        let mut sql = writer.source().begin(&doing).await?;
        self.require_place(&mut sql, control.epoch).await?;
        let calls = &self.writes(&mut sql).await?.calls;
        let called =
            call(&mut sql, calls.sql(kind), arguments, control.epoch, Marks::WithRepairs, &doing).await;
        let called = match called {
            CallEnd::Done(called) => called,
            CallEnd::NoRow(None) => return Ok(Ended::Done(nothing(control))),
            // A trigger did something else instead, as a soft delete does. Its keys are marked, and are the
            // relay's.
            CallEnd::NoRow(Some(id)) => {
                let ended = match writer.commit(sql, Some(id), T::NAME).await {
                    Commit::Committed => Ok(Written { control, deliveries: Vec::new() }),
                    Commit::RolledBack(error) => Err(WriteFailed::rolled_back(error, false)),
                    Commit::Unknown(error) => Err(WriteFailed::unknown(error, |_| Delivery::NotDue)),
                };
                return writer.counted(T::NAME, ended).map(|_| Ended::Done(nothing(control)));
            }
            CallEnd::Stale => return Ok(Ended::Stale),
            CallEnd::Missing => return Ok(Ended::Missing),
            // Without its commit nothing was written.
            CallEnd::Refused(error) | CallEnd::Lost(error) => return Err(error),
        };
        let mut noted = Noted::default();
        let touched = self.note_called(&mut noted, kind, &called)?;
        let write = WriteTransaction {
            sql,
            control,
            id: Some(called.id),
            changes: noted.changes,
            calling,
            beside: Started::default(),
        };
        // Apart: nested in the futures of applications, what it is made of is deeper than the compiler looks
        // by default.
        let written =
            writer.counted(T::NAME, Box::pin(writer.strict_of(write, called.id, noted.marks)).await)?;
        Ok(Ended::Done(touched.outcome(&written)))
    }

    fn note_called(&self, noted: &mut Noted, kind: Call, called: &Called) -> Result<Touched<T::Row>> {
        let key = self.read_key(&called.row)?;
        let left = self.read_old_key(&called.row)?.filter(|left| *left != key);
        let now = called.now.as_deref().map(|now| self.parse_key(now)).transpose()?;
        let row = now.is_some().then(|| self.read_fields(&called.row)).transpose()?;
        let item = row.as_ref().map(|row| self.shared.table.encode(row));
        // A key that neither is nor was the row's by this write, but is now, was marked by a trigger; it is
        // the relay's.
        let state = |key: &SourceKey| match &item {
            Some(item) if now.as_ref() == Some(key) => State::Row(item.clone()),
            _ => State::Gone,
        };
        let binding = &self.shared.binding;
        let changes = std::iter::once(key).chain(left).map(|key| (state(&key), key));
        let indices =
            changes.map(|(state, key)| Change::note(&mut noted.changes, binding, key, state)).collect();
        let touched = Touched::in_source(row.filter(|_| kind != Call::Delete), indices);
        // The row's own change is noted first, and the key that it left after it.
        let marks = [called.key, called.old_key];
        noted.marks.extend(marks.into_iter().enumerate().filter_map(|(of, marked)| mark(of, marked)));
        Ok(touched)
    }
}

/// The changes of a call, and their marks.
#[derive(Default)]
struct Noted {
    changes: Vec<Change>,
    marks: Vec<Mark>,
}

enum Ended<R> {
    Done(WriteOutcome<R>),
    Stale,
    Missing,
}

fn mark(of: usize, marked: Marked) -> Option<Mark> {
    marked.map(|(version, repair)| Mark { of, version, repair })
}

fn nothing<R>(control: Control) -> WriteOutcome<R> {
    Touched::NOTHING.outcome(&Written { control, deliveries: Vec::new() })
}
