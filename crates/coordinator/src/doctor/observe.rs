//! Looking at both stores. It changes nothing, and a store that does not answer is part of what is seen.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use lockstep_core::{Doing, Kind, Phase};
use lockstep_dynamo::{TableExpiry, TableStanding, Target};
use lockstep_postgres::{
    Adopted, CaptureState, HeldBack, Shape, Source, TableBinding, TableState, VerdictRow, VerdictWord,
    changes_of_key, columns_in,
};

use crate::truth::set_back;

use super::observation::{
    AtWork, CaptureSeen, ColumnsSeen, ExpirySeen, InTarget, Observation, TableSeen, TargetSeen, Unread,
    VerdictSeen,
};
use crate::asked::{ANSWER_WITHIN, ASKED_AT_ONCE, Asked};
use crate::error::Result;
use crate::{continuity, moving, records, waves};

/// Longest wait for a server to say why it does not answer.
const WHY_WITHIN: Duration = Duration::from_secs(4);

/// Looks at everything.
///
/// # Errors
/// The source's, if it stops answering half way. One that does not answer at all is no error.
#[crate::boxed]
pub async fn observe(source: &Source, target: &Target, tables: &[TableBinding]) -> Result<Observation> {
    let mut seen = Observation::default();
    // Asked first, over a connection of its own: a pool tries again until its time-out, and does not know
    // why.
    let why = source.why_away(WHY_WITHIN).await;
    seen.source_error = why.as_ref().filter(|why| why.kind == Kind::Unavailable).map(ToString::to_string);
    if seen.source_error.is_none() {
        match source.is_schema_taken().await {
            Ok(installed) => seen.installed = installed,
            Err(error) => seen.source_error = Some(why.unwrap_or(error).to_string()),
        }
    }
    if seen.installed {
        waves::claim(source, target).await?;
        // It may be that of a migration that began when this one was complete.
        (seen.installed, seen.followed) = (source.has_schema().await?, source.is_aside());
        // Nothing of a schema of other tables is taken for this one's.
        seen.other_under_way = records::other_under_way(source, &records::names(tables)).await?;
        seen.installed &= seen.other_under_way.is_none();
    }
    let mut asked = Asked::of(Some(target));
    // A table that was never made says nothing; one that cannot be asked is told of by the tables.
    seen.foreign_control_table = asked.answer(target.control().foreign()).await.flatten();
    see_record(&mut asked, target, &mut seen).await;
    seen.target_silent = asked.silent();
    let targets = in_target(&asked, target, tables).await;
    for (binding, in_target) in tables.iter().zip(targets) {
        let mut table = TableSeen {
            name: binding.name().to_owned(),
            relation: binding.relation.to_string(),
            target_name: binding.target_name.clone(),
            target: in_target.target,
            expiry: in_target.expiry,
            undeclared: in_target.undeclared,
            ..TableSeen::default()
        };
        if seen.installed {
            in_source(source, binding, &mut table).await?;
        }
        seen.tables.push(table);
    }
    if !seen.installed {
        if seen.source_error.is_none() {
            seen.completed = waves::completion(source, target).await?;
            seen.earlier = waves::earlier(source, target).await?;
            for binding in tables.iter().filter(|_| seen.completed.is_some()) {
                if source.is_left(binding).await? {
                    seen.left.push(binding.relation.to_string());
                }
            }
        }
        return Ok(seen);
    }
    let control = source.control().await?;
    seen.control = Some((control.phase, control.epoch, control.changed_at));
    let (coordinator, reverse_feed) = source.at_work().await?;
    seen.at_work = AtWork { coordinator, reverse_feed };
    seen.foreign_holders = source.foreign_holders().await?;
    seen.prepared = source.prepared_transactions().await?;
    seen.held_back = held_back(source).await;
    seen.replicated = source.replicated().await?;
    seen.versions_out_of_order = source.versions_out_of_order().await?;
    seen.open_steps = source.open_intents().await?;
    seen.target_written = moving::has_written_target(source, &seen.open_steps).await?;
    seen.open_writes = source.open_writes_age().await?;
    seen.instances = source.instances().await?;
    see_leases(&mut asked, &mut seen).await;
    if control.phase == Phase::DynamoOnly {
        seen.newest_target_epoch = source.newest_target_epoch().await?;
        let mut connection = source.pool().acquire().await.doing("asking for ids")?;
        if let Some(target) = asked.target() {
            match set_back(&mut connection, &target.control(), tables).await {
                Ok(behind) => seen.ids_set_back = behind,
                Err(error) => seen.control_unread.push(error.to_string()),
            }
        }
    }
    let verdict = source.latest_verdict().await?;
    let later = match &verdict {
        Some(decides) => source.verdict_after(decides).await?,
        None => None,
    };
    seen.verdict = verdict.map(|v| VerdictSeen {
        later: later.as_ref().map(VerdictRow::word),
        consistent: v.consistent,
        incomplete: v.word() == VerdictWord::Incomplete,
        age_s: v.age_s,
        epoch: v.epoch,
    });
    seen.loss_undecided = source.is_loss_undecided().await?;
    seen.histories = match asked.silent() {
        Some(why) => continuity::look_beside(source, Err(&why), tables, source.table_states().await?).await?,
        None => continuity::look(source, target, tables).await?,
    };
    Ok(seen)
}

/// Returns the tables of the migration that are not among `tables`, each with the sentence that says so.
///
/// # Errors
/// The source's.
#[crate::boxed]
pub async fn left_out(source: &Source, tables: &[TableBinding]) -> Result<Vec<Unread>> {
    let known = records::names(tables);
    let left = source.recorded_tables().await?.into_iter().filter(|name| !known.contains(&name.as_str()));
    let why = |name: &str| format!("the migration has {name} too, and this configuration does not");
    Ok(left.map(|name| Unread { why: why(&name), name, is_configured: false }).collect())
}

/// Returns what keeps marks from being taken out. Advice only: a server that keeps its statistics to itself
/// must not end the doctor.
async fn held_back(source: &Source) -> Option<HeldBack> {
    source.held_back().await.unwrap_or_else(|error| {
        tracing::debug!("what keeps marks is not known: {error}");
        Default::default()
    })
}

/// DynamoDB's control record.
async fn see_record(asked: &mut Asked<'_>, target: &Target, seen: &mut Observation) {
    if asked.silent().is_none()
        && let Some(record) = asked.answer(target.control().record()).await
    {
        seen.target_record = record;
        seen.target_record_unnamed = asked.answer(target.control().names_us()).await == Some(false);
        return;
    }
    if let Some(error) = asked.error().filter(|_| seen.foreign_control_table.is_none()) {
        // What the driver did not say we found ourselves, in what it had read.
        seen.target_record_damaged = error.kind == Kind::Misconfigured && error.cause.is_none();
        seen.target_record_error = Some(error.to_string());
    }
}

/// The leases in DynamoDB, while it is the truth. That they cannot be read is a finding, and must not end the
/// doctor, which is to say what leads on.
async fn see_leases(asked: &mut Asked<'_>, seen: &mut Observation) {
    let (Some(target), Some(record)) = (asked.target(), seen.target_record) else { return };
    let control = target.control();
    match asked.answer(control.leases_seen()).await {
        Some(there) => {
            seen.no_leases = there.unread;
            if record.holds_truth() {
                seen.instances = there.instances;
            }
        }
        None => seen.leases_error = asked.text(),
    }
}

/// Looks for each table in the target under its name: all at once, so that one that is silent is waited for
/// once.
async fn in_target(asked: &Asked<'_>, target: &Target, tables: &[TableBinding]) -> Vec<InTarget> {
    if let Some(why) = asked.silent() {
        return vec![TargetSeen::Unknown(why).into(); tables.len()];
    }
    let mut all: Vec<BoxFuture<'_, InTarget>> = Vec::new();
    for binding in tables {
        all.push(Box::pin(table_in_target(target, binding)));
    }
    stream::iter(all).buffered(ASKED_AT_ONCE).collect().await
}

async fn table_in_target(target: &Target, binding: &TableBinding) -> InTarget {
    let seen = tokio::time::timeout(ANSWER_WITHIN, answer_of(target, binding)).await;
    let late = || TargetSeen::Unknown(format!("no answer within {} s", ANSWER_WITHIN.as_secs()));
    seen.unwrap_or_else(|_| late().into())
}

async fn answer_of(target: &Target, binding: &TableBinding) -> InTarget {
    let schema = binding.table.target();
    let found = match target.describe(&binding.target_name, &schema).await {
        Err(error) => return TargetSeen::Unknown(error.to_string()).into(),
        Ok(TableStanding::Missing) => return TargetSeen::Missing.into(),
        Ok(TableStanding::There(found)) => found,
    };
    let marked = target.continuity_mark(&binding.target_name, &schema).await.is_ok_and(|mark| mark.is_some());
    let expiry = match target.expiry(&binding.target_name).await {
        Ok(TableExpiry::Off) if binding.table.expires() => ExpirySeen::Off,
        Ok(TableExpiry::Off | TableExpiry::Ours) => ExpirySeen::Right,
        Ok(other) => ExpirySeen::Wrong(other),
        Err(error) => ExpirySeen::Unknown(error.to_string()),
    };
    let there = TargetSeen::There { active: found.active, mismatches: found.mismatches, marked };
    InTarget { target: there, expiry, undeclared: found.undeclared }
}

async fn in_source(source: &Source, binding: &TableBinding, seen: &mut TableSeen) -> Result<()> {
    let name = binding.name();
    seen.capture = match source.capture_state(binding).await? {
        CaptureState::Absent => CaptureSeen::Absent,
        CaptureState::On => CaptureSeen::On,
        CaptureState::Broken(how) => CaptureSeen::Broken(how),
    };
    if let Some(state) = source.table_state(name).await? {
        let TableState { relation, target_name, planned_at, cold_open, cold_unsafe_until, importing, .. } =
            state.clone();
        if relation != seen.relation {
            seen.capture = CaptureSeen::Elsewhere(relation);
        }
        let now = source.fingerprint(binding).await?;
        match Shape::of(&state.fingerprint, &now) {
            // Whatever reads a partition that is new takes it in first.
            Shape::Same | Shape::Grown(_) => {}
            Shape::Partitions(changes) => seen.partitions = changes,
            Shape::Rewritten => seen.rewritten = true,
            Shape::Columns { came, gone } => {
                let there = source.describe(binding).await?;
                let others =
                    columns_in(&now, binding).into_iter().filter(|column| came.contains(&column.line()));
                let is_moved = |name: &str| binding.table.columns().iter().any(|column| column.name == name);
                seen.columns = ColumnsSeen {
                    added: others.map(|column| column.name).filter(|name| is_moved(name)).collect(),
                    unknown: there.mismatches(binding),
                    of_key: changes_of_key(binding, &gone, &came),
                    came,
                    gone,
                };
            }
            Shape::Changed => seen.fingerprint_changed = true,
            Shape::Hidden(ways) => seen.hidden = ways,
        }
        let contract = source.contract().await?;
        let adopted = contract.of(name).cloned().unwrap_or_else(|| Adopted::of_state(&state));
        seen.settings_changed = adopted.decided_otherwise_since(binding, &state.fingerprint, &now);
        seen.adopted_another = target_name.filter(|adopted| *adopted != binding.target_name);
        seen.planned = planned_at.is_some();
        let clock = source.clock().await?;
        seen.importing = importing;
        seen.cold_open = cold_open || cold_unsafe_until.is_some_and(|until| until > clock);
    }
    let ranges = source.ranges(name).await?;
    seen.ranges = (ranges.len() as u64, ranges.iter().filter(|range| range.done).count() as u64);
    let lag = source.lag(name).await?;
    seen.pending = (lag.keys, lag.oldest_s);
    seen.dead_letters = source.count_dead_letters(name).await?;
    seen.reverse = source.reverse_standing(name).await?;
    Ok(())
}
