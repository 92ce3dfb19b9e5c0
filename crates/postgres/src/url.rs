//! Reading of a PostgreSQL URL before the driver reads it. Nothing of it is ever in a message: where a
//! password was not encoded, any part of the URL may be a part of the password.

use lockstep_core::Advice::SourceUrl;
use lockstep_core::{Error, Kind, Result, is_this_machine};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The parameters that the driver knows. Of another one it would log name and value, and go on without it.
const KNOWN: [&str; 20] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "ssl_mode",
    "sslnegotiation",
];

/// Advice about a URL that cannot be read.
pub(super) const ADVICE: &str = "the URL cannot be read (it is not shown, as a password may be in it): it must be \
     postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, where a password's own `@`, `:`, `/`, `?`, `#`, `&` and `%` are \
     written %40, %3A, %2F, %3F, %23, %26 and %25";

/// Refuses what the driver would misread, or tell of.
pub(super) fn check(url: &str) -> Result<()> {
    let refused =
        |message: &str| Err(Error::source(Kind::Misconfigured, format!("reading {SourceUrl}"), message));
    let Some((_, rest)) = url.split_once("://") else { return refused(ADVICE) };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    // An `@` after the host, or a `#`, is one of a password that was cut there.
    if query.contains('@') || path.contains('@') || rest.contains('#') || authority.matches('@').count() > 1 {
        return refused(ADVICE);
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        // `options[search_path]=…` is a setting of the session.
        if !KNOWN.contains(&name) && !name.starts_with("options[") && !name.starts_with("options%5B") {
            return refused(
                "a parameter after the `?` is not known to the driver (it is not shown, as it may be a part of a password); known are \
                 sslmode, sslrootcert, sslcert, sslkey, host, port, dbname, user, password, application_name and options",
            );
        }
    }
    Ok(())
}

/// Protection of what is sent to PostgreSQL from others on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// It does not leave the machine.
    Local,
    /// Encrypted, and the server has proved that it is the one that the URL names.
    Verified,
    /// Encrypted perhaps, or for any machine that answers: `sslmode` is not `verify-full`.
    Unverified,
}

/// Returns the protection that a URL asks for, and the environment where the URL says nothing (`PGHOST`,
/// `PGSSLMODE`). A password goes in clear to any machine that answers for the host in `prefer`, which is the
/// default, and to one with any certificate in `require`.
pub fn transport(url: &str) -> Transport {
    // By the driver, so that no reading of ours can differ from where it connects; but it logs a parameter
    // that it does not know, which may be a part of a password.
    let options = check(url).ok().and_then(|()| url.parse::<PgConnectOptions>().ok());
    let Some(options) = options else { return Transport::Unverified };
    let host = options.get_host();
    let is_local = options.get_socket().is_some() || host.starts_with('/') || is_this_machine(host);
    match options.get_ssl_mode() {
        PgSslMode::VerifyFull => Transport::Verified,
        _ if is_local => Transport::Local,
        _ => Transport::Unverified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_a_word_of_it() {
        for url in [
            "postgres://app:s3cr?et@db/loans",
            "postgres://app:s3cr#et@db/loans",
            "postgres://app:s3cr/et@db/loans",
            "postgres://app:s3cr@et@db/loans",
            "postgres://app:s3cr?sslmode=et@db/loans",
            "postgres://db/loans?pasword=s3cret",
            "postgres://app:1234?s3cr&et@db/loans",
        ] {
            let error = check(url).expect_err("it is refused").to_string();
            assert!(
                !error.contains("s3cr") && !error.contains("et@") && !error.contains("pasword"),
                "{error}"
            );
        }
        for url in [
            "postgres://app:s3cr%3Fet@db/loans",
            "postgres://db/loans?user=app&password=s3cret&sslmode=verify-full&options=-c%20geqo=off&options[a]=b",
            "postgresql:///loans?host=/run/postgresql",
        ] {
            check(url).expect("it reads");
        }
    }

    #[test]
    fn only_verify_full_is_enough_beyond_this_machine() {
        for (url, expected) in [
            ("postgres://u:p@db.example/x", Transport::Unverified),
            ("postgres://u:p@db.example/x?sslmode=require", Transport::Unverified),
            ("postgres://u:p@db.example/x?sslmode=verify-ca", Transport::Unverified),
            ("postgres://u:p@127.0.0.1.example:5432/x?sslmode=verify-full", Transport::Verified),
            ("postgres://u:p@127.0.0.1:5432/x", Transport::Local),
            ("postgres://u:p@localhost/x", Transport::Local),
            ("postgres://u:p@[::1]/x", Transport::Local),
            ("postgres://u:p@127.0.0.1.evil.example/x", Transport::Unverified),
            ("postgres://u:p@localhost.evil.example/x", Transport::Unverified),
            ("postgres://u:p@localhost/x?hostaddr=192.0.2.1", Transport::Unverified),
            ("postgres://u@%2Frun%2Fpostgresql/x", Transport::Local),
            ("postgres:///x?host=/run/postgresql", Transport::Local),
            ("postgres://u@localhost/x?host=db.example", Transport::Unverified),
        ] {
            assert_eq!(transport(url), expected, "{url}");
        }
    }
}
