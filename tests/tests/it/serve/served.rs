//! A daemon as a process, and a client of it as small as can be.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lockstep_tests::World;
use lockstep_tests::world::{eventually, within};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::process::command;
use crate::scanned::Secrets;

pub(super) const OPERATE: &str = "operate-token-of-the-tests";
pub(super) const READ: &str = "read-token-of-the-tests";

/// A daemon under test; dropped, it is killed.
pub(super) struct Served {
    pub(super) child: Child,
    pub(super) address: String,
    pub(super) operate: String,
    pub(super) read: String,
    client: Client<HttpConnector, Full<Bytes>>,
    _lines: Lines<BufReader<ChildStdout>>,
    secrets: Secrets,
    _log: Log,
}

/// Lines of a daemon's log with something in them that must not be there.
#[derive(Clone, Default)]
struct Wrong(Arc<Mutex<Vec<String>>>);

/// Log of a daemon: dropped, it says what is wrong with it.
struct Log(Wrong);

impl Drop for Log {
    fn drop(&mut self) {
        let wrong = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty() || std::thread::panicking(), "{}", wrong.join("\n"));
    }
}

/// Passes a log on, and keeps what is wrong with it.
async fn listen(log: ChildStderr, secrets: Secrets, wrong: Wrong) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{}", line.escape_debug());
        wrong.0.lock().unwrap_or_else(PoisonError::into_inner).extend(secrets.wrong_with(&line));
    }
}

/// An answer: status, headers in one text, body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: hyper::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The word for programs of a refusal.
    #[track_caller]
    pub(super) fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no refusal: {}", self.text))
            .to_owned()
    }
}

impl Served {
    /// A daemon on the stores of a world.
    pub(super) async fn of(world: &World) -> Self {
        Self::with(world, &[]).await
    }

    /// The same, with more in its environment.
    pub(super) async fn with(world: &World, variables: &[(&str, &str)]) -> Self {
        Self::at(world, "127.0.0.1:0", variables).await
    }

    /// The same, at an address of its own.
    pub(super) async fn at(world: &World, listen: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = command(world, &["serve", "--json", "--listen", listen]);
        command
            .env("LOCKSTEP_OPERATE_TOKEN", OPERATE)
            .env("LOCKSTEP_READ_TOKEN", READ)
            .envs(variables.iter().copied());
        Self::started(command).await
    }

    /// A daemon that has printed its address.
    pub(super) async fn started(mut command: Command) -> Self {
        command.stderr(std::process::Stdio::piped());
        let (secrets, wrong) = (Secrets::of(&command), Wrong::default());
        let mut child = command.spawn().expect("the command starts");
        let log = child.stderr.take().expect("its log");
        tokio::spawn(listen(log, secrets.clone(), wrong.clone()));
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = within(Duration::from_secs(120), lines.next_line())
            .await
            .expect("its output reads")
            .expect("it says where");
        let said: Value = serde_json::from_str(&line).expect("one line of JSON");
        let text = |name: &str, other: &str| said[name].as_str().unwrap_or(other).to_owned();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (address, operate, read) =
            (text("address", ""), text("token", OPERATE), text("read_token", READ));
        assert!(address.starts_with("http://127.0.0.1:"), "{line}");
        Self { child, address, operate, read, client, _lines: lines, secrets, _log: Log(wrong) }
    }

    /// Sends one request as it is given.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        within(Duration::from_mins(2), self.client.request(request)).await.expect("an answer")
    }

    /// Sends one request, and returns its whole answer; of a stream, which has no end, its first part.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let response = self.send(method, path, headers, body).await;
        let (head, mut body) = response.into_parts();
        let is_stream = head.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let bytes = if is_stream {
            let first = within(Duration::from_mins(2), body.frame()).await.expect("it begins");
            first.expect("it reads").into_data().expect("an event")
        } else {
            within(Duration::from_mins(2), body.collect()).await.expect("a body").to_bytes()
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.secrets.scan_body(path, &text);
        Answer { status: head.status, headers: head.headers, text }
    }

    /// Without a token.
    pub(super) async fn open(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    /// With the read token.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[("authorization", &format!("Bearer {}", self.read))], "").await
    }

    /// With the operate token.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    /// The same, with more headers.
    pub(super) async fn post_with(&self, path: &str, body: &Value, more: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {}", self.operate);
        let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        headers.extend(more);
        self.ask(Method::POST, path, &headers, &body.to_string()).await
    }

    /// Asks for an operation, and waits until it has ended.
    pub(super) async fn done(&self, path: &str, body: &Value) -> Value {
        let begun = self.post(path, body).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
        let id = begun.json()["id"].as_str().expect("an id").to_owned();
        let place = format!("/v1/operations/{id}");
        assert_eq!(begun.headers["location"], *place);
        eventually("the operation ends", || async { self.get(&place).await.json()["state"] != "running" })
            .await;
        self.get(&place).await.json()
    }

    /// The status as it is now.
    pub(super) async fn status(&self) -> Value {
        self.get("/v1/status").await.json()
    }

    /// Waits until the status is as it should be.
    pub(super) async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        eventually(what, || async { is(&self.status().await) }).await;
    }

    /// Tells it to end, and says with which code it did.
    pub(super) async fn end(mut self) -> Option<i32> {
        let pid = self.child.id().expect("it runs").to_string();
        let told = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(told.success());
        within(Duration::from_mins(3), self.child.wait()).await.expect("it ends").code()
    }
}

/// Events that a client of the event stream has received.
pub(super) struct Events {
    body: Incoming,
    waiting: String,
}

impl Events {
    pub(super) async fn of(served: &Served) -> Self {
        let bearer = format!("Bearer {}", served.read);
        let response = served.send(Method::GET, "/v1/events", &[("authorization", &bearer)], "").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), waiting: String::new() }
    }

    /// The next status.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            while let Some((event, rest)) = self.waiting.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                self.waiting = rest.to_owned();
                if let Some(data) = data {
                    return serde_json::from_str(&data).expect("JSON on one line");
                }
            }
            let frame = within(Duration::from_secs(60), self.body.frame())
                .await
                .expect("the stream goes on")
                .expect("it reads");
            if let Ok(data) = frame.into_data() {
                self.waiting += &String::from_utf8_lossy(&data);
            }
        }
    }
}
