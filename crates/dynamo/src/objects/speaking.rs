//! Requests to a bucket, each one try.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lockstep_core::Advice::{TargetRegion, TargetS3Endpoint};
use lockstep_core::{Error, Kind, Result};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};

use super::bounds::{path_of, within};
use super::fault::{error, invalid};
use super::stream::ObjectReader;
use super::wire::Wire;
use super::{Bucket, Object};
use crate::Target;

/// Longest text that is read at once: the manifest of an export of 10⁶ files.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// Bytes a second below which a connection counts as dead.
const SLOWEST_BYTES_PER_S: u64 = 128 << 10;

impl Target {
    /// Opens a bucket, by the credentials of this target. Nothing is sent yet. With `owner`, an account,
    /// S3 refuses each request where the bucket is another one's: the name of a bucket is its first
    /// maker's, and rows are written to it.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where no region is known, or an emulator has no S3.
    #[crate::boxed]
    pub async fn bucket(&self, name: &str, owner: Option<String>) -> Result<Bucket> {
        let doing = format!("opening s3://{name}");
        let misconfigured = |why: String| Error::target(Kind::Misconfigured, &doing, why);
        let options = &self.options;
        if options.emulator_credentials && options.s3_endpoint_url.is_none() {
            return Err(misconfigured(format!("an emulator of DynamoDB has no S3: set {TargetS3Endpoint}")));
        }
        let region = options.s3_region.clone().or_else(|| self.region());
        let region =
            region.ok_or_else(|| misconfigured(format!("no region is known: set {TargetRegion}")))?;
        let endpoint = match &options.s3_endpoint_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if region.starts_with("cn-") => format!("https://s3.{region}.amazonaws.com.cn"),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let wire = Wire::new(&self.shared, options, &endpoint, &region, owner).map_err(misconfigured)?;
        let store = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(region)
            .with_endpoint(endpoint)
            // It is signed by what signs everything else.
            .with_skip_signature(true)
            .with_allow_http(true)
            // The caller decides by the kind of the error, as for every request.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(wire)
            .build()
            .map_err(|e| misconfigured(e.to_string()))?;
        let request_timeout = options.request_timeout;
        Ok(Bucket { name: name.to_owned(), store: Arc::new(store), request_timeout })
    }
}

impl Bucket {
    /// Puts an object and returns the mark of its content.
    ///
    /// # Errors
    /// S3's. [`Kind::Denied`] and [`Kind::Misconfigured`] say which right, bucket or region it is.
    ///
    /// # Cancel safety
    /// It is there whole or not at all; repeat it.
    #[crate::boxed]
    pub async fn put(&self, key: &str, body: Bytes) -> Result<Option<String>> {
        let doing = format!("writing {}", self.url(key));
        let longest = self.longest(body.len() as u64);
        let path = path_of(key, &doing)?;
        let putting = self.store.put(&path, body.into());
        Ok(within(longest, &doing, putting).await?.map_err(|e| error(&doing, "s3:PutObject", &e))?.e_tag)
    }

    /// Lists everything below a prefix.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    #[crate::boxed]
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let doing = format!("listing {}", self.url(prefix));
        let path = path_of(prefix, &doing)?;
        let mut pages = self.store.list(Some(&path));
        let mut found = Vec::new();
        while let Some(object) = within(self.request_timeout, &doing, pages.try_next())
            .await?
            .map_err(|e| error(&doing, "s3:ListBucket", &e))?
        {
            let key = object.location.as_ref();
            let name = key.strip_prefix(path.as_ref()).unwrap_or(key).trim_start_matches('/');
            found.push(Object { name: name.to_owned(), bytes: object.size, e_tag: object.e_tag });
        }
        Ok(found)
    }

    /// Removes an object; one that is not there is removed.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    #[crate::boxed]
    pub async fn remove(&self, key: &str) -> Result<()> {
        let doing = format!("removing {}", self.url(key));
        let path = path_of(key, &doing)?;
        let removing = self.store.delete(&path);
        within(self.request_timeout, &doing, removing)
            .await?
            .map_err(|e| error(&doing, "s3:DeleteObject", &e))
    }

    /// Reads an object of text.
    ///
    /// # Errors
    /// As [`Bucket::put`]; [`Kind::Misconfigured`] where there is none.
    #[crate::boxed]
    pub async fn text(&self, key: &str) -> Result<String> {
        let doing = format!("reading {}", self.url(key));
        let path = path_of(key, &doing)?;
        let failed = |e: object_store::Error| error(&doing, "s3:GetObject", &e);
        let got = within(self.request_timeout, &doing, self.store.get(&path)).await?.map_err(failed)?;
        if got.meta.size > TEXT_BYTES_MAX {
            return Err(invalid(&doing, format!("it has {} bytes, and is no manifest", got.meta.size)));
        }
        let longest = self.longest(got.meta.size);
        let bytes = within(longest, &doing, got.bytes()).await?.map_err(failed)?;
        String::from_utf8(bytes.into()).map_err(|_| invalid(&doing, "it is not UTF-8"))
    }

    /// Returns a reader of an object, for a thread that may wait.
    pub(crate) fn reader(&self, key: &str) -> ObjectReader {
        ObjectReader::new(self.store.clone(), self.url(key), key, self.request_timeout)
    }

    fn longest(&self, bytes: u64) -> Duration {
        self.request_timeout + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S)
    }
}
