//! A proxy before the endpoint that asks it what every write consumed and adds that up by table.
//!
//! The endpoint tells only who asks, and most writers do not. So each write is given
//! `ReturnConsumedCapacity`, its body is sent on under a new length, and the answer goes back as it came. The
//! signature no longer fits; the embedded endpoint does not look.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::bench::null_target::http::{self, BUFFER_BYTES};

/// Write units by table.
pub(super) type Units = BTreeMap<String, f64>;

/// Units that were consumed since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Counted {
    units: Mutex<(Units, u64)>,
}

impl Counted {
    /// Write units by table, and how many writes were refused: those consume units too, and the endpoint does
    /// not say how many.
    pub(super) fn take(&self) -> (Units, u64) {
        std::mem::take(&mut *self.units.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, accepted: bool, answer: &[u8]) {
        let mut counted = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        counted.1 += u64::from(!accepted);
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        for (table, units) in consumed(&answer) {
            *counted.0.entry(table).or_default() += units;
        }
    }
}

/// Reads what an answer says of each table: one for a single write, a list for a batch or a transaction.
fn consumed(answer: &Value) -> Vec<(String, f64)> {
    let told = match &answer["ConsumedCapacity"] {
        Value::Array(each) => each.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    };
    let of = |one: &Value| Some((one["TableName"].as_str()?.to_owned(), one["CapacityUnits"].as_f64()?));
    told.into_iter().filter_map(of).collect()
}

/// A running proxy; dropped, it stops.
pub(super) struct Proxy {
    pub(super) url: String,
    pub(super) counted: Arc<Counted>,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Starts one on a free port.
    pub(super) async fn start(endpoint: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let counted = Arc::new(Counted::default());
        let counts = Arc::clone(&counted);
        let serving = tokio::spawn(async move {
            // A connection that breaks is the SDK's to repeat.
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(converse(client, endpoint, Arc::clone(&counts)));
            }
        });
        Ok(Self { url, counted, serving })
    }
}

async fn converse(client: TcpStream, endpoint: SocketAddr, counted: Arc<Counted>) -> Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(endpoint).await?;
    server.set_nodelay(true)?;
    let (mut client, mut server) = (Side::of(client), Side::of(server));
    while let Some((head, body)) = client.message().await? {
        let writes = is_write(http::header(&head, "x-amz-target").unwrap_or_default(), &body);
        let body = if writes { asking(&body)? } else { body };
        server.stream.write_all(&with_length(&head, body.len())).await?;
        server.stream.write_all(&body).await?;
        let (head, answer) = server.message().await?.ok_or(ErrorKind::UnexpectedEof)?;
        if writes {
            counted.add(head.starts_with(b"HTTP/1.1 2"), &answer);
        }
        client.stream.write_all(&head).await?;
        client.stream.write_all(&answer).await?;
    }
    Ok(())
}

fn is_write(target: &[u8], body: &[u8]) -> bool {
    const WRITES: [&[u8]; 8] = [
        b"PutItem",
        b"UpdateItem",
        b"DeleteItem",
        b"BatchWriteItem",
        b"TransactWriteItems",
        b"ExecuteStatement",
        b"BatchExecuteStatement",
        b"ExecuteTransaction",
    ];
    let name = memchr::memrchr(b'.', target).map_or(target, |dot| &target[dot + 1..]);
    // A statement that reads consumes read units.
    WRITES.contains(&name) && memchr::memmem::find(body, br#""Statement":"SELECT"#).is_none()
}

/// The same request, asking what it consumes.
fn asking(body: &[u8]) -> Result<Vec<u8>> {
    let mut request: Value =
        serde_json::from_slice(body).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
    request["ReturnConsumedCapacity"] = "TOTAL".into();
    Ok(serde_json::to_vec(&request)?)
}

/// The same head for a body of another length.
fn with_length(head: &[u8], length: usize) -> Vec<u8> {
    const NAME: &[u8] = b"content-length:";
    let mut changed = Vec::with_capacity(head.len() + 8);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        match line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            true => changed.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
            false => changed.extend_from_slice(line),
        }
    }
    changed
}

/// One end of a conversation.
struct Side {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Number of bytes read beyond the last message: the beginning of the next.
    filled: usize,
}

impl Side {
    fn of(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// The next message, head and body; `None` at the end.
    async fn message(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some((head, filled)) = http::read_head(&mut self.stream, &mut self.buffer, self.filled).await?
        else {
            return Ok(None);
        };
        let length =
            usize::try_from(head.content_bytes).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
        let there = length.min(filled - head.bytes);
        let (text, mut body) =
            (self.buffer[..head.bytes].to_vec(), self.buffer[head.bytes..head.bytes + there].to_vec());
        self.buffer.copy_within(head.bytes + there..filled, 0);
        self.filled = filled - head.bytes - there;
        body.resize(length, 0);
        self.stream.read_exact(&mut body[there..]).await?;
        Ok(Some((text, body)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_consumed_is_found_in_one_answer_and_in_a_list() {
        let one = json!({ "ConsumedCapacity": { "TableName": "a", "CapacityUnits": 3.0 } });
        let list = json!({ "ConsumedCapacity": [{ "TableName": "a", "CapacityUnits": 2 }, { "TableName": "b", "CapacityUnits": 4.5 }] });
        let counted = Counted::default();
        for (accepted, answer) in [(true, one), (true, list), (false, json!({ "__type": "refused" }))] {
            counted.add(accepted, answer.to_string().as_bytes());
        }
        let units: Vec<_> = counted.take().0.into_iter().collect();
        assert_eq!(units, [("a".to_owned(), 5.0), ("b".to_owned(), 4.5)]);
        assert_eq!(counted.take(), (Units::new(), 0), "what was taken is gone");
    }

    #[test]
    fn a_write_is_made_to_ask_and_its_length_follows() {
        let body = asking(br#"{"TableName":"t","ReturnConsumedCapacity":"NONE"}"#).expect("JSON");
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(asked["ReturnConsumedCapacity"], "TOTAL");
        let head = with_length(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nx: y\r\n\r\n", 12);
        assert_eq!(head, b"POST / HTTP/1.1\r\ncontent-length: 12\r\nx: y\r\n\r\n");
        assert!(
            is_write(b"DynamoDB_20120810.PutItem", b"{}") && !is_write(b"DynamoDB_20120810.GetItem", b"{}")
        );
        assert!(!is_write(b"DynamoDB_20120810.ExecuteStatement", br#"{"Statement":"SELECT * FROM t"}"#));
    }
}
