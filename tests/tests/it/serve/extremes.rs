//! Ends of each type that an application's role may write into tables of ours: no command and no daemon ends
//! by them, and nothing that it writes acts on a terminal.

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use sqlx::{Connection, PgConnection};

use super::served::Served;
use crate::process::{command, ended};
use crate::roles::{grants, role};

/// Tables that it may write, with a row of each: `{n}` is another number each time.
const WRITABLE: [(&str, &[(&str, &str)]); 3] = [
    (
        "instances",
        &[
            ("id", "{n}"),
            ("name", "'n'"),
            ("host", "'h'"),
            ("pid", "1"),
            ("started_at", "now()"),
            ("lease_ms", "60000"),
        ],
    ),
    (
        "pending",
        &[("table_name", "'payments'"), ("key", "'[{n}]'"), ("version", "nextval('lockstep.version_seq')")],
    ),
    (
        "intents",
        &[
            ("xid", "pg_current_xact_id()"),
            ("table_name", "'payments'"),
            ("key", "'[{n}]'"),
            ("repair_version", "nextval('lockstep.version_seq')"),
        ],
    ),
];

/// Ends of a type, as literals.
fn ends_of(sql_type: &str) -> &'static [&'static str] {
    match sql_type {
        "bigint" => &["'9223372036854775807'", "'-9223372036854775808'", "'0'", "'-1'"],
        "timestamp with time zone" => &[
            "'294276-12-31 23:59:59.999999+00'",
            "'4713-01-01 00:00:00+00 BC'",
            "'262143-12-31 23:59:59+00'",
            "'infinity'",
            "'-infinity'",
        ],
        "text" | "name" => &["''", "repeat('x', 300000)", "E'\\u0001\\u009b2J\\u202etxt'"],
        "jsonb" => {
            &["'null'", "'[1e4000]'", "'[]'", "'[null]'", "'[{\"a\": [[[1]]]}]'", "'[-1e-400, \"\\u0001\"]'"]
        }
        "xid8" => &["'0'", "'3'", "'18446744073709551615'", "'9223372036854775808'"],
        other => panic!("the ends of {other} are not told here"),
    }
}

/// Writes each end of each column that the role may write; returns how many were taken.
async fn write_the_ends(app: &mut PgConnection, world: &World) -> usize {
    let (mut n, mut taken) = (1_000, 0);
    for (table, row) in WRITABLE {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = pg_catalog.to_regclass('lockstep.' || $1) AND a.attnum > 0
                 AND NOT a.attisdropped ORDER BY a.attnum",
        )
        .bind(table)
        .fetch_all(world.strangers())
        .await
        .expect("the catalogue is read");
        assert!(columns.len() >= row.len(), "{table}: {columns:?}");
        for (column, sql_type) in columns {
            for end in ends_of(&sql_type) {
                n += 1;
                let others = row.iter().filter(|(name, _)| *name != column);
                let (mut names, mut values) = (vec![column.as_str()], vec![(*end).to_owned()]);
                for (name, value) in others {
                    names.push(name);
                    values.push(value.replace("{n}", &n.to_string()));
                }
                let sql = format!(
                    "INSERT INTO lockstep.{table} ({}) VALUES ({})",
                    names.join(", "),
                    values.join(", ")
                );
                // What is refused is not there to be read.
                let tried = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *app).await;
                taken += usize::from(tried.is_ok());
            }
        }
    }
    taken
}

/// 1. A role registers an instance of the year 294276, or of before this era. 2. Each command that reads the
/// instances ends by a panic, the way back included, and the daemon at each start.
#[tokio::test]
async fn no_end_of_a_type_that_a_role_writes_ends_a_command_or_the_daemon() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (name, source) = role(&world, "mallory").await;
    world.sql(&grants(&name)).await;
    let mut app = PgConnection::connect(&source.url).await.expect("connects");
    let taken = write_the_ends(&mut app, &world).await;
    assert!(taken >= 30, "most of them are taken: {taken}");
    let late: i64 = world
        .value(
            "SELECT count(*) FROM lockstep.instances WHERE started_at > clock_timestamp()
             OR started_at < '2000-01-01' OR renewed_at > clock_timestamp()",
        )
        .await;
    assert_eq!(late, 0, "what a role says of a time is brought within what can be said");
    // Rows of before the guard: it judges none of the owner's.
    world
        .sql(
            "INSERT INTO lockstep.instances (id, name, host, pid, started_at, renewed_at, lease_ms) VALUES
             (-6, 'n', 'h', 1, '294276-12-31 AD', '294276-12-31 AD', 60000),
             (-7, 'n', 'h', 1, '4713-01-01 BC', '4713-01-01 BC', 60000)",
        )
        .await;
    let listed = world.source.instances().await.expect("listed");
    assert!(listed.iter().any(|row| row.id == -6) && listed.iter().any(|row| row.id == -7));
    for arguments in [
        &["status", "--json"][..],
        &["status"],
        &["doctor"],
        &["doctor", "--json"],
        &["rollback", "--dry-run"],
        &["repair", "--state"],
    ] {
        let output = ended(command(&world, arguments)).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked") && !stderr.contains("a bug"), "{arguments:?}: {stderr}");
        assert!(output.status.code().is_some_and(|code| code < 100), "{arguments:?}: {stderr}");
        if arguments == ["status", "--json"] {
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(told["instances"].as_array().map(Vec::len), Some(listed.len()), "{told}");
        }
    }
    let served = Served::of(&world).await;
    let read_at = async || served.status().await["daemon"]["polled_at"].as_str().map(str::to_owned);
    for _ in 0..3 {
        let before = read_at().await;
        eventually("the migration is read again", || async {
            read_at().await.is_some_and(|at| Some(&at) != before.as_ref())
        })
        .await;
    }
    assert_eq!(served.status().await["daemon"]["stores"]["postgresql"]["up"], true);
    let mut child = served.child;
    assert!(child.try_wait().expect("asked").is_none(), "the daemon lives");
}

/// 1. A role names an instance with what a terminal acts on. 2. An operator looks at the API with `curl`.
#[tokio::test]
async fn no_json_of_the_api_acts_on_a_terminal() {
    const HOSTILE: &str = "svc\u{1b}]0;pwn\u{7}\u{9b}2J\u{202e}gpj\u{2066}";
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let register = format!(
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms)
         VALUES (7, '{HOSTILE}', '{HOSTILE}', 1, now(), 60000);
         INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason)
         VALUES ('payments', jsonb_build_array('{HOSTILE}'), 1, 'relay', '{HOSTILE}')"
    );
    world.sql(&register).await;
    let served = Served::of(&world).await;
    eventually("the instance is shown", || async {
        served.status().await["instances"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(|row| row["name"] == HOSTILE))
    })
    .await;
    let document = served.get("/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths");
    let reads = paths.iter().filter(|(path, methods)| methods.get("get").is_some() && *path != "/v1/events");
    let mut shown = 0;
    for (path, _) in reads {
        let filled = path.replace("{name}", "payments").replace("{table}", "payments");
        let answer = served.get(&filled.replace("{id}", "x").replace("{key}", "7")).await;
        let acting = answer.text.chars().find(|c| lockstep_core::acts(*c) && !matches!(c, '\n' | '\t'));
        assert_eq!(acting, None, "{path}: {}", answer.text.escape_debug());
        shown += usize::from(answer.text.contains("\\u202e"));
    }
    assert!(shown >= 2, "the status and the rows that were set aside have it, and others: {shown}");
}
