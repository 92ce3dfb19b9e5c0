//! Telling another system of alerts: in the order of `line`; signed, again until it is taken, and each under
//! an id that says when it came twice.

mod line;

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::hmac;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use line::{Line, Next};

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
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Time for which what waits is sent when the daemon ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
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

/// Returns a line, and what sends what is put into it until it is told to stop, and for some seconds after
/// that what waits by then.
pub(crate) fn line(
    webhook: Webhook,
    stop: CancellationToken,
) -> (Line, impl Future<Output = ()> + Send + 'static) {
    let line = Line::default();
    let sending = line.clone();
    let work = async move {
        let client = match client() {
            Ok(client) => client,
            Err(error) => return tracing::error!("no alert is sent to the webhook: {error}"),
        };
        stop.run_until_cancelled(send(&client, &webhook, &sending)).await;
        let _ = tokio::time::timeout(FLUSH_WITHIN, flush(&client, &webhook, &sending)).await;
    };
    (line, work)
}

/// Sends what waits, one after the other. What is not taken is sent again when its time has come, and holds
/// up no other.
async fn send(client: &HttpClient, webhook: &Webhook, line: &Line) {
    loop {
        let (message, tried_at) = match line.next(Instant::now()) {
            Next::Send(message, tried_at) => (message, tried_at),
            Next::Until(at) => {
                // That none comes before is what is waited for.
                let _ = tokio::time::timeout_at(at.into(), line.another()).await;
                continue;
            }
            Next::Nothing => {
                line.another().await;
                continue;
            }
        };
        let outcome = match deliver(client, webhook, &message).await {
            Answer::Taken => {
                line.done(&message);
                "delivered"
            }
            Answer::Refused(why) => {
                let alert = message.get("alert").and_then(Value::as_str).unwrap_or_default();
                tracing::warn!(alert, "a notification is given up, as the receiver does not take it: {why}");
                line.give_up(&message);
                "given_up"
            }
            Answer::Failed(why) if tried_at.elapsed() >= GIVEN_UP_AFTER => {
                tracing::error!("a notification was given up after an hour: {why}");
                line.give_up(&message);
                "given_up"
            }
            Answer::Failed(why) => {
                tracing::debug!("a notification was not taken, and is sent again: {why}");
                line.failed(&message, Instant::now());
                "retried"
            }
        };
        metrics::counter!("lockstep_alert_notifications_total", "outcome" => outcome).increment(1);
    }
}

/// Sends each that waits once more, without a pause: what is not taken now is told by the daemon that is
/// started next, if it still holds.
async fn flush(client: &HttpClient, webhook: &Webhook, line: &Line) {
    while let Some(message) = line.next_at_the_end() {
        let is_taken = matches!(deliver(client, webhook, &message).await, Answer::Taken);
        line.done(&message);
        let outcome = if is_taken { "delivered" } else { "given_up" };
        metrics::counter!("lockstep_alert_notifications_total", "outcome" => outcome).increment(1);
    }
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

/// Outcome of one try.
enum Answer {
    Taken,
    /// The receiver will never take this message, whatever the next one is: it answered 400, 413.
    Refused(String),
    Failed(String),
}

async fn deliver(client: &HttpClient, webhook: &Webhook, message: &Value) -> Answer {
    let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
    let body = message.to_string();
    let at = Utc::now().timestamp();
    let request = Request::builder()
        .method(Method::POST)
        .uri(webhook.url.clone())
        .header("content-type", "application/json")
        .header("lockstep-event-id", id)
        .header("lockstep-signature", webhook.signature(at, &body))
        .body(Full::new(Bytes::from(body)));
    let request = match request {
        Ok(request) => request,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    match tokio::time::timeout(ANSWER_WITHIN, client.request(request)).await {
        Ok(Ok(response)) => of_status(response.status()),
        Ok(Err(error)) => Answer::Failed(error.to_string()),
        Err(_) => Answer::Failed("no answer within 10 s".to_owned()),
    }
}

/// Three answers that blame the message pass by themselves: a time-out, too early, and too many requests.
fn of_status(status: StatusCode) -> Answer {
    let said = format!("it answered {status}");
    match status.as_u16() {
        200..=299 => Answer::Taken,
        408 | 425 | 429 => Answer::Failed(said),
        400..=499 => Answer::Refused(said),
        _ => Answer::Failed(said),
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

    /// 1. A receiver takes no message with some word in it, by whatever answer. 2. Each alert after that one
    /// waited for an hour.
    #[tokio::test]
    async fn a_message_that_the_receiver_does_not_take_holds_up_no_other() {
        for answer in ["400 Bad Request", "500 Internal Server Error", "429 Too Many Requests"] {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}/", server.local_addr().expect("its address"));
            let webhook = Webhook::new(&url, "a-secret-of-the-tests").expect("a webhook");
            let (line, work) = line(webhook, CancellationToken::new());
            for alert in ["word", "first", "second"] {
                line.put(serde_json::json!({ "id": alert, "alert_id": alert, "severity": "warning" }));
            }
            let receive = async {
                let mut taken = 0;
                while taken < 2 {
                    let (mut client, _) = server.accept().await.expect("a client");
                    let mut request = Vec::new();
                    while !request.ends_with(b"}") {
                        let mut some = [0; 1_024];
                        let read =
                            tokio::io::AsyncReadExt::read(&mut client, &mut some).await.expect("it sends");
                        request.extend_from_slice(&some[..read]);
                    }
                    let is_word = String::from_utf8_lossy(&request).contains("word");
                    taken += usize::from(!is_word);
                    let status = if is_word { answer } else { "200 OK" };
                    let answer =
                        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    tokio::io::AsyncWriteExt::write_all(&mut client, answer.as_bytes())
                        .await
                        .expect("it listens");
                }
            };
            tokio::select! {
                seen = tokio::time::timeout(Duration::from_secs(20), receive) => seen.expect(answer),
                () = work => panic!("it sends until it is stopped"),
            };
        }
    }

    #[test]
    fn an_answer_that_blames_the_message_is_the_last_one() {
        let is_last = |status: u16| {
            matches!(of_status(StatusCode::from_u16(status).expect("a status")), Answer::Refused(_))
        };
        assert!([400, 401, 404, 413, 422].into_iter().all(is_last));
        assert!(![200, 204, 302, 408, 425, 429, 500, 503].into_iter().any(is_last));
    }

    #[test]
    fn what_cannot_be_sent_or_can_be_guessed_is_refused() {
        for url in ["hooks.example", "ftp://hooks.example/", "https:///x", ""] {
            assert!(Webhook::new(url, "a-secret-of-the-tests").is_err(), "{url}");
        }
        assert!(Webhook::new("http://127.0.0.1:1/", "short").is_err());
    }
}
