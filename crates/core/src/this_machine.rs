//! Whether a host is the machine that asks: what goes there leaves it in no packet that another could read.

use std::net::IpAddr;

/// Tells whether `host`, as it stands in a URL, is a loopback address or `localhost`. By the whole of it:
/// `127.0.0.1.example` and `localhost.example` are names that anyone may register.
pub fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Returns the host of a URL with an authority, without user and port; in brackets as it stands there.
/// Another text is the host of no machine.
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    match place.rfind(']') {
        Some(end) if place.starts_with('[') && matches!(place.as_bytes().get(end + 1), None | Some(b':')) => {
            &place[..=end]
        }
        _ => place.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_of_a_host_is_this_machine() {
        for url in [
            "http://127.0.0.1:8000/",
            "http://127.9.9.9",
            "http://LOCALHOST:8000/path@else",
            "http://user:pass@localhost/?a@b",
            "https://[::1]:8000/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(is_this_machine(host_of(url)), "{url}");
        }
        for url in [
            "http://127.0.0.1.example:8000/",
            "http://localhost.example/",
            "http://localhost.:8000.example/",
            "http://127.0.0.1@evil.example/",
            "http://127.0.0.1:80@evil.example",
            "http://evil.example\\@127.0.0.1/",
            "http://evil.example#@127.0.0.1",
            "http://[2001:db8::1]/",
            "http://[::1].example/",
            "http://0.0.0.0/",
            "http:///",
            "",
        ] {
            assert!(!is_this_machine(host_of(url)), "{url}: {:?}", host_of(url));
        }
    }
}
