//! The page and the runbook, as files of this program. Nothing else is served, so there is no path to climb
//! out of.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};

use super::answer::with_type;

const INDEX: &str = include_str!("../../assets/index.html");
const STYLE: &str = include_str!("../../assets/style.css");
/// Runbook to which alerts lead, readable while nothing but this daemon can be reached.
const RUNBOOK: &str = include_str!("runbook.md");
/// One module of many files, in reading order.
const SCRIPT: &str = concat!(
    include_str!("../../assets/app/text.js"),
    include_str!("../../assets/app/dom.js"),
    include_str!("../../assets/app/api.js"),
    include_str!("../../assets/app/lines.js"),
    include_str!("../../assets/app/phases.js"),
    include_str!("../../assets/app/tables.js"),
    include_str!("../../assets/app/stores.js"),
    include_str!("../../assets/app/side.js"),
    include_str!("../../assets/app/notices.js"),
    include_str!("../../assets/app/runbook.js"),
    include_str!("../../assets/app/dialogs.js"),
    include_str!("../../assets/app/turn.js"),
    include_str!("../../assets/app/main.js"),
);
/// Nothing but our own files runs or is loaded, and no other page may frame this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

fn asset(content_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = with_type(StatusCode::OK, HeaderValue::from_static(content_type), text);
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) async fn index() -> Response<Body> {
    asset("text/html; charset=utf-8", INDEX)
}

pub(super) async fn script() -> Response<Body> {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn style() -> Response<Body> {
    asset("text/css; charset=utf-8", STYLE)
}

pub(super) async fn runbook() -> Response<Body> {
    asset("text/plain; charset=utf-8", RUNBOOK)
}
