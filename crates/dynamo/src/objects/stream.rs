//! An object that is read as a file is: by a thread that may wait, in order, and whole. A connection that is
//! cut is opened again where it ended, for the same content.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::stream::{BoxStream, StreamExt};
use lockstep_core::{Error, Kind, Result, Retry};
use object_store::aws::AmazonS3;
use object_store::{GetOptions, GetRange, ObjectStore};
use tokio::runtime::Handle;

use super::bounds::{path_of, within};
use super::fault::error;
use crate::Backoff;

/// A reader of one object. It is made within a runtime, and read outside of its threads.
pub(crate) struct ObjectReader {
    store: Arc<AmazonS3>,
    url: String,
    key: String,
    longest: Duration,
    runtime: Handle,
    /// Bytes that were handed over.
    at: u64,
    opened: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    /// Bytes of all of it, once that is known.
    ends_at: Option<u64>,
    rest: Bytes,
    /// Mark of the content, once it is known.
    e_tag: Option<String>,
}

impl ObjectReader {
    pub(super) fn new(store: Arc<AmazonS3>, url: String, key: &str, longest: Duration) -> Self {
        let runtime = Handle::current();
        let (key, rest) = (key.to_owned(), Bytes::new());
        Self { store, url, key, longest, runtime, at: 0, opened: None, ends_at: None, rest, e_tag: None }
    }

    async fn open(&mut self) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        let doing = format!("reading {}", self.url);
        let path = path_of(&self.key, &doing)?;
        let range = (self.at > 0).then_some(GetRange::Offset(self.at));
        let options = GetOptions { range, if_match: self.e_tag.clone(), ..GetOptions::default() };
        let asked = within(self.longest, &doing, self.store.get_opts(&path, options)).await?;
        let got = asked.map_err(|e| error(&doing, "s3:GetObject", &e))?;
        self.e_tag = self.e_tag.take().or_else(|| got.meta.e_tag.clone());
        self.ends_at = Some(got.meta.size);
        Ok(got.into_stream())
    }

    /// Returns what comes next; nothing at the end.
    async fn next(&mut self) -> Result<Bytes> {
        let doing = format!("reading {}", self.url);
        // Who reads asks again at the end, and there is nothing behind it to ask S3 for.
        if self.ends_at == Some(self.at) {
            return Ok(Bytes::new());
        }
        let mut pages = match self.opened.take() {
            Some(pages) => pages,
            None => self.open().await?,
        };
        let page = within(self.longest, &doing, pages.next()).await?;
        let page = page.transpose().map_err(|e| error(&doing, "s3:GetObject", &e))?;
        match page {
            Some(page) => {
                self.at += page.len() as u64;
                self.opened = Some(pages);
                Ok(page)
            }
            None if self.ends_at == Some(self.at) => Ok(Bytes::new()),
            None => {
                let why = format!("it ended after {} bytes, before its end", self.at);
                Err(Error::target(Kind::Unavailable, doing, why))
            }
        }
    }

    /// As [`ObjectReader::next`], over an outage of some minutes.
    async fn next_in_time(&mut self) -> Result<Bytes> {
        let mut backoff = Backoff::patient();
        loop {
            match self.next().await {
                Err(error) if error.kind.retry() != Retry::Never => backoff.pause(error).await?,
                other => return other,
            }
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let runtime = self.runtime.clone();
            self.rest = runtime.block_on(self.next_in_time()).map_err(io::Error::other)?;
            if self.rest.is_empty() {
                return Ok(0);
            }
        }
        let taken = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}
