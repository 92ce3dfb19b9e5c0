//! `doctor`: what state this is, what is safe, what to run.

use lockstep_coordinator::{
    Diagnosis, Finding, Severity, Unread, examine, first_of, grouped, left_out, observe, remedies,
};
use serde_json::json;

use crate::exit::Exit;
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::{Context, help};

/// Says what state a migration is in, what is safe to do now, and what to run next
///
/// It reads journal and control record, locks and leases, triggers and columns, ranges, pending changes,
/// intents, dead letters, the reverse feed, and what each store remembers of the other: a PostgreSQL that was
/// restored or failed over, and a DynamoDB table that was restored or created again, are noticed by that. It
/// changes nothing, and may run beside anything. What it proposes, `repair --state` does.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!("  cargo xtask doctor\n  cargo xtask doctor --json | jq '.diagnosis.findings[] | {what, next}'"))]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// When PostgreSQL stops answering half way. One that does not answer at all is a finding.
pub async fn run(context: Context, _args: Args) -> anyhow::Result<Exit> {
    context.config.declared.do_without();
    let stores = Stores::also_complete_lazily(&context.config, &context.ui).await?;
    let tables = context.tables();
    // Without PostgreSQL the columns of declared tables are not known; why it is away is known all the same.
    let known = tables.as_deref().unwrap_or_default();
    let mut seen = context.unless_cancelled(observe(&stores.source, &stores.target, known)).await??;
    if seen.installed {
        seen.unread = left_out(&stores.source, known).await?;
    }
    for table in context.config.declared.left_out() {
        seen.unread.retain(|unread| unread.name != table.name);
        seen.unread.push(Unread { name: table.name.to_owned(), why: table.why, is_configured: true });
    }
    if seen.source_error.is_none() {
        tables?;
    }
    let diagnosis = examine(&seen);
    if context.json {
        let remedies = remedies(&diagnosis.findings);
        print_json(&json!({ "diagnosis": diagnosis, "remedies": remedies, "observation": seen }));
    } else {
        print(&text(&diagnosis));
    }
    stores.close(false).await?;
    let away = seen.source_error.is_some() || seen.target_silent.is_some();
    Ok(match (diagnosis.sound, away) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Infrastructure,
        (false, false) => Exit::NotConsistent,
    })
}

/// Tables that are named where the same was found of more.
const NAMED: usize = 4;

/// Returns the findings, those that say the same of several tables once, with the tables.
fn told(findings: &[Finding]) -> Vec<(&Finding, Vec<&str>)> {
    let said = |finding: &&Finding| {
        let table = finding.table.as_ref()?;
        let words = [&finding.what, &finding.means, &finding.next].map(|text| text.replace(table, "\0"));
        Some((words, finding.remedy.as_ref().map(ToString::to_string)))
    };
    grouped(findings, said)
        .into_iter()
        .map(|same| (same[0], same.iter().filter_map(|finding| finding.table.as_deref()).collect()))
        .collect()
}

/// Returns a diagnosis for people.
pub(super) fn text(diagnosis: &Diagnosis) -> String {
    let mut text = diagnosis.state.clone();
    for (finding, tables) in told(&diagnosis.findings) {
        let severity = match finding.severity {
            Severity::Broken => "BROKEN",
            Severity::Attention => "look at",
        };
        let table = match tables.as_slice() {
            [] => String::new(),
            tables => format!("{}: ", first_of(tables, NAMED)),
        };
        text += &format!(
            "\n\n{severity}  {table}{}\n  means  {}\n  do     {}",
            finding.what, finding.means, finding.next
        );
        if let Some(remedy) = &finding.remedy {
            text += &format!("\n  `repair --state` will  {remedy}");
        }
    }
    text += "\n\nSafe now:";
    diagnosis.safe.iter().for_each(|safe| text += &format!("\n  {safe}"));
    text += "\n\nTo run next:";
    diagnosis.next.iter().for_each(|next| text += &format!("\n  {next}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_of_fifty_tables_is_told_once() {
        let of = |table: Option<String>| Finding {
            severity: Severity::Attention,
            what: format!("{} could not be asked", table.as_deref().unwrap_or("it")),
            table,
            means: "nothing is known of it".to_owned(),
            next: "bring DynamoDB back".to_owned(),
            remedy: None,
        };
        let mut findings: Vec<Finding> = (1..=50).map(|n| of(Some(format!("table_{n}")))).collect();
        findings.push(of(None));
        let told = told(&findings);
        assert_eq!(told.iter().map(|(_, tables)| tables.len()).collect::<Vec<_>>(), [50, 0]);
    }
}
