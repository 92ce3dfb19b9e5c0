//! The hash of a request's body, which its signature covers (AWS General Reference, "Signature Version 4").
//!
//! The SDK computes it in portable Rust. On a processor without SHA instructions that was a quarter of the
//! time of a whole backfill; ring's assembly takes about half of it, and is in the program already, for TLS.

use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Hands the signer the hash of the body, so that it does not compute it itself.
#[derive(Debug)]
pub(super) struct PayloadHash;

#[dyn_dispatch_hint]
impl Intercept for PayloadHash {
    fn name(&self) -> &'static str {
        "PayloadHash"
    }

    /// Once an attempt, after everything that may change the body.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // A body that streams has no bytes yet; then the signer decides, as it always did.
        if let Some(body) = context.request().body().bytes() {
            config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(sha256_hex(body)));
        }
        Ok(())
    }
}

/// SHA-256, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_signatures_are_made_of() {
        // Of the empty body, as AWS prints it in its documentation.
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
