//! Objects in S3: parts of an import on their way there, and files of an export.
//!
//! In reading order: this file, `speaking` (what is asked of a bucket), `wire` (how a request is signed and
//! sent), `fault` (what an answer means), `bounds`, `stream` (an object that is read as a file is). Without
//! the feature `s3` there is `closed` instead: no bucket is opened, and everything else is as it is with it.
//!
//! A key is written once: the name of a part has the lease in it that it was written under. So a request
//! whose answer was lost is repeated, and an object is whole or not there (S3 makes it with its last byte).

#[cfg(feature = "s3")]
mod bounds;
#[cfg(not(feature = "s3"))]
mod closed;
#[cfg(feature = "s3")]
mod fault;
#[cfg(feature = "s3")]
mod speaking;
#[cfg(feature = "s3")]
mod stream;
#[cfg(feature = "s3")]
mod wire;

/// Whether this build speaks to S3.
pub const SPEAKS_S3: bool = cfg!(feature = "s3");

/// An object, as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Name of it below the prefix that was asked for.
    pub name: String,
    /// Bytes of it.
    pub bytes: u64,
    /// The mark of its content that S3 gave it.
    pub e_tag: Option<String>,
}

/// A bucket of S3; cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: String,
    #[cfg(feature = "s3")]
    store: std::sync::Arc<object_store::aws::AmazonS3>,
    #[cfg(feature = "s3")]
    request_timeout: std::time::Duration,
}

/// Splits `s3://bucket/prefix` into its bucket and what names in it begin with; `None` for another URL.
pub fn bucket_and_prefix(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, prefix))
}

impl Bucket {
    /// Returns the URL of a key, for messages.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_s3_has_a_bucket_and_maybe_a_prefix() {
        for (url, expected) in [
            ("s3://bucket/a/b", Some(("bucket", "a/b"))),
            ("s3://bucket", Some(("bucket", ""))),
            ("s3://bucket/", Some(("bucket", ""))),
            ("s3:///a", None),
            ("https://bucket/a", None),
            ("folder", None),
        ] {
            assert_eq!(bucket_and_prefix(url), expected, "{url}");
        }
    }
}
