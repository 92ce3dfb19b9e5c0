//! A server that gives every request one answer, to the byte: what the SDK makes of it is what ours must make
//! of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::{Target, TargetOptions};

const PATIENCE: Duration = Duration::from_secs(120);

/// Answer that is sent.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is cut.
    pub(crate) cut: Option<usize>,
    /// Headers besides the length, each with its end of line.
    pub(crate) headers: String,
}

impl Answer {
    pub(crate) fn page(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), cut: None, headers: String::new() }
    }

    /// The answer with the headers that DynamoDB gives to `whole`.
    pub(crate) fn named(mut self, whole: &str) -> Self {
        let mut sum = flate2::Crc::new();
        sum.update(whole.as_bytes());
        self.headers = format!("x-amzn-RequestId: QWERTY\r\nx-amz-crc32: {}\r\n", sum.sum());
        self
    }
}

pub(crate) struct Answering {
    pub(crate) target: Target,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Notify>,
}

impl Answering {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new(Answer::page("{}")));
        let asked = Arc::new(Notify::new());
        let (shared, told) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Head and body are two writes: the second would wait for the first to be acknowledged, 40
                // ms.
                stream.set_nodelay(true).expect("a socket option");
                tokio::spawn(converse(stream, Arc::clone(&shared), Arc::clone(&told)));
            }
        });
        let options = TargetOptions {
            endpoint_url: Some(format!("http://{address}")),
            region: Some("us-east-1".to_owned()),
            emulator_credentials: true,
            // The bytes are compared, not the speed: a machine that stands still for a while must not be an
            // error.
            connect_timeout: PATIENCE,
            request_timeout: PATIENCE,
            ..TargetOptions::default()
        };
        Self { target: Target::connect(options).await, answer, asked }
    }

    /// Waits until a request is here to its end.
    pub(crate) async fn asked(&self) {
        tokio::time::timeout(PATIENCE, self.asked.notified()).await.expect("a request comes");
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

async fn converse(
    mut stream: TcpStream,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Notify>,
) -> std::io::Result<()> {
    let mut received = Vec::new();
    loop {
        while !is_whole(&received) {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        received.clear();
        asked.notify_one();
        let Answer { status, body, cut, headers } =
            answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let head = format!("HTTP/1.1 {status} Answer\r\n{headers}content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body[..cut.unwrap_or(body.len())]).await?;
        if cut.is_some() {
            return Ok(());
        }
    }
}

/// Tells whether a request is here to its end; a client that waits for the answer sends nothing behind it.
fn is_whole(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::trim)?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
