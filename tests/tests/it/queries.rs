//! Every query of both tables, in every phase, against a naive model: a map of rows, filtered and sorted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::NonZeroUsize;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::TryStreamExt;
use lockstep::store::{Cursor, ReadFrom, Selection, SourceCause, Store};
use lockstep_core::{Json, Kind, MigratableTable, Phase};
use lockstep_integration_logs::{DAYS_MAX, DayCount, IntegrationLog, IntegrationLogs, LogQueries};
use lockstep_payments::{Payment, PaymentQueries, Payments, STATUSES};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::stage::{self, Stage, at};

const SERVICES: [&str; 4] = ["a", "größe #2", "日本語/サービス", "a#2099-01-01"];
const APPLICATIONS: i32 = 4;
const OPERATIONS: i32 = 9;
const METHODS: [&str; 3] = ["Card", "SepaDirectDebit", "Überweisung"];

/// Few moments, so that many rows share one; at both ends of days; with a day of silence between.
const MOMENTS: [&str; 9] = [
    "2099-01-01T00:00:00.000000Z",
    "2099-01-01T23:59:59.999999Z",
    "2099-01-02T00:00:00.000000Z",
    "2099-01-02T00:00:00.000001Z",
    "2099-01-02T12:00:00.100000Z",
    "2099-01-04T00:00:00.000000Z",
    "2099-01-04T23:59:59.999999Z",
    "2099-01-05T00:00:00.000000Z",
    "2099-01-20T07:00:00.000000Z",
];

fn moment(rng: &mut StdRng) -> DateTime<Utc> {
    at(MOMENTS.choose(rng).expect("there are some"))
}

fn a_log(log_id: i64, rng: &mut StdRng) -> IntegrationLog {
    IntegrationLog {
        log_id,
        application_id: rng.random_bool(0.7).then(|| rng.random_range(1..=APPLICATIONS)),
        log_type: "Check".to_owned(),
        service_name: (*SERVICES.choose(rng).expect("there are some")).to_owned(),
        request_data: rng
            .random_bool(0.5)
            .then(|| Json::parse(&format!(r#"{{"n": {log_id}}}"#)).expect("JSON")),
        response_data: None,
        status_code: None,
        is_success: rng.random_bool(0.8),
        error_message: None,
        processing_time_ms: Some(1),
        log_timestamp: moment(rng),
        correlation_id: rng.random_bool(0.8).then(|| format!("op-{}", rng.random_range(0..OPERATIONS))),
        user_id: None,
    }
}

fn a_payment(payment_id: i64, rng: &mut StdRng) -> Payment {
    Payment {
        payment_id,
        customer_id: rng.random_range(1..=4),
        loan_id: rng.random_range(1..=3),
        payment_amount: lockstep_core::Scaled::new(rust_decimal::Decimal::new(payment_id * 10, 2))
            .expect("fits"),
        currency: "EUR".to_owned(),
        payment_date: moment(rng),
        payment_method: (*METHODS.choose(rng).expect("there are some")).to_owned(),
        payment_status: (*STATUSES.choose(rng).expect("there are some")).to_owned(),
        transaction_reference: None,
        processed_date: None,
        created_date: at(MOMENTS[0]),
        updated_date: None,
    }
}

/// Rows by id, in both stores: some copied as history, some changed, moved or deleted after it, and
/// delivered.
async fn filled<T: MigratableTable>(
    stage: &Stage,
    store: &Store<T>,
    seed: u64,
    rows: i64,
    make: fn(i64, &mut StdRng) -> T::Row,
) -> BTreeMap<i64, T::Row> {
    let mut rng = StdRng::seed_from_u64(seed);
    println!("seed {seed}");
    let mut model = BTreeMap::new();
    for id in 1..=rows {
        let row = make(id, &mut rng);
        store.put(&row).await.expect("written");
        model.insert(id, row);
    }
    stage.backfill().await;
    for id in (1..=rows).filter(|_| rng.random_bool(0.3)).collect::<Vec<_>>() {
        if rng.random_bool(0.4) {
            store.delete(id).await.expect("deleted");
            model.remove(&id);
        } else {
            let row = make(id, &mut rng);
            store.put(&row).await.expect("changed");
            model.insert(id, row);
        }
    }
    stage.relay().await;
    model
}

/// The model's answer: the rows that `keep` says, by time and then id, both falling.
fn expected<R: Clone, K: Ord>(
    model: &BTreeMap<i64, R>,
    keep: impl Fn(&R) -> bool,
    order: impl Fn(&R) -> K,
) -> Vec<R> {
    let mut rows: Vec<R> = model.values().filter(|row| keep(row)).cloned().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(order(row)));
    rows
}

/// A selection answers exactly these rows: as a stream, in pages of several sizes, as a count; and from the
/// store that is due.
async fn check<T: MigratableTable>(what: &str, phase: Phase, selection: Selection<T>, expected: &[T::Row]) {
    let answers: Vec<_> = selection.stream_marked().try_collect().await.expect("answered");
    let due = match phase {
        Phase::PostgresOnly | Phase::DualWrite => ReadFrom::Source(SourceCause::Phase),
        Phase::HybridRead | Phase::DynamoOnly => ReadFrom::Target,
    };
    assert!(answers.iter().all(|answer| answer.from == due), "{what} in {phase} is not answered by {due:?}");
    let rows: Vec<T::Row> = answers.into_iter().map(|answer| answer.value).collect();
    same(&format!("{what} as a stream in {phase}"), &rows, expected);
    for limit in [1, 7, expected.len().max(1)] {
        // Pages of one are slow; the first few show as much as all.
        let pages_max = if limit == 1 { 5 } else { usize::MAX };
        let limit = NonZeroUsize::new(limit).expect("not zero");
        let (mut rows, mut cursor, mut pages) = (Vec::new(), None::<Cursor>, 0);
        loop {
            let page = selection.page(limit, cursor.as_ref()).await.expect("answered");
            assert!(
                page.rows.len() == limit.get() || page.next.is_none(),
                "{what}: a page is short, but not the last"
            );
            rows.extend(page.rows);
            pages += 1;
            // Through an HTTP API it travels as text.
            cursor = page.next.map(|next| next.to_string().parse().expect("any text"));
            if cursor.is_none() || pages == pages_max {
                break;
            }
        }
        let expected = if cursor.is_some() { &expected[..rows.len()] } else { expected };
        same(&format!("{what} in pages of {limit} in {phase}"), &rows, expected);
    }
    assert_eq!(selection.count().await.expect("counted"), expected.len() as u64, "{what} counted in {phase}");
    assert_eq!(
        selection.first().await.expect("answered").as_ref(),
        expected.first(),
        "first of {what} in {phase}"
    );
}

#[track_caller]
fn same<R: PartialEq + Debug>(what: &str, rows: &[R], expected: &[R]) {
    let first = rows.iter().zip(expected).position(|(row, expected)| row != expected);
    assert!(
        rows == expected,
        "{what}: {} rows, expected {}, first difference at {first:?}",
        rows.len(),
        expected.len()
    );
}

async fn check_logs(phase: Phase, store: &Store<IntegrationLogs>, model: &BTreeMap<i64, IntegrationLog>) {
    let of =
        |keep: &dyn Fn(&IntegrationLog) -> bool| expected(model, keep, |log| (log.log_timestamp, log.log_id));
    for id in [1, 2, 3, 50, 99, 100_000] {
        assert_eq!(store.by_id(id).await.expect("answered").as_ref(), model.get(&id), "log {id} in {phase}");
    }
    for id in 1..=APPLICATIONS {
        check("by_application", phase, store.by_application(id), &of(&|log| log.application_id == Some(id)))
            .await;
    }
    for n in 0..OPERATIONS {
        let id = format!("op-{n}");
        check(
            "by_correlation",
            phase,
            store.by_correlation(&id),
            &of(&|log| log.correlation_id.as_ref() == Some(&id)),
        )
        .await;
    }
    for day in [1, 2, 4, 5, 20] {
        let day = NaiveDate::from_ymd_opt(2099, 1, day).expect("a day");
        let rows = of(&|log| !log.is_success && log.log_timestamp.date_naive() == day);
        check("errors_of_day", phase, store.errors_of_day(day), &rows).await;
    }
    let (first, last) = (at(MOMENTS[0]), at(MOMENTS[8]));
    for service in SERVICES {
        for (from, to) in [(0, 1), (1, 4), (2, 5), (4, 8)] {
            let (from, to) = (at(MOMENTS[from]), at(MOMENTS[to]));
            let half_open = of(&|log| log.service_name == service && (from..to).contains(&log.log_timestamp));
            check("by_service", phase, store.by_service(service, from..to).expect("a range"), &half_open)
                .await;
        }
        let all = of(&|log| log.service_name == service);
        check("by_service, closed", phase, store.by_service(service, first..=last).expect("a range"), &all)
            .await;
        // Bounds between two microseconds are moved to the next one, on both sides.
        let (from, to) =
            (at(MOMENTS[2]) - TimeDelta::nanoseconds(1), at(MOMENTS[3]) + TimeDelta::nanoseconds(1));
        let within = of(&|log| log.service_name == service && (from..to).contains(&log.log_timestamp));
        check(
            "by_service, between microseconds",
            phase,
            store.by_service(service, from..to).expect("a range"),
            &within,
        )
        .await;
    }
    let (first_day, last_day) = (first.date_naive(), at(MOMENTS[5]).date_naive());
    let mut counts = Vec::new();
    for service in SERVICES.into_iter().chain(["no-such-service"]) {
        for day in first_day.iter_days().take_while(|day| *day <= last_day) {
            let rows = of(&|log| log.service_name == service && log.log_timestamp.date_naive() == day);
            counts.push(DayCount { service_name: service.to_owned(), day, logs: rows.len() as u64 });
        }
    }
    let services: Vec<&str> = SERVICES.into_iter().chain(["no-such-service"]).collect();
    assert_eq!(
        store.counts_by_service_and_day(&services, first_day, last_day).await.expect("counted"),
        counts,
        "{phase}"
    );
}

async fn check_payments(phase: Phase, store: &Store<Payments>, model: &BTreeMap<i64, Payment>) {
    let of = |keep: &dyn Fn(&Payment) -> bool| {
        expected(model, keep, |payment| (payment.payment_date, payment.payment_id))
    };
    for id in [1, 2, 3, 50, 99, 100_000] {
        assert_eq!(
            store.by_id(id).await.expect("answered").as_ref(),
            model.get(&id),
            "payment {id} in {phase}"
        );
    }
    for loan in 1..=3 {
        check("by_loan", phase, store.by_loan(loan), &of(&|payment| payment.loan_id == loan)).await;
    }
    let (from, to) = (at(MOMENTS[2]), at(MOMENTS[6]));
    for customer in 1..=4 {
        let rows = of(&|payment| payment.customer_id == customer);
        check("by_customer", phase, store.by_customer(customer, ..), &rows).await;
        let rows =
            of(&|payment| payment.customer_id == customer && (from..=to).contains(&payment.payment_date));
        check("by_customer, dates", phase, store.by_customer(customer, from..=to), &rows).await;
    }
    for status in STATUSES {
        let rows = of(&|payment| payment.payment_status == status && payment.payment_date >= from);
        check("by_status", phase, store.by_status(status, from..), &rows).await;
    }
    for method in METHODS {
        let rows = of(&|payment| payment.payment_method == method && payment.payment_date < to);
        check("by_method", phase, store.by_method(method, ..to), &rows).await;
    }
}

#[tokio::test]
async fn every_query_of_logs_answers_the_same_in_every_phase() {
    let stage = Stage::start(World::start().await, 1).await;
    let model = filled(&stage, &stage.logs(), 11, 260, a_log).await;
    for phase in Phase::ALL {
        stage.stand_in(phase).await;
        check_logs(phase, &stage.logs(), &model).await;
    }
}

#[tokio::test]
async fn write_shards_are_merged_into_one_order() {
    let stage = Stage::start(World::start().await, 3).await;
    let model = filled(&stage, &stage.logs(), 12, 260, a_log).await;
    for phase in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        stage.stand_in(phase).await;
        check_logs(phase, &stage.logs(), &model).await;
    }
}

#[tokio::test]
async fn every_query_of_payments_answers_the_same_in_every_phase() {
    let stage = Stage::start(World::start().await, 1).await;
    let model = filled(&stage, &stage.payments(), 13, 200, a_payment).await;
    for phase in Phase::ALL {
        stage.stand_in(phase).await;
        check_payments(phase, &stage.payments(), &model).await;
    }
}

#[tokio::test]
async fn a_row_past_its_expiry_is_answered_by_neither_store_in_no_phase() {
    let stage = Stage::start(World::start().await, 1).await;
    let (store, now) = (stage.logs(), Utc::now());
    let mut rng = StdRng::seed_from_u64(14);
    let mut log = |log_id, age_days| IntegrationLog {
        application_id: Some(1),
        service_name: "a".to_owned(),
        correlation_id: Some("op".to_owned()),
        is_success: false,
        log_timestamp: lockstep_core::parse_fixed_width(
            &lockstep_core::fixed_width(now - TimeDelta::days(age_days)).expect("a year"),
        )
        .expect("a time"),
        ..a_log(log_id, &mut rng)
    };
    let (old, young) = (log(1, 91), log(2, 89));
    for log in [&old, &young] {
        store.put(log).await.expect("written");
    }
    stage.backfill().await;
    stage.relay().await;
    for phase in Phase::ALL {
        stage.stand_in(phase).await;
        let store = stage.logs();
        let only = std::slice::from_ref(&young);
        check("by_application", phase, store.by_application(1), only).await;
        check("by_correlation", phase, store.by_correlation("op"), only).await;
        check(
            "by_service",
            phase,
            store.by_service("a", DateTime::UNIX_EPOCH..now).expect("clipped to what lives"),
            only,
        )
        .await;
        assert_eq!(store.by_id(1).await.expect("answered"), None, "{phase}");
        assert_eq!(store.get(&IntegrationLogs::key(&old)).await.expect("answered"), None, "{phase}");
        assert_eq!(
            store.get(&IntegrationLogs::key(&young)).await.expect("answered").as_ref(),
            Some(&young),
            "{phase}"
        );
        let counts =
            store.counts_by_service_and_day(&["a"], old.log_timestamp.date_naive(), now.date_naive()).await;
        assert_eq!(counts.expect("counted").iter().map(|count| count.logs).sum::<u64>(), 1, "{phase}");
    }
    assert_eq!(store.get_source(1).await.expect("answered"), Some(old), "the source keeps it");
}

#[tokio::test]
async fn a_range_that_no_store_could_answer_is_refused_in_every_phase() {
    let stage = Stage::start(World::start().await, 1).await;
    for phase in Phase::ALL {
        stage.stand_in(phase).await;
        let store = stage.logs();
        let from = at(MOMENTS[0]);
        let too_long =
            store.by_service("a", from..from + TimeDelta::days(DAYS_MAX as i64 + 1)).expect_err("too long");
        let open = store.by_service("a", from..).expect_err("open");
        assert_eq!((too_long.kind, open.kind), (Kind::Invalid, Kind::Invalid));
        let page =
            store.by_application(1).page(NonZeroUsize::MIN, Some(&"c0ffee".parse().expect("any text"))).await;
        assert_eq!(page.expect_err("no cursor").kind, Kind::Invalid);
    }
}

#[tokio::test]
async fn a_cursor_is_good_in_every_phase_and_for_no_other_query() {
    let stage = Stage::start(World::start().await, 3).await;
    let model = filled(&stage, &stage.logs(), 15, 120, a_log).await;
    let rows = expected(&model, |log| log.service_name == "a", |log| (log.log_timestamp, log.log_id));
    let (from, to) = (at(MOMENTS[0]), at(MOMENTS[8]));
    let (mut found, mut cursor) = (Vec::new(), None);
    // Each page in another phase, and so from another store.
    for phase in Phase::ALL.into_iter().cycle().take(200) {
        stage.stand_in(phase).await;
        let page = stage
            .logs()
            .by_service("a", from..=to)
            .expect("a range")
            .page(stage::some(3), cursor.as_ref())
            .await;
        let page = page.expect("answered");
        found.extend(page.rows);
        cursor = page.next;
        let Some(cursor) = &cursor else { break };
        let other = stage
            .logs()
            .by_service("b", from..=to)
            .expect("a range")
            .page(stage::some(3), Some(cursor))
            .await;
        assert_eq!(other.expect_err("of another query").kind, Kind::Invalid);
    }
    same("pages of all phases", &found, &rows);
}

/// 1. A page of an index is read. 2. The sort value of a row changes meanwhile: the page has its old entry
/// and its new one. 3. An index of keys handed both on to be read, and DynamoDB refuses a request that names
/// a key twice, as one that never passes.
#[tokio::test]
async fn an_index_that_shows_an_entry_twice_is_answered_with_each_row_once() {
    let stage = Stage::start(World::behind_proxy().await, 2).await;
    let logs = filled(&stage, &stage.logs(), 16, 150, a_log).await;
    let payments = filled(&stage, &stage.payments(), 17, 150, a_payment).await;
    stage.stand_in(Phase::HybridRead).await;
    stage.world.proxy().script(Rule::new(Fault::EntriesTwice));
    check_logs(Phase::HybridRead, &stage.logs(), &logs).await;
    check_payments(Phase::HybridRead, &stage.payments(), &payments).await;
    assert!(stage.world.proxy().counts().injected(FaultKind::EntriesTwice) > 20);
    assert!(stage.world.proxy().seen("BatchGetItem") > 0, "pages of keys were read in full");
}

#[tokio::test]
async fn a_query_whose_target_fails_half_way_goes_on_in_postgres_without_duplicate_or_gap() {
    let stage = Stage::start(World::behind_proxy().await, 2).await;
    let model = filled(&stage, &stage.logs(), 16, 260, a_log).await;
    let by_service = expected(&model, |log| log.service_name == "a", |log| (log.log_timestamp, log.log_id));
    let by_application =
        expected(&model, |log| log.application_id == Some(1), |log| (log.log_timestamp, log.log_id));
    stage.stand_in(Phase::HybridRead).await;
    let (from, to) = (at(MOMENTS[0]), at(MOMENTS[8]));
    let mut fell = 0;
    for good_calls in (0..80).step_by(8) {
        stage.world.proxy().clear();
        stage.world.proxy().script(Rule::new(Fault::LoseReply).on("Query").after(good_calls));
        let store = stage.logs();
        // In pages: every page falls back on its own, and the next one may be answered by the target again.
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = store
                .by_service("a", from..=to)
                .expect("a range")
                .page(stage::some(9), cursor.as_ref())
                .await
                .expect("answered");
            rows.extend(page.rows);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        same(&format!("by_service in pages, {good_calls} calls answered"), &rows, &by_service);
        let counts = store.reads().counts();
        assert!(good_calls > 0 || (counts.source_error > 0 && counts.target == 0), "{counts:?}");
        fell += u64::from(counts.target > 0 && counts.source_error > 0);
    }
    assert!(fell > 0, "no query was answered by both stores");
    assert!(stage.world.proxy().counts().injected(FaultKind::LoseReply) > 0);
    for good_calls in 0..3 {
        stage.world.proxy().clear();
        stage.world.proxy().script(Rule::new(Fault::Unavailable).on("Query").after(good_calls));
        let rows: Vec<_> = stage.logs().by_application(1).stream().try_collect().await.expect("answered");
        same(&format!("by_application as a stream, {good_calls} calls answered"), &rows, &by_application);
    }
}

#[tokio::test]
async fn a_stream_outlives_its_target_and_follows_the_phase() {
    let mut stage = Stage::start(World::start().await, 1).await;
    let model = filled(&stage, &stage.logs(), 17, 400, a_log).await;
    let wanted = expected(&model, |log| log.application_id == Some(2), |log| (log.log_timestamp, log.log_id));
    assert!(wanted.len() > 50, "more than a first batch");
    stage.stand_in(Phase::HybridRead).await;
    let mut stream = Box::pin(stage.logs().by_application(2).stream_marked());
    let first = stream.try_next().await.expect("answered").expect("a row");
    assert_eq!(first.from, ReadFrom::Target);
    // The emulator is gone, its data with it.
    drop(stage.world.dynamo.take());
    let mut found = vec![first.value];
    let mut last = first.from;
    while let Some(answer) = stream.try_next().await.expect("answered all the same") {
        found.push(answer.value);
        last = answer.from;
    }
    same("the stream", &found, &wanted);
    assert_eq!(last, ReadFrom::Source(SourceCause::Error));
    stage.stand_in(Phase::DynamoOnly).await;
    let error = stage.logs().by_application(2).first().await.expect_err("no other store may answer");
    assert_eq!(error.side, lockstep_core::Side::Target);
}
