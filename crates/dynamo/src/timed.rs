//! Times that DynamoDB takes for each request, by the name of its operation (R47).

use std::time::Instant;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use lockstep_core::{Side, note_request};

/// Takes the time of each attempt that a connection was handed.
#[derive(Debug)]
pub(super) struct Timed;

/// The moment at which it was. What is asked of a provider of credentials before that is not DynamoDB's.
#[derive(Debug)]
struct HandedOverAt(Instant);

impl Storable for HandedOverAt {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for Timed {
    fn name(&self) -> &'static str {
        "Timed"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(HandedOverAt(Instant::now()));
        Ok(())
    }

    /// Runs however an attempt ended, after its time-out as well.
    fn read_after_attempt(
        &self,
        _context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(HandedOverAt(at)) = config.load::<HandedOverAt>() else { return Ok(()) };
        let took = at.elapsed();
        let operation = config.load::<Metadata>().map_or("unnamed", Metadata::name).to_owned();
        note_request(Side::Target, operation, took);
        Ok(())
    }
}
