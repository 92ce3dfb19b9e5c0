//! The OpenAPI document, made from the list of routes: what it says is what the router serves.

use lockstep_core::settings::KNOBS;
use serde_json::{Map, Value, json};

use super::route::{Needs, Route};

/// Returns the document.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lockstep", "version": env!("CARGO_PKG_VERSION"),
            "description": "API of `lockstep serve`. Reading needs the read or the operate token, acting the operate token.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
            "responses": {
                "Refused": { "description": "Why it was not done", "content": { "application/json": { "schema": reference("Error") } } },
            },
        },
    })
}

/// Returns what a pause without parts is of.
fn without_parts() -> String {
    let paused = crate::part::PAUSED_BY_DEFAULT.join(" and ");
    format!("Without it, a pause is of {paused}, and a resume of everything that may rest.")
}

/// Returns a schema with a sentence.
fn described(schema: &Value, sentence: &str) -> Value {
    let mut schema = schema.clone();
    schema["description"] = Value::from(sentence);
    schema
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        parameters
            .push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    for name in route.query {
        let schema = match *name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 500 }),
            "to" => reference("Phase"),
            _ => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": name, "in": "query", "required": false, "schema": schema }));
    }
    if route.needs == Needs::Operate {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" });
        parameters
            .push(json!({ "name": "Idempotency-Key", "in": "header", "required": false, "schema": schema }));
    }
    let mut operation =
        json!({ "summary": route.about, "operationId": id_of(route), "responses": responses(route) });
    if !parameters.is_empty() {
        operation["parameters"] = Value::from(parameters);
    }
    if route.needs != Needs::Nothing {
        operation["security"] = json!([{ "token": [] }]);
    }
    if let Some(body) = route.body {
        operation["requestBody"] =
            json!({ "required": false, "content": { "application/json": { "schema": reference(body) } } });
    }
    operation
}

fn id_of(route: &Route) -> String {
    let path: Vec<&str> =
        route.path.split(['/', '-', '.', '{', '}']).filter(|part| !part.is_empty()).collect();
    format!("{}_{}", route.method, if path.is_empty() { "page".to_owned() } else { path.join("_") })
}

fn content_type(route: &Route) -> &'static str {
    match route.path {
        "/" => "text/html",
        "/app.js" => "text/javascript",
        "/style.css" => "text/css",
        "/metrics" | "/runbook.md" => "text/plain",
        "/v1/events" => "text/event-stream",
        _ => "application/json",
    }
}

fn responses(route: &Route) -> Value {
    let schema = if content_type(route) == "application/json" {
        json!({ "type": "object" })
    } else {
        json!({ "type": "string" })
    };
    let content = json!({ content_type(route): { "schema": schema } });
    let mut responses = json!({ "200": { "description": "Done", "content": content } });
    let refused = || json!({ "$ref": "#/components/responses/Refused" });
    if route.path == "/readyz" {
        responses["503"] = json!({ "description": "Not ready", "content": { "application/json": { "schema": { "type": "object" } } } });
    }
    let mut codes = vec!["421"];
    if route.needs != Needs::Nothing {
        codes.extend(["400", "401", "404", "409", "422", "429", "503"]);
    }
    if route.needs == Needs::Operate {
        codes.extend(["403", "413", "415"]);
        responses["202"] = json!({
            "description": "It has begun; poll the resource that `Location` names",
            "content": { "application/json": { "schema": { "type": "object" } } },
        });
    }
    for code in codes {
        responses[code] = refused();
    }
    responses
}

fn schemas() -> Value {
    let common = json!({
        "actor": { "type": "string", "maxLength": 100 }, "reason": { "type": "string", "maxLength": 500 },
        "dry_run": { "type": "boolean" }, "wait_s": { "type": "integer", "minimum": 0, "maximum": 30 },
    });
    let with = |fields: Value| {
        let mut properties = common.clone();
        if let (Some(all), Value::Object(fields)) = (properties.as_object_mut(), fields) {
            all.extend(fields);
        }
        json!({ "type": "object", "additionalProperties": false, "properties": properties })
    };
    let for_s = json!({ "type": "integer", "minimum": 1, "maximum": 315_360_000 });
    json!({
        "Phase": { "type": "string", "enum": ["PostgresOnly", "DualWrite", "HybridRead", "DynamoOnly"] },
        "Error": {
            "type": "object", "required": ["error"],
            "properties": { "error": {
                "type": "object", "required": ["code", "message"],
                "properties": { "code": { "type": "string" }, "message": { "type": "string" }, "operation": { "type": "string" } },
            } },
        },
        "Common": with(json!({})),
        "Step": with(json!({ "to": reference("Phase"), "force": { "type": "string", "maxLength": 500 } })),
        "Validate": with(json!({
            "mode": { "type": "string", "enum": ["full", "incremental", "sample"] },
            "sample": { "type": "integer", "minimum": 1, "maximum": 100_000 },
            "table": { "type": "string" }, "key": { "type": "string", "minLength": 1, "maxLength": 1_000 },
        })),
        "Repair": with(json!({ "max": { "type": "integer", "minimum": 1, "maximum": 100_000 }, "last": { "type": "boolean" } })),
        "Pause": with(json!({
            "parts": {
                "type": "array", "items": { "type": "string", "enum": crate::part::PAUSABLE },
                "description": without_parts(),
            },
            "for_s": described(&for_s, "Without it, until it is resumed."),
        })),
        "Settings": with(json!({
            "set": {
                "type": "object",
                "propertyNames": { "enum": KNOBS.iter().map(|knob| knob.name).collect::<Vec<_>>() },
                "description": "By name; `null` takes one back, to what each process is configured for.",
            },
            "for_s": described(&for_s, "Without it, until it is taken back."),
            "ramp": {
                "type": "object", "additionalProperties": false, "required": ["name", "steps", "hold_s"],
                "properties": {
                    "name": { "type": "string", "enum": ["canary_percent", "shadow_percent"] },
                    "steps": { "type": "array", "minItems": 1, "maxItems": 20, "items": { "type": "number", "minimum": 0, "maximum": 100 } },
                    "hold_s": { "type": "integer", "minimum": 1, "maximum": 2_592_000 },
                },
            },
        })),
    })
}
