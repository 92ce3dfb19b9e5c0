//! Checks of every request before any route sees it: its host name, its token, and how many there are.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::header::HOST;
use axum::http::{HeaderMap, Method, Uri};

use super::answer::Refusal;
use super::tokens::{Right, Tokens};

/// Requests a second that are answered for one kind of token, and how many more at once. A person with a page
/// sends a few; the bound keeps a script that went wild from taking the stores' time.
const READS_PER_S: f64 = 500.0;
const ACTS_PER_S: f64 = 50.0;
/// Seconds' worth of requests that may come at once.
const BURST_S: f64 = 4.0;

/// Asks of every request what must hold.
#[derive(Debug)]
pub(crate) struct Guard {
    tokens: Tokens,
    /// Names this daemon goes by besides addresses; `None` where any is taken.
    hosts: Option<Vec<String>>,
    reads: Bucket,
    acts: Bucket,
}

impl Guard {
    /// Makes a guard of a daemon. On a loopback address only names of this machine and `hosts` are taken: a
    /// page of another site can have its own name lead here (DNS rebinding), but it cannot choose what the
    /// browser sends as the name.
    pub(crate) fn new(tokens: Tokens, is_loopback: bool, hosts: &[String]) -> Self {
        let names = || hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self {
            tokens,
            hosts: (is_loopback || !hosts.is_empty()).then(names),
            reads: Bucket::new(READS_PER_S),
            acts: Bucket::new(ACTS_PER_S),
        }
    }

    /// Returns what the request may do; `None` for routes that need no token.
    pub(crate) fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<Right>, Refusal> {
        let right = match is_protected(uri.path()) {
            false => None,
            true => Some(self.tokens.right_of(headers).ok_or_else(Refusal::unauthorized)?),
        };
        // A route that takes GET takes HEAD as well, and one alias acts by GET: who asks for a head alone
        // wants nothing done.
        if method == Method::HEAD && uri.path().starts_with("/api/") {
            return Err(Refusal::method_not_allowed());
        }
        if !self.is_ours(uri, headers) {
            return Err(Refusal::wrong_host());
        }
        let is_read = method == Method::GET || method == Method::HEAD;
        if right.is_some() && !(if is_read { &self.reads } else { &self.acts }).take() {
            return Err(Refusal::rate_limited());
        }
        Ok(right)
    }

    fn is_ours(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(names) = &self.hosts else { return true };
        let mut sent = headers.get_all(HOST).iter();
        let by_header = sent.next().map(|value| value.to_str().unwrap_or_default());
        if sent.next().is_some() {
            return false;
        }
        // Either may be sent, and each one that is must be ours.
        let by_uri = uri.authority().map(|authority| authority.as_str());
        let all = [by_header, by_uri];
        let mut given = all.into_iter().flatten().peekable();
        given.peek().is_some() && given.all(|host| is_named(host, names))
    }
}

/// Tells whether a path needs a token. A path that merely begins like one of these does not exist, and needs
/// one too.
fn is_protected(path: &str) -> bool {
    const PROTECTED: [&str; 3] = ["/v1", "/api", "/dual-write"];
    PROTECTED
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn is_named(host: &str, names: &[String]) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    let loopback = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || name == "localhost" || names.contains(&name)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// A bucket of requests, filled at a rate.
#[derive(Debug)]
struct Bucket {
    per_s: f64,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(per_s: f64) -> Self {
        Self { per_s, state: Mutex::new((per_s * BURST_S, Instant::now())) }
    }

    fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let filled = (state.0 + (now - state.1).as_secs_f64() * self.per_s).min(self.per_s * BURST_S);
        let has_one = filled >= 1.0;
        *state = (if has_one { filled - 1.0 } else { filled }, now);
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(host: &str) -> bool {
        let tokens = Tokens::new("operate-operate-1", None).expect("a token");
        let guard = Guard::new(tokens, true, &["Ops.Example".to_owned()]);
        let headers = HeaderMap::from_iter([(HOST, host.parse().expect("a header"))]);
        guard.is_ours(&Uri::from_static("/"), &headers)
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_and_the_configured_ones_are_taken() {
        for ours in [
            "127.0.0.1",
            "127.0.0.1:7420",
            "localhost:1",
            "LOCALHOST",
            "[::1]:7420",
            "[::1]",
            "ops.example:443",
        ] {
            assert!(is_taken(ours), "{ours}");
        }
        for other in [
            "evil.example",
            "evil.example:7420",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "::1:x",
        ] {
            assert!(!is_taken(other), "{other}");
        }
    }

    #[test]
    fn what_is_under_a_protected_path_needs_a_token_whether_it_exists_or_not() {
        for path in
            ["/v1", "/v1/", "/v1/status", "/v1/nothing", "/v1//", "/api/migration/x", "/dual-write/status"]
        {
            assert!(is_protected(path), "{path}");
        }
        for path in ["/", "/healthz", "/metrics", "/v10", "/app.js"] {
            assert!(!is_protected(path), "{path}");
        }
    }

    #[test]
    fn a_bucket_that_is_empty_gives_nothing_until_it_is_filled_again() {
        let bucket = Bucket::new(0.5);
        *bucket.state.lock().expect("it is ours") = (2.0, Instant::now());
        assert!(bucket.take() && bucket.take());
        assert!(!bucket.take() && !bucket.take());
    }
}
