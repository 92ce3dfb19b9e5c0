//! R51: each right of the operator is asked for before it is needed, by a call that changes nothing.

use lockstep_coordinator::{CoordinatorError, GateResult, ready};
use lockstep_core::Phase;
use lockstep_dynamo::Target;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use lockstep_tests::world::{LOGS, PAYMENTS};

use crate::gates::check;

const NAME: &str = "rights in DynamoDB";

/// An operation of the service, and the actions that it needs of a policy.
const OF_ITEMS: [(&str, &[&str]); 8] = [
    ("DescribeContinuousBackups", &["DescribeContinuousBackups"]),
    ("GetItem", &["GetItem"]),
    ("BatchGetItem", &["BatchGetItem"]),
    ("Scan", &["Scan"]),
    ("PutItem", &["PutItem"]),
    ("UpdateItem", &["UpdateItem"]),
    ("DeleteItem", &["DeleteItem"]),
    ("BatchExecuteStatement", &["PartiQLInsert", "PartiQLSelect"]),
];

async fn is_refused(world: &World, table: Option<&str>, on: &str, actions: &[&str]) {
    match world.coordinator().await.prepare(&()).await {
        Err(CoordinatorError::Refused(report)) => {
            for action in actions {
                let right = format!("dynamodb:{action} on {on}");
                check(&report, table, NAME, &right, &right);
            }
        }
        other => panic!("{actions:?} on {on}: preparation was not refused: {other:?}"),
    }
}

/// Nothing was made: no table in DynamoDB, and no trigger in PostgreSQL.
async fn nothing_is_made(world: &World) {
    let tables = world.plain_target.client().list_tables().send().await.expect("listed");
    assert_eq!(tables.table_names(), [""; 0], "before a right was there");
    assert_eq!(world.value::<i64>("SELECT count(*) FROM lockstep.tables").await, 0);
}

#[tokio::test]
async fn each_action_that_is_denied_is_named_before_anything_is_made_and_again_where_it_is_there() {
    let world = World::behind_proxy().await;
    let proxy = world.proxy();
    let control = world.control().table().to_owned();
    for is_there in [false, true] {
        for (operation, actions) in OF_ITEMS.into_iter().chain([("DescribeTable", &["DescribeTable"][..])]) {
            proxy.script(Rule::new(Fault::AccessDenied).on(operation).table(LOGS));
            is_refused(&world, Some(LOGS), &format!("table/{LOGS}"), actions).await;
            proxy.clear();
        }
        // Of the table itself and of each index.
        proxy.script(Rule::new(Fault::AccessDenied).on("Query").table(PAYMENTS));
        is_refused(&world, Some(PAYMENTS), &format!("table/{PAYMENTS}"), &["Query"]).await;
        for index in world.payments_table().table.target().indexes {
            is_refused(&world, Some(PAYMENTS), &format!("table/{PAYMENTS}/index/{}", index.name), &["Query"])
                .await;
        }
        proxy.clear();
        for operation in [
            "DescribeTable",
            "DescribeContinuousBackups",
            "GetItem",
            "Query",
            "PutItem",
            "UpdateItem",
            "DeleteItem",
        ] {
            proxy.script(Rule::new(Fault::AccessDenied).on(operation).table(&control));
            is_refused(&world, None, &format!("table/{control}"), &[operation]).await;
            proxy.clear();
        }
        if !is_there {
            nothing_is_made(&world).await;
            world.prepared().await.close().await;
        }
    }
    for binding in world.tables() {
        assert!(
            world.items(binding.name()).await.is_empty(),
            "no call has left anything in {}",
            binding.name()
        );
        let kept = world.plain_target.is_empty(&binding.target_name).await.expect("read");
        assert!(kept || world.source.marks_known().await.expect("read").contains_key(binding.name()));
    }
}

/// The gate of a table, as a step to DualWrite would have it.
async fn gate_of(world: &World, table: &str) -> GateResult {
    let report = ready(&world.migration(), Phase::DualWrite).await.expect("asked");
    let found =
        report.results.into_iter().find(|gate| gate.name == NAME && gate.table.as_deref() == Some(table));
    found.expect("it is asked")
}

#[tokio::test]
async fn rights_on_a_stream_are_asked_for_where_there_is_one() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    let before = gate_of(&world, LOGS).await;
    assert!(before.passed && before.detail.contains("UpdateTable"), "{before:?}");
    world.plain_target.enable_stream(LOGS).await.expect("switched on");
    let there = gate_of(&world, LOGS).await;
    assert!(there.passed && there.detail.contains("its stream as well"), "{there:?}");
    for operation in ["DescribeStream", "GetShardIterator", "GetRecords"] {
        world.proxy().script(Rule::new(Fault::AccessDenied).on(operation));
        let denied = gate_of(&world, LOGS).await;
        world.proxy().clear();
        let right = format!("dynamodb:{operation} on table/{LOGS}/stream");
        assert!(!denied.passed && denied.next.expect("what to do").contains(&right), "{}", denied.detail);
        // A stream that is slow is no missing right, and keeps no step that reads none from being taken.
        world.proxy().script(Rule::new(Fault::Code("LimitExceededException")).on(operation));
        let slow = gate_of(&world, LOGS).await;
        world.proxy().clear();
        assert!(slow.passed && slow.detail.contains("did not answer"), "{slow:?}");
    }
}

#[tokio::test]
async fn an_outage_is_no_missing_right_and_one_that_passes_is_waited_out() {
    let world = World::behind_proxy().await;
    for fault in [Fault::Throttle, Fault::ServerError, Fault::ExpiredToken, Fault::Page(403)] {
        let (told, kind) = (format!("{fault:?}"), fault.kind());
        world.proxy().script(Rule::new(fault.clone()).on("BatchGetItem").table(LOGS));
        let refused = world.coordinator().await.prepare(&()).await.err();
        assert!(refused.is_none(), "{told}: {refused:?}");
        let unanswered = gate_of(&world, LOGS).await;
        assert!(unanswered.passed && unanswered.detail.contains("no answer"), "{told}: {unanswered:?}");
        world.proxy().clear();
        let before = world.proxy().counts().injected_on(kind, "UpdateItem");
        world.proxy().script(Rule::new(fault).on("UpdateItem").table(LOGS).times(2));
        let denied = world.target.denied_rights(LOGS, &world.logs_table().table.target()).await;
        assert_eq!(denied.expect("it passes"), [], "{told}");
        assert_eq!(world.proxy().counts().injected_on(kind, "UpdateItem"), before + 2, "{told}");
        world.proxy().clear();
    }
    // Credentials that are not taken are not a right that a policy lacks.
    world.proxy().script(Rule::new(Fault::Code("UnrecognizedClientException")).on("GetItem"));
    let asked = |target: Target| async move { target.denied_rights_on_control().await };
    let error = asked(world.target.clone()).await.expect_err("it is not told who asks");
    assert!(error.message.starts_with("UnrecognizedClientException"), "{error}");
    assert!(world.proxy().counts().injected(FaultKind::Code) > 0);
}
