//! One connection: read a head, let the body go by, answer; again.

use std::io::{ErrorKind, Result};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::NullTarget;
use super::answers::{NEEDLE_BYTES_MAX, Operation};
use super::http::{self, BUFFER_BYTES};

/// Converses until the peer ends it, or says something that we do not understand; either way there is no peer
/// to tell.
pub(super) async fn converse(mut stream: TcpStream, target: Arc<NullTarget>) {
    // Without it an answer may wait for a delayed acknowledgement, and the measurement is of that.
    if stream.set_nodelay(true).is_ok() {
        let mut connection = Connection { stream: &mut stream, buffer: vec![0; BUFFER_BYTES], filled: 0 };
        while let Ok(true) = connection.exchange(&target).await {}
    }
}

struct Connection<'a> {
    stream: &'a mut TcpStream,
    buffer: Vec<u8>,
    // These bytes were read beyond the last request: the beginning of the next.
    filled: usize,
}

impl Connection<'_> {
    /// Takes one request and answers it; `false` if the peer has no more.
    async fn exchange(&mut self, target: &NullTarget) -> Result<bool> {
        let Some((head, filled)) = http::read_head(self.stream, &mut self.buffer, self.filled).await? else {
            return Ok(false);
        };
        let name = http::header(&self.buffer[..head.bytes], "x-amz-target").unwrap_or_default();
        let operation = Operation::of(name);
        // Only writes are worth replaying.
        let capture = operation.writes() && target.captured.reserve(operation);
        let keep = capture || operation.is_answered_by_body();
        let mut kept = if keep { self.buffer[..head.bytes].to_vec() } else { Vec::new() };
        self.buffer.copy_within(head.bytes..filled, 0);
        let body = Body { bytes: head.content_bytes, kept: keep.then_some(&mut kept) };
        let items = operation.items() + self.drain(body, filled - head.bytes, target, operation).await?;
        target.counters.add(items, head.content_bytes);
        let answer = target.answers.answer(operation, kept.get(head.bytes..).unwrap_or_default(), items);
        if capture {
            target.captured.keep(kept);
        }
        if !target.latency.is_zero() {
            tokio::time::sleep(target.latency).await;
        }
        self.stream.write_all(&answer).await?;
        Ok(true)
    }

    /// Lets the body go by, and counts the needles in it. `filled` bytes are in the buffer already.
    async fn drain(
        &mut self,
        body: Body<'_>,
        filled: usize,
        target: &NullTarget,
        operation: Operation,
    ) -> Result<u64> {
        let finders = target.answers.finders.of(operation);
        let Body { bytes: mut missing, mut kept } = body;
        let mut found = 0;
        // The buffer is: the end of what was searched, in case a needle was cut; then what is new.
        let (mut carried, mut filled) = (0, filled);
        loop {
            let new = usize::try_from(missing).unwrap_or(usize::MAX).min(filled - carried);
            let end = carried + new;
            missing -= new as u64;
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&self.buffer[carried..end]);
            }
            for finder in finders {
                // The part that was searched before holds whole needles too if they are shorter than what is
                // carried: it is not searched again.
                let from = carried.saturating_sub(finder.needle().len() - 1);
                found += finder.find_iter(&self.buffer[from..end]).count() as u64;
            }
            if missing == 0 {
                self.buffer.copy_within(end..filled, 0);
                self.filled = filled - end;
                return Ok(found);
            }
            carried = end.min(NEEDLE_BYTES_MAX - 1);
            self.buffer.copy_within(end - carried..end, 0);
            filled = carried + self.stream.read(&mut self.buffer[carried..]).await?;
            if filled == carried {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// A body on its way.
struct Body<'a> {
    bytes: u64,
    kept: Option<&'a mut Vec<u8>>,
}
