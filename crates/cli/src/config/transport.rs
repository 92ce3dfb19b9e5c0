//! Readers of what is sent to the stores, beside the stores.

use lockstep_core::{host_of, is_this_machine};

use super::{Config, Standing};

pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if config.standing() != Ok(Standing::Configured) {
        return found;
    }
    if config.source.is_unverified() {
        found.push(
            "source.url leads to another machine without sslmode=verify-full: a machine that answers there, or listens on the way, gets \
             the password and every row. Set sslmode=verify-full (and sslrootcert, where the authority is not one of the \
             system's); source.require_verified_tls = true refuses anything else"
                .to_owned(),
        );
    }
    let target = &config.target;
    let endpoints = [
        ("target.endpoint_url", &target.endpoint_url),
        ("target.streams_endpoint_url", &target.streams_endpoint_url),
        ("target.s3_endpoint_url", &target.s3_endpoint_url),
    ];
    for (key, url) in endpoints {
        if url.as_ref().is_some_and(|url| url.starts_with("http://") && !is_this_machine(host_of(url))) {
            found.push(format!(
                "{key} leads to another machine by plain HTTP: a machine that listens on the way reads every item. Use https://"
            ));
        }
    }
    found
}
