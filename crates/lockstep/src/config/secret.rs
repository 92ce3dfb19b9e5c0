//! A URL whose password is never shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A URL that may carry a password. Shown and serialised, the password is masked; only [`SecretUrl::expose`]
/// has it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Returns the URL as it is, for the driver only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl FromStr for SecretUrl {
    type Err = std::convert::Infallible;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self(url.to_owned()))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_passwords(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Masks the password of every URL in `text`, whether in its authority (`//user:password@`) or as a parameter
/// (`password=`). A parser's error quotes the line it fails on, so whole messages go through here too.
pub fn mask_passwords(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        masked.push_str(head);
        // A password may itself hold `/`, `?`, `#` or `@` if it was not encoded, so it goes up to the last
        // `@` of the word.
        let word = &tail
            [..tail.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(tail.len())];
        rest = tail;
        if let Some(end) = word.rfind('@') {
            let user = word[..end].split(':').next().unwrap_or_default();
            masked.push_str(user);
            if user.len() < end {
                masked.push_str(":***");
            }
            rest = &tail[end..];
        }
    }
    masked.push_str(rest);
    mask_parameter(&masked)
}

fn mask_parameter(text: &str) -> String {
    const PARAMETER: &str = "password=";
    let mut parts = text.split(PARAMETER);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(PARAMETER);
        masked.push_str("***");
        let end = part
            .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '`'))
            .unwrap_or(part.len());
        masked.push_str(&part[end..]);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_ever_shown() {
        for (text, shown) in [
            ("postgres://app:s3cret@db:5432/loans", "postgres://app:***@db:5432/loans"),
            ("postgres://app:a/b@c?d@db/loans", "postgres://app:***@db/loans"),
            ("postgres://app@db/loans", "postgres://app@db/loans"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            (
                "postgres://db/loans?user=app&password=s3cret&sslmode=require",
                "postgres://db/loans?user=app&password=***&sslmode=require",
            ),
            (
                "line 3: url = \"postgres://u:p@h/d\" and postgres://v:q@i/e",
                "line 3: url = \"postgres://u:***@h/d\" and postgres://v:***@i/e",
            ),
        ] {
            assert_eq!(mask_passwords(text), shown);
            assert_eq!(format!("{:?}", SecretUrl(text.to_owned())), shown);
            let json = serde_json::to_string(&SecretUrl(text.to_owned())).expect("a string");
            assert!(!json.contains("s3cret"), "{json}");
        }
    }
}
