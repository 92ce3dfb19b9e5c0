//! Meaning of an answer of S3 (Amazon S3 API Reference, "Error responses").

use aws_smithy_runtime_api::box_error::BoxError;
use lockstep_core::Advice::TargetS3Region;
use lockstep_core::{Error, Kind};

use crate::fault::{advised, of_credentials, of_token};

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct Answer {
    status: u16,
    code: String,
    message: String,
    /// Region of the bucket, where S3 says it.
    region: Option<String>,
}

/// A request that was not sent: it has no credentials, or cannot be signed.
#[derive(Debug, thiserror::Error)]
#[error("nothing was sent")]
pub(super) struct NotSent(#[source] pub(super) BoxError);

/// Codes of answers after which the same request may be taken: S3 is busy, or did not get all of it.
const AGAIN: [&str; 7] = [
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "OperationAborted",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
];

/// Codes that a bucket of another region answers with.
const OTHER_REGION: [&str; 5] = [
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegion",
];

impl Answer {
    pub(super) fn of(status: u16, body: &str, region: Option<String>) -> Self {
        let code = between(body, "Code").map_or_else(|| format!("status {status}"), str::to_owned);
        let message = between(body, "Message").unwrap_or("S3 says no more").to_owned();
        let region = region.or_else(|| between(body, "Region").map(str::to_owned));
        Self { status, code, message, region }
    }

    fn kind(&self) -> Kind {
        let code = self.code.as_str();
        match self.status {
            _ if code == "SlowDown" || self.status == 429 => Kind::Throttled,
            _ if AGAIN.contains(&code) => Kind::Unavailable,
            401 | 403 => Kind::Denied,
            500 | 502 | 503 | 504 => Kind::Unavailable,
            301 | 307 | 400 | 404 | 405 | 412 | 416 => Kind::Misconfigured,
            // Of an answer that is not known nothing is concluded (I18).
            _ => Kind::Unknown,
        }
    }

    /// Says what it means. Where the bucket is another account's, S3 denies it, and says no more.
    fn said(&self, right: &str) -> String {
        match self.kind() {
            Kind::Denied => format!(
                "{self}: these credentials need {right} there, and the bucket has to be of the account that \
                 is expected"
            ),
            Kind::Misconfigured if matches!(self.status, 412 | 416) => {
                format!("{self}: the object was changed while it was read")
            }
            Kind::Misconfigured if self.code == "NoSuchBucket" => format!("{self}: there is no such bucket"),
            Kind::Misconfigured if OTHER_REGION.contains(&self.code.as_str()) => {
                let region = self.region.as_deref().unwrap_or("another one");
                format!("{self}: the region of the bucket is {region}; set {TargetS3Region}")
            }
            _ => self.to_string(),
        }
    }
}

fn between<'a>(body: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
}

pub(super) fn invalid(doing: &str, why: impl Into<String>) -> Error {
    Error::target(Kind::Misconfigured, doing, why)
}

/// Makes an error of what came of a request. `right` is what the request needs.
pub(super) fn error(doing: &str, right: &str, found: &object_store::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(found);
    let mut last = found.to_string();
    while let Some(now) = cause {
        if let Some(answer) = now.downcast_ref::<Answer>() {
            return Error::target(answer.kind(), doing, answer.said(right));
        }
        if let Some(NotSent(why)) = now.downcast_ref::<NotSent>() {
            let why: &(dyn std::error::Error + 'static) = why.as_ref();
            let kind = of_token(why).or_else(|| of_credentials(why)).unwrap_or(Kind::Misconfigured);
            return Error::target(kind, doing, advised(kind, why));
        }
        last = now.to_string();
        cause = now.source();
    }
    // A connection that was refused or cut, or an answer that does not read: either may be another one next
    // time.
    Error::target(Kind::Unavailable, doing, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_tried_again_or_says_what_to_do() {
        let xml = |code: &str| {
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
        };
        for (status, code, kind, said) in [
            (503, "SlowDown", Kind::Throttled, "SlowDown"),
            (503, "ServiceUnavailable", Kind::Unavailable, "m"),
            (500, "InternalError", Kind::Unavailable, "m"),
            (400, "RequestTimeout", Kind::Unavailable, "m"),
            (400, "XAmzContentSHA256Mismatch", Kind::Unavailable, "m"),
            (403, "AccessDenied", Kind::Denied, "s3:PutObject"),
            (403, "ExpiredToken", Kind::Denied, "ExpiredToken"),
            (404, "NoSuchBucket", Kind::Misconfigured, "no such bucket"),
            (301, "PermanentRedirect", Kind::Misconfigured, "target.s3_region"),
            (400, "AuthorizationHeaderMalformed", Kind::Misconfigured, "eu-west-1"),
            (412, "PreconditionFailed", Kind::Misconfigured, "was changed"),
            (416, "InvalidRange", Kind::Misconfigured, "was changed"),
            (418, "New", Kind::Unknown, "New"),
        ] {
            let answer = Answer::of(status, &xml(code), Some("eu-west-1".to_owned()));
            assert_eq!(answer.kind(), kind, "{code}");
            let text = answer.said("s3:PutObject");
            let text = text.replace(&TargetS3Region.to_string(), "target.s3_region");
            assert!(text.contains(said), "{said}: {text}");
        }
        assert_eq!(Answer::of(502, "<html>", None).kind(), Kind::Unavailable, "of something in between");
    }
}
