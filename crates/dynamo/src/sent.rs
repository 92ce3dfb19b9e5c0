//! Whether a request was handed to a connection before it failed (I8).
//!
//! The SDK's time for an attempt runs from before it asks for an identity. 1. STS does not answer. 2. The
//! attempt of a write in DynamoOnly ends by its time-out, as one does whose answer is lost. 3. Its caller
//! hears that the write may have happened, and looks it up, which takes the same. So what ends before it is
//! handed over says so.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

/// Watches each attempt, and marks those that end before they are sent.
#[derive(Debug)]
pub(super) struct SentOrNot;

/// Mark of an attempt that was not sent, around why it ended.
#[derive(Debug, thiserror::Error)]
#[error("nothing was sent")]
pub(super) struct NothingSent(#[source] BoxError);

/// Note of a request that is handed to a connection. Another attempt of it does not take it back: the
/// earlier one may have arrived.
#[derive(Debug)]
struct HandedOver;

impl Storable for HandedOver {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for SentOrNot {
    fn name(&self) -> &'static str {
        "SentOrNot"
    }

    /// The last hook before a connection has the request. It runs beside those that refuse to send it, so
    /// what they say is known by its own type.
    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(HandedOver);
        Ok(())
    }

    /// Runs however an attempt ended, after its time-out as well.
    fn modify_before_attempt_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if config.load::<HandedOver>().is_some() {
            return Ok(());
        }
        if let Some(Err(error)) = context.output_or_error_mut() {
            // Replaced here: the SDK reports an error that an interceptor returns over another one as its own
            // failure.
            let why = std::mem::replace(error, OrchestratorError::other("taken out"));
            *error = OrchestratorError::other(NothingSent(why.into()));
        }
        Ok(())
    }
}
