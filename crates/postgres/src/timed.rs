//! Times that PostgreSQL takes (R47): statements by themselves, transactions, their commits, and rows that
//! are copied out.

use std::ops::Deref;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use lockstep_core::{Side, note_request};
use sqlx::postgres::{PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, Postgres, SqlStr};

/// One statement that is a transaction by itself, with its wait for a session.
pub(super) const STATEMENT: &str = "statement";
/// A transaction from the moment at which its session was asked for to its end, with what its caller does
/// meanwhile: a strict write waits for DynamoDB there.
pub(super) const TRANSACTION: &str = "transaction";
/// The commit of one.
pub(super) const COMMIT: &str = "commit";
/// Rows that are copied out.
pub(super) const COPY: &str = "copy";

/// Notes what has ended.
pub(super) fn note(operation: &'static str, took: Duration) {
    note_request(Side::Source, operation, took);
}

/// The pool, of which each statement is timed.
#[derive(Debug)]
pub struct TimedPool<'p>(pub(super) &'p PgPool);

impl Deref for TimedPool<'_> {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        self.0
    }
}

impl<'p> Executor<'p> for TimedPool<'p> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut began = Some(Instant::now());
        let mut answer = self.0.fetch_many(query);
        let timed = stream::poll_fn(move |context| {
            let next = answer.poll_next_unpin(context);
            if matches!(next, Poll::Ready(None | Some(Err(_))))
                && let Some(began) = began.take()
            {
                note(STATEMENT, began.elapsed());
            }
            next
        });
        timed.boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let began = Instant::now();
        self.0.fetch_optional(query).inspect(move |_| note(STATEMENT, began.elapsed())).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        self.0.prepare_with(sql, parameters)
    }
}
