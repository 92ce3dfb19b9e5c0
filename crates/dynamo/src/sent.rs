//! Whether a request was handed to a connection before it failed (I8).
//!
//! The SDK's time for an attempt runs from before it asks for an identity. 1. STS does not answer. 2. The
//! attempt of a write in DynamoOnly ends by its time-out, as one does whose answer is lost. 3. Its caller
//! hears that the write may have happened, and looks it up, which takes the same. So what ends before it is
//! handed over says so.
//!
//! And where it was to go: 1. An endpoint is configured that nothing listens at, or another service answers
//! at its port. 2. A command says that a connection was refused, to an operator who has two environments.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

/// Watches each attempt, and marks those that end before they are sent.
#[derive(Debug)]
pub(super) struct SentOrNot;

/// Mark of an attempt that was not sent, around why it ended.
#[derive(Debug, thiserror::Error)]
#[error("nothing was sent")]
pub(super) struct NothingSent(#[source] BoxError);

/// Endpoint that gave no answer, around why.
#[derive(Debug, thiserror::Error)]
#[error("no answer from {endpoint}")]
pub(super) struct NoAnswerFrom {
    /// The address, without a password.
    pub(super) endpoint: String,
    #[source]
    why: BoxError,
}

/// Note of a request that is handed to a connection, and of the endpoint: the request itself is gone with it.
/// Another attempt of it does not take it back: the earlier one may have arrived.
#[derive(Debug)]
struct HandedOver(Option<String>);

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
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(HandedOver(endpoint_of(context.request().uri())));
        Ok(())
    }

    /// Runs however an attempt ended, after its time-out as well.
    fn modify_before_attempt_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let sent_to = config.load::<HandedOver>().map(|HandedOver(endpoint)| endpoint.clone());
        let Some(Err(error)) = context.output_or_error_mut() else { return Ok(()) };
        // Replaced here: the SDK reports an error that an interceptor returns over another one as its own
        // failure.
        let take_out = |error: &mut _| std::mem::replace(error, OrchestratorError::other("taken out")).into();
        match sent_to {
            None => *error = OrchestratorError::other(NothingSent(take_out(error))),
            Some(Some(endpoint)) if error.is_timeout_error() => {
                let why = NoAnswerFrom { endpoint, why: take_out(error) };
                *error = OrchestratorError::timeout(why.into());
            }
            Some(Some(endpoint)) if error.is_connector_error() => {
                let why = NoAnswerFrom { endpoint, why: take_out(error) };
                *error = OrchestratorError::connector(ConnectorError::other(why.into(), None));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// Returns scheme, host and port of an address. For a proxy in between it may hold a password.
fn endpoint_of(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    let place = rest.split(['/', '?']).next()?;
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    Some(format!("{scheme}://{place}"))
}
