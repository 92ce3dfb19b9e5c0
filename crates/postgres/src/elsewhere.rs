//! Databases that schema `lockstep` was not made in: a copy of the one that it is of, or that one under
//! another name.

use lockstep_core::Advice::{Doctor, RepairState, UninstallCopy};
use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::postgres::PgConnection;

use super::Source;
use crate::sql;

const READING: &str = "asking which database this is";

/// Names of two databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Name of the database that everything in schema `lockstep` is of.
    pub was: String,
    /// Name of this one.
    pub is: String,
}

impl Elsewhere {
    /// Two databases; `None` where both are one, and where the schema does not tell.
    pub(crate) fn of(was: Option<String>, is: String) -> Option<Self> {
        was.filter(|was| *was != is).map(|was| Self { was, is })
    }
}

impl Source {
    /// Returns both names where this is another database than the one that schema `lockstep` is of. `None`
    /// where it is that one, and where the schema is not there or does not tell.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn elsewhere(&self) -> Result<Option<Elsewhere>> {
        // A schema of an earlier version has no such column.
        let found: sqlx::Result<Option<(Option<String>, String)>> = sql::query_as(
            "SELECT pg_catalog.to_jsonb(c) OPERATOR(pg_catalog.->>) 'database', pg_catalog.current_database()::text
             FROM lockstep.control c",
        )
        .fetch_optional(self.pool())
        .await;
        let found = match found.doing(READING) {
            Err(error) if error.is_missing_table() => None,
            found => found?,
        };
        Ok(found.and_then(|(was, is)| Elsewhere::of(was, is)))
    }

    /// Refuses a database that schema `lockstep` was not made in: what an application writes there would go
    /// into the tables of the original.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for such a database; the server's.
    pub async fn require_own_database(&self) -> Result<()> {
        let Some(Elsewhere { was, is }) = self.elsewhere().await? else { return Ok(()) };
        let message = format!(
            "this database is {is}, and the migration that it carries is of database {was}. If it is a copy, \
             its writes would go over those of the original in DynamoDB: {UninstallCopy} takes Lockstep out of \
             it. If the original was moved or renamed, {Doctor} and {RepairState} lead on"
        );
        Err(Error::source(Kind::Misconfigured, READING, message))
    }
}

/// Takes this database for the one that schema `lockstep` is of.
///
/// # Errors
/// The driver's.
pub(crate) async fn take_for_own(connection: &mut PgConnection) -> Result<()> {
    for statement in [
        "UPDATE lockstep.control SET database = pg_catalog.current_database()
         WHERE database <> pg_catalog.current_database()",
        "UPDATE lockstep.history SET installed_as = 'lockstep.control'::regclass::oid",
    ] {
        sql::query(statement)
            .execute(&mut *connection)
            .await
            .doing("taking this database for the migration's")?;
    }
    Ok(())
}

/// Identities of the server as it was known and as it is, told apart by the names of two databases.
pub(crate) fn told_apart(
    known: Option<String>,
    now: Option<String>,
    two: Option<Elsewhere>,
) -> (Option<String>, Option<String>) {
    let Some(Elsewhere { was, is }) = two else { return (known, now) };
    let of = |server: Option<String>, name: &str| {
        Some(server.map_or_else(|| format!("database {name}"), |server| format!("{server}, database {name}")))
    };
    (of(known, &was), of(now, &is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_another_name_is_another_server_whether_the_server_tells_or_not() {
        let two = || Some(Elsewhere { was: "loans".to_owned(), is: "rehearsal".to_owned() });
        let server = || Some("7/1".to_owned());
        assert_eq!(told_apart(server(), server(), None), (server(), server()));
        let (known, now) = told_apart(server(), server(), two());
        assert_eq!(known.as_deref(), Some("7/1, database loans"));
        assert_eq!(now.as_deref(), Some("7/1, database rehearsal"));
        // Before the first mark, and where no server tells.
        let (known, now) = told_apart(None, None, two());
        assert_eq!((known.as_deref(), now.as_deref()), (Some("database loans"), Some("database rehearsal")));
    }
}
