//! The proxy: a listener that can go away, its connections, and what is still under way.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::super::proxy::lock;
use super::connection::converse;
use super::rules::{Script, SourceFaultKind, SourceRule};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 256;

/// A proxy between sqlx and a PostgreSQL server. Without rules it forwards what it is sent.
#[derive(Debug)]
pub struct SourceProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    commands: mpsc::Sender<(Command, oneshot::Sender<()>)>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) server: SocketAddr,
    pub(super) script: Mutex<Script>,
    /// Messages whose senders are gone. `None` once the proxy is.
    pub(super) late: Mutex<Option<JoinSet<()>>>,
    counts: watch::Sender<BTreeMap<SourceFaultKind, u64>>,
    /// Statements that were run, in order; `None` until a test asks for them.
    run: watch::Sender<Option<Vec<String>>>,
}

#[derive(Debug)]
enum Command {
    Down,
    Up,
    CutAll,
}

impl Shared {
    /// Notes what is run, if a test wants to know.
    pub(super) fn runs(&self, sql: Option<&str>) {
        let Some(sql) = sql else { return };
        self.run.send_if_modified(|run| run.as_mut().map(|run| run.push(sql.to_owned())).is_some());
    }

    /// Counts a fault, when it has happened: a lost reply once the server gave it.
    pub(super) fn happened(&self, kind: SourceFaultKind) {
        self.counts.send_modify(|counts| *counts.entry(kind).or_default() += 1);
    }
}

impl SourceProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to the server there.
    ///
    /// # Errors
    ///
    /// If no port is free.
    #[expect(clippy::unused_async, reason = "it is started as the proxy before the target is")]
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            server,
            script: Mutex::default(),
            late: Mutex::new(Some(JoinSet::new())),
            counts: watch::Sender::default(),
            run: watch::Sender::default(),
        });
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).listen(BACKLOG)?;
        let address = socket.local_addr()?;
        let (commands, orders) = mpsc::channel(1);
        let listener = tokio::spawn(listen(socket, address, shared.clone(), orders));
        Ok(Self { shared, address, commands, listener })
    }

    /// Returns where clients are to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule, after those in force.
    pub fn script(&self, rule: SourceRule) {
        lock(&self.shared.script).0.push(rule);
    }

    /// Takes all rules away: the network heals. What is held at a gate stays there.
    pub fn clear(&self) {
        lock(&self.shared.script).0.clear();
    }

    /// The server is gone: all connections are cut, new ones refused. Returns when it is so. What is held at
    /// a gate by [`SourceFault::CutThenApplyLate`](super::SourceFault::CutThenApplyLate) is the network's,
    /// and stays there.
    pub async fn down(&self) {
        self.order(Command::Down).await;
    }

    /// It is there again, at the same address.
    pub async fn up(&self) {
        self.order(Command::Up).await;
    }

    /// Cuts all connections; new ones are welcome.
    pub async fn cut_all(&self) {
        self.order(Command::CutAll).await;
    }

    /// Remembers from now on what is run: each message of statements, which is a round trip.
    pub fn record(&self) {
        self.shared.run.send_replace(Some(Vec::new()));
    }

    /// Returns what was run since [`SourceProxy::record`], and remembers from now on.
    pub fn recorded(&self) -> Vec<String> {
        self.shared.run.send_replace(Some(Vec::new())).unwrap_or_default()
    }

    /// Waits until what was run since it was asked for is as wanted.
    pub async fn until_run(&self, wanted: impl Fn(&[String]) -> bool) {
        let reached = |run: &Option<Vec<String>>| run.as_deref().is_some_and(&wanted);
        // The sender lives in `self`, so it cannot be gone.
        let _ = self.shared.run.subscribe().wait_for(reached).await.map(drop);
    }

    /// Returns how often a fault has happened.
    pub fn injected(&self, kind: SourceFaultKind) -> u64 {
        self.shared.counts.borrow().get(&kind).copied().unwrap_or(0)
    }

    /// Waits until a fault has happened `times` times in all.
    pub async fn until_injected(&self, kind: SourceFaultKind, times: u64) {
        let reached = |counts: &BTreeMap<_, u64>| counts.get(&kind).is_some_and(|count| *count >= times);
        // The sender lives in `self`, so it cannot be gone.
        let _ = self.shared.counts.subscribe().wait_for(reached).await.map(drop);
    }

    async fn order(&self, command: Command) {
        let (done, obeyed) = oneshot::channel();
        let sent = self.commands.send((command, done)).await;
        assert!(sent.is_ok() && obeyed.await.is_ok(), "the proxy has died");
    }
}

impl Drop for SourceProxy {
    fn drop(&mut self) {
        // The listener's task owns the connections, so they go with it.
        self.listener.abort();
        lock(&self.shared.late).take();
    }
}

async fn listen(
    socket: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<(Command, oneshot::Sender<()>)>,
) {
    let mut connections = JoinSet::new();
    let mut socket = Some(socket);
    // Bound but not listening, it keeps the port, and connections to it are refused.
    let mut kept = None;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Command::Down => {
                        // Bound before the listener is gone: in between another connection takes the port.
                        if let Some(listening) = socket.take() {
                            kept = Some(bind(address));
                            drop(listening);
                        }
                        connections.shutdown().await;
                    }
                    Command::Up => if let Some(kept) = kept.take() {
                        socket = Some(kept.listen(BACKLOG).expect("our own port listens"));
                    },
                    Command::CutAll => connections.shutdown().await,
                }
                // An error means that the waiting task is gone.
                let _ = done.send(());
            }
            Some(ended) = connections.join_next() => ended.expect("no panic in a connection"),
            Some(accepted) = accept(socket.as_ref()) => {
                // A connection that broke while it was accepted is its client's to open again.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, shared.clone()));
                }
            }
        }
    }
}

async fn accept(socket: Option<&TcpListener>) -> Option<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
    Some(socket?.accept().await)
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option of every system");
    socket.set_reuseport(true).expect("an option of every system that tests run on");
    socket.bind(address).expect("our own port is free");
    socket
}
