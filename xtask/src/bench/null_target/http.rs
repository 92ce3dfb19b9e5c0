//! Part of HTTP/1.1 that a well-behaved peer needs: a head, a length, a body.

use std::io::{Error, ErrorKind, Result};

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Size of the buffer that a connection reads into, and at the same time of the longest head it accepts. A
/// batch of 25 items of 1 KB and its head fit, so the usual request takes one read.
pub(in super::super) const BUFFER_BYTES: usize = 64 << 10;

/// The beginning of a message, up to and with its empty line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Head {
    pub(in super::super) bytes: usize,
    pub(in super::super) content_bytes: u64,
}

/// Reads until the buffer holds a whole head. `filled` bytes are in it already and the new count is returned
/// with the head; `None` if the peer ended the connection between two messages.
pub(in super::super) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    mut filled: usize,
) -> Result<Option<(Head, usize)>> {
    let mut searched = 0;
    loop {
        // The empty line may have been cut in two by the last read.
        let from = usize::saturating_sub(searched, 3);
        if let Some(end) = memmem::find(&buffer[from..filled], b"\r\n\r\n") {
            let bytes = from + end + 4;
            return Ok(Some((Head { bytes, content_bytes: content_bytes(&buffer[..bytes])? }, filled)));
        }
        searched = filled;
        if filled == buffer.len() {
            return Err(Error::new(ErrorKind::InvalidData, "the head does not fit into the buffer"));
        }
        match stream.read(&mut buffer[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
}

/// The value of a header, whatever the case of its name. `head` ends with an empty line.
pub(in super::super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, next) = rest.split_at(end + 1);
        rest = next;
        if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
            return Some(line[name.len() + 1..].trim_ascii());
        }
    }
    None
}

fn content_bytes(head: &[u8]) -> Result<u64> {
    let length = header(head, "content-length").and_then(|value| std::str::from_utf8(value).ok());
    let length = length.and_then(|value| value.parse().ok());
    length.ok_or_else(|| Error::new(ErrorKind::InvalidData, "a message without a content-length"))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    /// A peer whose every segment holds the given number of bytes.
    struct Segments<'a>(&'a [u8], usize);

    impl AsyncRead for Segments<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()).min(buffer.remaining()));
            buffer.put_slice(now);
            self.0 = later;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_head_is_found_wherever_the_reads_cut_it() {
        let message =
            b"POST / HTTP/1.1\r\nX-Amz-TARGET: DynamoDB_20120810.PutItem\r\ncontent-Length:2\r\n\r\n{}";
        for segment in 1..=message.len() {
            let mut buffer = [0; 256];
            let mut peer = Segments(message, segment);
            let (head, filled) = read_head(&mut peer, &mut buffer, 0).await.expect("reads").expect("a head");
            assert_eq!(head, Head { bytes: message.len() - 2, content_bytes: 2 }, "{segment} bytes at once");
            assert!(filled >= head.bytes && buffer[..filled] == message[..filled]);
            assert_eq!(
                header(&buffer[..head.bytes], "x-amz-target"),
                Some(&b"DynamoDB_20120810.PutItem"[..])
            );
        }
    }

    #[tokio::test]
    async fn only_an_end_between_messages_is_an_end() {
        let mut buffer = [0; 64];
        assert_eq!(read_head(&mut Segments(b"", 1), &mut buffer, 0).await.expect("reads"), None);
        for broken in [
            &b"POST / HT"[..],
            b"POST / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            &[b'a'; 65],
        ] {
            assert!(read_head(&mut Segments(broken, 7), &mut buffer, 0).await.is_err());
        }
    }

    #[test]
    fn a_header_is_matched_by_its_whole_name() {
        let head =
            b"POST / HTTP/1.1\r\nx-content-length: 1\r\ncontent-length-x: 2\r\nCONTENT-LENGTH:  3 \r\n\r\n";
        assert_eq!(header(head, "content-length"), Some(&b"3"[..]));
        assert_eq!(header(head, "host"), None);
    }
}
