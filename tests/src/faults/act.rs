//! Fate of one call, once the script has decided.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::amazon::dated;
use super::answers::{self, Answer, Refusal};
use super::call::Call;
use super::counts::Recorded;
use super::many_shards;
use super::own_streams;
use super::partial::Split;
use super::proxy::{Shared, lock};
use super::rules::{Checksum, Effect};

/// Sees one call through. The connection it came on waits at the other end of `reply`, and is cut if that is
/// dropped.
///
/// Runs in a task of the proxy's own, not of the connection's: a request on the wire does not vanish because
/// its sender gave up waiting, and a test of late writes depends on that.
pub(super) async fn handle(shared: &Shared, call: Call, reply: oneshot::Sender<Answer>) {
    let injection = lock(&shared.script).decide(&call, Instant::now());
    let fault = injection.as_ref().map(|injection| injection.kind);
    shared.counts.send_modify(|counts| counts.see(&call.operation));
    lock(&shared.recorder).keep(|| Recorded {
        operation: call.operation.clone(),
        table: call.table(),
        fault,
        body: call.body.clone(),
    });
    let happened = || {
        if let Some(kind) = fault {
            shared.counts.send_modify(|counts| counts.inject(kind, &call.operation));
        }
    };
    let answer = match injection.map(|injection| injection.effect) {
        None => forward(shared, &call, None).await,
        Some(Effect::Refuse(refusal)) => {
            happened();
            Some(answers::refuse(refusal))
        }
        Some(Effect::Withhold(split)) => {
            let answer = in_part(shared, &call, split).await;
            happened();
            answer
        }
        Some(Effect::Cut) => {
            happened();
            None
        }
        Some(Effect::LoseReply) => {
            if forward(shared, &call, None).await.is_some() {
                happened();
            }
            None
        }
        Some(Effect::ApplyThenRefuse(refusal)) => {
            let applied = forward(shared, &call, None).await.is_some();
            if applied {
                happened();
            }
            applied.then(|| answers::refuse(refusal))
        }
        Some(Effect::Rewrite(change, checksum)) => {
            let said = rewritten(shared, &call, change, checksum).await;
            happened();
            said
        }
        Some(Effect::OfItsStream) => {
            let said = own_streams::answer(&shared.upstream, &call).await;
            happened();
            said
        }
        Some(Effect::OfManyShards(closed, after)) => {
            let said = many_shards::answer(&shared.upstream, &call, closed, after).await;
            happened();
            said
        }
        Some(Effect::At(there, None)) => {
            forward(shared, &call, None).await.map(|answer| dated(answer, there))
        }
        Some(Effect::At(there, Some(why))) => {
            happened();
            Some(dated(answers::refuse(Refusal::Signature(why)), there))
        }
        Some(Effect::Duplicate) => {
            let first = forward(shared, &call, None).await;
            if forward(shared, &call, None).await.is_some() {
                happened();
            }
            first
        }
        Some(Effect::Repeat(gate)) => {
            drop(forward(shared, &call, None).await);
            happened();
            if let Some(gate) = &gate {
                gate.pass().await;
            }
            let answer = forward(shared, &call, None).await;
            if let Some(gate) = &gate {
                gate.done();
            }
            answer
        }
        Some(Effect::Delay(gate)) => {
            happened();
            gate.pass().await;
            let answer = forward(shared, &call, None).await;
            gate.done();
            answer
        }
        Some(Effect::ApplyLate(gate, refusal)) => {
            // Counted first, so that a test that sees the cut sees the count.
            happened();
            match refusal {
                // An error means that the sender gave up.
                Some(refusal) => drop(reply.send(answers::refuse(refusal))),
                None => drop(reply),
            }
            gate.pass().await;
            forward(shared, &call, None).await;
            gate.done();
            return;
        }
    };
    if let Some(answer) = answer {
        // An error means that the sender gave up.
        let _ = reply.send(answer);
    }
}

/// The emulator's answer, or `None` (counted) if it has none.
async fn forward(shared: &Shared, call: &Call, body: Option<Bytes>) -> Option<Answer> {
    let sent = body.clone().unwrap_or_else(|| call.body.clone());
    let number = lock(&shared.written).as_mut().map(|record| record.leaving(call, &sent));
    let answer = shared.upstream.forward(call, body).await;
    if let (Some(number), Ok(answer)) = (number, &answer) {
        let Ok(said) = answer.body().clone().collect().await;
        let said = said.to_bytes();
        if let Some(record) = &mut *lock(&shared.written) {
            record.answered(number, call, &sent, (answer.status(), &said));
        }
    }
    shared.counts.send_modify(|counts| match answer {
        Ok(_) => counts.forwarded += 1,
        Err(_) => counts.upstream_failures += 1,
    });
    answer.ok()
}

/// The emulator's answer, as `change` leaves it.
async fn rewritten(
    shared: &Shared,
    call: &Call,
    change: fn(&[u8]) -> Option<Bytes>,
    checksum: Checksum,
) -> Option<Answer> {
    let (mut parts, body) = forward(shared, call, None).await?.into_parts();
    let Ok(body) = body.collect().await;
    let body = body.to_bytes();
    let said = change(&body).unwrap_or(body);
    match checksum {
        Checksum::Right => answers::name(&mut parts.headers, &said),
        Checksum::Kept => {}
    }
    Some(Response::from_parts(parts, Full::new(said)))
}

async fn in_part(shared: &Shared, call: &Call, mut split: Split) -> Option<Answer> {
    let Some(body) = split.forward.take() else {
        return Some(match split.all_withheld() {
            Some(body) => answers::json(StatusCode::OK, body),
            None => answers::refuse(Refusal::Throttled),
        });
    };
    let answer = forward(shared, call, Some(body)).await?;
    if answer.status() != StatusCode::OK {
        // Nothing of the batch was applied, and the emulator says why.
        return Some(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let Ok(body) = body.collect().await;
    let merged = split.merge(&body.to_bytes());
    if merged.is_none() {
        shared.counts.send_modify(|counts| counts.upstream_failures += 1);
    }
    let body = merged?;
    answers::name(&mut parts.headers, &body);
    Some(Response::from_parts(parts, Full::new(body)))
}
