//! From what is seen to what it means. Pure: it asks nobody, and reads no clock.

use lockstep_core::{Epoch, Phase};

use super::finding::{Diagnosis, Finding, Severity};
use super::history;
use super::observation::{CaptureSeen, Observation, TableSeen, TargetSeen};
use super::remedy::{Remedy, plan};
use super::truth::{self, phase};
use crate::{mend, repair, reverse_feed, step};

/// Age from which something waits because nobody is at it, in seconds. A relay takes a fraction of a second.
const WAITS_S: f64 = 60.0;

/// Says what an observation means.
pub fn examine(seen: &Observation) -> Diagnosis {
    let mut findings = Vec::new();
    if let Some(error) = &seen.source_error {
        findings.push(Finding::broken(
            format!("PostgreSQL does not answer: {error}"),
            "up to HybridRead nothing can be written while it is away, and nothing is lost; in DynamoOnly nothing stops",
            "bring it back, or check source.url; every command goes on where it stopped",
        ));
    } else if seen.installed {
        whole(seen, &mut findings);
    } else {
        findings.extend(after_the_end(seen));
    }
    for table in &seen.tables {
        of_table(seen, table, &mut findings);
    }
    findings.sort_by_key(|finding| finding.severity);
    let sound = findings.iter().all(|finding| finding.severity != Severity::Broken);
    let remedies = plan(&findings);
    Diagnosis {
        state: state(seen, &findings),
        sound,
        safe: safe(seen, &remedies),
        next: next(seen, &findings, &remedies),
        findings,
    }
}

/// What is not of a single table.
fn whole(seen: &Observation, findings: &mut Vec<Finding>) {
    let phase = phase(seen);
    findings.extend(truth::finding(seen));
    findings.extend(seen.histories.losses().iter().map(|loss| history::finding(loss, phase)));
    for open in &seen.open_steps {
        findings.extend(open_step(
            seen,
            &open.step,
            &format!("by {} at {}", open.actor, open.at.format("%Y-%m-%d %H:%M:%S UTC")),
        ));
    }
    let (writes, oldest_s) = seen.open_writes;
    if writes > 0 && oldest_s > WAITS_S {
        findings.push(Finding::attention(
            format!(
                "{writes} keys of strict writes wait for {oldest_s:.0} s to be settled: their process died, and nobody sweeps"
            ),
            "DynamoDB may show a state of them that was never committed; they count as pending",
            "cargo xtask relay",
        ));
    }
    if let (Some(verdict), Some((_, epoch, _))) = (seen.verdict, seen.control)
        && !verdict.consistent
        && verdict.epoch == epoch.0
    {
        let (what, next) = ("the newest verdict is NOT consistent", "cargo xtask repair, then cargo xtask validate");
        findings.push(match phase {
            Phase::HybridRead => Finding::broken(
                what,
                "DynamoDB answers reads, and may answer wrong",
                "cargo xtask rollback --to DualWrite, so that PostgreSQL answers; then cargo xtask repair",
            ),
            _ => Finding::attention(what, "reads are answered by the truth; the step to HybridRead is refused", next),
        });
    }
    if let Some(epoch) = truth::epoch(seen) {
        instances(seen, epoch, findings);
    }
    if phase == Phase::DynamoOnly && seen.at_work.reverse_feed.is_none() {
        findings.push(Finding::attention(
            "no reverse feed runs",
            "PostgreSQL does not follow. DynamoDB's streams keep changes for 24 h; after that the way back needs a reverse backfill",
            "cargo xtask reverse-feed",
        ));
    }
}

fn open_step(seen: &Observation, name: &str, by: &str) -> Option<Finding> {
    let at_work = seen.at_work.coordinator;
    Some(match (name, at_work) {
        (mend::STEP, None) => Finding::broken(
            format!("a repair of the state {by} was broken off"),
            "everything it did may be repeated; until it has ended no step forward is taken",
            "cargo xtask repair --state --apply",
        ),
        (repair::STEP, _) => Finding::attention(
            format!("a repair of keys {by} was broken off before the keys were read again"),
            "they are marked, or were not; either way nothing is lost",
            "cargo xtask repair --apply",
        ),
        (name, Some(pid)) => Finding::attention(
            format!("`{name}` {by} is under way: PostgreSQL backend {pid} is the coordinator"),
            "it holds the coordinator's lock, so it lives",
            "wait for it",
        ),
        (name, None) if name == step::STEP => Finding::broken(
            format!("`{name}` {by} has no outcome, and no coordinator is at work: it died"),
            "the control record decides whether it happened; nothing is lost, and no other step begins before it is settled",
            "any command that steps settles it first; so does cargo xtask repair --state --apply",
        )
        .mended_by(Remedy::SettleSteps),
        (name, None) => Finding::attention(
            format!("`{name}` {by} was broken off"),
            "it is repeated as a whole when its command runs again",
            "run its command again",
        )
        .mended_by(Remedy::SettleSteps),
    })
}

fn instances(seen: &Observation, epoch: Epoch, findings: &mut Vec<Finding>) {
    use lockstep_core::source::InstanceState;
    for row in seen.instances.iter().filter(|row| row.state == InstanceState::Live && !row.has_acknowledged(epoch)) {
        let finding = if row.lease_left_ms > 0 {
            Finding::attention(
                format!("{} has not acknowledged epoch {epoch} yet", row.title()),
                "it may serve by the phase before; a step waits for it",
                "wait; if it stays so, restart that process",
            )
        } else {
            Finding::attention(
                format!("{} is gone without a word", row.title()),
                "its lease is over, so it serves nothing; the next step says so and goes on",
                "nothing",
            )
        };
        findings.push(finding);
    }
}

fn of_table(seen: &Observation, table: &TableSeen, findings: &mut Vec<Finding>) {
    let name = &table.name;
    let mut add = |finding: Finding| findings.push(finding.of(name));
    let phase = phase(seen);
    if seen.source_error.is_none() && !seen.installed {
        if let TargetSeen::There { marked: true, .. } = table.target {
            add(Finding::broken(
                format!(
                    "schema lockstep is not in this PostgreSQL, but DynamoDB table {} was written by a migration",
                    table.target_name
                ),
                "this is another database, or one that was restored to before its migration began; items may be newer than rows",
                "check source.url. If the restore is meant, look into the items for what PostgreSQL forgot, then delete the table, or \
                 choose another name, and start again",
            ));
        }
        return;
    }
    if let TargetSeen::Unknown(error) = &table.target {
        let means = match phase {
            Phase::DynamoOnly => "nothing can be read or written until it answers; nothing is lost",
            Phase::HybridRead => "reads are answered by PostgreSQL; strict writes fail and leave nothing, others are deferred",
            _ => "writes go on and are deferred",
        };
        add(Finding::broken(
            format!("DynamoDB could not be asked about {}: {error}", table.target_name),
            means,
            "bring it back; nothing is to be mended",
        ));
    }
    if seen.source_error.is_some() {
        return;
    }
    match &table.capture {
        CaptureSeen::Broken(how) => {
            let broken = Finding::broken(
                format!("changes of {} are not all captured: {how}", table.relation),
                "what was changed meanwhile is unknown to everybody: DynamoDB may have older states, or rows that are deleted",
                "install the triggers again, and compare both stores whole",
            );
            // The schema first: with a column that nobody knows, installing again would bless it.
            add(if table.fingerprint_changed || phase == Phase::DynamoOnly {
                broken
            } else {
                broken.mended_by(Remedy::Recapture { table: name.clone() })
            });
        }
        CaptureSeen::Elsewhere(relation) => add(Finding::broken(
            format!("capture was installed on {relation}, and {} is configured", table.relation),
            "nothing is moved from a relation that is not captured",
            format!("set tables.{name}.source back to {relation}"),
        )),
        CaptureSeen::Absent | CaptureSeen::On => {}
    }
    if table.fingerprint_changed && matches!(table.capture, CaptureSeen::On | CaptureSeen::Broken(_)) {
        add(Finding::broken(
            format!("the columns or the key of {} have changed since capture was installed", table.relation),
            "a column that the table's crate does not know would be lost without a word, so backfill, relay and steps stop; what changes is \
             captured all the same",
            "undo the change; or end this migration, and start it again with a table crate that knows the new columns",
        ));
    }
    if table.layout_changed && table.capture != CaptureSeen::Absent {
        add(Finding::broken(
            "a setting that decides keys is not the one in use",
            "rows that were written have their keys by the old one, and would not be found",
            format!("put the settings of tables.{name} back"),
        ));
    }
    if let Some(adopted) = &table.adopted_another {
        add(Finding::broken(
            format!("this migration writes to DynamoDB table {adopted}, and {} is configured", table.target_name),
            "nothing is moved until they agree",
            format!("set tables.{name}.target back"),
        ));
    }
    if let TargetSeen::There { active, mismatches, .. } = &table.target {
        if !mismatches.is_empty() {
            add(Finding::broken(
                format!("DynamoDB table {}: {}", table.target_name, mismatches.join("; ")),
                "writes or queries would fail",
                "bring its keys and indexes to what the table's crate says",
            ));
        } else if !active {
            add(Finding::attention(
                format!("DynamoDB table {} is being changed", table.target_name),
                "it can be slow or refuse meanwhile",
                "wait",
            ));
        }
    }
    waiting(seen, table, phase, &mut add);
}

/// What waits for somebody.
fn waiting(seen: &Observation, table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let (keys, oldest_s) = table.pending;
    if keys > 0 && oldest_s > WAITS_S && phase != Phase::PostgresOnly {
        add(Finding::attention(
            format!("{keys} changes wait for delivery, the oldest for {oldest_s:.0} s: no relay seems to be at work"),
            "nothing is lost; DynamoDB is that far behind",
            "cargo xtask relay",
        ));
    }
    if table.dead_letters.1 > 0 {
        add(Finding::attention(
            format!("{} rows cannot be held by DynamoDB, and nobody has looked at them", table.dead_letters.1),
            "they are in PostgreSQL only; the step to HybridRead is refused",
            "cargo xtask dead-letters",
        ));
    }
    if table.cold_open && seen.at_work.coordinator.is_none() {
        add(Finding::attention(
            "a cold load was broken off",
            "one of its requests could still arrive, so changes wait until none can",
            "cargo xtask backfill, which finishes it",
        ));
    }
    if phase == Phase::DynamoOnly
        && let Some(alarm) = table.reverse.as_ref().and_then(reverse_feed::alarm)
    {
        add(Finding::broken(
            format!("the reverse feed: {alarm}"),
            "PostgreSQL lacks what DynamoDB holds: there is no way back until it has it",
            "cargo xtask reverse-feed --backfill",
        ));
    }
}

/// What is left where schema `lockstep` is gone, or not yet gone, because the migration is complete.
fn after_the_end(seen: &Observation) -> Option<Finding> {
    let record = seen.target_record?;
    record.completed_at?;
    let done = seen.completed.as_ref().is_some_and(|completed| completed.epoch == record.epoch.0);
    let finding = Finding::broken(
        "DynamoDB says that the migration is complete, and this PostgreSQL knows nothing of it",
        "it is another database, or one that was restored to before the migration; nobody reads its tables any more",
        "check source.url. Applications need nothing of it",
    );
    Some(if done {
        Finding::attention(
            "the migration is complete",
            "the source tables are there until they are dropped, behind a guard",
            "nothing",
        )
    } else {
        finding
    })
}

fn state(seen: &Observation, findings: &[Finding]) -> String {
    let broken = findings.iter().filter(|finding| finding.severity == Severity::Broken).count();
    let how = match (broken, findings.len()) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, n) => format!("Nothing is broken; {n} to look at."),
        (n, _) => format!("{n} broken."),
    };
    if seen.source_error.is_some() {
        return format!("The phase is not known: PostgreSQL does not answer. {how}");
    }
    if let Some(since) = seen.target_record.and_then(|record| record.completed_at) {
        return format!(
            "Complete since {}: DynamoDB is the truth for good, and applications go on with it. {how}",
            since.format("%Y-%m-%d %H:%M:%S UTC")
        );
    }
    let phase = phase(seen);
    let Some((_, epoch, since)) = seen.control else {
        return format!("Lockstep was never installed in this PostgreSQL. {how}");
    };
    let who = match phase {
        Phase::PostgresOnly => "PostgreSQL is written and read, as before the migration",
        Phase::DualWrite => "both stores are written, PostgreSQL answers reads and is the truth",
        Phase::HybridRead => "both stores are written, DynamoDB answers reads, PostgreSQL is the truth",
        Phase::DynamoOnly => "DynamoDB is written and read and is the truth",
    };
    format!("{phase} (epoch {epoch}) since {}: {who}. {how}", since.format("%Y-%m-%d %H:%M:%S UTC"))
}

fn safe(seen: &Observation, remedies: &[Remedy]) -> Vec<String> {
    let mut safe = Vec::new();
    match (seen.control, phase(seen)) {
        (None, Phase::PostgresOnly) => {}
        (_, Phase::DynamoOnly) => safe.push("Applications may go on: what they write is kept in DynamoDB.".to_owned()),
        (_, phase) => {
            safe.push("Applications may go on writing: PostgreSQL is the truth and takes every write.".to_owned());
            let doubtful = remedies.iter().any(|remedy| *remedy != Remedy::SettleSteps);
            if phase == Phase::HybridRead && doubtful {
                safe.push("Reads from DynamoDB are NOT safe: they may show what PostgreSQL does not have. `repair --state --apply` sends them to PostgreSQL first.".to_owned());
            }
        }
    }
    if seen.histories.losses().is_empty() {
        safe.push(
            "`status`, `doctor` and `validate` only read. Every other command may be run and broken off at any time.".to_owned(),
        );
    } else {
        safe.push(
            "`status`, `doctor` and `validate` only read. Backfill, relay, steps and the reverse feed refuse by themselves."
                .to_owned(),
        );
    }
    safe
}

fn next(seen: &Observation, findings: &[Finding], remedies: &[Remedy]) -> Vec<String> {
    let mut next: Vec<String> = Vec::new();
    let unmended = findings.iter().filter(|finding| finding.severity == Severity::Broken && finding.remedy.is_none());
    next.extend(unmended.map(|finding| finding.next.clone()));
    if !remedies.is_empty() {
        next.push("cargo xtask repair --state (lists what it would do), then with --apply".to_owned());
    }
    if remedies.contains(&Remedy::List) {
        next.push("cargo xtask repair: look at each finding; what is only in DynamoDB may be what PostgreSQL forgot. `repair --take-target` brings it back, `repair --apply` lets PostgreSQL stand".to_owned());
    }
    if remedies.contains(&Remedy::RaiseEpoch) {
        next.push("cargo xtask relay beside it; then cargo xtask validate, and cargo xtask advance".to_owned());
    }
    next.extend(
        findings
            .iter()
            .filter(|f| f.severity == Severity::Attention && f.remedy.is_none() && f.next != "nothing")
            .map(|f| f.next.clone()),
    );
    if next.is_empty() {
        next.push(
            match seen.control {
                None if seen.completed.is_some() => {
                    "nothing has to be done; cargo xtask cleanup --drop-source drops the source tables"
                }
                None => "cargo xtask migrate",
                Some((Phase::PostgresOnly, ..)) => "nothing has to be done; cargo xtask migrate goes on",
                Some((Phase::DualWrite, ..)) => {
                    "nothing has to be done; cargo xtask validate and cargo xtask advance go on, cargo xtask rollback goes back"
                }
                Some((Phase::HybridRead, ..)) => {
                    "nothing has to be done; cargo xtask advance goes on, cargo xtask rollback goes back"
                }
                Some((Phase::DynamoOnly, ..)) => {
                    "nothing has to be done; cargo xtask rollback goes back, cargo xtask complete ends the migration"
                }
            }
            .to_owned(),
        );
    }
    let mut seen_before = std::collections::HashSet::new();
    next.retain(|step| seen_before.insert(step.clone()));
    next
}
