//! R51: every request of each command of an operator, and of who only looks, held against the policies as
//! they are printed.

use std::collections::BTreeSet;

use lockstep_tests::World;
use lockstep_tests::faults::FaultProxy;
use lockstep_tests::rights::{Asked, asked, refused, unused};
use lockstep_tests::world::rows::{logs, payments};

use crate::process::{command, ended};
use crate::rights::{printed, printed_with};

/// Commands of a whole migration: there, back and out, but for the removal of tables.
const OPERATED: [&[&str]; 20] = [
    &["plan"],
    &["migrate", "--live-writes", "0", "--to", "DualWrite"],
    &["tables"],
    &["backfill"],
    &["relay", "--until-empty"],
    &["validate", "--incremental"],
    &["validate", "--counts"],
    &["test-operation"],
    &["checklist"],
    &["cost"],
    &["orphans"],
    &["repair"],
    &["dead-letters"],
    &["set", "canary_percent", "5"],
    &["migrate", "--live-writes", "0", "--to", "DynamoOnly"],
    &["reverse-feed", "--backfill", "--until-empty"],
    &["validate"],
    &["repair", "--state"],
    &["doctor"],
    &["rollback", "--to", "PostgresOnly"],
];

/// Commands that change nothing.
const LOOKED: [&[&str]; 5] = [&["status"], &["doctor"], &["report"], &["settings"], &["dead-letters"]];

/// Rights that an operator has and these commands do not ask for, and why it has them.
const NOT_HERE: [(&str, &str); 6] = [
    ("LockstepAccount ListImports", "an import that was begun is looked for where its answer was lost"),
    ("LockstepControl UpdateContinuousBackups", "they are switched on where the configuration says so"),
    ("LockstepControl UpdateTable", "deletion protection is switched on where the configuration says so"),
    ("LockstepImports DescribeImport", "an initial load by import, from S3"),
    ("LockstepTables ImportTable", "an initial load by import, from S3"),
    ("LockstepTables UpdateContinuousBackups", "they are switched on where the configuration says so"),
];

/// Runs commands whose requests go through this proxy alone. What they say is theirs; that they end by
/// themselves, without a refusal of the store, is all that is asked.
async fn through(world: &World, proxy: &FaultProxy, commands: &[&[&str]]) {
    // What they leave, the journal of a migration that was taken out, is left there.
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in commands {
        let mut command = command(world, arguments);
        command.current_dir(&folder);
        command.env("LOCKSTEP_TARGET__ENDPOINT_URL", proxy.endpoint_url());
        // Nothing is under way that could arrive late.
        command.env("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "1");
        // With a budget the account's quota is asked for.
        command.env("LOCKSTEP_BACKFILL__WRITE_UNITS_PER_S_MAX", "20000");
        println!("{arguments:?}");
        let output = ended(command).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {said}");
    }
}

async fn recording(world: &World) -> FaultProxy {
    let proxy = FaultProxy::start(&world.plain_target.address()).await.expect("the proxy starts");
    proxy.record(100_000);
    proxy
}

/// Commands of an operator whose policy is of HybridRead and later.
const FROM_HYBRID_READ: [&[&str]; 6] = [
    &["validate"],
    &["relay", "--until-empty"],
    &["doctor"],
    &["advance", "--to", "DynamoOnly"],
    &["reverse-feed", "--backfill", "--until-empty"],
    &["rollback", "--to", "HybridRead"],
];

#[tokio::test]
async fn from_hybrid_read_on_the_policy_of_that_phase_is_enough_there_and_back() {
    let world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 40)).await;
    let to_there = ended(command(&world, &["migrate", "--live-writes", "0", "--to", "HybridRead"])).await;
    assert_eq!(to_there.status.code(), Some(0), "{}", String::from_utf8_lossy(&to_there.stderr));
    let of_operator = recording(&world).await;
    through(&world, &of_operator, &FROM_HYBRID_READ).await;
    let of_operator = asked(&of_operator.recorded());
    assert!(of_operator.iter().any(|(action, _)| action == "GetRecords"), "{of_operator:?}");
    let policy = printed_with(&world, "operator", &["--phase", "HybridRead"]).await;
    assert_eq!(refused(&policy, &of_operator), Vec::<Asked>::new(), "it may not do what it does");
}

#[tokio::test]
async fn no_command_asks_for_more_than_the_policy_of_its_role_and_no_right_is_unasked_for_without_a_reason() {
    let world = World::start().await;
    world.sql(&logs(1, 300)).await;
    world.sql(&payments(1, 100)).await;
    let of_operator = recording(&world).await;
    through(&world, &of_operator, &OPERATED[..OPERATED.len() - 1]).await;
    let of_reader = recording(&world).await;
    through(&world, &of_reader, &LOOKED).await;
    through(&world, &of_operator, &OPERATED[OPERATED.len() - 1..]).await;
    let of_remover = recording(&world).await;
    through(&world, &of_remover, &[&["uninstall", "--drop-target-tables", "--yes"]]).await;

    let operator = printed(&world, "operator").await;
    let of_operator = asked(&of_operator.recorded());
    assert_eq!(refused(&operator, &of_operator), Vec::<Asked>::new(), "an operator may not do what it does");
    let unused: Vec<String> = unused(&operator, &of_operator).into_iter().collect();
    assert_eq!(unused, NOT_HERE.map(|(name, _)| name), "{of_operator:?}");

    let of_reader = asked(&of_reader.recorded());
    let reader = printed(&world, "read-only").await;
    assert_eq!(refused(&reader, &of_reader), Vec::<Asked>::new(), "who only looks may not do what it does");
    assert!(!of_reader.is_empty());

    // Beside the operator's rights.
    let of_remover = asked(&of_remover.recorded());
    let beside: BTreeSet<Asked> = refused(&operator, &of_remover).into_iter().collect();
    assert!(!beside.is_empty(), "{of_remover:?}");
    let remover = printed(&world, "remover").await;
    assert_eq!(refused(&remover, &beside), Vec::<Asked>::new(), "who removes may not do what it does");
    assert_eq!(lockstep_tests::rights::unused(&remover, &beside), BTreeSet::new());
}
