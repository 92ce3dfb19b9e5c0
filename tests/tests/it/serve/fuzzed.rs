//! Requests at random against every route of the document: none is answered with 5xx, none tells a secret,
//! and without a token nothing is changed.

use std::time::Duration;

use hyper::{Method, StatusCode};
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::within;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::served::{OPERATE, READ, Served};

/// A text that something may stumble over.
fn text(random: &mut StdRng) -> String {
    const TEXTS: [&str; 14] = [
        "",
        "payments",
        "x",
        "../../etc/passwd",
        "' OR 1=1 --",
        "%00",
        "%ff",
        "\u{202e}right",
        "DualWrite",
        "NaN",
        "-1",
        "1e999",
        "ｆｕｌｌ",
        "🦀",
    ];
    match random.random_range(0..4) {
        0 => "a".repeat(random.random_range(0..2_000)),
        1 => random.random_range(i64::MIN..i64::MAX).to_string(),
        _ => TEXTS[random.random_range(0..TEXTS.len())].to_owned(),
    }
}

/// A value of any kind.
fn value(random: &mut StdRng, depth: u32) -> Value {
    match random.random_range(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.random_bool(0.5)),
        2 => json!(random.random_range(-3..200_000_i64)),
        3 => json!(random.random_range(-1e30..1e30)),
        4 | 5 => json!(text(random)),
        6 => (0..random.random_range(0..4)).map(|_| value(random, depth - 1)).collect(),
        _ => (0..random.random_range(0..4))
            .map(|_| (text(random), value(random, depth - 1)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// A body for a schema of the document: some fields as they are to be, some not, some that there are not.
fn body(random: &mut StdRng, document: &Value, schema: &str) -> Value {
    let properties = document
        .pointer(&format!("{}/properties", schema.trim_start_matches('#')))
        .and_then(Value::as_object);
    let mut body = serde_json::Map::new();
    for (name, schema) in properties.into_iter().flatten() {
        if random.random_bool(0.6) {
            continue;
        }
        let fits = match schema["type"].as_str() {
            Some("integer") => json!(random.random_range(0..40)),
            Some("boolean") => json!(random.random_bool(0.5)),
            Some("string") => {
                schema["enum"].as_array().map_or_else(|| json!(text(random)), |words| words[0].clone())
            }
            _ => value(random, 2),
        };
        body.insert(name.clone(), if random.random_bool(0.7) { fits } else { value(random, 2) });
    }
    // A step would be taken, if it may be: what is tried here is what is asked, not what is done.
    body.insert("dry_run".to_owned(), json!(true));
    if random.random_bool(0.1) {
        body.insert(text(random), value(random, 1));
    }
    Value::Object(body)
}

/// Whether it is a route of the reference application.
fn is_alias(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/dual-write/")
}

/// A path with something in each of its places.
fn filled(random: &mut StdRng, path: &str) -> String {
    let mut place = path.to_owned();
    for name in ["{name}", "{id}", "{table}", "{key}"] {
        let encoded: String = text(random).bytes().take(200).map(|byte| format!("%{byte:02x}")).collect();
        place = place.replace(name, if encoded.is_empty() { "x" } else { &encoded });
    }
    place
}

async fn state_of(world: &World) -> String {
    world
        .value(
            "SELECT (SELECT count(*) || '' FROM lockstep.journal) || ' ' || (SELECT phase || epoch FROM lockstep.control)
                 || ' ' || (SELECT count(*) FROM lockstep.settings) || ' ' || (SELECT count(*) FROM lockstep.verdicts)",
        )
        .await
}

#[tokio::test]
async fn requests_at_random_are_never_answered_with_5xx_and_change_nothing_without_a_token() {
    const SEED: u64 = 20_261_128;
    const REQUESTS: usize = 1_500;
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served
        .until("it leads", |status| status["daemon"]["role"] == "leader" && status["installed"] == true)
        .await;
    let document = served.get("/v1/openapi.json").await.json();
    let routes: Vec<(String, String, Value)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").clone();
            methods.into_iter().map(|(method, operation)| (path.clone(), method, operation))
        })
        .collect();
    assert!(routes.len() > 35, "{}", routes.len());
    let mut random = StdRng::seed_from_u64(SEED);
    let before = state_of(&world).await;
    let mut answered = std::collections::BTreeMap::<u16, usize>::new();
    for number in 0..REQUESTS {
        let (path, method, operation) = &routes[random.random_range(0..routes.len())];
        let mut place = filled(&mut random, path);
        if random.random_bool(0.3) {
            let query: String =
                text(&mut random).bytes().take(100).map(|byte| format!("%{byte:02X}")).collect();
            place += &format!("?{}={query}", ["limit", "to", "table", "x"][random.random_range(0..4)]);
        }
        let method: Method = match random.random_range(0..10) {
            0 => [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS][random.random_range(0..4)]
                .clone(),
            _ => method.to_uppercase().parse().expect("a method"),
        };
        let schema =
            operation.pointer("/requestBody/content/application~1json/schema/$ref").and_then(Value::as_str);
        let sent = match (schema, random.random_range(0..10)) {
            // Without a body a step is asked for, and no dry run of it.
            (_, 0) => {
                Some(text(&mut random)).filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
            }
            (Some(schema), _) => body(&mut random, &document, schema).to_string(),
            (None, _) => String::new(),
        };
        // What an alias does cannot be tried without doing it: here only those ask for it who may not.
        let token = match random.random_range(0..4) {
            0 => None,
            1 => Some(READ),
            _ if is_alias(path) => Some(READ),
            _ => Some(OPERATE),
        };
        let bearer = format!("Bearer {}", token.unwrap_or("not-the-token-at-all"));
        let mut headers = vec![("authorization", bearer.as_str())];
        if random.random_bool(0.9) {
            headers.push(("content-type", "application/json"));
        }
        let answer = served.ask(method.clone(), &place, &headers, &sent).await;
        let status = answer.status.as_u16();
        *answered.entry(status).or_default() += 1;
        assert!(
            status < 500,
            "request {number} of seed {SEED}: {method} {place} {sent}: {status} {}",
            answer.text
        );
        assert!(
            !answer.text.contains(OPERATE) && !answer.text.contains(READ),
            "{method} {place} tells a token"
        );
        let is_open = !path.starts_with("/v1") && !is_alias(path);
        if token.is_none() && !is_open {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {place}");
        }
    }
    assert_eq!(state_of(&world).await, before, "{answered:?}");
    assert!(answered.len() >= 5 && answered[&200] > 100, "the requests say little: {answered:?}");
    aliases_do_what_they_are_asked(&served, &routes, &mut random).await;
    assert_eq!(state_of(&world).await.split(' ').nth(1), before.split(' ').nth(1), "no step was taken");
    assert_eq!(served.open("/healthz").await.status, StatusCode::OK);
}

/// Requests at random by who may act: operations begin, are refused, or are in each other's way.
async fn aliases_do_what_they_are_asked(
    served: &Served,
    routes: &[(String, String, Value)],
    random: &mut StdRng,
) {
    const REQUESTS: usize = 200;
    let aliases: Vec<_> = routes.iter().filter(|(path, ..)| is_alias(path)).collect();
    assert!(aliases.len() >= 10, "{aliases:?}");
    let bearer = format!("Bearer {OPERATE}");
    let (mut begun, mut answered) = (0, std::collections::BTreeMap::<(String, u16), usize>::new());
    for number in 0..REQUESTS {
        let (path, method, _) = aliases[random.random_range(0..aliases.len())];
        let mut place = filled(random, path);
        if path.ends_with("validate-sync/{table}/{key}") && random.random_bool(0.5) {
            place = "/dual-write/validate-sync/payments/3".to_owned();
        }
        if random.random_bool(0.5) {
            let day = ["2026-11-01", "2026-11-02T03:04:05Z", "yesterday", "%ff", ""];
            let mut one_of = || day[random.random_range(0..day.len())];
            place += &format!("?startDate={}&endDate={}", one_of(), one_of());
        }
        let sent = if random.random_bool(0.3) { value(random, 2).to_string() } else { String::new() };
        let method: Method = method.to_uppercase().parse().expect("a method");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let ask = async || loop {
            let answer = served.ask(method.clone(), &place, &headers, &sent).await;
            // What was asked before has used up what may be asked in a second.
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                return answer;
            }
            tokio::task::yield_now().await;
        };
        let answer = within(Duration::from_mins(1), ask()).await;
        let status = answer.status;
        assert!(
            !status.is_server_error(),
            "request {number}: {method} {place} {sent}: {status} {}",
            answer.text
        );
        assert!(!answer.text.contains(OPERATE) && !answer.text.contains(READ), "{place} tells a token");
        *answered.entry((path.clone(), status.as_u16())).or_default() += 1;
        begun += usize::from(status == StatusCode::ACCEPTED);
        // Some are seen through, so that others begin; the rest is in each other's way.
        if status == StatusCode::ACCEPTED && begun < 20 {
            none_is_under_way(served).await;
        }
    }
    assert!(begun > 5, "{begun} operations began: {answered:?}");
    none_is_under_way(served).await;
}

async fn none_is_under_way(served: &Served) {
    served
        .until("they end", |status| {
            let operations = status["daemon"]["operations"].as_array().expect("operations");
            operations.iter().all(|operation| operation["state"] != "running")
        })
        .await;
}
