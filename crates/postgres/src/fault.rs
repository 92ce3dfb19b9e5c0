//! Meaning of the driver's errors: a kind to branch on, and words that tell no value of a row.

mod raiser;
mod sqlstate;
mod without_values;
mod words;

pub(crate) use sqlstate::{passwords_refused, read_only_refusals};

use lockstep_core::Advice::SourceConnectionsMax;
use lockstep_core::{Doing, Error, Kind, Result};

/// Name of the driver of PostgreSQL in [`Doing`]; it has no value.
#[derive(Debug)]
pub enum Sqlx {}

impl<T> Doing<Sqlx> for std::result::Result<T, sqlx::Error> {
    type Done = T;

    fn doing(self, what: &str) -> Result<T> {
        self.map_err(|error| of_sqlx(what, error))
    }
}

/// Reads a driver's error while `doing` something.
pub fn of_sqlx(doing: impl Into<String>, error: sqlx::Error) -> Error {
    let kind = kind_of_sqlx(&error);
    let code = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
    if let sqlx::Error::Database(_) = &error {
        sqlstate::notice(code.as_deref().unwrap_or_default());
    }
    let message = match (&error, &code) {
        (sqlx::Error::Database(_), Some(code)) => {
            let said = without_values::of_driver(&error);
            format!("{said} (SQLSTATE {code}){}", sqlstate::advise(code))
        }
        (sqlx::Error::PoolTimedOut, _) => format!(
            "could not get a connection before the timeout: PostgreSQL does not \
                answer, or every connection of the pool is busy, or the server \
                takes no writes (a replica, as after a failover); check that the \
                server is up, or raise {SourceConnectionsMax}"
        ),
        (other, _) => without_values::of_driver(other),
    };
    Error::of_source_driver(kind, doing, message, code, error)
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
        let error = of_sqlx("reading", sqlx::Error::Decode("4711 Planted".into()));
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
