//! A connection whose client does not read ends.
//!
//! 1. A client sends request after request and reads no answer. 2. What is sent waits in the buffers of both
//! systems, and then in ours. 3. The head that would come next is not waited for, so nothing bounds it: its
//! place is taken for ever. So a write that gets nowhere is waited for only so long. One that reads slowly
//! gets on.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Longest wait for a client to take one more byte.
pub(super) const TAKE_WITHIN: Duration = Duration::from_secs(20);

/// A connection that ends where a write gets nowhere.
pub(super) struct Stalled<S> {
    stream: S,
    within: Duration,
    /// The wait of a write that gets nowhere; made once for each connection, as most never wait.
    waiting: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl<S> Stalled<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, waiting: None, waits: false }
    }

    fn judge(&mut self, context: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if written.is_ready() {
            self.waits = false;
            return written;
        }
        let until = Instant::now() + self.within;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !std::mem::replace(&mut self.waits, true) {
            waiting.as_mut().reset(until);
        }
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_hung_up_on_and_a_slow_one_is_not() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let error = Stalled::new(ours, WITHIN).write_all(b"more than fits").await.expect_err("not read");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

        let (ours, mut theirs) = tokio::io::duplex(4);
        let reading = async {
            let mut read = Vec::new();
            while read.len() < 14 {
                tokio::time::sleep(WITHIN - Duration::from_secs(1)).await;
                read.push(theirs.read_u8().await.expect("a byte"));
            }
            read
        };
        let mut ours = Stalled::new(ours, WITHIN);
        let (written, read) = tokio::join!(ours.write_all(b"more than fits"), reading);
        written.expect("each byte is taken in time");
        assert_eq!(read, b"more than fits");
    }
}
