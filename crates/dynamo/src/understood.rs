//! A success that says nothing is none (I18).
//!
//! To the SDK, a 200 with an empty body is `{}`, of which every part is optional: 1. A mesh answers
//! GetRecords with an empty 200. 2. A page without a next iterator is the end of a closed shard. 3. Its other
//! records are never read, and the truth goes back to PostgreSQL without them. A PutItem answered so was
//! never written, and its mark was taken out; a Query of leases answered so found no instance, and a step
//! waited for none.
//!
//! DynamoDB sends `{}` at least, and of what it is asked for at least an empty list or a count. So an answer
//! without a body, and one that lacks what its operation always says, is as one that was lost: its outcome is
//! unknown (I8).
//!
//! `{}` is enough for a write and for an item that is absent, and the SDK skips what it does not know: 1. A
//! gateway in maintenance says `200 {"status":"ok"}` to a PutItem. 2. The caller is told that its row is
//! written, and it is nowhere. So who has answered is told by what Amazon puts on each answer of both
//! services: the header that names the request. And what was cut on its way, and closed, shows by the
//! checksum of the bytes, which the SDK does not look at; there an error is held against it as well, as it
//! brings the item that a condition failed on.
//!
//! An emulator may send neither. One that has named a request once is held to it.
//!
//! Source: Amazon DynamoDB API Reference, "Response Elements" of each operation; Developer Guide, "DynamoDB
//! low-level API", "Response format".

mod parts;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{FinalizerInterceptorContextMut, Output};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use flate2::Crc;
use lockstep_core::Advice::{EmulatorCredentials, TargetEndpoint};
use parts::part_lacking;

/// Header by which Amazon names a request, on each of its answers.
const REQUEST_ID: &str = "x-amzn-requestid";

/// Header with the checksum of the body as it left.
const CHECKSUM: &str = "x-amz-crc32";

/// Turns an answer that is not DynamoDB's, not whole, or a success that says nothing, into an error.
#[derive(Debug)]
pub(super) struct Understood {
    /// Whether each success of this endpoint names its request.
    names_requests: AtomicBool,
}

/// Reason for which an answer says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaysNothing {
    /// It lacks this part.
    #[error("the answer is a success, and has no {0}: something else than DynamoDB may have answered")]
    Lacks(&'static str),
    /// It does not name the request.
    #[error(
        "the answer is a success, and has no header {REQUEST_ID}, which each answer of DynamoDB has: \
         something else may have answered, or taken it out; where {TargetEndpoint} is an emulator's that \
         sends none, set {EmulatorCredentials} = true"
    )]
    Unnamed,
    /// It changed on its way.
    #[error("the answer is not as it was sent: its checksum ({CHECKSUM}) is that of another one")]
    Changed,
}

impl Understood {
    /// `may_be_unnamed` where the endpoint is an emulator's, until one of its answers names a request.
    pub(super) fn new(may_be_unnamed: bool) -> Self {
        Self { names_requests: AtomicBool::new(!may_be_unnamed) }
    }

    fn what_is_wrong(&self, response: &HttpResponse, output: Option<&Output>) -> Option<SaysNothing> {
        let body = response.body().bytes();
        // An answer without one is not said to be whole, and neither that it is not.
        if let Some((sent, body)) = response.headers().get(CHECKSUM).zip(body)
            && sent.parse() != Ok(checksum(body))
        {
            return Some(SaysNothing::Changed);
        }
        let output = output?;
        let is_named = response.headers().get(REQUEST_ID).is_some_and(|id| !id.is_empty());
        if is_named {
            self.names_requests.store(true, Ordering::Relaxed);
        }
        match body {
            Some([]) => Some(SaysNothing::Lacks("body")),
            _ if !is_named && self.names_requests.load(Ordering::Relaxed) => Some(SaysNothing::Unnamed),
            body => part_lacking(output, body.unwrap_or_default()).map(SaysNothing::Lacks),
        }
    }
}

fn checksum(body: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(body);
    sum.sum()
}

#[dyn_dispatch_hint]
impl Intercept for Understood {
    fn name(&self) -> &'static str {
        "Understood"
    }

    /// Once the body is in memory, where it is neither streamed nor read twice.
    fn modify_before_attempt_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(response), Some(answer)) = (context.response(), context.output_or_error()) else {
            return Ok(());
        };
        let wrong = self.what_is_wrong(response, answer.ok());
        if let (Some(wrong), Some(answer)) = (wrong, context.output_or_error_mut()) {
            *answer = Err(OrchestratorError::other(wrong));
        }
        Ok(())
    }
}
