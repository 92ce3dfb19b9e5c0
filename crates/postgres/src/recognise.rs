//! Whether the triggers of a table are ours, as they must be, and whether they were touched since.
//!
//! Two questions, as one answer is not enough. *What they are*: function, events and that they fire always
//! are looked at themselves. *What happened to them*: a trigger that was disabled for an hour and enabled
//! again is the same trigger, but another transaction has touched it, which its `xmin` tells.
//!
//! A database that was moved by a dump, or upgraded in place, has new numbers for everything, although no one
//! has touched a trigger. So what was installed is kept together with the *installation*: the numbers of a
//! catalogue row of schema `lockstep` that no statement changes. Where that is another one too,
//! the numbers of the triggers say nothing. In DynamoOnly such triggers are taken as they are, as only the
//! reverse feed writes there, and DynamoDB is the truth. In every other phase an application may have written
//! between the rows and the triggers of a restore, so there it counts as a gap.

use std::sync::LazyLock;

use lockstep_core::{Doing, Phase, Result};
use sqlx::postgres::PgConnection;

use super::partitions::{self, Leaf};
use super::shape::leaves_of;
use super::trigger_names::{function_name, trigger_name, truncate_trigger_name};
use super::{Source, TableBinding};
use crate::sql;

const DOING: &str = "reading the state of capture";

/// Whether every change of a table is being captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureState {
    /// Never installed.
    Absent,
    /// On, and never off since it was installed.
    On,
    /// Dropped, disabled or replaced since it was installed: changes may have gone unseen.
    Broken(String),
}

/// `AFTER INSERT OR UPDATE OR DELETE … FOR EACH ROW`, as `pg_trigger.tgtype` has it.
const ROW_AFTER: i16 = 1 + 4 + 8 + 16;
/// `BEFORE TRUNCATE … FOR EACH STATEMENT`.
const BEFORE_TRUNCATE: i16 = 2 + 32;

/// The triggers `$2` and `$3` of relation `$1`, whose types are `$4` and `$5`; `$6` is the function of the
/// first.
const TRIGGERS: &str =
    "SELECT coalesce(pg_catalog.string_agg(t.oid || ':' || t.xmin, ' ' ORDER BY t.tgname), ''),
         (SELECT d.oid::text FROM pg_database d
             WHERE d.datname = pg_catalog.current_database()) || '/'
             || coalesce((SELECT pg_catalog.string_agg(k.oid || ':' || k.xmin, ' ' ORDER BY k.conname)
                  FROM pg_constraint k WHERE k.contype = 'p'
                      AND k.conrelid = pg_catalog.to_regclass('lockstep.control')::oid), ''),
         pg_catalog.count(*) FILTER (WHERE t.tgenabled = 'A' AND t.tgqual IS NULL AND t.tgnargs = 0
             AND t.tgattr::text = '' AND ((t.tgname = $2 AND t.tgtype = $4
                 AND t.tgfoid = pg_catalog.to_regproc($6)) OR (t.tgname = $3 AND t.tgtype = $5
                 AND t.tgfoid = pg_catalog.to_regproc('lockstep.refuse_truncate'))))
     FROM pg_trigger t WHERE t.tgrelid = pg_catalog.to_regclass($1)::oid AND t.tgname IN ($2, $3)";

/// The triggers and the partitions of each table that is asked for, with what is recorded of it.
static ALL: LazyLock<String> = LazyLock::new(|| {
    let of_columns =
        [("$1", "relation"), ("$2", "row_trigger"), ("$3", "truncate_trigger"), ("$6", "function")];
    let triggers = of_columns.iter().fold(TRIGGERS.to_owned(), |sql, (parameter, column)| {
        sql.replace(parameter, &format!("asked.{column}"))
    });
    format!(
        "SELECT recorded.capture_mark, recorded.relation, recorded.fingerprint,
             found.touched, found.installation, found.whole, parts.lines
         FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
             pg_catalog.unnest($3::text[]), pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[]))
             WITH ORDINALITY
             AS asked (name, relation, row_trigger, truncate_trigger, function, nth)
         LEFT JOIN lockstep.tables recorded ON recorded.name = asked.name
         CROSS JOIN LATERAL ({triggers}) AS found (touched, installation, whole)
         LEFT JOIN LATERAL ({parts}) AS parts (lines) ON true
         ORDER BY asked.nth",
        parts = partitions::lines_sql("asked.relation"),
    )
});

/// The triggers of a table as they are.
pub(super) struct Triggers {
    /// Their numbers, and the transactions that touched them last.
    touched: String,
    /// Installation of schema `lockstep` that they are in.
    installation: String,
    /// Number of the two that are what they must be.
    right: i64,
}

impl Triggers {
    pub(super) async fn read(connection: &mut PgConnection, binding: &TableBinding) -> Result<Self> {
        let (touched, installation, right) = sql::query_as(TRIGGERS)
            .bind(binding.relation.sql())
            .bind(trigger_name(binding))
            .bind(truncate_trigger_name(binding))
            .bind(ROW_AFTER)
            .bind(BEFORE_TRUNCATE)
            .bind(function_name(binding))
            .fetch_one(connection)
            .await
            .doing(DOING)?;
        Ok(Self { touched, installation, right })
    }

    /// Returns the text that is kept of them, to know them again.
    pub(super) fn mark(&self) -> String {
        format!("{}|{}", self.installation, self.touched)
    }

    /// Judges what they are, beside what was kept when they were installed. Earlier versions have kept no
    /// installation.
    fn state(&self, kept: &str, phase: Phase) -> CaptureState {
        let (installation, touched) = match kept.split_once('|') {
            Some((installation, touched)) => (Some(installation), touched),
            None => (None, kept),
        };
        let moved = installation.is_some_and(|installation| installation != self.installation);
        match self.right {
            0..=1 => {
                CaptureState::Broken("a capture trigger was dropped or disabled, or is not ours".to_owned())
            }
            _ if touched == self.touched || (moved && phase == Phase::DynamoOnly) => CaptureState::On,
            _ if moved => CaptureState::Broken(
                "the database was restored from a dump, or upgraded: what was written before its triggers \
                were there is unknown"
                    .to_owned(),
            ),
            // Disabled and enabled again leaves the same triggers, but another transaction has touched them.
            _ => {
                CaptureState::Broken("a capture trigger was replaced, or was disabled for a while".to_owned())
            }
        }
    }
}

impl CaptureState {
    /// Reads the state on `connection`, which may be inside a transaction.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read(connection: &mut PgConnection, binding: &TableBinding) -> Result<Self> {
        let states = Self::read_all(connection, std::slice::from_ref(binding)).await?;
        Ok(states.into_iter().next().unwrap_or(Self::Absent))
    }

    /// Returns the states of several tables, in their order, by two statements for all.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read_all(connection: &mut PgConnection, tables: &[TableBinding]) -> Result<Vec<Self>> {
        let of_all = |text: fn(&TableBinding) -> String| tables.iter().map(text).collect::<Vec<String>>();
        let found: Vec<Found> = sql::query_as(ALL.as_str())
            .bind(of_all(|binding| binding.name().to_owned()))
            .bind(of_all(|binding| binding.relation.sql()))
            .bind(of_all(trigger_name))
            .bind(ROW_AFTER)
            .bind(BEFORE_TRUNCATE)
            .bind(of_all(truncate_trigger_name))
            .bind(of_all(function_name))
            .fetch_all(&mut *connection)
            .await
            .doing(DOING)?;
        let phase = super::read_control(connection).await?.phase;
        Ok(tables.iter().zip(found).map(|(binding, found)| Self::of(binding, found, phase)).collect())
    }

    fn of(binding: &TableBinding, found: Found, phase: Phase) -> Self {
        let (kept, relation, fingerprint, touched, installation, right, lines) = found;
        let (Some(kept), Some(relation), Some(fingerprint)) = (kept, relation, fingerprint) else {
            return Self::Absent;
        };
        if relation != binding.relation.to_string() {
            return Self::Broken(format!("capture was installed on {relation}, not on {}", binding.relation));
        }
        match (Triggers { touched, installation, right }).state(&kept, phase) {
            Self::On => {
                let now = Leaf::all(&lines.unwrap_or_default());
                partitions::uncaptured(&leaves_of(&fingerprint), &now).map_or(Self::On, Self::Broken)
            }
            other => other,
        }
    }
}

/// A row of [`ALL`].
type Found = (Option<String>, Option<String>, Option<String>, String, String, i64, Option<String>);

impl Source {
    /// Keeps the numbers of triggers that are whole and are another installation's, or of which an earlier
    /// version has kept no installation: from then on it is noticed again when they are touched.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn know_triggers(&self, binding: &TableBinding) -> Result<()> {
        let mut connection = self.pool().acquire().await.doing(DOING)?;
        if CaptureState::read(&mut connection, binding).await? != CaptureState::On {
            return Ok(());
        }
        let mark = Triggers::read(&mut connection, binding).await?.mark();
        sql::query("UPDATE lockstep.tables SET capture_mark = $2 WHERE name = $1 AND capture_mark <> $2")
            .bind(binding.name())
            .bind(mark)
            .execute(&mut *connection)
            .await
            .doing("keeping which triggers a table has")
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kept: &str, now: (&str, &str, i64), phase: Phase, is_on: bool) {
        let (installation, touched, right) = now;
        let now = Triggers { touched: touched.to_owned(), installation: installation.to_owned(), right };
        assert_eq!(now.state(kept, phase) == CaptureState::On, is_on, "{kept} in {phase}");
    }

    #[test]
    fn a_dump_is_no_gap_in_dynamo_only_and_a_trigger_that_was_touched_is_one_in_every_phase() {
        for phase in Phase::ALL {
            check("5/7:1|9:2", ("5/7:1", "9:2", 2), phase, true);
            check("5/7:1|9:2", ("5/7:1", "9:3", 2), phase, false);
            check("5/7:1|9:2", ("5/7:1", "9:2", 1), phase, false);
            check("5/7:1|9:2", ("6/8:4", "3:5", 2), phase, phase == Phase::DynamoOnly);
            check("5/7:1|9:2", ("6/8:4", "3:5", 1), phase, false);
            // As an earlier version has kept it.
            check("9:2", ("5/7:1", "9:2", 2), phase, true);
            check("9:2", ("5/7:1", "9:3", 2), phase, false);
        }
    }
}
