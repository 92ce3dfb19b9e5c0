//! Every route there is, once: the router is made from this list, and so is the OpenAPI document.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post};

use super::answer::{Refusal, ok_json};
use super::body::discard;
use super::route::{Route, act_route, alias_route, asking_alias_route, open_route, read_route};
use super::{acts, aliases, open, page, plan, reads, settings};
use crate::shared::Shared;

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    open_route("/", "The page", || get(page::index)),
    open_route("/app.js", "The page's script", || get(page::script)),
    open_route("/style.css", "The page's style", || get(page::style)),
    open_route("/runbook.md", "Steps to take for each alert", || get(page::runbook)),
    open_route("/healthz", "Whether the daemon lives", || get(open::healthz)),
    open_route("/readyz", "Whether it can do its work, and why not", || get(open::readyz)),
    open_route("/metrics", "Metrics for Prometheus", || get(open::metrics)),
    read_route("/v1/status", "Everything, as of the newest reading", &[], || get(reads::status)),
    read_route("/v1/events", "The same as server-sent events", &[], || get(reads::events)),
    read_route("/v1/health", "Healthy, degraded or broken, and why", &[], || get(reads::health)),
    read_route("/v1/tables", "Each table", &[], || get(reads::tables)),
    read_route("/v1/tables/{name}", "One table", &[], || get(reads::table)),
    read_route("/v1/instances", "Instances of applications", &[], || get(reads::instances)),
    read_route("/v1/journal", "The newest entries of the journal", &["limit"], || get(reads::journal)),
    read_route("/v1/dead-letters", "Rows that were set aside", &["table", "limit"], || {
        get(reads::dead_letters)
    }),
    read_route("/v1/findings", "Findings of the newest verdict, without values", &[], || {
        get(reads::findings)
    }),
    read_route("/v1/verdicts", "The newest verdict", &[], || get(reads::verdicts)),
    read_route("/v1/gates", "Gates that a step still waits for", &["to"], || get(reads::gates)),
    read_route("/v1/operations", "The newest operations", &[], || get(reads::operations)),
    read_route("/v1/operations/{id}", "One operation", &[], || get(reads::operation)),
    read_route("/v1/openapi.json", "This document", &[], || get(openapi)),
    act_route("/v1/advance", "Takes all tables forward", "Step", || post(acts::advance)),
    act_route("/v1/rollback", "Takes all tables back", "Step", || post(acts::rollback)),
    act_route("/v1/validate", "Compares both sides and records the verdict", "Validate", || {
        post(acts::validate)
    }),
    act_route("/v1/repair", "Brings findings to what PostgreSQL says", "Repair", || post(acts::repair)),
    act_route("/v1/test-operation", "Tries the way of a write, and leaves nothing", "Common", || {
        post(acts::test_operation)
    }),
    act_route("/v1/pause", "Pauses parts of the daemon", "Pause", || post(settings::pause)),
    act_route("/v1/resume", "Lets them go on", "Pause", || post(settings::resume)),
    read_route("/v1/settings", "Settings that operators have turned, and those there are", &[], || {
        get(settings::list)
    }),
    read_route("/v1/cost", "Cost of the migration so far", &[], || get(reads::cost)),
    read_route("/v1/plan", "Hours, write units and dollars of the move, from samples", &[], || {
        get(plan::plan)
    }),
    act_route("/v1/settings", "Changes settings; without `set` it lists them", "Settings", || {
        post(settings::settings)
    }),
    alias_route("/api/migration/enable-dual-write", "Alias of /v1/advance to DualWrite", || {
        post(aliases::enable_dual_write)
    }),
    alias_route("/api/migration/switch-to-dynamo-reads", "Alias of /v1/advance to HybridRead", || {
        post(aliases::switch_to_dynamo_reads)
    }),
    alias_route("/api/migration/disable-sql-writes", "Alias of /v1/advance to DynamoOnly", || {
        post(aliases::disable_sql_writes)
    }),
    alias_route("/api/migration/test-dual-write", "Alias of /v1/test-operation", || {
        post(aliases::test_dual_write)
    }),
    asking_alias_route(
        "/api/migration/validate-consistency",
        "Alias of /v1/validate, of the days from `startDate` to `endDate`, or of the last one",
        &["startDate", "endDate"],
        || get(aliases::validate_consistency),
    ),
    read_route("/dual-write/status", "Alias of /v1/status", &[], || get(reads::status)),
    read_route("/dual-write/health", "Alias of /v1/health", &[], || get(reads::health)),
    read_route("/dual-write/metrics", "Numbers of each table", &[], || get(aliases::metrics)),
    alias_route("/dual-write/validate-sync/{table}/{key}", "Alias of /v1/validate, of one row", || {
        post(aliases::validate_sync)
    }),
    alias_route("/dual-write/test-operation", "Alias of /v1/test-operation", || {
        post(aliases::test_dual_write)
    }),
];

/// Returns the OpenAPI document of the list.
///
/// Boxed, because the list holds it and it reads the list: a future without a name of its own would be part
/// of its own type.
fn openapi() -> Pin<Box<dyn Future<Output = axum::http::Response<Body>> + Send>> {
    Box::pin(async { ok_json(StatusCode::OK, &super::openapi::document(ROUTES)) })
}

/// Returns the router of the list.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.make)());
    }
    router
        .fallback(async |body: Body| {
            discard(body).await;
            Refusal::not_found("there is no such route; /v1/openapi.json lists them")
        })
        .method_not_allowed_fallback(async |body: Body| {
            discard(body).await;
            Refusal::method_not_allowed()
        })
        .with_state(shared)
}

#[cfg(test)]
mod tests {
    use super::super::openapi::document;
    use super::super::route::Needs;
    use super::*;

    #[test]
    fn every_route_of_v1_needs_a_token_and_every_one_that_acts_the_one_to_operate() {
        for route in ROUTES {
            let open = ["/", "/app.js", "/style.css", "/runbook.md", "/healthz", "/readyz", "/metrics"]
                .contains(&route.path);
            assert_eq!(route.needs == Needs::Nothing, open, "{}", route.path);
            if route.method == "post" {
                assert_eq!(route.needs, Needs::Operate, "{}", route.path);
            }
        }
    }

    #[test]
    fn the_document_has_every_route_and_resolves_every_reference() {
        let document = document(ROUTES);
        for route in ROUTES {
            assert!(
                document["paths"][route.path][route.method].is_object(),
                "{} {}",
                route.method,
                route.path
            );
        }
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().expect("it ends");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
