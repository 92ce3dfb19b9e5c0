//! Poolers between Lockstep and PostgreSQL: named and refused, and no hindrance to who writes through them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use lockstep_core::{Kind, Phase};
use lockstep_postgres::{Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::log;
use sqlx::{Connection, PgConnection};
use tokio::process::{Child, Command};

fn program() -> Option<PathBuf> {
    let paths = [
        "/usr/sbin/pgbouncer",
        "/usr/bin/pgbouncer",
        "/opt/homebrew/bin/pgbouncer",
        "/usr/local/bin/pgbouncer",
    ];
    paths.map(PathBuf::from).into_iter().find(|path| path.is_file())
}

struct Pooler {
    _child: Child,
    _folder: tempfile::TempDir,
    url: String,
}

/// Starts one in front of the world's PostgreSQL.
async fn start(world: &World, program: &Path, mode: &str, more: &str) -> Pooler {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pgbouncer.ini");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("an address").port()
    };
    let options = world.connect_options();
    let (_, rest) = world.url().split_once("://").expect("a URL");
    let (who, _) = rest.rsplit_once('@').expect("who connects");
    let (user, password) = who.split_once(':').expect("a password");
    let database = options.get_database().expect("a database");
    let text = format!(
        "[databases]\n{database} = host={} port={} user={user} password={password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 5\n{more}\n",
        options.get_host(),
        options.get_port(),
    );
    std::fs::write(&file, text).expect("written");
    #[cfg(unix)]
    for (path, mode) in [(folder.path(), 0o755), (file.as_path(), 0o644)] {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("set");
    }
    let mut command = Command::new(program);
    // It refuses to run as root.
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        command.args(["-u", "nobody"]);
    }
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let child = command.spawn().expect("it starts");
    let url = format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
    eventually("the pooler takes connections", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    Pooler { _child: child, _folder: folder, url }
}

/// V15: half of what a pooler does to a session showed late, and in a way that did not say why.
#[tokio::test]
async fn a_pooler_is_named_and_refused_in_every_mode_and_writes_through_it_are_captured() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/install-pgbouncer");
    let _ = std::process::Command::new(script).status().expect("the script runs");
    let Some(program) = program() else {
        // Silent, the workflow left it out for months: the runner's image has none.
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "CI needs PgBouncer: tests/install-pgbouncer says what is missing");
        eprintln!("\n\n== LEFT OUT: no pooler was tried; see tests/install-pgbouncer ==\n\n");
        return;
    };
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let lost = "ignore_startup_parameters = options,extra_float_digits";
    for (mode, more, says) in [
        ("session", "", "PgBouncer"),
        ("transaction", "", "PgBouncer"),
        ("session", lost, "ignore_startup_parameters"),
        ("transaction", lost, "transaction mode"),
    ] {
        let pooler = start(&world, &program, mode, more).await;
        let options = SourceOptions { url: pooler.url.clone(), ..world.source_options() };
        let error = Source::connect_as_operator(&options).await.expect_err("it is no PostgreSQL");
        assert_eq!(error.kind, Kind::Misconfigured, "{mode} {more}: {error}");
        assert!(error.message.contains(says), "{mode} {more}: {error}");
        assert!(error.message.contains("address of PostgreSQL itself"), "{error}");
        // An application of ours as well: its statements depend on what its sessions set.
        let error = Source::connect(&options).await.expect_err("it is no PostgreSQL");
        assert_eq!(error.kind, Kind::Misconfigured, "{mode} {more}: {error}");
    }
    let pooler = start(&world, &program, "transaction", lost).await;
    let mut stranger = PgConnection::connect(&pooler.url).await.expect("a stranger connects");
    sqlx::raw_sql(sqlx::AssertSqlSafe(log(5_001, "through"))).execute(&mut stranger).await.expect("written");
    assert_eq!(world.pending(lockstep_tests::world::LOGS).await.len(), 1, "it is captured");
    world.relay_until_empty().await;
    world.assert_converged().await;
}
