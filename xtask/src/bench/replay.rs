//! The limit: prepared requests, replayed over bare TCP.
//!
//! A backfill cannot be faster than its own requests go over the wire when nothing makes them: no rows read,
//! no items built, no signatures. That rate, on the same machine against the same target, is what ours is
//! compared with. The requests are those that the SDK sent, captured by the [null
//! target](super::null_target); their signatures are old, and it does not look.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::null_target::http::{self, BUFFER_BYTES};

/// Rates that a replay achieved.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayReport {
    /// Requests sent and answered.
    pub requests: u64,
    /// Number of those whose answer was not a 2xx. Unless this is zero, the rates are of refusals and no
    /// limit at all.
    pub refused: u64,
    /// Bytes sent, heads included.
    pub request_bytes: u64,
    /// Bytes received, heads included.
    pub response_bytes: u64,
    /// Time from the first request to the last answer; connecting is not in it.
    pub elapsed: Duration,
}

impl ReplayReport {
    /// Requests answered in a second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn requests_per_s(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes sent in a second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn bytes_per_s(&self) -> f64 {
        self.request_bytes as f64 / self.elapsed.as_secs_f64()
    }

    fn add(&mut self, other: &ReplayReport) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
    }
}

/// Sends `total` requests, taking the prepared ones in turn, over the given number of connections at once,
/// one in flight on each.
///
/// Each prepared request is a whole HTTP/1.1 request, head and body, of a connection that is kept open.
///
/// # Errors
///
/// If there is nothing to send or nothing to send it over, or a connection fails: a partial measurement is
/// none.
///
/// # Cancel safety
///
/// Dropped, it drops its connections; the requests in flight may or may not have been served.
pub async fn replay(
    address: SocketAddr,
    requests: &[Bytes],
    connections: usize,
    total: usize,
) -> Result<ReplayReport> {
    if requests.is_empty() || connections == 0 || total == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "a replay needs requests, connections and a total"));
    }
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let work = Arc::new(Work { requests: requests.to_vec(), total, next: AtomicUsize::new(0) });
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for stream in streams {
        senders.spawn(send(stream, Arc::clone(&work)));
    }
    let mut report = ReplayReport::default();
    while let Some(sent) = senders.join_next().await {
        report.add(&sent??);
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

struct Work {
    requests: Vec<Bytes>,
    total: usize,
    next: AtomicUsize,
}

impl Work {
    fn next(&self) -> Option<&Bytes> {
        let turn = self.next.fetch_add(1, Relaxed);
        (turn < self.total).then(|| &self.requests[turn % self.requests.len()])
    }
}

async fn send(mut stream: TcpStream, work: Arc<Work>) -> Result<ReplayReport> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut report = ReplayReport::default();
    while let Some(request) = work.next() {
        stream.write_all(request).await?;
        let (accepted, bytes) = receive(&mut stream, &mut buffer).await?;
        report.requests += 1;
        report.refused += u64::from(!accepted);
        report.request_bytes += request.len() as u64;
        report.response_bytes += bytes;
    }
    Ok(report)
}

/// Reads a whole answer and forgets it: whether it was a 2xx, and its length.
async fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(bool, u64)> {
    let (head, filled) = http::read_head(stream, buffer, 0).await?.ok_or(ErrorKind::UnexpectedEof)?;
    let accepted = buffer.starts_with(b"HTTP/1.1 2");
    let bytes = head.bytes as u64 + head.content_bytes;
    let Some(mut missing) = bytes.checked_sub(filled as u64) else {
        return Err(Error::new(ErrorKind::InvalidData, "more was answered than was asked"));
    };
    while missing > 0 {
        match stream.read(buffer).await? as u64 {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => {
                missing = missing
                    .checked_sub(count)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidData, "more was answered than was asked"))?;
            }
        }
    }
    Ok((accepted, bytes))
}
