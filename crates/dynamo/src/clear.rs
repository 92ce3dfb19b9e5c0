//! No session token goes over plain HTTP to another machine: its reader acts as its role until it
//! expires.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use lockstep_core::Advice::EmulatorCredentials;
use lockstep_core::{host_of, is_this_machine};

/// Refuses to send such a request.
#[derive(Debug)]
pub(super) struct NoTokenInClear;

/// Refusal, as a type of its own: the SDK hands it on like what a connection says, which may have sent the
/// request.
#[derive(Debug, thiserror::Error)]
#[error(
    "the endpoint is plain HTTP on another machine, and these credentials have a session token, which is not \
    sent in clear: use https://, or set {setting} for an emulator",
    setting = EmulatorCredentials
)]
pub(super) struct TokenInClear;

const TOKEN: &str = "x-amz-security-token";

#[dyn_dispatch_hint]
impl Intercept for NoTokenInClear {
    fn name(&self) -> &'static str {
        "NoTokenInClear"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        if request.headers().contains_key(TOKEN) && is_in_clear(request.uri()) {
            return Err(TokenInClear.into());
        }
        Ok(())
    }
}

pub(super) fn is_in_clear(uri: &str) -> bool {
    uri.starts_with("http://") && !is_local(uri)
}

/// Tells whether an endpoint is of this machine.
pub(super) fn is_local(url: &str) -> bool {
    is_this_machine(host_of(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_beyond_this_machine_is_in_clear() {
        for uri in [
            "http://dynamodb.example:8000/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example:8000/",
            "http://127.0.0.1@evil.example/",
        ] {
            assert!(is_in_clear(uri), "{uri}");
        }
        for uri in [
            "https://dynamodb.eu-central-1.amazonaws.com/",
            "http://127.0.0.1:8000/",
            "http://localhost:8000/",
        ] {
            assert!(!is_in_clear(uri), "{uri}");
        }
    }
}
