//! Signing and sending of a request to S3: by the credentials, the proxy, the TLS back end and the time-outs
//! of every other request. Answers that are no success become errors of a type of their own here, where their
//! headers are still there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use tokio::sync::Mutex;

use super::fault::{Answer, NotSent};
use crate::clear::{TokenInClear, is_in_clear};
use crate::connect::{TargetOptions, connector_of};
use crate::payload_hash::sha256_hex;

/// Longest that credentials without an end are used before they are asked for again: a file of them may be
/// another one by now.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// Time before their end at which credentials are no longer used.
const NOT_IN_THE_LAST: Duration = Duration::from_secs(120);

/// Longest answer that is an error; the rest says nothing more.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// Signer and sender.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: SharedHttpConnector,
    credentials: SharedCredentialsProvider,
    known: Mutex<Option<(Credentials, SystemTime)>>,
    region: String,
    /// Account that the bucket has to be of.
    owner: Option<String>,
}

impl Wire {
    pub(super) fn new(
        shared: &SdkConfig,
        options: &TargetOptions,
        endpoint: &str,
        region: &str,
        owner: Option<String>,
    ) -> Result<Self, String> {
        let credentials = shared.credentials_provider().ok_or("there are no credentials")?;
        let connector = connector_of(endpoint, options.connect_timeout, shared);
        let region = region.to_owned();
        Ok(Self(Arc::new(Inner { connector, credentials, known: Mutex::default(), region, owner })))
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        if let Some(owner) = &self.0.owner {
            let value = http::HeaderValue::from_str(owner).map_err(not_sent)?;
            parts.headers.insert("x-amz-expected-bucket-owner", value);
        }
        let hash = sha256_hex(&body);
        let mut request = http::Request::from_parts(parts, SdkBody::from(body));
        let credentials = self.0.credentials().await?;
        if credentials.session_token().is_some() && is_in_clear(&request.uri().to_string()) {
            return Err(not_sent(TokenInClear));
        }
        self.0.sign(&mut request, credentials, hash)?;
        let request = request.try_into().map_err(not_sent)?;
        // Whatever becomes of it, it may be repeated: nothing here is conditional.
        let cut = |e| HttpError::new(HttpErrorKind::Interrupted, e);
        let answer = self.0.connector.call(request).await.map_err(cut)?;
        let answer = answer.try_into_http1x().map_err(cut_answer)?;
        let (parts, body) = answer.into_parts();
        if !parts.status.is_success() {
            return Err(HttpError::new(HttpErrorKind::Unknown, answer_of(&parts, body).await));
        }
        let body = body.map_err(|e| HttpError::new_boxed(HttpErrorKind::Interrupted, e));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

fn not_sent(why: impl std::error::Error + Send + Sync + 'static) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, NotSent(why.into()))
}

fn cut_answer(why: impl std::error::Error + Send + Sync + 'static) -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, why)
}

/// Reads what S3 says of a request that it did not carry out.
async fn answer_of(parts: &http::response::Parts, mut body: SdkBody) -> Answer {
    let mut text = Vec::new();
    // Where the rest does not come, the status says enough.
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if text.len() > ERROR_BYTES_MAX {
            break;
        }
    }
    let region = parts.headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
    Answer::of(parts.status.as_u16(), &String::from_utf8_lossy(&text), region.map(str::to_owned))
}

impl Inner {
    /// Returns credentials that hold for this request. The SDK keeps them for its own clients only.
    async fn credentials(&self) -> Result<Credentials, HttpError> {
        let mut known = self.known.lock().await;
        let now = SystemTime::now();
        if let Some((credentials, until)) = &*known
            && now < *until
        {
            return Ok(credentials.clone());
        }
        let found = self.credentials.provide_credentials().await.map_err(not_sent)?;
        let end = found.expiry().and_then(|end| end.checked_sub(NOT_IN_THE_LAST));
        let again = now + ASK_AGAIN;
        *known = Some((found.clone(), end.map_or(again, |end| end.min(again))));
        Ok(found)
    }

    /// Signs as S3 wants it: each header, the path as it is, and the hash of the body (Amazon S3 API
    /// Reference, "Signature Calculations for the Authorization Header").
    fn sign(
        &self,
        request: &mut http::Request<SdkBody>,
        credentials: Credentials,
        hash: String,
    ) -> Result<(), HttpError> {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = Identity::from(credentials);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(not_sent)?
            .into();
        let headers = request.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            headers,
            SignableBody::Precomputed(hash),
        );
        let (signed, _) = sign(signable.map_err(not_sent)?, &params).map_err(not_sent)?.into_parts();
        signed.apply_to_request_http1x(request);
        Ok(())
    }
}
