//! Reason why a server does not answer, asked over one connection of its own: a pool tries again until its
//! time-out, and then says no more than that it timed out.

use std::time::Duration;

use lockstep_core::Error;
use sqlx::{Connection, PgConnection};

use super::Source;
use crate::fault::of_sqlx;

impl Source {
    /// Returns the reason why no connection to the server can be made now; `None` where one can, or where
    /// `within` passes without an answer.
    ///
    /// # Cancel safety
    /// A connection that was begun is dropped.
    pub async fn why_away(&self, within: Duration) -> Option<Error> {
        let options = self.pool().connect_options();
        let connecting = PgConnection::connect_with(&options);
        match tokio::time::timeout(within, connecting).await.ok()? {
            Ok(connection) => {
                // It only had to be possible.
                let _ = connection.close().await;
                None
            }
            Err(error) => {
                let place =
                    format!("connecting to PostgreSQL at {}:{}", options.get_host(), options.get_port());
                Some(of_sqlx(place, error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::Kind;

    use super::super::{Password, SourceOptions};
    use super::*;

    #[tokio::test]
    async fn a_server_that_refuses_connections_is_said_to_refuse_them() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = listener.local_addr().expect("its address");
        drop(listener);
        let options = SourceOptions {
            url: format!("postgres://app@{place}/any"),
            password: Password::default(),
            connections_max: 1,
            connect_timeout: Duration::from_secs(4),
            application_name: "a test".to_owned(),
        };
        let source = Source::connect_lazily(&options).expect("a handle");
        let why = source.why_away(Duration::from_secs(4)).await.expect("nothing listens there");
        assert_eq!(why.kind, Kind::Unavailable);
        assert!(why.message.contains("refused"), "{why}");
    }
}
