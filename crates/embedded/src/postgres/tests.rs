//! A real cluster, started, used, crashed, kept, and removed in every way a process can end.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{account::Account, binaries::Binaries, *};

/// The environment variable that turns `owner_process` from nothing into the owner of a cluster in that
/// folder.
const OWNER_PARENT: &str = "LOCKSTEP_EMBEDDED_TEST_PARENT";

#[tokio::test]
async fn a_cluster_answers_and_is_removed_after_stop() {
    let postgres = Postgres::start(PostgresOptions::default()).await.expect("starts");
    assert_eq!(sql(postgres.url(), "SELECT 1"), Ok("1".to_owned()));
    assert_eq!(
        sql(
            postgres.url(),
            "SELECT current_user, current_database(), current_setting('fsync'), current_setting('wal_level')"
        ),
        Ok("lockstep_owner|lockstep|off|replica".to_owned())
    );
    a_wrong_password_is_refused_and_no_debug_output_shows_the_right_one(&postgres);
    a_postmaster_killed_by_another_process_can_be_started_again(&postgres).await;
    let (data_dir, port) = (postgres.data_dir().to_owned(), postgres.port());
    postgres.stop().await.expect("stops");
    assert_gone(&data_dir, port);
}

fn a_wrong_password_is_refused_and_no_debug_output_shows_the_right_one(postgres: &Postgres) {
    let password = postgres.url().split([':', '@']).nth(2).expect("a password").to_owned();
    assert_eq!(password.len(), 32);
    let refused = sql(&postgres.url().replace(&password, "wrong"), "SELECT 1").expect_err("refused");
    assert!(refused.contains("password authentication failed"), "{refused}");
    assert!(!format!("{postgres:?}").contains(&password));
    assert!(!postgres.data_dir().with_file_name("password").exists());
}

#[tokio::test]
async fn what_was_committed_survives_a_crash() {
    let durable = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(durable).await.expect("starts");
    sql(postgres.url(), "CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").expect("committed");
    let first = postgres.pid().expect("runs");

    postgres.crash().await.expect("crashes");
    assert_eq!(postgres.pid(), None);
    assert!(sql(postgres.url(), "SELECT 1").is_err());
    assert!(matches!(postgres.crash().await, Err(Error::NotRunning { .. })));

    postgres.start_again().await.expect("starts again");
    assert_ne!(postgres.pid(), Some(first));
    assert!(matches!(postgres.start_again().await, Err(Error::AlreadyRunning { .. })));
    assert_eq!(
        sql(postgres.url(), "SELECT count(*), current_setting('fsync') FROM t"),
        Ok("1000|on".to_owned())
    );

    postgres.crash().await.expect("crashes again");
    let data_dir = postgres.data_dir().to_owned();
    postgres.stop().await.expect("a crashed cluster is removed too");
    assert!(!data_dir.exists());
}

async fn a_postmaster_killed_by_another_process_can_be_started_again(postgres: &Postgres) {
    sql(postgres.url(), "CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").expect("committed");
    let url = postgres.url().to_owned();
    let busy = thread::spawn(move || sql(&url, "SELECT pg_sleep(600)"));
    eventually("the client is busy", || {
        sql(postgres.url(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            == Ok("1".to_owned())
    });

    let pid = postgres.pid().expect("runs").to_string();
    assert!(Command::new("sh").args(["-c", "kill -s KILL \"$0\"", &pid]).status().expect("sent").success());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match postgres.start_again().await {
            // SIGKILL is on its way still: nothing but the parent's next look tells.
            Err(Error::AlreadyRunning { .. }) if Instant::now() < deadline => {}
            started => break started.expect("starts again"),
        }
    }
    assert_eq!(sql(postgres.url(), "SELECT count(*) FROM t"), Ok("1000".to_owned()));
    assert!(busy.join().expect("joined").is_err());
}

/// Keeps one of both, and drops the other: each way to end is seen on a cluster that is there anyhow.
#[tokio::test]
async fn of_clusters_side_by_side_a_kept_one_runs_until_its_removal_command_and_a_dropped_one_goes_at_once() {
    let start = || Postgres::start(PostgresOptions::default());
    let (one, two) = tokio::try_join!(start(), start()).expect("both start");
    assert_ne!(one.port(), two.port());
    assert_eq!(sql(two.url(), "SELECT 1"), Ok("1".to_owned()));
    let port = one.port();
    let kept = one.keep().await.expect("kept");
    let answer = sql(&kept.url, "SELECT 1");
    // Before any assertion: nothing else would remove it.
    Command::new("sh").args(["-c", &kept.removal]).status().expect("runs");
    eventually("the postmaster ends", || !answers(port));
    assert!(!kept.data_dir.exists());
    assert_eq!(answer, Ok("1".to_owned()));

    assert_eq!(sql(two.url(), "SELECT 1"), Ok("1".to_owned()));
    let (data_dir, port) = (two.data_dir().to_owned(), two.port());
    drop(two);
    assert_gone(&data_dir, port);
}

#[tokio::test]
async fn a_folder_without_a_server_is_refused_with_the_command_to_type() {
    let empty = tempfile::tempdir().expect("a folder");
    let options = PostgresOptions { binaries: Some(empty.path().to_owned()), ..PostgresOptions::default() };
    let refused = Postgres::start(options).await.expect_err("no server there");
    let said = refused.to_string();
    assert!(said.contains("lacks initdb or postgres") && said.contains("install one with: "), "{said}");
}

#[test]
fn a_cluster_is_removed_when_its_owner_is_killed() {
    let owner = Owner::start();
    let port = owner.until_it_runs();
    assert!(answers(port));
    owner.signal("KILL");
    owner.leaves_nothing();
    eventually("the postmaster ends", || !answers(port));
}

#[test]
fn a_cluster_is_removed_when_the_terminal_interrupts_its_owner() {
    let owner = Owner::start();
    let port = owner.until_it_runs();
    owner.signal("INT");
    owner.leaves_nothing();
    eventually("the postmaster ends", || !answers(port));
}

#[test]
fn an_owner_killed_while_it_creates_its_cluster_leaves_nothing() {
    let owner = Owner::start();
    eventually("initdb has begun", || {
        let entries = fs::read_dir(owner.parent.path()).expect("read");
        entries.flatten().any(|folder| folder.path().join("data/PG_VERSION").exists())
    });
    owner.signal("KILL");
    owner.leaves_nothing();
}

/// Not a test by itself, and nothing unless `Owner` starts it as a process of its own, which never ends by
/// its own will.
#[tokio::test]
async fn owner_process() {
    let Some(parent) = std::env::var_os(OWNER_PARENT) else { return };
    let options = PostgresOptions { parent: Some(parent.into()), ..PostgresOptions::default() };
    let postgres = Postgres::start(options).await.expect("starts");
    println!("\nport={}", postgres.port());
    std::future::pending::<()>().await;
}

/// Another process that owns a cluster, in a folder where nothing else is.
struct Owner {
    parent: tempfile::TempDir,
    process: Mutex<Child>,
}

impl Owner {
    fn start() -> Owner {
        let parent = tempfile::tempdir().expect("a folder");
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755))
            .expect("opened to PostgreSQL's user");
        let process = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "postgres::tests::owner_process", "--nocapture"])
            .env(OWNER_PARENT, parent.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        Owner { parent, process: Mutex::new(process) }
    }

    fn until_it_runs(&self) -> u16 {
        let stdout = self.process.lock().expect("unpoisoned").stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| line.strip_prefix("port=").map(str::to_owned))
            .expect("the owner's cluster runs");
        port.parse().expect("a port")
    }

    /// Sends a signal to the whole process group, as a terminal does.
    fn signal(&self, signal: &str) {
        let mut process = self.process.lock().expect("unpoisoned");
        let group = format!("-{}", process.id());
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" -- \"$1\"", signal, &group]).status();
        assert!(sent.expect("sent").success());
        assert!(!process.wait().expect("ended").success());
    }

    #[track_caller]
    fn leaves_nothing(&self) {
        eventually("the folder is removed", || {
            fs::read_dir(self.parent.path()).expect("read").next().is_none()
        });
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn assert_gone(data_dir: &Path, port: u16) {
    assert!(!data_dir.parent().expect("a folder").exists(), "the folder is still there");
    assert!(!answers(port), "a server answers on port {port}");
}

fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn sql(url: &str, statement: &str) -> Result<String, String> {
    let account = Account::choose().expect("an account to run it");
    let psql = Binaries::find(None, account).expect("a server").program("psql");
    let output =
        Command::new(psql).args(["-X", "-A", "-t", "-c", statement, url]).output().expect("psql runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
