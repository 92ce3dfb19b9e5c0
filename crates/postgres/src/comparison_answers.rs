//! Wishes of the leader of a shared comparison, and the answers of its workers.
//!
//! An answer is in parts of some hundred kilobytes, and counts once its end is recorded, with the leases of
//! the pieces that it is made of. A worker never answers one wish twice, as its id is of one registration.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::Source;
use super::clock::worker_is_live;
use crate::sql;

/// Place to which a part of an answer belongs.
#[derive(Clone, Copy, Debug)]
pub struct AnswerPlace {
    /// The comparison.
    pub run: i64,
    /// The number of the wish.
    pub ask: i32,
    /// `source` or `target`.
    pub side: &'static str,
    /// The part of the keys that it is of.
    pub part: i32,
}

/// Record that a worker has answered.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Answered {
    /// The worker.
    pub worker: i64,
    /// The leases of the pieces that its answer is made of.
    pub tokens: Vec<i64>,
    /// Number of the answer's parts.
    pub parts: i64,
}

/// One part of an answer.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct AnswerPart {
    /// The worker.
    pub worker: i64,
    /// Number of the part among this worker's parts at that place.
    pub number: i32,
    /// Body that the worker handed over.
    pub body: Vec<u8>,
}

/// Returns the expression that tells whether worker `$3`, under a lease that lasts, answers wish `$2` of
/// comparison `$1` while that is the newest.
fn may_answer() -> String {
    format!(
        "EXISTS (SELECT 1 FROM lockstep.comparisons c WHERE c.run = $1 AND c.ask = $2)
         AND EXISTS (SELECT 1 FROM lockstep.workers w WHERE w.id = $3 AND {})",
        worker_is_live("w")
    )
}

impl Source {
    /// Publishes the leader's next wish, and forgets the answers to those before. `false` where the
    /// comparison is gone. To repeat it changes nothing.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn ask_workers(&self, run: i64, ask: i32, asked: &str, wanted: &[u8]) -> Result<bool> {
        let doing = "asking the workers of a comparison";
        let mut transaction = self.begin(doing).await?;
        for forget in [
            "DELETE FROM lockstep.comparison_answers WHERE run = $1 AND ask < $2",
            "DELETE FROM lockstep.comparison_answered WHERE run = $1 AND ask < $2",
        ] {
            sql::query(forget).bind(run).bind(ask).execute(&mut *transaction).await.doing(doing)?;
        }
        let published = sql::query(
            "UPDATE lockstep.comparisons SET ask = $2, asked = $3, wanted = $4 WHERE run = $1 AND ask <= $2",
        )
        .bind(run)
        .bind(ask)
        .bind(asked)
        .bind(wanted)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(published.rows_affected() == 1)
    }

    /// Hands over a part of an answer, which does not count before its end is recorded. `false` where the
    /// worker's lease is over, or the comparison is.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn hand_over_part(
        &self,
        at: AnswerPlace,
        worker: i64,
        number: i32,
        body: &[u8],
    ) -> Result<bool> {
        let sql = format!(
            "INSERT INTO lockstep.comparison_answers (run, ask, worker, side, part, number, body)
             SELECT $1, $2, $3, $4, $5, $6, $7 WHERE {}",
            may_answer()
        );
        let handed = sql::query(AssertSqlSafe(sql))
            .bind(at.run)
            .bind(at.ask)
            .bind(worker)
            .bind(at.side)
            .bind(at.part)
            .bind(number)
            .bind(body)
            .execute(self.pool())
            .await
            .doing("handing over what was read")?;
        Ok(handed.rows_affected() == 1)
    }

    /// Records the end of an answer: the leases of the pieces that it is made of, and how many parts it has.
    /// `false` where the worker's lease is over, or the leader wishes for something else by now.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn end_answer(&self, run: i64, ask: i32, answer: &Answered) -> Result<bool> {
        let sql = format!(
            "INSERT INTO lockstep.comparison_answered (run, ask, worker, tokens, parts)
             SELECT $1, $2, $3, $4, $5 WHERE {}",
            may_answer()
        );
        let ended = sql::query(AssertSqlSafe(sql))
            .bind(run)
            .bind(ask)
            .bind(answer.worker)
            .bind(&answer.tokens)
            .bind(answer.parts)
            .execute(self.pool())
            .await
            .doing("recording the end of an answer")?;
        Ok(ended.rows_affected() == 1)
    }

    /// Returns the workers that have answered a wish.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn answered(&self, run: i64, ask: i32) -> Result<Vec<Answered>> {
        sql::query_as(
            "SELECT worker, tokens, parts FROM lockstep.comparison_answered WHERE run = $1 AND ask = $2
             ORDER BY worker",
        )
        .bind(run)
        .bind(ask)
        .fetch_all(self.pool())
        .await
        .doing("reading which workers have answered")
    }

    /// Returns the next part at a place after that of a worker and number, of these workers only.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn next_answer_part(
        &self,
        at: AnswerPlace,
        workers: &[i64],
        after: (i64, i32),
    ) -> Result<Option<AnswerPart>> {
        sql::query_as(
            "SELECT worker, number, body FROM lockstep.comparison_answers
             WHERE run = $1 AND ask = $2 AND side = $3 AND part = $4 AND worker = ANY ($5)
                 AND (worker, number) > ($6, $7)
             ORDER BY worker, number LIMIT 1",
        )
        .bind(at.run)
        .bind(at.ask)
        .bind(at.side)
        .bind(at.part)
        .bind(workers)
        .bind(after.0)
        .bind(after.1)
        .fetch_optional(self.pool())
        .await
        .doing("reading what was handed over")
    }
}
