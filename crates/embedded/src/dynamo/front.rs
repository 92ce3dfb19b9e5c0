//! Front of the embedded DynamoDB: it answers no browser and no foreign name.
//!
//! The emulator itself lets every web page read its answers, under any host name. 1. A developer opens a page
//! while a store is kept on 127.0.0.1. 2. The page's script tries ports. 3. It reads and writes the items, as
//! if it were the application. A page on a domain that resolves to 127.0.0.1 bypasses CORS entirely.
//!
//! What a connection sends first is looked at, and nothing after it. A connection belongs to one client, and
//! a browser cannot begin one in a way that passes: it names its page in `Origin`, says in `Sec-Fetch-Site`
//! who asks, may not send `X-Amz-Target` to another origin without asking leave first by `OPTIONS`, and sends
//! the name of the page in `Host`. So the bytes behind it are handed on as they are, which costs a copy.
//!
//! The emulator listens on an address of this machine that is drawn from sixteen million, on a free port, so
//! that a page cannot go round this.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The longest head of a request. Those of the SDK have less than 2 KB, without a session token.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are handed on at once.
const COPIED_BYTES: usize = 64 * 1024;

/// Binds where the emulator listens.
///
/// # Errors
/// When the system gives no port.
pub(super) async fn bind_behind() -> Result<TcpListener> {
    let host = Ipv4Addr::new(127, rand::random(), rand::random(), rand::random_range(2..=254));
    match TcpListener::bind((host, 0)).await {
        Ok(listener) => Ok(listener),
        // Not every system has more than one address of its own.
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
    }
}

/// Hands connections on. Told to stop, it takes no more, and ends when those that there are have; dropped, it
/// breaks them off.
pub(super) async fn serve(listener: TcpListener, behind: SocketAddr, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let of_each = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // How one ends is its client's to see.
                Ok((client, _)) => drop(connections.spawn(converse(client, behind, of_each.clone()))),
                // Out of descriptors, most likely: connections that end give some back.
                Err(error) => {
                    tracing::debug!("accepting a connection: {error}");
                    tokio::task::yield_now().await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = told(&mut stop) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Ready once it is to stop, or its owner is gone.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse(mut client: TcpStream, behind: SocketAddr, mut stop: watch::Receiver<bool>) -> Result<()> {
    client.set_nodelay(true)?;
    let first = tokio::select! {
        first = first_head(&mut client) => first?,
        () = told(&mut stop) => None,
    };
    let Some(first) = first else { return Ok(()) };
    if let Some(why) = refusal(&first) {
        tracing::debug!("refused a connection: {why}");
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{why}",
            why.len()
        );
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    server.write_all(&first).await?;
    let ((asks, mut hears), (answers, mut told)) = (client.split(), server.split());
    let mut answers = BufReader::with_capacity(COPIED_BYTES, answers);
    let mut asks = BufReader::with_capacity(COPIED_BYTES, asks);
    let down = async { copy_buf(&mut answers, &mut hears).await.map(drop) };
    let up = async {
        copy_buf(&mut asks, &mut told).await?;
        told.shutdown().await
    };
    tokio::pin!(down);
    // Once the emulator has closed its end, it hears nothing any more.
    tokio::select! {
        down = &mut down => down,
        up = up => {
            up?;
            down.await
        }
    }
}

/// Reads what a client sends first: a head, and what came with it. `None` where it sends nothing.
async fn first_head(client: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let mut read = Vec::with_capacity(4 * 1024);
    loop {
        let before = read.len().saturating_sub(3);
        if client.read_buf(&mut read).await? == 0 {
            return if read.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        if read[before..].windows(4).any(|four| four == b"\r\n\r\n") {
            return Ok(Some(read));
        }
        if read.len() > HEAD_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "the head of a request is too long"));
        }
    }
}

/// Returns why a connection that begins so is not served.
fn refusal(first: &[u8]) -> Option<&'static str> {
    const NO_CLIENT: &str =
        "this is an emulator of DynamoDB for programs of this machine, and no web server\n";
    let head = first.windows(4).position(|four| four == b"\r\n\r\n").map(|end| &first[..end]);
    let Some(Ok(head)) = head.map(std::str::from_utf8) else { return Some(NO_CLIENT) };
    let mut lines = head.split("\r\n");
    if !lines.next().is_some_and(|request| request.starts_with("POST ")) {
        return Some(NO_CLIENT);
    }
    let (mut hosts, mut names_operation) = (Vec::new(), false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Some(NO_CLIENT) };
        match name.to_ascii_lowercase().as_str() {
            "origin" => return Some("this emulator answers no web page\n"),
            name if name.starts_with("sec-fetch-") || name.starts_with("access-control-") => {
                return Some("this emulator answers no web page\n");
            }
            "host" => hosts.push(value.trim()),
            "x-amz-target" => names_operation = true,
            _ => {}
        }
    }
    match hosts.as_slice() {
        [host] if is_of_this_machine(host) => (!names_operation).then_some(NO_CLIENT),
        _ => Some("this emulator answers under 127.0.0.1, localhost and [::1] only\n"),
    }
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &str) -> bool {
        refusal(format!("{head}\r\n\r\nbody").as_bytes()).is_some()
    }

    #[test]
    fn what_a_program_begins_with_passes_under_each_name_of_this_machine() {
        for host in ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.9.8.7:1"] {
            let head =
                format!("POST / HTTP/1.1\r\nhost: {host}\r\nX-Amz-Target: DynamoDB_20120810.ListTables");
            assert!(!refused(&head), "{host}");
        }
    }

    #[test]
    fn whatever_a_browser_begins_with_is_refused() {
        let target = "x-amz-target: DynamoDB_20120810.Scan";
        let here = "Host: 127.0.0.1:8000";
        for head in [
            format!("POST / HTTP/1.1\r\n{here}\r\n{target}\r\nOrigin: https://evil.example"),
            format!("POST / HTTP/1.1\r\n{here}\r\n{target}\r\norigin: null"),
            format!("POST / HTTP/1.1\r\n{here}\r\n{target}\r\nORIGIN: http://127.0.0.1:8000"),
            format!("POST / HTTP/1.1\r\n{here}\r\n{target}\r\nSec-Fetch-Site: cross-site"),
            format!("OPTIONS / HTTP/1.1\r\n{here}\r\nAccess-Control-Request-Headers: x-amz-target"),
            format!("GET / HTTP/1.1\r\n{here}"),
            format!("GET / HTTP/1.1\r\n{here}\r\n{target}"),
            format!("POST / HTTP/1.1\r\n{here}\r\ncontent-type: text/plain"),
        ] {
            assert!(refused(&head), "{head}");
        }
    }

    #[test]
    fn a_name_that_only_points_here_is_refused() {
        let target = "x-amz-target: DynamoDB_20120810.Scan";
        for hosts in [
            "Host: evil.example:8000",
            "Host: 127.0.0.1.evil.example:8000",
            "Host: localhost.evil.example",
            "Host: 0.0.0.0:8000",
            "Host: 10.0.0.1:8000",
            "Host: 127.0.0.1@evil.example",
            "Host:",
            "Host: 127.0.0.1:8000\r\nHost: evil.example",
            "X-Forwarded-Host: 127.0.0.1",
        ] {
            assert!(refused(&format!("POST / HTTP/1.1\r\n{hosts}\r\n{target}")), "{hosts}");
        }
    }
}
