//! A page of a scan as it came over the wire, for a pass that reads whole tables.
//!
//! The SDK decodes a page on the thread that waits for it, into a map with a string of its own for each name
//! and each text: that was four tenths of the processor time of a whole comparison. Here it sends the
//! request, signs it, waits for it and reads its errors, as ever; but of an answer that is a page it hands
//! over the bytes, and [`ScanBody::read`] reads them where the caller likes, borrowing what it can.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, Error as ErasedError, Output,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use lockstep_core::{Attributes, Error, Kind, Naming, Result};

use super::{Target, fault};

/// The bytes of one page.
pub struct ScanBody {
    pub(super) body: SdkBody,
    pub(super) table: String,
    pub(super) naming: Naming,
}

impl fmt::Debug for ScanBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values stay out of logs (R36).
        write!(f, "{} bytes of {}", self.body.bytes().unwrap_or_default().len(), self.table)
    }
}

impl Target {
    /// Reads one page of segment `segment` of `segments`, strongly consistent, and leaves it as it came.
    ///
    /// # Errors
    /// The driver's. Whether the bytes are a page shows when they are read.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn scan_body(
        &self,
        table: &str,
        segment: (usize, usize),
        start: Option<Attributes>,
    ) -> Result<ScanBody> {
        let slot = Slot::default();
        let request =
            self.scan_segment(table, segment, start).customize().interceptor(KeepBody(slot.clone()));
        request.send().await.map_err(|e| fault::error(format!("scanning {table}"), e))?;
        match slot.0.get().and_then(SdkBody::try_clone) {
            Some(body) => Ok(ScanBody { body, table: table.to_owned(), naming: self.naming(table) }),
            None => Err(Error::target(Kind::Unknown, format!("scanning {table}"), "the answer was not kept")),
        }
    }
}

/// Slot for the body of the answer: one request, one answer.
#[derive(Clone, Default)]
struct Slot(Arc<OnceLock<SdkBody>>);

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The SDK prints what it is given.
        f.write_str("Slot")
    }
}

/// Has the body of a page kept instead of decoded. Any other answer than a page is decoded by the SDK, so
/// that errors are what they always are.
#[derive(Debug)]
struct KeepBody(Slot);

#[dyn_dispatch_hint]
impl Intercept for KeepBody {
    fn name(&self) -> &'static str {
        "KeepBody"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if context.response().status().is_success() {
            // In front of the operation's own, which stays where it is.
            config.interceptor_state().store_put(SharedResponseDeserializer::new(Kept(self.0.clone())));
        }
        Ok(())
    }
}

/// Decodes every page as an empty one, and keeps its bytes.
#[derive(Debug)]
struct Kept(Slot);

impl DeserializeResponse for Kept {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _config: &ConfigBag,
    ) -> std::result::Result<Output, OrchestratorError<ErasedError>> {
        // The client sends each request once. If that ever changes, an error that comes after a page must not
        // pass for one.
        if !response.status().is_success() {
            return Err(OrchestratorError::other("an error came where a page was expected"));
        }
        // By now the body is read to its end, and a clone shares its bytes.
        let body = response
            .body()
            .try_clone()
            .ok_or_else(|| OrchestratorError::other("the body of the answer is not in memory"))?;
        let _ = self.0.0.set(body);
        Ok(Output::erase(ScanOutput::builder().build()))
    }
}

#[cfg(test)]
pub(super) mod answering;
#[cfg(test)]
mod any_page;
#[cfg(test)]
mod tests;
