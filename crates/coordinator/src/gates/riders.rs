//! Code that rides along when the feed writes a table in DynamoOnly: triggers of the application, and actions
//! of foreign keys. Told before the step, as it is first met when the way back is wanted.

use lockstep_core::Advice::{DeadLetters, Status};
use lockstep_postgres::TableBinding;
use lockstep_postgres::reverse::Trigger;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

/// Returns the gates of one table.
pub(super) async fn rides_along(
    migration: &MigrationContext,
    binding: &TableBinding,
) -> Result<Vec<GateResult>> {
    let around = migration.source.surroundings(binding).await?;
    let may_silence = migration.source.may_silence().await?;
    let ours: Vec<String> = migration.tables.iter().map(|table| table.relation.to_string()).collect();
    Ok(vec![
        triggers(&around.triggers, may_silence),
        actions(&around.actions, &ours),
        acted_on(&around.acted_on, &ours),
        unasked(&around.unasked),
    ])
}

/// Actions of foreign keys that lead to tables which stay in PostgreSQL. Listed, not refused: whether the
/// application ever deletes such a row, it knows alone. 1. A loan is deleted in PostgreSQL. 2. The key of its
/// payments says CASCADE. 3. They are frozen in DynamoOnly, so the deletion of the loan is refused.
fn acted_on(actions: &[(String, String)], ours: &[String]) -> GateResult {
    let of_others: Vec<String> = actions
        .iter()
        .filter(|(relation, _)| !ours.contains(relation))
        .map(|(relation, action)| format!("{action} of {relation}"))
        .collect();
    let detail = if of_others.is_empty() {
        "none lead to tables that stay".to_owned()
    } else {
        format!(
            "{}: from the step on PostgreSQL refuses to delete or change a row there that rows of \
             this table refer to; the application deletes these in DynamoDB first, and the other once the feed has brought that",
            of_others.join(", ")
        )
    };
    GateResult::pass("foreign keys to tables that stay", detail).tells_if(!of_others.is_empty())
}

/// Constraints that nothing asks of a writer in DynamoOnly. Listed, not refused: whether its writers keep
/// them by themselves, the application knows alone. To ask PostgreSQL with each write would make every write
/// wait for a store that need not be there in DynamoOnly, and its answer would be about rows that lag: two
/// writers of one unique value would both be let through, and one that follows a row which is still on its
/// way would be refused.
fn unasked(constraints: &[String]) -> GateResult {
    let detail = if constraints.is_empty() {
        "none".to_owned()
    } else {
        format!(
            "{}: DynamoDB asks none of them, so the application keeps them itself. A \
                row that breaks one waits in the reverse feed, where {Status} says how \
                many wait and why; after five minutes it is listed by {DeadLetters}. \
                The way back stays closed until the application changes it, or you \
                accept it there",
            constraints.join(", ")
        )
    };
    GateResult::pass("constraints that are not asked in DynamoOnly", detail).tells_if(!constraints.is_empty())
}

/// Triggers. One that changes the row before it is written makes it another than its item, for good, unless
/// the feed can write it once more while the trigger does not fire.
fn triggers(triggers: &[Trigger], may_silence: bool) -> GateResult {
    const NAME: &str = "triggers of the application and the feed";
    let named = |some: &[&Trigger]| {
        some.iter()
            .map(|trigger| format!("{} ({})", trigger.name, trigger.calls))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let always: Vec<&Trigger> =
        triggers.iter().filter(|trigger| trigger.before && trigger.on_replicas).collect();
    if !always.is_empty() {
        return GateResult::fail(
            NAME,
            format!(
                "{} can change what the feed writes and fires on replicas as well: rows would differ from \
                 their items, and \
                 the way back would stay closed",
                named(&always)
            ),
            "run ALTER TABLE … ENABLE TRIGGER … without ALWAYS or REPLICA, or drop it",
        );
    }
    let before: Vec<&Trigger> = triggers.iter().filter(|trigger| trigger.before).collect();
    if !may_silence && !before.is_empty() {
        return GateResult::fail(
            NAME,
            format!(
                "{} can change what the feed writes, and our role may not write in the replica role: rows \
                 would differ from \
                 their items, and the way back would stay closed",
                named(&before)
            ),
            "run GRANT SET ON PARAMETER session_replication_role TO our role (PostgreSQL 15 or newer; before \
             that a superuser, at \
             providers the role that they name for it), or drop the trigger",
        );
    }
    let all: Vec<&Trigger> = triggers.iter().collect();
    let detail = match (all.is_empty(), may_silence) {
        (true, _) => "none".to_owned(),
        (false, true) => format!(
            "{} fire once for what the feed brings; rows are as their items say all the same, and what \
             triggers change in \
             moved tables is taken back",
            named(&all)
        ),
        (false, false) => format!(
            "{} fire for what the feed brings; our role may not write in the replica role, so two triggers \
             that change each \
             other's table would keep the feed at work without end",
            named(&all)
        ),
    };
    GateResult::pass(NAME, detail).tells_if(!all.is_empty())
}

/// Actions of foreign keys between moved tables. Listed, not refused: what they change is read again from
/// DynamoDB. Those of other tables have a gate of their own.
fn actions(actions: &[(String, String)], ours: &[String]) -> GateResult {
    let between: Vec<&str> = actions
        .iter()
        .filter(|(relation, _)| ours.contains(relation))
        .map(|(_, action)| action.as_str())
        .collect();
    let detail = if between.is_empty() {
        "none between moved tables".to_owned()
    } else {
        format!(
            "{}: DynamoDB does nothing of the kind. Rows that PostgreSQL changes by it are brought back to \
             their items; one whose \
             item lives on after what it refers to was deleted keeps the way back closed until the \
              application deletes or changes it",
            between.join(", ")
        )
    };
    GateResult::pass("actions of foreign keys", detail).tells_if(!between.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(before: bool, on_replicas: bool) -> Trigger {
        Trigger { name: "stamp".to_owned(), calls: "public.stamp".to_owned(), before, on_replicas }
    }

    #[test]
    fn a_trigger_that_the_feed_cannot_undo_is_refused_and_every_other_one_is_named() {
        for (on, may_silence, passes) in [
            (vec![], false, true),
            (vec![trigger(true, false)], true, true),
            (vec![trigger(true, false)], false, false),
            (vec![trigger(false, false)], false, true),
            (vec![trigger(true, true)], true, false),
            (vec![trigger(false, true)], true, true),
        ] {
            let gate = triggers(&on, may_silence);
            assert_eq!(gate.passed, passes, "{on:?} {may_silence}: {gate:?}");
            assert_eq!(gate.detail.contains("stamp (public.stamp)"), !on.is_empty(), "{gate:?}");
        }
    }

    #[test]
    fn a_cascade_from_a_table_that_stays_is_named_before_it_is_refused() {
        let found = [
            ("public.loans".to_owned(), "payments_loan ON DELETE CASCADE".to_owned()),
            ("public.logs".to_owned(), "payments_log ON DELETE SET NULL".to_owned()),
        ];
        let gate = acted_on(&found, &["public.logs".to_owned()]);
        assert!(
            gate.passed && gate.detail.contains("payments_loan ON DELETE CASCADE of public.loans"),
            "{gate:?}"
        );
        assert!(!gate.detail.contains("payments_log"), "{gate:?}");
        assert_eq!(acted_on(&[], &[]).detail, "none lead to tables that stay");
    }

    #[test]
    fn constraints_that_no_writer_of_dynamo_only_is_asked_are_named_before_the_step() {
        let gate = unasked(&["positive (CHECK)".to_owned(), "payments_once (UNIQUE)".to_owned()]);
        assert!(
            gate.passed && gate.detail.starts_with("positive (CHECK), payments_once (UNIQUE): "),
            "{gate:?}"
        );
        assert!(gate.detail.contains(&DeadLetters.to_string()), "{gate:?}");
        assert_eq!(unasked(&[]).detail, "none");
    }

    #[test]
    fn actions_that_reach_tables_that_stay_are_not_told_here() {
        let found = [
            ("public.logs".to_owned(), "public.logs.fk cascades".to_owned()),
            ("public.stays".to_owned(), "public.stays.fk cascades".to_owned()),
        ];
        let detail = actions(&found, &["public.logs".to_owned()]).detail;
        assert!(detail.contains("public.logs.fk") && !detail.contains("public.stays"), "{detail}");
    }
}
