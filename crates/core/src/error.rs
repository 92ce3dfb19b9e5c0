//! Errors: a kind to branch on, a sentence to read.

mod place;
mod sqlstate;
mod withheld;
mod without_values;
mod words;

pub use sqlstate::{passwords_refused, read_only_refusals};

use crate::Advice::SourceConnectionsMax;
use crate::unholdable::Unholdable;
use withheld::Withheld;

/// The kind of an error, by which a caller decides what to do next. One function, [`Kind::retry`], maps it to
/// a retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The store is asking for fewer requests. Nothing was done.
    Throttled,
    /// The store could not be reached, or said that it does not take this now. Nothing was done.
    Unavailable,
    /// The answer was lost, or is none that is known (I18): it may have been done (I8).
    Unknown,
    /// A condition was not met; for a guarded write that is success.
    Refused,
    /// This row or request can never succeed as it is. Of DynamoDB's answers only those that are about the
    /// item.
    Invalid,
    /// Credentials missing, expired, or without the permission.
    Denied,
    /// A table, role or setting is not as it must be; a person has to act.
    Misconfigured,
    /// Could not acquire a lock before the timeout.
    Busy,
    /// The caller's lease or claim may be over, so nothing was done. An instance's lease is over: it does
    /// not know the phase and serves nothing by it (R19), and recovers by itself as soon as the source
    /// answers. The same where a range, a pending key or an import is another process's by now, and where a
    /// state was read too long ago to be written: it is read again.
    Fenced,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again, slower.
    Slower,
    /// Try again after a pause.
    Again,
    /// Do not try again.
    Never,
}

impl Kind {
    /// Tells whether a process that runs until cancelled tries again after this error. `began_well`: it has
    /// worked before. Then rights that are missing, and a table that is not there, are outages like others: 1. A
    /// password is rotated, a role is edited, a region fails over. 2. A relay that ends there leaves
    /// everything pending.
    /// 3. It was a matter of minutes.
    pub fn may_pass(self, side: Side, began_well: bool) -> bool {
        match self {
            Self::Throttled | Self::Unavailable | Self::Unknown | Self::Busy | Self::Fenced => true,
            Self::Denied => began_well,
            Self::Misconfigured => began_well && side == Side::Target,
            Self::Refused | Self::Invalid => false,
        }
    }

    /// Returns the retry policy of this kind, for operations that may be repeated (all of ours may, I2).
    pub fn retry(self) -> Retry {
        match self {
            Self::Throttled => Retry::Slower,
            Self::Unavailable | Self::Unknown | Self::Busy | Self::Fenced => Retry::Again,
            Self::Refused | Self::Invalid | Self::Denied | Self::Misconfigured => Retry::Never,
        }
    }
}

/// The store that an error came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// PostgreSQL.
    Source,
    /// DynamoDB.
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Source => "PostgreSQL",
            Self::Target => "DynamoDB",
        })
    }
}

/// An error of one of the stores, or of what we found in it.
#[derive(Debug, thiserror::Error)]
#[error("{side}: {doing}: {message}")]
pub struct Error {
    /// Store that the error is about.
    pub side: Side,
    /// Kind of the error, for a caller to branch on.
    pub kind: Kind,
    /// Action that failed, for the reader.
    pub doing: String,
    /// Description of the failure and of what to do next, without row values (R36).
    pub message: String,
    /// Cause of the error. Of a driver's error it tells nothing: see [`Error::driver`].
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of PostgreSQL's side that we found ourselves.
    pub fn source(kind: Kind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { side: Side::Source, kind, doing: doing.into(), message: message.into(), cause: None }
    }

    /// Makes an error of DynamoDB's side that we found ourselves.
    pub fn target(kind: Kind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { side: Side::Target, kind, doing: doing.into(), message: message.into(), cause: None }
    }

    /// Makes the error for a row that DynamoDB cannot hold, met where there is no dead letter to write.
    pub fn unholdable(table: &str, reason: &Unholdable) -> Self {
        Self::target(Kind::Invalid, format!("converting a row of {table}"), reason.to_string())
    }

    /// Reads a driver's error while `doing` something.
    pub fn of_sqlx(doing: impl Into<String>, error: sqlx::Error) -> Self {
        let kind = kind_of_sqlx(&error);
        if let sqlx::Error::Database(e) = &error {
            sqlstate::notice(&e.code().unwrap_or_default());
        }
        let message = match &error {
            sqlx::Error::Database(e) => match e.code() {
                Some(code) => {
                    let said = without_values::of_driver(&error);
                    format!("{said} (SQLSTATE {code}){}", sqlstate::advise(&code))
                }
                None => without_values::of_driver(&error),
            },
            sqlx::Error::PoolTimedOut => format!(
                "could not get a connection before the timeout: PostgreSQL does not \
                    answer, or every connection of the pool is busy, or the server \
                    takes no writes (a replica, as after a failover); check that the \
                    server is up, or raise {SourceConnectionsMax}"
            ),
            other => without_values::of_driver(other),
        };
        Self::of_driver(Side::Source, kind, doing, message, error)
    }

    /// Makes the error of what the driver of one `side` said while `doing` something, told as `message`,
    /// which holds no value of a row. The error itself is kept for [`Error::driver`].
    pub fn of_driver(
        side: Side,
        kind: Kind,
        doing: impl Into<String>,
        message: impl Into<String>,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let cause = Some(Box::new(Withheld(Box::new(error))) as _);
        Self { side, kind, doing: doing.into(), message: message.into(), cause }
    }

    /// Returns the driver's own error (`sqlx::Error`, or one of the AWS SDK), if this came from one. It may
    /// quote values of rows, also in its `Debug` and in what caused it: it is for a program that acts on what
    /// its own triggers raise, and not for a log.
    pub fn driver(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        let withheld = self.cause.as_ref()?.downcast_ref::<Withheld>()?;
        Some(withheld.0.as_ref())
    }

    /// Tells whether PostgreSQL knows no such table: a schema of an older Lockstep, or none.
    pub fn is_missing_table(&self) -> bool {
        self.sqlstate().as_deref() == Some("42P01")
    }

    /// Tells whether DynamoDB refused the request as invalid, whatever it was about.
    pub fn is_validation(&self) -> bool {
        self.side == Side::Target
            && (self.kind == Kind::Invalid || self.message.starts_with("ValidationException"))
    }

    /// Returns the SQLSTATE, where PostgreSQL gave one.
    pub fn sqlstate(&self) -> Option<String> {
        let error = self.driver()?.downcast_ref::<sqlx::Error>()?;
        error.as_database_error()?.code().map(|code| code.into_owned())
    }
}

/// Returns the meaning of an error of the driver. Beside the server's own errors (see [`sqlstate`]) there is
/// what happens to a connection.
fn kind_of_sqlx(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(e) => {
            let told = e.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
            let is_fatal = told.is_some_and(|told| {
                use sqlx::postgres::PgSeverity::{Fatal, Panic};
                matches!(told.severity(), Fatal | Panic)
            });
            let code = e.code().unwrap_or_default();
            sqlstate::kind_of(&code, is_fatal, told.and_then(|told| told.routine()))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Kind::Unavailable,
        // The server is no PostgreSQL, or was cut off: a server that hangs up while it is greeted, as it
        // does when it goes down, or a pooler or a proxy that says something else.
        sqlx::Error::Protocol(_) => Kind::Unavailable,
        // A handshake that was cut off says nothing of certificates.
        sqlx::Error::Tls(cause) if is_cut_off(cause.as_ref()) => Kind::Unavailable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => Kind::Misconfigured,
        _ => Kind::Invalid,
    }
}

fn is_cut_off(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput};
    std::iter::successors(Some(cause), |cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| !matches!(io.kind(), InvalidData | InvalidInput))
}

/// The text that is told of a panic of a task. Its message is not: 1. The code of a table unwraps the error
/// of a parser, which quotes what it read. 2. The message is recorded, and shown by the status.
pub const PANICKED: &str = "the output of this process says where";

/// Adds what was being done to a driver's result.
pub trait Doing<T> {
    /// Turns the driver's error into ours.
    ///
    /// # Errors
    /// The driver's, named.
    fn doing(self, what: &str) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, sqlx::Error> {
    fn doing(self, what: &str) -> Result<T> {
        self.map_err(|error| Error::of_sqlx(what, error))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_hangs_up_while_it_greets_is_away_and_no_mistake() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("postgres://app@{}/any", server.local_addr().expect("its address"));
        let hang_up = async {
            let (mut greeted, _) = server.accept().await.expect("a client");
            let mut request = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut greeted, &mut request)
                .await
                .expect("it asks for encryption");
        };
        let (connected, ()) = tokio::join!(PgConnection::connect(&url), hang_up);
        let error = connected.expect_err("no server answers");
        assert_eq!(kind_of_sqlx(&error), Kind::Unavailable, "{error}");
    }

    #[test]
    fn what_the_driver_said_is_in_neither_the_debug_form_nor_the_chain_and_can_be_asked_for() {
        let error = Error::of_sqlx("reading", sqlx::Error::Decode("4711 Planted".into()));
        let (mut chain, mut cause) = (Vec::new(), std::error::Error::source(&error));
        while let Some(next) = cause {
            chain.push(next.to_string());
            cause = next.source();
        }
        let all = format!("{error} {error:?} {error:#?} {chain:?}");
        assert!(!all.contains("Planted"), "{all}");
        let driver = error.driver().expect("it is kept").downcast_ref::<sqlx::Error>();
        assert!(driver.is_some_and(|error| error.to_string().contains("Planted")));
    }
}
