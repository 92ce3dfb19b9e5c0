//! Telling another system of alerts: in order, signed, again until it is taken, and each under an id that
//! says when it came twice.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use http_body_util::Full;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::hmac;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Address of the webhook, and the secret by which messages are signed.
#[derive(Clone)]
pub struct Webhook {
    url: Uri,
    key: hmac::Key,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The path is often a secret of its own.
        f.debug_struct("Webhook").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

/// A shorter secret can be guessed.
const SECRET_CHARS_MIN: usize = 16;
/// Messages that wait; an older one is dropped for a newer one when there are more.
const WAITING_MAX: usize = 100;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// A message that is not taken within this is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3600);

impl Webhook {
    /// Makes a webhook at `url`, signed with `secret`.
    ///
    /// # Errors
    /// A sentence, for an URL that is none of http or https, and for a secret that can be guessed.
    pub fn new(url: &str, secret: &str) -> Result<Self, String> {
        let parsed: Option<Uri> = url.parse().ok();
        let url = parsed
            .filter(|url: &Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
        let url = url.ok_or("serve.webhook_url must begin with http:// or https:// and name a host")?;
        if secret.len() < SECRET_CHARS_MIN {
            return Err(format!("the secret of the webhook has at least {} characters", SECRET_CHARS_MIN));
        }
        Ok(Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) })
    }

    /// Signs the moment, so that an old message cannot be sent again, and the body.
    fn signature(&self, at: i64, body: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{at}.{body}").as_bytes());
        format!("t={at},v1={}", hex::encode(tag))
    }
}

/// Puts messages into the line.
#[derive(Clone, Debug)]
pub(crate) struct Line(mpsc::Sender<Value>);

impl Line {
    /// Never waits: what finds no place is only logged and counted.
    pub(crate) fn put(&self, message: Value) {
        if self.0.try_send(message).is_err() {
            metrics::counter!("lockstep_alert_notifications_total", "outcome" => "dropped").increment(1);
            tracing::error!("a notification was dropped: {WAITING_MAX} wait already");
        }
    }
}

/// Returns a line, and what sends what is put into it until it is told to stop.
pub(crate) fn line(
    webhook: Webhook,
    stop: CancellationToken,
) -> (Line, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let work = async move {
        let client = match client() {
            Ok(client) => client,
            Err(error) => return tracing::error!("no alert is sent to the webhook: {error}"),
        };
        while let Some(Some(message)) = stop.run_until_cancelled(receiver.recv()).await {
            let outcome = tokio::select! {
                outcome = deliver(&client, &webhook, &message) => outcome,
                () = stop.cancelled() => return,
            };
            metrics::counter!("lockstep_alert_notifications_total", "outcome" => outcome).increment(1);
        }
    };
    (Line(sender), work)
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

fn client() -> std::io::Result<HttpClient> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn deliver(client: &HttpClient, webhook: &Webhook, message: &Value) -> &'static str {
    let (began, mut pause) = (Instant::now(), PAUSE_FIRST);
    let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
    let body = message.to_string();
    loop {
        let at = Utc::now().timestamp();
        let request = Request::builder()
            .method(Method::POST)
            .uri(webhook.url.clone())
            .header("content-type", "application/json")
            .header("lockstep-event-id", id)
            .header("lockstep-signature", webhook.signature(at, &body))
            .body(Full::new(Bytes::from(body.clone())));
        let Ok(request) = request else { return "invalid" };
        let why = match tokio::time::timeout(ANSWER_WITHIN, client.request(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return "delivered",
            Ok(Ok(response)) => format!("it answered {}", response.status()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10 s".to_owned(),
        };
        if began.elapsed() >= GIVEN_UP_AFTER {
            tracing::error!("a notification was given up after an hour: {why}");
            return "given_up";
        }
        tracing::debug!("a notification was not taken, and is sent again: {why}");
        metrics::counter!("lockstep_alert_notifications_total", "outcome" => "retried").increment(1);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_the_moment_and_the_body_under_the_secret() {
        let webhook =
            Webhook::new("https://hooks.example/secret-path", "a-secret-of-the-tests").expect("a webhook");
        let signature = webhook.signature(7, "{}");
        let bytes = hex::decode(signature.strip_prefix("t=7,v1=").expect("its form")).expect("hexadecimal");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a-secret-of-the-tests");
        assert!(hmac::verify(&key, b"7.{}", &bytes).is_ok());
        assert_ne!(signature, webhook.signature(8, "{}"));
        assert!(!format!("{webhook:?}").contains("secret-path"));
    }

    #[test]
    fn what_cannot_be_sent_or_can_be_guessed_is_refused() {
        for url in ["hooks.example", "ftp://hooks.example/", "https:///x", ""] {
            assert!(Webhook::new(url, "a-secret-of-the-tests").is_err(), "{url}");
        }
        assert!(Webhook::new("http://127.0.0.1:1/", "short").is_err());
    }
}
