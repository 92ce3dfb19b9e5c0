//! The two tokens. The daemon keeps a keyed hash of each, and compares what is sent with it in constant time.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use ring::hmac;
use ring::rand::SystemRandom;

/// Right that a token gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Right to look.
    Read,
    /// Right to look and to act.
    Operate,
}

/// The tokens that are ours.
pub struct Tokens {
    key: hmac::Key,
    read: Option<hmac::Tag>,
    operate: hmac::Tag,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// Shorter ones can be guessed.
pub const TOKEN_CHARS_MIN: usize = 16;

impl Tokens {
    /// Tokens that allow to act, and to look only.
    ///
    /// # Errors
    /// A sentence, for tokens that are too short, the same, or that no header can hold; it names no part of
    /// them.
    pub fn new(operate: &str, read: Option<&str>) -> Result<Self, String> {
        for token in read.into_iter().chain([operate]) {
            if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(format!(
                    "a token has at least {TOKEN_CHARS_MIN} visible ASCII characters and no spaces; make one with `openssl rand -hex 32`"
                ));
            }
        }
        if read == Some(operate) {
            return Err(
                "the read token and the operate token are the same: a client that may only read could act"
                    .to_owned(),
            );
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "the system gave no random numbers".to_owned())?;
        let tag = |token: &str| hmac::sign(&key, token.as_bytes());
        Ok(Self { read: read.map(tag), operate: tag(operate), key })
    }

    /// Returns the right of the token of a request; `None` where there is none of ours. Both are always
    /// compared.
    pub(crate) fn right_of(&self, headers: &HeaderMap) -> Option<Right> {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (first, more) = (sent.next()?, sent.next());
        let (scheme, token) = first.to_str().ok()?.split_once(' ')?;
        if more.is_some() || !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let token = token.trim().as_bytes();
        let operates = hmac::verify(&self.key, token, self.operate.as_ref()).is_ok();
        let reads =
            self.read.as_ref().is_some_and(|read| hmac::verify(&self.key, token, read.as_ref()).is_ok());
        match (operates, reads) {
            (true, _) => Some(Right::Operate),
            (_, true) => Some(Right::Read),
            _ => None,
        }
    }
}

/// Returns a token by chance, of 43 characters.
#[must_use]
pub fn random_token() -> String {
    const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let bytes: [u8; 43] = rand::random();
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn right(tokens: &Tokens, sent: &[&str]) -> Option<Right> {
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
        }
        tokens.right_of(&headers)
    }

    #[test]
    fn only_one_of_our_tokens_sent_as_bearer_opens_anything() {
        let tokens = Tokens::new("operate-operate-1", Some("read-read-read-12")).expect("good tokens");
        assert_eq!(right(&tokens, &["Bearer operate-operate-1"]), Some(Right::Operate));
        assert_eq!(right(&tokens, &["bearer read-read-read-12"]), Some(Right::Read));
        for wrong in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["operate-operate-1"],
            &["Basic operate-operate-1"],
            &["Bearer operate-operate-"],
            &["Bearer operate-operate-12"],
            &["Bearer operate-operate-1", "Bearer operate-operate-1"],
        ] {
            assert_eq!(right(&tokens, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused_and_not_repeated() {
        for (operate, read) in
            [("short", None), ("with a space in it", None), ("long-enough-token", Some("long-enough-token"))]
        {
            let refused = Tokens::new(operate, read).expect_err("it is refused");
            assert!(!refused.contains(operate), "{refused}");
        }
        assert_ne!(random_token(), random_token());
        assert!(Tokens::new(&random_token(), Some(&random_token())).is_ok());
    }
}
