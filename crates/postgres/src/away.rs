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
                Some(self.options.password.advised(of_sqlx(place, error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Advice, Kind};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
            control_schema: crate::CONTROL_SCHEMA.to_owned(),
        };
        let source = Source::connect_lazily(&options).expect("a handle");
        let why = source.why_away(Duration::from_secs(4)).await.expect("nothing listens there");
        assert_eq!(why.kind, Kind::Unavailable);
        assert!(why.message.contains("refused"), "{why}");
    }

    /// A server that refuses every password.
    async fn refusing(listener: tokio::net::TcpListener) {
        const FIELDS: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0\0";
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            // What it begins with is a message of one packet, with its length before it.
            let length = stream.read_u32().await.expect("a length") as usize;
            stream.read_exact(&mut vec![0; length - 4]).await.expect("a greeting");
            let mut said = vec![b'E'];
            said.extend_from_slice(&(FIELDS.len() as u32 + 4).to_be_bytes());
            said.extend_from_slice(FIELDS);
            stream.write_all(&said).await.expect("told");
        }
    }

    #[tokio::test]
    async fn after_a_wrong_password_what_is_configured_is_named_and_nothing_else() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = listener.local_addr().expect("its address");
        let server = tokio::spawn(refusing(listener));
        let file = std::env::temp_dir().join(format!("lockstep-wrong-password-{}", std::process::id()));
        std::fs::write(&file, "wrong\n").expect("written");
        let path = file.display().to_string();
        let origins = [
            (Password::InUrl, Advice::SourceUrl.to_string()),
            (Password::File(file.clone()), format!("{} {path}", Advice::SourcePasswordFile)),
            (Password::Command("echo s3cret".to_owned()), Advice::SourcePasswordCommand.to_string()),
        ];
        let all = [Advice::SourceUrl, Advice::SourcePasswordFile, Advice::SourcePasswordCommand];
        for (password, named) in origins {
            let options = SourceOptions {
                url: format!("postgres://app@{place}/any?sslmode=disable"),
                password,
                connections_max: 1,
                connect_timeout: Duration::from_secs(4),
                application_name: "a test".to_owned(),
                control_schema: crate::CONTROL_SCHEMA.to_owned(),
            };
            let at_once = Source::connect(&options).await.expect_err("refused");
            let source = Source::connect_lazily(&options).expect("a handle");
            let later = source.why_away(Duration::from_secs(4)).await.expect("refused");
            for error in [at_once, later] {
                let said = error.to_string();
                assert!(said.contains(&named) && !said.contains("s3cret"), "{named}: {said}");
                let others = all.iter().map(ToString::to_string).filter(|other| !named.contains(other));
                for other in others {
                    assert!(!said.contains(&other), "{other} is not configured: {said}");
                }
            }
        }
        server.abort();
        std::fs::remove_file(&file).expect("it is there");
    }
}
