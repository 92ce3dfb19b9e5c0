//! Claims about the sample on a real PostgreSQL.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::NaiveDate;
use lockstep_core::{ColumnSpec, Fields, MigratableTable, Row};
use lockstep_embedded::{Postgres, PostgresOptions};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::generate::History;
use super::load::{Loaded, Rows, load};
use super::writers::{Counts, Kind, WriterOptions, write_until};

struct Source {
    postgres: Postgres,
    options: PgConnectOptions,
}

impl Source {
    async fn start() -> Self {
        let postgres = Postgres::start(PostgresOptions::default()).await.expect("a PostgreSQL");
        let options = postgres.url().parse().expect("a URL");
        Self { postgres, options }
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.expect("connects")
    }

    async fn load(&self, history: &History) -> Loaded {
        let connections = NonZeroUsize::new(3).expect("not zero");
        load(&self.options, history, connections, |_| {}).await.expect("loads")
    }

    fn writer(&self, seed: u64, stop: &CancellationToken) -> tokio::task::JoinHandle<Counts> {
        let options = WriterOptions { seed, per_second: NonZeroU32::new(150).expect("not zero") };
        tokio::spawn(write_until(self.options.clone(), options, stop.clone()))
    }
}

fn history() -> History {
    History {
        seed: 11,
        base_day: NaiveDate::from_ymd_opt(2026, 3, 31).expect("a day"),
        logs: 3_456,
        payments: 1_234,
    }
}

async fn all<T: MigratableTable>(connection: &mut PgConnection) -> Vec<T::Row> {
    let names: Vec<&str> = T::Row::COLUMNS.iter().map(|column: &ColumnSpec| column.name).collect();
    let sql = format!("SELECT {} FROM {} ORDER BY 1", names.join(", "), T::NAME);
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.expect("selects");
    rows.iter().map(|row| Fields::of_query(row, 0, T::Row::from_fields).expect("decodes")).collect()
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.expect("a number")
}

#[track_caller]
fn check<R: Row>(loaded: &[R], generated: impl Iterator<Item = R>) {
    let generated: Vec<R> = generated.collect();
    assert_eq!(loaded.len(), generated.len());
    for (loaded, generated) in loaded.iter().zip(&generated) {
        assert_eq!(loaded.differing(generated), Vec::<&str>::new(), "{generated:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loaded_is_what_was_generated_and_is_loaded_once() {
    let source = Source::start().await;
    let history = history();
    let heard = AtomicU64::new(0);
    let progress = |rows| {
        heard.fetch_add(rows, Ordering::Relaxed);
    };
    let connections = NonZeroUsize::new(3).expect("not zero");
    let loaded = load(&source.options, &history, connections, progress).await.expect("loads");
    let rows = Rows { logs: history.logs, payments: history.payments };
    assert_eq!(loaded, Loaded::Fresh(rows));
    assert_eq!(heard.into_inner(), history.logs + history.payments);

    let mut connection = source.connect().await;
    check(
        &all::<IntegrationLogs>(&mut connection).await,
        (0..history.log_chunks()).flat_map(|n| history.chunk_of_logs(n)),
    );
    check(
        &all::<Payments>(&mut connection).await,
        (0..history.payment_chunks()).flat_map(|n| history.chunk_of_payments(n)),
    );

    // Again: nothing is added, and identities stay where they are.
    assert_eq!(source.load(&History { logs: 9, ..history }).await, Loaded::Present(rows));
    let next =
        number(&mut connection, "SELECT nextval(pg_get_serial_sequence('integration_logs', 'log_id'))").await;
    assert_eq!(next, 3_457);
    let next =
        number(&mut connection, "SELECT nextval(pg_get_serial_sequence('payments', 'payment_id'))").await;
    assert_eq!(next, 1_235);
    let orphans = "SELECT count(*) FROM integration_logs WHERE application_id NOT IN (SELECT application_id FROM applications)";
    assert_eq!(number(&mut connection, orphans).await, 0);

    // In a database of its own: a cluster more would cost as much as all of this test.
    sqlx::raw_sql("CREATE DATABASE empty").execute(&mut connection).await.expect("made");
    an_empty_history_loads(Source { options: source.options.clone().database("empty"), ..source }).await;
}

async fn an_empty_history_loads(source: Source) {
    let empty = History { logs: 0, payments: 0, ..history() };
    assert_eq!(source.load(&empty).await, Loaded::Fresh(Rows::default()));
    // The tables are still empty, so a history may come later.
    assert!(matches!(source.load(&history()).await, Loaded::Fresh(_)));
    source.postgres.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_do_everything_and_break_no_rule() {
    let source = Source::start().await;
    source.load(&history()).await;
    let stop = CancellationToken::new();
    let writers = [source.writer(1, &stop), source.writer(2, &stop)];
    // How long they work, not what anything waits for.
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.cancel();
    let mut counts = Counts::default();
    for writer in writers {
        counts.merge(writer.await.expect("no panic"));
    }
    let total = counts.total();
    assert_eq!((total.refused, total.unknown, total.given_up), (0, 0, 0), "{counts:?}");
    assert!(total.done > 500, "{counts:?}");
    let done: BTreeSet<Kind> =
        counts.by_kind.iter().filter(|(_, tally)| tally.done > 0).map(|(kind, _)| *kind).collect();
    assert!(done.iter().eq(Kind::ALL), "{done:?}");

    let mut connection = source.connect().await;
    for log in all::<IntegrationLogs>(&mut connection).await {
        assert!(IntegrationLogs::default().rules().iter().all(|rule| (rule.holds)(&log)), "{log:?}");
    }
    for payment in all::<Payments>(&mut connection).await {
        assert!(Payments::default().rules().iter().all(|rule| (rule.holds)(&payment)), "{payment:?}");
    }
    source.postgres.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_survives_a_crash_of_its_source() {
    let source = Source::start().await;
    source.load(&history()).await;
    let stop = CancellationToken::new();
    let writer = source.writer(3, &stop);
    let last = "SELECT coalesce(max(log_id), 0) FROM integration_logs";
    let mut connection = source.connect().await;
    while number(&mut connection, last).await < 3_460 {
        tokio::task::yield_now().await;
    }
    source.postgres.crash().await.expect("crashes");
    source.postgres.start_again().await.expect("starts again");
    let mut connection = source.connect().await;
    let before = number(&mut connection, last).await;
    while number(&mut connection, last).await <= before + 5 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let counts = writer.await.expect("no panic");
    assert!(counts.reconnects >= 1, "{counts:?}");
    assert_eq!(counts.total().refused, 0, "{counts:?}");
    source.postgres.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_while_its_tables_are_frozen_stops_no_other_and_then_goes_on() {
    let source = Source::start().await;
    source.load(&history()).await;
    let mut connection = source.connect().await;
    // As capture refuses in DynamoOnly.
    let freeze = "CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE 'frozen' USING ERRCODE = '55000'; END $$;
        CREATE SEQUENCE refusals;
        CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM nextval('refusals'); RETURN NULL; END $$;
        CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON payments EXECUTE FUNCTION counted();
        CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON integration_logs EXECUTE FUNCTION counted();
        CREATE TRIGGER b BEFORE INSERT OR UPDATE OR DELETE ON payments EXECUTE FUNCTION frozen();
        CREATE TRIGGER b BEFORE INSERT OR UPDATE OR DELETE ON integration_logs EXECUTE FUNCTION frozen()";
    sqlx::raw_sql(freeze).execute(&mut connection).await.expect("freezes");
    let stop = CancellationToken::new();
    let writer = source.writer(4, &stop);
    // A second refusal: it did not end with the first.
    while number(&mut connection, "SELECT last_value FROM refusals").await < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!stop.is_cancelled(), "the token is also that of others");
    let thaw = "DROP TRIGGER b ON payments; DROP TRIGGER b ON integration_logs";
    sqlx::raw_sql(thaw).execute(&mut connection).await.expect("thaws");
    while number(&mut connection, "SELECT coalesce(max(log_id), 0) FROM integration_logs").await <= 3_456 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let counts = writer.await.expect("no panic");
    assert!(counts.total().done > 0 && counts.total().refused == 0, "{counts:?}");
    source.postgres.stop().await.expect("stops");
}
