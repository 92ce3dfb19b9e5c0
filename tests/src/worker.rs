//! An application as small as can be, in a process of its own: it embeds one store under an instance, does
//! what it is told line by line, and answers each line with one line of JSON. Between two lines it holds no
//! transaction.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lockstep::instance::{Instance, InstanceOptions};
use lockstep::store::Store;
use lockstep_core::{Error, MigratableTable};
use lockstep_dynamo::{Target, TargetOptions};
use lockstep_integration_logs::{IntegrationLogs, LogKey};
use lockstep_postgres::{Source, SourceOptions, TableBinding};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::world::LOGS;
use crate::world::rows::log_row;
use crate::writer;

/// First argument of a process that is to be a worker; its name and its lease in milliseconds follow.
pub const ARGUMENT: &str = "worker-under-test";

/// Runs a worker or a writer if the arguments say so; `None` if they do not.
pub fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().filter(|what| [ARGUMENT, writer::ARGUMENT].contains(&what.as_str()))?;
    let name = arguments.next().expect("a name");
    let lease = Duration::from_millis(arguments.next().expect("a lease").parse().expect("milliseconds"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    match what.as_str() {
        ARGUMENT => runtime.block_on(run(InstanceOptions { name, lease })),
        _ => runtime.block_on(writer::run(
            name.parse().expect("a number"),
            lease,
            &arguments.next().expect("a file"),
        )),
    }
    Some(ExitCode::SUCCESS)
}

/// The source that the variables name.
pub(crate) fn source_options(name: &str, connections_max: u32) -> SourceOptions {
    SourceOptions {
        url: variable("LOCKSTEP_SOURCE__URL"),
        password: lockstep_postgres::Password::InUrl,
        connections_max,
        connect_timeout: Duration::from_secs(5),
        application_name: name.to_owned(),
        control_schema: std::env::var("LOCKSTEP_SOURCE__CONTROL_SCHEMA")
            .unwrap_or_else(|_| lockstep_postgres::CONTROL_SCHEMA.to_owned()),
    }
}

/// The target that the variables name.
pub(crate) fn target_options() -> TargetOptions {
    TargetOptions {
        endpoint_url: Some(variable("LOCKSTEP_TARGET__ENDPOINT_URL")),
        region: Some("eu-central-1".to_owned()),
        emulator_credentials: true,
        control_table: std::env::var("LOCKSTEP_TARGET__CONTROL_TABLE")
            .unwrap_or_else(|_| TargetOptions::default().control_table),
        ..TargetOptions::default()
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

async fn run(options: InstanceOptions) {
    let source = Source::connect(&source_options(&format!("worker {}", options.name), 3))
        .await
        .expect("the source answers");
    let target = Target::connect(target_options()).await;
    let instance = Instance::start_with(&source, &target, options).await.expect("registers");
    let table: Arc<IntegrationLogs> = Arc::default();
    let binding = TableBinding {
        table: table.clone(),
        relation: LOGS.parse().expect("a name"),
        target_name: LOGS.to_owned(),
    };
    let store = Store::with_phase(source, target, table, binding, instance.phase());
    let mut out = tokio::io::stdout();
    say(&mut out, &json!({ "id": instance.id() })).await;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("stdin is readable") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["phase"] => instance
                .control()
                .map(|c| json!({ "phase": c.phase, "epoch": c.epoch }))
                .ok_or("fenced".to_owned()),
            ["read", id] => {
                let read = store.get(&key(id.parse().expect("a number"))).await;
                read.map(|row| json!({ "user_id": row.and_then(|row| row.user_id) })).map_err(text)
            }
            ["write", id, user_id] => {
                let wrote = store.put(&log_row(id.parse().expect("a number"), user_id)).await;
                wrote.map(|o| json!({ "phase": o.control.phase, "epoch": o.control.epoch })).map_err(text)
            }
            _ => panic!("{line}?"),
        };
        say(&mut out, &answer.unwrap_or_else(|error| json!({ "error": error }))).await;
    }
    // The test has nothing more to say: the graceful end.
    instance.shutdown().await;
}

fn text(error: Error) -> String {
    format!("{:?}: {error}", error.kind)
}

async fn say(out: &mut tokio::io::Stdout, what: &Value) {
    out.write_all(format!("{what}\n").as_bytes()).await.expect("stdout is writable");
    out.flush().await.expect("stdout is writable");
}

/// The key of the row that a worker writes under an id, or a stranger for service `a`.
pub fn key(log_id: i64) -> LogKey {
    IntegrationLogs::key(&log_row(log_id, ""))
}
