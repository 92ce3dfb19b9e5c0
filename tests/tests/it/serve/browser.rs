//! A real Chromium, driven over WebDriver: plain HTTP with JSON, so nothing but its driver is needed.

use std::process::{Command as Run, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lockstep_tests::world::within;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Time that the page may take to show something.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval at which it is looked at: each look lays it out, on the processors of the tests that run beside
/// it.
const LOOK: Duration = Duration::from_millis(50);

/// One window; dropped, its driver is killed, and the browser with it.
pub(super) struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
    session: String,
    /// The browser's process. Its driver's death does not end it, and a page that is left open goes on
    /// drawing beside the tests that follow.
    process: String,
    _driver: Child,
    _lines: Lines<BufReader<ChildStdout>>,
    _profile: TempDir,
}

impl Browser {
    /// A browser; `None`, said loudly, where none is installed and none may be, outside of CI.
    pub(super) async fn open() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/install-browser");
        let installed = Run::new(script).status().expect("the script runs").success();
        if !installed {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!is_ci, "CI needs a browser: tests/install-browser says what is missing");
            eprintln!(
                "\n\n== LEFT OUT: the page was not tried in a browser; see tests/install-browser ==\n\n"
            );
            return None;
        }
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = loop {
            let line = within(Duration::from_mins(3), lines.next_line())
                .await
                .expect("it reads")
                .expect("it says its port");
            let said = line.strip_prefix("ChromeDriver was started successfully on port ");
            if let Some(port) = said {
                break port.trim_end_matches('.').to_owned();
            }
        };
        let profile = TempDir::new().expect("a folder");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let session = format!("http://127.0.0.1:{port}/session");
        let process = String::new();
        let mut browser =
            Self { client, session, process, _driver: driver, _lines: lines, _profile: profile };
        let folder = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
            &folder,
        ];
        let chosen = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments } });
        let made =
            browser.call(Method::POST, "", &json!({ "capabilities": { "alwaysMatch": chosen } })).await;
        let id = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}"));
        browser.session = format!("{}/{id}", browser.session);
        browser.process = made["capabilities"]["goog:processID"].to_string();
        Some(browser)
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.session));
        let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("a request");
        let answer =
            within(Duration::from_secs(90), self.client.request(request)).await.expect("the driver answers");
        let bytes =
            within(Duration::from_secs(90), answer.into_body().collect()).await.expect("a body").to_bytes();
        let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
        answer["value"].take()
    }

    /// Goes to an address.
    pub(super) async fn go(&self, url: &str) {
        self.call(Method::POST, "/url", &json!({ "url": url })).await;
    }

    /// Returns what a script returns.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.call(Method::POST, "/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// Waits until the page shows a text.
    pub(super) async fn shows(&self, text: &str) {
        let script = format!("return document.body.innerText.includes({})", json!(text));
        self.until(&format!("does not show “{text}”"), &script).await;
    }

    /// Clicks the button with that text when it can be clicked, in the dialog if one is open.
    pub(super) async fn press(&self, text: &str) {
        let script = format!(
            "const at = document.querySelector('dialog[open]') ?? document;
             const button = [...at.querySelectorAll('button')].find((b) => b.innerText.trim() === {} && !b.disabled);
             button?.click();
             return Boolean(button)",
            json!(text)
        );
        self.until(&format!("has no button to press, “{text}”"), &script).await;
    }

    /// Waits until no gate is left, and checks again as a person would: a busy machine answers slowly, or is
    /// late with a change, and a gate says so.
    pub(super) async fn every_gate_passes(&self) {
        let script = "
            if (document.body.innerText.includes('Every gate passes.')) return true;
            const at = document.querySelector('dialog[open]') ?? document;
            const again = [...at.querySelectorAll('button')].find((b) => b.innerText.trim() === 'Check again');
            again?.click();
            return false";
        self.until("waits for a gate", script).await;
    }

    /// Waits until a script returns true, or says what the page shows instead.
    async fn until(&self, lacks: &str, script: &str) {
        let holds = tokio::time::timeout(PATIENCE, async {
            while self.run(script).await != json!(true) {
                tokio::time::sleep(LOOK).await;
            }
        });
        if holds.await.is_err() {
            let shows = self.run("return document.body.innerText").await;
            panic!("after {PATIENCE:?} the page {lacks}: {shows}");
        }
    }

    /// Makes the window that of a phone.
    pub(super) async fn be_a_phone(&self) {
        let size = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
        let asked = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size });
        self.call(Method::POST, "/goog/cdp/execute", &asked).await;
    }

    /// Ends the browser.
    pub(super) async fn close(self) {
        self.call(Method::DELETE, "", &json!({})).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = Run::new("kill").args(["-KILL", &self.process]).stderr(Stdio::null()).status();
    }
}
