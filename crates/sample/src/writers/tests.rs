//! Claims about choosers, paces and counts. What the raw executor does to a real source is in
//! `sample/tests.rs`.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::MigratableTable;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::generate;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000, 123_456_789).expect("in range")
}

fn known() -> Known {
    Known { logs: Ids::new(1..100), payments: Ids::new(1..100) }
}

#[test]
fn a_seed_decides_everything() {
    let choose = |seed| {
        let mut chooser = Chooser::new(seed, NewIds::BySequence, known());
        (0..200).map(|_| chooser.choose(now())).collect::<Vec<_>>()
    };
    assert_eq!(choose(1), choose(1));
    assert_ne!(choose(1), choose(2));
}

#[test]
fn every_kind_is_chosen_before_long() {
    let mut chooser = Chooser::new(3, NewIds::BySequence, known());
    let chosen: std::collections::BTreeSet<Kind> = (0..1_000).map(|_| chooser.choose(now()).kind()).collect();
    assert!(chosen.iter().eq(Kind::ALL), "{chosen:?}");
}

#[test]
fn who_knows_no_row_inserts_one() {
    let mut chooser = Chooser::new(4, NewIds::BySequence, Known::default());
    for _ in 0..200 {
        let kind = chooser.choose(now()).kind();
        assert!(
            matches!(
                kind,
                Kind::InsertLog
                    | Kind::InsertLogs
                    | Kind::InsertPayment
                    | Kind::InsertPayments
                    | Kind::PayAndLog
                    | Kind::RollBack
            ),
            "{kind}"
        );
    }
}

#[test]
fn ids_given_by_the_caller_are_used_once_each() {
    let mut chooser =
        Chooser::new(5, NewIds::From { log_id: 1 << 40, payment_id: 1 << 41 }, Known::default());
    let (mut log_ids, mut payment_ids) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        match chooser.choose(now()) {
            Operation::InsertLog(log) => log_ids.push(log.log_id),
            Operation::InsertLogs(logs) => log_ids.extend(logs.iter().map(|log| log.log_id)),
            Operation::InsertPayment(payment) => payment_ids.push(payment.payment_id),
            Operation::InsertPayments(payments) => {
                payment_ids.extend(payments.iter().map(|payment| payment.payment_id))
            }
            Operation::PayAndLog { payment, log } | Operation::RollBack { payment, log } => {
                log_ids.push(log.log_id);
                payment_ids.push(payment.payment_id);
            }
            other => panic!("{}", other.kind()),
        }
    }
    assert!(log_ids.iter().copied().eq((1..1 << 40).rev().take(log_ids.len())));
    assert!(payment_ids.iter().copied().eq((1..1 << 41).rev().take(payment_ids.len())));
}

#[test]
fn what_is_gone_is_not_chosen_again() {
    let mut chooser =
        Chooser::new(6, NewIds::BySequence, Known { logs: Ids::new([1, 2]), payments: Ids::default() });
    chooser.learn(&Effect { rows: 1, logs_gone: vec![1], payments_born: vec![9], ..Effect::default() });
    for _ in 0..50 {
        assert_eq!(chooser.of_kind(Kind::DeleteLog, now()), Some(Operation::DeleteLog { log_id: 2 }));
        assert_eq!(
            chooser.of_kind(Kind::DeletePayment, now()),
            Some(Operation::DeletePayment { payment_id: 9 })
        );
    }
    chooser.learn(&Effect { logs_gone: vec![2], ..Effect::default() });
    assert_eq!(chooser.of_kind(Kind::DeleteLog, now()), None);
}

#[test]
fn changed_rows_keep_the_rules() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..500 {
        let (mut log, to) = (generate::log(&mut rng, 1, now()), generate::log(&mut rng, 0, now()));
        touch_log(&mut log, &to);
        move_log(&mut log, Some("core-banking"), None);
        let log = reinsert_log(&log, &to);
        assert_eq!((log.log_id, log.service_name.as_str()), (1, "core-banking"));
        assert!(IntegrationLogs::default().rules().iter().all(|rule| (rule.holds)(&log)));

        let earlier = now() - chrono::TimeDelta::days(9);
        let (mut payment, to) =
            (generate::payment(&mut rng, 1, now()), generate::payment(&mut rng, 0, earlier));
        touch_payment(&mut payment, &to);
        move_payment(&mut payment, Some(12), None);
        assert!(Payments::default().rules().iter().all(|rule| (rule.holds)(&payment)));
        let payment = reinsert_payment(&payment, &to);
        assert_eq!((payment.payment_id, payment.customer_id), (1, 12));
    }
}

#[track_caller]
fn check(per_second: u32, looks: u32, every: Duration, expected: u32) {
    let mut pace = Pace::new(NonZeroU32::new(per_second).expect("positive"));
    assert_eq!((0..looks).map(|_| pace.due(every)).sum::<u32>(), expected);
}

#[test]
fn a_pace_is_kept_whatever_the_rate() {
    check(100, 100, Duration::from_millis(10), 100);
    check(3, 300, Duration::from_millis(10), 9);
    check(5_000, 100, Duration::from_millis(10), 5_000);
    check(7, 7, Duration::from_secs_f64(1.0 / 7.0), 7);
}

#[test]
fn a_long_absence_is_made_up_for_half_a_second_only() {
    check(100, 1, Duration::from_secs(60), 50);
    check(1, 1, Duration::from_secs(60), 1);
}

#[test]
fn counts_add_up() {
    let mut counts = Counts::default();
    counts.record(Kind::InsertLog, Outcome::Done { rows: 1 }, Duration::from_millis(2));
    counts.record(Kind::DeleteLog, Outcome::Missed, Duration::from_millis(9));
    let mut other = Counts::default();
    other.record(Kind::InsertLog, Outcome::Refused("frozen".to_owned()), Duration::from_millis(1));
    let of_the_phase = "lockstep: INSERT of public.payments is refused: the migration of payments is in \
                        phase DynamoOnly (epoch 4)";
    other.record(Kind::InsertLog, Outcome::Refused(of_the_phase.to_owned()), Duration::from_millis(1));
    counts.merge(other);
    assert_eq!(counts.total(), Tally { done: 1, missed: 1, refused: 2, ..Tally::default() });
    assert_eq!(counts.by_kind[&Kind::InsertLog], Tally { done: 1, refused: 2, ..Tally::default() });
    assert_eq!((counts.rows, counts.slowest), (1, Duration::from_millis(9)));
    assert_eq!(counts.last_refusal.as_deref(), Some("frozen"));
}
