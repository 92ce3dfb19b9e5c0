//! Bytes to messages. Both sides send a kind (one byte) and a length that counts itself; only a client's
//! first messages have no kind.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest message that is read; ours are far smaller, so a larger one means that we lost count.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Request of a client's message without a kind, by the number that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// TLS, or encryption by GSSAPI: answered with one byte.
    Encryption,
    /// Cancellation of another connection's statement; no answer.
    Cancel,
    /// A session.
    Session,
}

/// One message, whole: its kind (zero if it has none), and all of its bytes as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) bytes: Bytes,
}

impl Frame {
    /// Returns what comes after kind and length.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(if self.kind == 0 { 4 } else { 5 }..).unwrap_or_default()
    }

    /// Returns what a message without a kind asks for.
    pub(super) fn opening(&self) -> Opening {
        match self.body().first_chunk().map(|number| i32::from_be_bytes(*number)) {
            Some(80_877_103 | 80_877_104) => Opening::Encryption,
            Some(80_877_102) => Opening::Cancel,
            _ => Opening::Session,
        }
    }
}

/// Reads messages. Cancel safe: what has been read of one is kept.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    read: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, read: BytesMut::new() }
    }

    /// The next message; `None` where the other side ended.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        self.take(true).await
    }

    /// The next message of a client that has no session yet.
    pub(super) async fn next_without_kind(&mut self) -> io::Result<Option<Frame>> {
        self.take(false).await
    }

    async fn take(&mut self, has_kind: bool) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = split_off(&mut self.read, has_kind)? {
                return Ok(Some(frame));
            }
            if self.reader.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Takes the first message out of what has been read, if all of it is there.
fn split_off(read: &mut BytesMut, has_kind: bool) -> io::Result<Option<Frame>> {
    let header = usize::from(has_kind);
    let Some(mut length) = read.get(header..header + 4) else { return Ok(None) };
    let length = length.get_u32() as usize;
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    if read.len() < header + length {
        return Ok(None);
    }
    let bytes = read.split_to(header + length).freeze();
    Ok(Some(Frame { kind: if has_kind { bytes[0] } else { 0 }, bytes }))
}

/// An error as a server sends it.
pub(super) fn error(code: &str) -> Frame {
    let fields = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', code), (b'M', "refused by the proxy")];
    let mut body: Vec<u8> =
        fields.iter().flat_map(|(field, text)| [&[*field], text.as_bytes(), &[0]].concat()).collect();
    body.push(0);
    frame(b'E', &body)
}

/// A query that runs nothing.
pub(super) fn empty_query() -> Frame {
    frame(b'Q', &[0])
}

/// A message of this kind.
pub(super) fn frame(kind: u8, body: &[u8]) -> Frame {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    Frame { kind, bytes: bytes.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that hands out `piece` bytes at a time.
    async fn read_in_pieces(bytes: Vec<u8>, piece: usize) -> Vec<Frame> {
        let (mut near, far) = tokio::io::duplex(piece);
        let writing =
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut near, &bytes).await });
        let mut frames = Frames::new(far);
        let mut found = Vec::new();
        while let Some(frame) = frames.next().await.expect("messages") {
            found.push(frame);
        }
        writing.await.expect("no panic").expect("written");
        found
    }

    #[tokio::test]
    async fn messages_are_found_wherever_the_network_cuts_them() {
        let sent = [frame(b'Q', b"COMMIT\0"), frame(b'S', b""), frame(b'd', &[7; 100])];
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
        for piece in 1..=bytes.len() {
            assert_eq!(read_in_pieces(bytes.clone(), piece).await, sent, "{piece} bytes at a time");
        }
    }

    #[tokio::test]
    async fn the_end_in_the_middle_of_a_message_is_the_end() {
        let mut bytes = frame(b'Q', b"COMMIT\0").bytes.to_vec();
        bytes.truncate(9);
        assert_eq!(read_in_pieces(bytes, 4).await, []);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for length in [0_u32, 3, u32::MAX] {
            let mut bytes = BytesMut::from(&[&[b'Q'][..], &length.to_be_bytes()].concat()[..]);
            assert!(split_off(&mut bytes, true).is_err(), "{length}");
        }
    }

    #[test]
    fn a_clients_first_messages_say_what_they_want() {
        let opening = |number: i32| {
            let mut bytes = BytesMut::from(&[&8_u32.to_be_bytes()[..], &number.to_be_bytes()].concat()[..]);
            split_off(&mut bytes, false).expect("a message").expect("whole").opening()
        };
        assert_eq!(opening(80_877_103), Opening::Encryption);
        assert_eq!(opening(80_877_104), Opening::Encryption);
        assert_eq!(opening(80_877_102), Opening::Cancel);
        assert_eq!(opening(196_608), Opening::Session);
    }
}
