//! `repair --state`: what the doctor proposes, done. `repair --take-target`: what PostgreSQL forgot, brought
//! back.

use lockstep_coordinator::{
    Repairable, Repairs, StateRepaired, examine, observe, planned_remedies, repair_state, take_target,
};
use lockstep_validator::ValidateOptions;
use serde_json::json;

use super::doctor;
use super::repair_list::{listed, told};
use crate::Context;
use crate::exit::Exit;
use crate::report::{print, print_json};
use crate::stores::Stores;

/// Lists what the doctor proposes, or does it.
pub(super) async fn state(
    context: Context,
    stores: Stores,
    apply: bool,
    options: &ValidateOptions,
) -> anyhow::Result<Exit> {
    let migration = context.migration(&stores)?;
    let exit = if apply {
        let mended = repair_state(&migration, options, &context.ui, &context.cancel).await?;
        if context.json {
            print_json(&json!({ "mended": mended }));
        } else {
            print(&done(&mended));
        }
        exit_of(&mended)
    } else {
        let diagnosis = examine(&observe(&stores.source, &stores.target, &migration.tables).await?);
        let remedies = planned_remedies(&migration, &diagnosis).await?;
        if context.json {
            print_json(&json!({ "diagnosis": diagnosis, "remedies": remedies }));
        } else {
            print(&doctor::text(&diagnosis));
            let what: Vec<String> =
                remedies.iter().enumerate().map(|(n, remedy)| format!("\n  {}. {remedy}", n + 1)).collect();
            print(&match what.is_empty() {
                true => "\n`repair --state` has nothing to do.".to_owned(),
                false => format!("\n`repair --state --apply` will, in this order:{}", what.concat()),
            });
        }
        if diagnosis.sound && remedies.is_empty() { Exit::Done } else { Exit::NotConsistent }
    };
    stores.close(false).await?;
    Ok(exit)
}

fn exit_of(mended: &StateRepaired) -> Exit {
    let sound = mended.left.as_ref().is_some_and(|left| left.sound);
    let compared = mended.findings.as_ref().is_none_or(|found| {
        // What was listed only is still to be decided; what was repaired has been read again.
        let decided = mended.repaired.marked >= found.repairable.len() as u64;
        decided && found.unrepairable.is_empty() && found.failures.is_empty()
    });
    if sound && compared && mended.repaired.unverified.is_empty() { Exit::Done } else { Exit::NotConsistent }
}

fn done(mended: &StateRepaired) -> String {
    let mut text = match mended.done.is_empty() {
        true => "There was nothing to repair.".to_owned(),
        false => "Done:".to_owned(),
    };
    for remedy in &mended.done {
        text += &format!("\n  {remedy}");
    }
    if let Some(findings) = &mended.findings {
        text += &format!("\n\n{}", listed(findings));
        if mended.repaired.marked > 0 {
            text += &format!("\n{}", told(&mended.repaired));
        }
    }
    if let Some(left) = &mended.left {
        text += &format!("\n\nAfterwards: {}", doctor::text(left));
    }
    text
}

/// Writes rows to PostgreSQL as DynamoDB has them.
pub(super) async fn take(
    context: Context,
    stores: Stores,
    repairs: &Repairs,
    chosen: &[Repairable],
) -> anyhow::Result<Exit> {
    let taken = take_target(&context.migration(&stores)?, chosen).await?;
    if context.json {
        print_json(&json!({ "findings": repairs, "taken": taken }));
    } else {
        print(&format!("{} rows of PostgreSQL are as DynamoDB has them now", taken.rows));
        taken.left.iter().for_each(|left| print(&format!("  left: {left}")));
    }
    stores.close(false).await?;
    Ok(if taken.left.is_empty() { Exit::Done } else { Exit::NotConsistent })
}
