//! One client's connection and the server's beside it: messages go to and fro, and faults happen to them.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::super::gate::Gate;
use super::super::proxy::lock;
use super::frames::{Frame, Frames, Opening, empty_query, error};
use super::proxy::Shared;
use super::rules::{Asked, SourceFault, SourceFaultKind};
use super::statements::{Statements, is_answered_ready};

/// Fate of the answer that ends with the server's "ready" of a given number.
#[derive(Clone, Debug)]
struct Spoiled {
    answer: u64,
    how: Spoil,
}

#[derive(Clone, Debug)]
enum Spoil {
    Lose,
    Hold(Gate),
    /// An error comes before its end.
    Refuse(&'static str),
}

/// A message that goes on after its sender has been cut off.
struct Late {
    frame: Frame,
    gate: Gate,
    /// Answers that the server still owed when it was sent.
    owed: u64,
}

/// Serves one client until either side ends, or a fault does it.
pub(super) async fn converse(client: TcpStream, shared: Arc<Shared>) {
    // Errors are how connections end: by a fault, by either side, or by the proxy.
    let _ = serve(client, shared).await;
}

async fn serve(client: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(shared.server).await?;
    // Small messages to and fro: without it each may wait 40 ms for an acknowledgement.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (mut from_client, mut from_server) = (Frames::new(from_client), Frames::new(from_server));
    if !open(&mut from_client, &mut to_client, &mut to_server).await? {
        return Ok(());
    }
    // Answers that the server has ended; the first ends its greeting.
    let answered = watch::Sender::new(0_u64);
    let spoiled = watch::Sender::new(None);
    let late = tokio::select! {
        late = forth(&shared, &mut from_client, &mut to_server, &answered, &spoiled) => late?,
        done = back(&shared, &mut from_server, &mut to_client, &answered, &spoiled) => return done,
    };
    if let Some(late) = late {
        // It belongs to the network now, and outlives its sender.
        drop((from_client, to_client));
        if let Some(tasks) = lock(&shared.late).as_mut() {
            tasks.spawn(apply_late(late, from_server, to_server));
        }
    }
    Ok(())
}

/// The messages before a session. Says whether there is one.
async fn open(
    from_client: &mut Frames<OwnedReadHalf>,
    to_client: &mut OwnedWriteHalf,
    to_server: &mut OwnedWriteHalf,
) -> io::Result<bool> {
    while let Some(frame) = from_client.next_without_kind().await? {
        match frame.opening() {
            Opening::Encryption => to_client.write_all(b"N").await?,
            Opening::Cancel => {
                to_server.write_all(&frame.bytes).await?;
                return Ok(false);
            }
            Opening::Session => {
                to_server.write_all(&frame.bytes).await?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Copies from the client to the server. Ends when the connection is to be cut; with a message if that goes
/// on alone.
async fn forth(
    shared: &Shared,
    from_client: &mut Frames<OwnedReadHalf>,
    to_server: &mut OwnedWriteHalf,
    answered: &watch::Sender<u64>,
    spoiled: &watch::Sender<Option<Spoiled>>,
) -> io::Result<Option<Late>> {
    let mut statements = Statements::default();
    // The greeting ends with a "ready" that the client did not ask for.
    let mut asked_for = 1_u64;
    // A statement that is refused is bound and not executed.
    let mut refusing = false;
    while let Some(mut frame) = from_client.next().await? {
        let sql = statements.run_by(&frame);
        shared.runs(sql.as_deref());
        let asked = Asked { sql: sql.as_deref(), is_simple: frame.kind == b'Q' };
        // A password is part of the greeting, and no fault's.
        let fault = if frame.kind == b'p' { None } else { lock(&shared.script).decide(&asked) };
        let spoil = match fault {
            None => None,
            Some(SourceFault::Cut) => {
                shared.happened(SourceFaultKind::Cut);
                return Ok(None);
            }
            Some(SourceFault::CutThenApplyLate(gate)) => {
                shared.happened(SourceFaultKind::CutThenApplyLate);
                return Ok(Some(Late { frame, gate, owed: asked_for - *answered.borrow() }));
            }
            Some(SourceFault::LoseReply) => Some(Spoil::Lose),
            Some(SourceFault::DelayReply(gate)) => Some(Spoil::Hold(gate)),
            Some(SourceFault::Refuse(code)) => {
                refusing = true;
                if frame.kind == b'Q' {
                    frame = empty_query();
                }
                Some(Spoil::Refuse(code))
            }
        };
        if let Some(how) = spoil {
            // The answer to what is asked now is the one after all that were asked for before.
            spoiled.send_replace(Some(Spoiled { answer: asked_for + 1, how }));
        }
        asked_for += u64::from(is_answered_ready(&frame));
        if refusing && frame.kind == b'E' {
            continue;
        }
        refusing &= !is_answered_ready(&frame);
        to_server.write_all(&frame.bytes).await?;
    }
    Ok(None)
}

/// Copies from the server to the client. Ends when the connection is to be cut.
async fn back(
    shared: &Shared,
    from_server: &mut Frames<OwnedReadHalf>,
    to_client: &mut OwnedWriteHalf,
    answered: &watch::Sender<u64>,
    spoiled: &watch::Sender<Option<Spoiled>>,
) -> io::Result<()> {
    while let Some(frame) = from_server.next().await? {
        let ends = frame.kind == b'Z';
        let turn = *answered.borrow() + 1;
        let spoil = spoiled.borrow().clone().filter(|spoiled| spoiled.answer == turn);
        match spoil.map(|spoiled| spoiled.how) {
            Some(Spoil::Lose) if ends => {
                shared.happened(SourceFaultKind::LoseReply);
                return Ok(());
            }
            Some(Spoil::Lose) => continue,
            Some(Spoil::Refuse(code)) if ends => {
                shared.happened(SourceFaultKind::Refuse);
                spoiled.send_replace(None);
                to_client.write_all(&error(code).bytes).await?;
            }
            Some(Spoil::Refuse(_)) => {}
            Some(Spoil::Hold(gate)) => {
                shared.happened(SourceFaultKind::DelayReply);
                spoiled.send_replace(None);
                gate.pass().await;
                gate.done();
            }
            None => {}
        }
        to_client.write_all(&frame.bytes).await?;
        answered.send_modify(|answered| *answered += u64::from(ends));
    }
    Ok(())
}

async fn apply_late(late: Late, mut from_server: Frames<OwnedReadHalf>, mut to_server: OwnedWriteHalf) {
    late.gate.pass().await;
    let mut owed = late.owed + 1;
    let answered = async {
        to_server.write_all(&late.frame.bytes).await?;
        while owed > 0 {
            let Some(frame) = from_server.next().await? else { break };
            owed -= u64::from(frame.kind == b'Z');
        }
        io::Result::Ok(())
    };
    // The server may have ended the session meanwhile: then nothing was applied.
    let _ = answered.await;
    late.gate.done();
}
