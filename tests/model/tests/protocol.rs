//! The protocol holds in every state of every scope.

use std::time::Instant;

use lockstep_model::{Model, Scope, check, scope};

#[track_caller]
fn holds(scope: Scope) {
    let (name, began) = (scope.name, Instant::now());
    let report = check(&Model { scope, mutation: None });
    println!(
        "{name}: {} states, {} actions, the farthest {} actions away; {:.1} s",
        report.states,
        report.actions,
        report.depth,
        began.elapsed().as_secs_f64()
    );
    if let Some(counterexample) = report.counterexample {
        panic!("{name}: {counterexample}");
    }
}

#[test]
fn writers_of_every_kind_beside_the_relay() {
    holds(scope::writes());
}

#[test]
fn writers_of_both_rows() {
    holds(scope::both_rows());
}

#[test]
fn writers_beside_one_that_goes_round_the_library() {
    holds(scope::raw_writes());
}

#[test]
fn the_backfill_beside_writers() {
    holds(scope::load());
}

#[test]
fn steps_from_postgres_only_with_the_backfill() {
    holds(scope::there());
}

#[test]
fn hybrid_read_to_dynamo_only_and_back() {
    holds(scope::way_back());
}

#[test]
fn hybrid_read_to_dynamo_only_and_back_with_riders() {
    holds(scope::riders());
}

#[test]
fn steps_beside_one_that_goes_round_the_library() {
    holds(scope::raw_steps());
}

#[test]
fn dynamo_only_a_second_time() {
    holds(scope::there_again());
}

#[test]
fn the_whole_way_there_and_back() {
    holds(scope::whole());
}

#[test]
fn a_row_of_two_keys_that_share_a_place() {
    holds(scope::shared_place());
}

#[test]
fn rows_that_postgresql_refuses_for_each_other() {
    holds(scope::blocks());
}

#[test]
fn postgresql_restored_to_before_the_way_back() {
    holds(scope::restored());
}
