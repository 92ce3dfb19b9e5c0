//! The proxy against a small server that remembers what it is asked, in the order it is asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::gate::Gate;
use super::super::proxy::lock;
use super::frames::{Frame, Frames, frame};
use super::*;

/// Answers every simple query with a completion and a "ready".
struct Server {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (mut tasks, log) = (JoinSet::new(), asked.clone());
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sessions.spawn(session(stream, log.clone()));
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }
}

async fn session(stream: TcpStream, asked: Arc<Mutex<Vec<String>>>) {
    let (from, mut to) = stream.into_split();
    let mut from = Frames::new(from);
    from.next_without_kind().await.expect("readable").expect("a greeting");
    let ready = frame(b'Z', b"I").bytes;
    to.write_all(&[frame(b'R', &[0; 4]).bytes, ready.clone()].concat()).await.expect("writable");
    while let Ok(Some(query)) = from.next().await {
        let sql = String::from_utf8_lossy(query.body()).trim_end_matches('\0').to_owned();
        lock(&asked).push(sql);
        if to.write_all(&[frame(b'C', b"DONE\0").bytes, ready.clone()].concat()).await.is_err() {
            break;
        }
    }
}

struct Client {
    from: Frames<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Client {
    async fn connect(proxy: &SourceProxy) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        // As sqlx does: first asks for TLS.
        stream.write_all(&[8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat()).await?;
        assert_eq!(stream.read_u8().await?, b'N');
        let (from, mut to) = stream.into_split();
        to.write_all(&[8_u32.to_be_bytes(), 196_608_u32.to_be_bytes()].concat()).await?;
        let mut client = Self { from: Frames::new(from), to };
        assert!(client.until_ready().await, "greeted");
        Ok(client)
    }

    /// Whether the whole answer came; no part of it may come alone.
    async fn until_ready(&mut self) -> bool {
        let mut kinds = Vec::new();
        while let Ok(Some(Frame { kind, .. })) = self.from.next().await {
            kinds.push(kind);
            if kind == b'Z' {
                return true;
            }
        }
        assert!(kinds.is_empty(), "a part of an answer: {kinds:?}");
        false
    }

    async fn ask(&mut self, sql: &str) -> bool {
        let sent = self.to.write_all(&frame(b'Q', format!("{sql}\0").as_bytes()).bytes).await;
        sent.is_ok() && self.until_ready().await
    }
}

async fn world(rules: impl IntoIterator<Item = SourceRule>) -> (Server, SourceProxy, Client) {
    let server = Server::start().await;
    let proxy = SourceProxy::start(server.address).await.expect("a port");
    rules.into_iter().for_each(|rule| proxy.script(rule));
    let client = Client::connect(&proxy).await.expect("connects");
    (server, proxy, client)
}

#[tokio::test]
async fn without_rules_everything_goes_through() {
    let (server, _proxy, mut client) = world([]).await;
    assert!(client.ask("BEGIN").await && client.ask("COMMIT").await);
    assert_eq!(server.asked(), ["BEGIN", "COMMIT"]);
}

#[tokio::test]
async fn a_lost_reply_is_of_a_statement_that_was_run() {
    let (server, proxy, mut client) =
        world([SourceRule::new(SourceFault::LoseReply).on("COMMIT").times(1)]).await;
    assert!(client.ask("BEGIN").await && !client.ask("COMMIT").await);
    assert_eq!(server.asked(), ["BEGIN", "COMMIT"]);
    assert_eq!(proxy.injected(SourceFaultKind::LoseReply), 1);
    assert!(Client::connect(&proxy).await.expect("connects").ask("COMMIT").await, "once");
}

#[tokio::test]
async fn a_cut_statement_never_reaches_the_server() {
    let (server, proxy, mut client) = world([SourceRule::new(SourceFault::Cut).any_frame().after(1)]).await;
    assert!(client.ask("BEGIN").await && !client.ask("COMMIT").await);
    assert_eq!((server.asked(), proxy.injected(SourceFaultKind::Cut)), (vec!["BEGIN".to_owned()], 1));
}

#[tokio::test]
async fn a_delayed_reply_waits_at_the_gate_with_the_statement_done() {
    let gate = Gate::new();
    let (server, proxy, mut client) =
        world([SourceRule::new(SourceFault::DelayReply(gate.clone())).on("COMMIT")]).await;
    let asking = tokio::spawn(async move { client.ask("COMMIT").await });
    gate.until_held(1).await;
    assert!(server.asked() == ["COMMIT"] && !asking.is_finished());
    gate.open();
    assert!(asking.await.expect("no panic"));
    assert_eq!(proxy.injected(SourceFaultKind::DelayReply), 1);
}

#[tokio::test]
async fn a_late_statement_arrives_after_its_sender_was_cut_off_even_by_an_outage() {
    let gate = Gate::new();
    let (server, proxy, mut client) =
        world([SourceRule::new(SourceFault::CutThenApplyLate(gate.clone())).on("COMMIT")]).await;
    assert!(!client.ask("COMMIT").await);
    gate.until_held(1).await;
    proxy.down().await;
    assert!(server.asked().is_empty());
    gate.open();
    gate.until_done(1).await;
    assert_eq!(server.asked(), ["COMMIT"]);
}

#[tokio::test]
async fn while_it_is_down_connections_are_refused_and_then_welcome_again() {
    let (server, proxy, mut client) = world([]).await;
    proxy.down().await;
    assert!(!client.ask("SELECT 1").await);
    let error = TcpStream::connect(proxy.address()).await.expect_err("no server listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.down().await;
    proxy.up().await;
    let mut client = Client::connect(&proxy).await.expect("connects");
    assert!(client.ask("SELECT 2").await);
    proxy.cut_all().await;
    assert!(!client.ask("SELECT 3").await);
    assert_eq!(server.asked(), ["SELECT 2"]);
}

#[tokio::test]
async fn a_refused_statement_is_not_run_and_answered_with_an_error() {
    let (server, proxy, mut client) =
        world([SourceRule::new(SourceFault::Refuse("25006")).on("INSERT").times(1)]).await;
    client.to.write_all(&frame(b'Q', b"INSERT\0").bytes).await.expect("sent");
    let mut answer = Vec::new();
    while let Ok(Some(frame)) = client.from.next().await {
        let ends = frame.kind == b'Z';
        answer.push((frame.kind, String::from_utf8_lossy(frame.body()).contains("25006")));
        if ends {
            break;
        }
    }
    assert_eq!(answer, [(b'C', false), (b'E', true), (b'Z', false)]);
    assert_eq!((server.asked(), proxy.injected(SourceFaultKind::Refuse)), (vec![String::new()], 1));
    assert!(client.ask("INSERT").await, "once");
}
