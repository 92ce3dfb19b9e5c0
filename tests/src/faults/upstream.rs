//! The emulator behind the proxy.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::answers::Answer;
use super::call::Call;

/// The largest body that is read, either way. DynamoDB's own limit is 16 MB, for batches.
pub(super) const BODY_BYTES_MAX: usize = 32 << 20;

/// Error with which a body may be read.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: Authority,
}

impl Upstream {
    /// `url` is an address without a path: `http://127.0.0.1:8000`.
    pub(super) fn new(url: &str) -> Result<Self, BoxError> {
        let uri: Uri = url.parse()?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("the proxy speaks plain HTTP only, not {url}").into());
        }
        let authority = uri.authority().cloned().ok_or_else(|| format!("{url} names no host"))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Upstream { client: Client::builder(TokioExecutor::new()).build(connector), authority })
    }

    /// Forwards a call, with another body if one is given, and reads the whole answer.
    ///
    /// Headers go on as they came, but for the host, which is the emulator's own: it answers no other name.
    /// The signature matches neither that nor a changed body, and emulators do not look.
    pub(super) async fn forward(&self, call: &Call, body: Option<Bytes>) -> Result<Answer, BoxError> {
        let path = call.parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri =
            Uri::builder().scheme("http").authority(self.authority.clone()).path_and_query(path).build()?;
        let mut request = Request::new(Full::new(body.unwrap_or_else(|| call.body.clone())));
        *request.method_mut() = call.parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = end_to_end(call.parts.headers.clone());
        let (parts, body) = self.client.request(request).await?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = end_to_end(parts.headers);
        Ok(answer)
    }
}

/// The headers without those that are about one connection, or about the length of a body that we may change.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        headers.remove(name);
    }
    headers
}
