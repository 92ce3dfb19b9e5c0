//! Fences: a request that may leave only for as long as something is so is signed first, and asks right
//! before it leaves.
//!
//! "A lost request is dead after its signature" is true of requests, and not of a process that signs later.
//! 1. A process finds its lease good, and is stopped before it signs. 2. Its lease is over, and a step goes
//! back to PostgreSQL and waits out every signature. 3. The process wakes, signs, and writes what nothing
//! looks at any more. Asked after signing, the lease was good at a moment at which the signature was there
//! already; from then on the signature's end bounds when it can arrive.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use lockstep_core::{Error, Kind};

use super::Target;

/// Longest time from the reading of a state to its leaving; see [`Target::state_leaves_within`].
const STATE_LEAVES_WITHIN: Duration = Duration::from_secs(60);

impl Target {
    /// Returns how long after it was read a state may leave in a put under its guard. The guard orders it
    /// among states that the target still knows; where a tombstone was purged meanwhile, nothing would, so a
    /// purge waits this long and the lifetime of a request.
    pub fn state_leaves_within(&self) -> Duration {
        STATE_LEAVES_WITHIN.min(self.request_lifetime())
    }

    /// Now, as the moment at which states are read that are put to this target.
    pub fn reading(&self) -> ReadAt {
        ReadAt { mono: Instant::now(), wall: SystemTime::now(), within: self.state_leaves_within() }
    }
}

/// Time at which a state was read, by both clocks of this machine: the monotonic one stands still while the
/// machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct ReadAt {
    mono: Instant,
    wall: SystemTime,
    within: Duration,
}

impl ReadAt {
    /// Tells whether a put of what was read then may leave, by both clocks. One that was set back does not
    /// say how long it is ago, and then the other one does.
    pub fn may_leave(self) -> bool {
        self.mono.elapsed() < self.within && self.wall.elapsed().unwrap_or_default() < self.within
    }

    /// Returns a fence for puts of what was read then.
    pub fn fence(self) -> Fence {
        Fence::new(move || self.may_leave())
    }
}

/// Check that a request makes between its signature and its sending. Of one request: clones of it are the
/// same one.
#[derive(Clone)]
pub struct Fence {
    is_open: Arc<dyn Fn() -> bool + Send + Sync>,
    was_shut: Arc<AtomicBool>,
    was_answered: Arc<AtomicBool>,
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { was_shut, was_answered, .. } = self;
        let mut shown = f.debug_struct("Fence");
        shown.field("was_shut", was_shut).field("was_answered", was_answered).finish_non_exhaustive()
    }
}

impl Fence {
    /// Makes a fence that lets a request out while `is_open` says so. It is called on the task that sends,
    /// and must not block.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_open: Arc::new(is_open), was_shut: Arc::default(), was_answered: Arc::default() }
    }

    /// Tells whether the request left and something answered it, whatever that said.
    pub fn was_answered(&self) -> bool {
        self.was_answered.load(SeqCst)
    }

    /// Tells whether a request could leave now.
    pub fn is_open(&self) -> bool {
        (self.is_open)()
    }

    /// Returns the error to report in place of `error`: where the fence was shut, nothing was sent.
    pub(super) fn explain(&self, error: Error) -> Error {
        if !self.was_shut.load(SeqCst) {
            return error;
        }
        let message = "the right to write was over before the request left; nothing was sent, try again";
        Error::target(Kind::Fenced, error.doing, message)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Fence {
    fn name(&self) -> &'static str {
        "Fence"
    }

    /// The last thing before an attempt is handed to the connection, after its signature.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Without a signature nothing would bound when it may arrive.
        let is_signed = context.request().headers().get("authorization").is_some();
        if is_signed && self.is_open() {
            return Ok(());
        }
        self.was_shut.store(true, SeqCst);
        Err("the fence is shut".into())
    }

    fn read_after_transmit(
        &self,
        _context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.was_answered.store(true, SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_sdk_dynamodb::types::AttributeValue;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{ConditionalPut, Expected, TargetOptions};

    fn put() -> ConditionalPut {
        let item = HashMap::from([("PK".to_owned(), AttributeValue::S("a".to_owned()))]);
        ConditionalPut { table: "t".to_owned(), item: item.into_iter().collect(), expected: Expected::Absent }
    }

    /// Returns a target that answers one request with success, and says what it was sent.
    async fn target() -> (Target, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut read = vec![0; 16 * 1024];
            let length = stream.read(&mut read).await.expect("a request");
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer.as_bytes()).await.expect("answered");
            String::from_utf8_lossy(&read[..length]).into_owned()
        });
        let options = TargetOptions {
            endpoint_url: Some(url),
            region: Some("eu-west-1".to_owned()),
            emulator_credentials: true,
            ..TargetOptions::default()
        };
        (Target::connect(options).await, served)
    }

    /// P15: a relay that was stopped after it read a row, or between signature and sending, puts nothing that
    /// a purge no longer guards against.
    #[tokio::test]
    async fn a_state_that_was_read_too_long_ago_is_not_put() {
        let (target, served) = target().await;
        let (item, version) = (lockstep_core::Item::default(), lockstep_core::Version(7));
        let now = target.reading();
        let slept = ReadAt { wall: now.wall - STATE_LEAVES_WITHIN, ..now };
        let error = target.put_guarded_of(slept, "t", item.clone(), version).await.expect_err("too late");
        assert_eq!(error.kind, Kind::Fenced, "{error}");
        let puts = vec![("t", item.clone(), version), ("u", item.clone(), version)];
        let error = target.put_all_guarded(slept, puts).await.expect_err("too late");
        assert_eq!(error.kind, Kind::Fenced, "{error}");
        assert!(!served.is_finished(), "no connection was made");
        target.put_guarded_of(target.reading(), "t", item, version).await.expect("sent");
        assert!(served.await.expect("served").to_lowercase().contains("putitem"));
    }

    #[tokio::test]
    async fn a_lease_that_ends_after_the_signature_keeps_the_request_back() {
        let (target, served) = target().await;
        for puts in [vec![put()], vec![put(), put()]] {
            let error =
                target.put_if(&puts, "token", &Fence::new(|| false)).await.expect_err("it must not leave");
            assert_eq!(error.kind, Kind::Fenced, "nothing was sent, so it is not unknown: {error}");
        }
        assert!(!served.is_finished(), "no connection was made");
        // The same target, and a fence that is open: the first thing that arrives is signed.
        target.put_if(&[put()], "token", &Fence::new(|| true)).await.expect("sent");
        let request = served.await.expect("served").to_lowercase();
        assert!(
            request.contains("putitem") && request.contains("authorization: aws4-hmac-sha256"),
            "{request}"
        );
    }
}
