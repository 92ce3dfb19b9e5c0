use std::path::Path;

use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};

use crate::process::{command, ended};

const PASSWORD: &str = "pl4nted-Passw0rd";
const KEY: &str = "pl4nted-secret-key";
const TOKEN: &str = "pl4nted-session-token";
/// A window's title, a screen that is cleared, C1's way to say the same, a text that is read backwards, a
/// line of its own.
const HOSTILE: &str = "svc\u{1b}]0;pwn\u{7}\u{1b}[2J\u{9b}2J\u{202e}gpj\u{2066}\nphase    DynamoOnly";

/// Looks for what must not be in anything that people or programs read.
#[track_caller]
fn scan(what: &str, bytes: &[u8]) {
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| panic!("{what} is not UTF-8"));
    for secret in [PASSWORD, KEY, TOKEN, "operator_with_secret:"] {
        assert!(!text.contains(secret), "a secret is in {what}");
    }
    for hostile in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{2066}'] {
        assert!(!text.contains(hostile), "{hostile:?} is in {what}: {}", text.escape_debug());
    }
    assert!(
        !text.lines().any(|line| line == "phase    DynamoOnly"),
        "data has made a line of its own in {what}"
    );
}

fn scan_file(path: &Path) {
    let bytes =
        std::fs::read(path).unwrap_or_else(|error| panic!("{} was not written: {error}", path.display()));
    scan(&path.display().to_string(), &bytes);
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).expect("there").permissions());
        assert_eq!(mode & 0o077, 0, "others read {}", path.display());
    }
}

/// Plants a row that differs, under a key that is hostile; an item that belongs to no row; a row that
/// DynamoDB cannot hold.
async fn differ(world: &World) {
    world.sql("ALTER TABLE integration_logs DISABLE TRIGGER ALL").await;
    world
        .sql(
            "UPDATE integration_logs SET user_id = 'another' WHERE log_id = 9; DELETE FROM payments WHERE
            payment_id = 3",
        )
        .await;
    world.sql("ALTER TABLE integration_logs ENABLE TRIGGER ALL").await;
    world
        .sql("ALTER TABLE integration_logs ENABLE ALWAYS TRIGGER zz_lockstep_capture_integration_logs")
        .await;
    world
        .sql("ALTER TABLE integration_logs ENABLE ALWAYS TRIGGER zz_lockstep_truncate_integration_logs")
        .await;
}

/// S9, S10, S19, S23, F22: the real commands, with everything logged that can be.
#[tokio::test]
async fn no_planted_secret_and_no_planted_escape_is_in_what_any_command_says_or_writes() {
    let world = World::start().await;
    let role: String = world.value("SELECT current_database()::text || '_operator_with_secret'").await;
    world.sql(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")).await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let url = format!("postgres://{role}:{PASSWORD}@{place}");
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 20)).await;
    let hostile = log_row(99, "u");
    sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE {LOGS} SET service_name = $1 WHERE log_id = 9")))
        .bind(HOSTILE)
        .execute(world.strangers())
        .await
        .expect("planted");
    drop(hostile);
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("audit.html");
    let said = async |arguments: &[&str]| {
        let mut command = command(&world, arguments);
        command
            .env("LOCKSTEP_SOURCE__URL", &url)
            .env("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "false")
            .env("AWS_ACCESS_KEY_ID", "AKIDPLANTED")
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .env("AWS_SESSION_TOKEN", TOKEN)
            .env("RUST_LOG", "trace")
            .current_dir(folder.path());
        let output = ended(command).await;
        let what = arguments.join(" ");
        scan(&format!("stdout of {what}"), &output.stdout);
        scan(&format!("stderr of {what}"), &output.stderr);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = said(&["migrate", "--live-writes", "0"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let phase: String = world.value("SELECT phase FROM lockstep.control").await;
    assert_eq!(phase, "DualWrite", "on configured stores nothing goes further unasked");
    assert!(
        stderr.contains(&format!("as {role}")) && stderr.contains(&format!("{LOGS} → {LOGS}")),
        "it says what it acts on"
    );
    differ(&world).await;
    let html = page.display().to_string();
    for arguments in [
        &["validate", "--no-relay", "--unmasked"][..],
        &["validate", "--json", "--unmasked"],
        &["report", "--html", &html],
        &["repair"],
        &["repair", "--json"],
        &["status"],
        &["doctor"],
        &["orphans"],
        &["dead-letters"],
        &["test-operation"],
        &["iam-policy", "--role", "operator", "--account", "123456789012"],
        &["grants", "--role", "read-only", "--to", "reader"],
    ] {
        let (code, stderr) = said(arguments).await;
        assert!(code.is_some() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    scan_file(&page);
    for table in ["journal", "verdicts"] {
        let kept: String = world
            .value(&format!(
                "SELECT coalesce(string_agg(t::text, ' '), '') FROM
            lockstep.{table} t"
            ))
            .await;
        assert!(
            ![PASSWORD, KEY, TOKEN].iter().any(|secret| kept.contains(secret)),
            "a secret is in lockstep.{table}"
        );
    }
    // Mistyped: a part of the password would be a parameter, a host or a path.
    for wrong in [
        format!("postgres://{role}:x?{PASSWORD}@{place}"),
        format!("postgres://{role}:x/{PASSWORD}@{place}"),
        format!("postgres://{place}?user={role}&pasword={PASSWORD}"),
        format!("postgres://{role}:{PASSWORD}@127.0.0.1:1/nowhere"),
    ] {
        let mut command = command(&world, &["status"]);
        command.env("LOCKSTEP_SOURCE__URL", &wrong).env("RUST_LOG", "trace");
        let output = ended(command).await;
        scan("stderr of a wrong URL", &output.stderr);
        assert!(matches!(output.status.code(), Some(2 | 5)), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(world.count(PAYMENTS).await, 19);
}

/// S9: anything but `verify-full` gives the password to any machine that answers.
#[tokio::test]
async fn a_source_beyond_this_machine_is_warned_of_or_refused_without_verified_tls() {
    let world = World::start().await;
    let mut warned = command(&world, &["status"]);
    warned
        .env("LOCKSTEP_SOURCE__URL", "postgres://u:p@db.invalid/loans")
        .env("LOCKSTEP_SOURCE__CONNECT_TIMEOUT_MS", "200");
    let output = ended(warned).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("warning") && stderr.contains("verify-full"), "{stderr}");
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let mut refused = command(&world, &["status"]);
    refused.env("LOCKSTEP_SOURCE__URL", "postgres://u:p@db.invalid/loans?sslmode=require");
    refused.env("LOCKSTEP_SOURCE__REQUIRE_VERIFIED_TLS", "true");
    let output = ended(refused).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("source.url") && stderr.contains("verify-full"), "{stderr}");
}

/// S22: a command in a file that everyone can write is everyone's command.
#[cfg(unix)]
#[tokio::test]
async fn commands_of_a_file_that_everyone_can_write_are_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    std::fs::write(&file, "[cleanup]\nbackup_check = \"touch ran\"\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("set");
    let mut refused = command(&world, &["cleanup", "--drop-source", "--yes"]);
    refused.current_dir(folder.path());
    let output = ended(refused).await;
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.path().join("ran").exists());
}

/// S8: what another role has put into schema `lockstep` is read by no command.
#[tokio::test]
async fn no_command_reads_a_schema_that_another_role_made() {
    let world = World::start().await;
    let (squatter, _) = crate::roles::role(&world, "squatter").await;
    world.sql("CREATE TABLE public.called (what text); CREATE SCHEMA lockstep").await;
    world
        .sql(
            "CREATE FUNCTION lockstep.evil() RETURNS bigint LANGUAGE sql AS
             $$ INSERT INTO public.called VALUES ('evil'); SELECT 1::bigint $$;
             CREATE VIEW lockstep.control AS
             SELECT true AS singleton, 'DualWrite'::text AS phase, lockstep.evil() AS epoch,
                 clock_timestamp() AS changed_at",
        )
        .await;
    world
        .sql(&format!(
            "ALTER SCHEMA lockstep OWNER TO {squatter}; ALTER FUNCTION lockstep.evil() OWNER TO {squatter}"
        ))
        .await;
    for arguments in [
        &["status"][..],
        &["doctor"],
        &["relay", "--until-empty"],
        &["validate"],
        &["advance"],
        &["backfill"],
    ] {
        let output = ended(command(&world, arguments)).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(&squatter), "{arguments:?}: {stderr}");
    }
    let called: i64 = world.value("SELECT count(*) FROM public.called").await;
    assert_eq!(called, 0);
}
