//! The same in a build without S3: no bucket is opened.

use bytes::Bytes;
use lockstep_core::{Error, Kind, Result};

use super::{Bucket, Object};
use crate::Target;

impl Target {
    /// Opens a bucket, by the credentials of this target.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`]: this build does not speak to S3.
    #[allow(clippy::unused_async)] // as with the feature
    pub async fn bucket(&self, name: &str, _owner: Option<String>) -> Result<Bucket> {
        let why = "this program was built without S3 (the feature `s3`); the released one has it";
        Err(Error::target(Kind::Misconfigured, format!("opening s3://{name}"), why))
    }
}

#[allow(clippy::unused_async)] // as with the feature
impl Bucket {
    fn closed<T>(&self, key: &str) -> Result<T> {
        Err(Error::target(Kind::Misconfigured, self.url(key), "this program was built without S3"))
    }

    /// See the build with the feature `s3`: no bucket is opened without it.
    ///
    /// # Errors
    /// Always.
    pub async fn put(&self, key: &str, _body: Bytes) -> Result<Option<String>> {
        self.closed(key)
    }

    /// As [`Bucket::put`].
    ///
    /// # Errors
    /// Always.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        self.closed(prefix)
    }

    /// As [`Bucket::put`].
    ///
    /// # Errors
    /// Always.
    pub async fn remove(&self, key: &str) -> Result<()> {
        self.closed(key)
    }

    /// As [`Bucket::put`].
    ///
    /// # Errors
    /// Always.
    pub async fn text(&self, key: &str) -> Result<String> {
        self.closed(key)
    }

    /// As [`Bucket::put`].
    pub(crate) fn reader(&self, _key: &str) -> std::io::Empty {
        std::io::empty()
    }
}
