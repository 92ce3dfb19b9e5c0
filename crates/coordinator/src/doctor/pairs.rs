//! Every pair of control records, with and without lost history, an open step and broken capture: what the
//! doctor names leads to a state in which applications write, and nothing that is in one store only is
//! overwritten unasked (I17).
//!
//! What each remedy does to the records, and where it refuses, is said here once more, in [`State::apply`],
//! and played on real stores in `it/history/way_on.rs`.

use chrono::DateTime;
use lockstep_core::{Advice, Control, Epoch, Phase, TargetRecord, Truth, Version, Writes, truth};
use lockstep_postgres::{Entry, KnownMarks, SourceContinuity};

use super::observation::{CaptureSeen, TableSeen, TargetSeen};
use super::*;
use crate::loss::{Continuity, Found, TableContinuity};

/// Rounds of "do what the doctor names" that may be needed.
const ROUNDS_MAX: usize = 4;
const SOURCE_EPOCH: i64 = 4;

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    epoch: i64,
    record: Option<TargetRecord>,
    /// A step that was broken off, as from where to where.
    open: Option<(Phase, Phase)>,
    /// Whether it noted that it lets writes go on in DynamoDB.
    noted_open: bool,
    source_lost: bool,
    /// The target table that is there is not the one that was used, or is older than it was.
    table_lost: bool,
    adopted: bool,
    capture_off: bool,
    /// The newest epoch in which DynamoDB was written, as PostgreSQL remembers it.
    noted: Option<i64>,
    /// Whether DynamoDB may have what PostgreSQL forgot.
    only_in_target: bool,
    /// Whether an operator was shown what differs.
    listed: bool,
}

impl State {
    fn control(&self) -> Control {
        let writes_paused = self.phase == Phase::DynamoOnly;
        let changed_at = DateTime::UNIX_EPOCH;
        Control { phase: self.phase, epoch: Epoch(self.epoch), changed_at, writes_paused }
    }

    fn truth(&self) -> Truth {
        truth(&self.control(), self.record.as_ref())
    }

    fn target_written(&self) -> bool {
        self.open.is_some_and(|(from, to)| {
            (from == Phase::DynamoOnly || to == Phase::DynamoOnly) && self.may_be_written(from)
        })
    }

    fn may_be_written(&self, from: Phase) -> bool {
        from == Phase::DynamoOnly || self.noted_open
    }

    fn seen(&self) -> Observation {
        let name = "payments".to_owned();
        let table = TableSeen {
            name: name.clone(),
            relation: "public.payments".to_owned(),
            target_name: name.clone(),
            capture: if self.capture_off {
                CaptureSeen::Broken("dropped".to_owned())
            } else {
                CaptureSeen::On
            },
            target: TargetSeen::There { active: true, mismatches: Vec::new(), marked: true },
            planned: true,
            ranges: (8, 8),
            ..TableSeen::default()
        };
        let server = Some("7/1".to_owned());
        let now = Version(if self.source_lost { 1 } else { 9 });
        // The source itself remembers it, whatever became of the table that does as well.
        let source = SourceContinuity {
            known_server: server.clone(),
            server,
            known_version: Version(9),
            version: now,
            contradicted: Vec::new(),
        };
        let mark = lockstep_dynamo::ContinuityMark {
            number: 3,
            version: Version(9),
            server: None,
            at: DateTime::UNIX_EPOCH,
        };
        let found = match self.table_lost {
            true => Found::Gone,
            false => Found::There { id: None, mark: Some(mark) },
        };
        let known = KnownMarks { marking: 3, marked: 3 };
        let of_table =
            TableContinuity { name: name.clone(), target_name: name, known, known_id: None, found };
        let open_steps = self.open.map(|(from, to)| Entry {
            id: 1,
            at: DateTime::UNIX_EPOCH,
            actor: "the dead".to_owned(),
            kind: "intent".to_owned(),
            intent: None,
            step: "change phase".to_owned(),
            detail: serde_json::json!({ "from": from, "to": to, "epoch_before": self.epoch }),
        });
        Observation {
            installed: true,
            control: Some((self.phase, Epoch(self.epoch), DateTime::UNIX_EPOCH)),
            target_record: self.record,
            newest_target_epoch: self.noted.map(Epoch),
            open_steps: open_steps.into_iter().collect(),
            target_written: self.target_written(),
            at_work: AtWork { coordinator: None, reverse_feed: Some(7) },
            tables: vec![table],
            histories: Continuity { source: Some(source), tables: vec![of_table] },
            ..Observation::default()
        }
    }

    fn writes(&self) -> bool {
        match self.truth() {
            Truth::InSource => true,
            Truth::InTarget => self.record.is_some_and(|record| record.writes == Writes::Open),
            _ => false,
        }
    }

    /// Both stores know each other's history, or everything that reads them refuses.
    fn require_kept(&self) -> Result<(), String> {
        match self.source_lost || self.table_lost {
            true => Err("history is lost".to_owned()),
            false => Ok(()),
        }
    }

    /// Applies a remedy as the repair of the state does, or says why that refuses.
    fn apply(&mut self, remedy: &Remedy) -> Result<(), String> {
        let frozen = self.phase == Phase::DynamoOnly;
        match remedy {
            Remedy::Recapture { .. } | Remedy::Refreeze { .. } => self.capture_off = false,
            Remedy::TakeShape { .. } | Remedy::TakePartitions { .. } | Remedy::SwitchExpiryOn { .. } => {}
            Remedy::FollowTarget => {
                let record = self.record;
                let follows = match self.truth() {
                    Truth::InTarget | Truth::ToTarget(_) => true,
                    Truth::Lost => {
                        record.is_some_and(|record| record.holds_truth() && record.epoch.0 > self.epoch)
                    }
                    _ => false,
                };
                if !follows {
                    return Err("DynamoDB does not say that it is the truth".to_owned());
                }
                let of_record = record.map_or(0, |record| record.epoch.0);
                let is_behind =
                    record.is_some_and(|record| record.holds_truth() && record.since.0 > self.epoch);
                if !frozen || is_behind {
                    (self.phase, self.epoch) = (Phase::DynamoOnly, of_record.max(self.epoch + 1));
                }
                self.noted = self.noted.max(Some(of_record.max(self.epoch)));
                self.source_lost = false;
            }
            Remedy::ReverseBackfill => {
                self.require_kept()?;
                if !frozen {
                    return Err("PostgreSQL takes nothing from DynamoDB in this phase".to_owned());
                }
                self.only_in_target = false;
            }
            Remedy::RemakeControl if frozen => {
                self.require_kept()?;
                let of_record = self.record.map_or(0, |record| record.epoch.0);
                let epoch = of_record.max(self.epoch).max(self.noted.unwrap_or(0)) + 2;
                self.noted = Some(epoch);
                self.record = record(Phase::DynamoOnly, epoch, Writes::Open, self.epoch);
            }
            Remedy::AdoptTarget { .. } => self.adopted = true,
            Remedy::ReturnToSource if frozen => {
                if self.table_lost && !self.adopted {
                    return Err("history is lost".to_owned());
                }
                (self.source_lost, self.table_lost, self.only_in_target) = (false, false, false);
                let of_record = self.record.map_or(0, |record| record.epoch.0);
                let epoch = of_record.max(self.epoch).max(self.noted.unwrap_or(0)) + 2;
                if let Some(now) = self.record {
                    self.record = record(Phase::DualWrite, epoch, Writes::Paused, now.since.0);
                }
                (self.phase, self.epoch) = (Phase::DualWrite, epoch);
            }
            Remedy::CloseRecord => {
                let Some(now) = self.record.filter(TargetRecord::holds_truth) else { return Ok(()) };
                if frozen || now.epoch.0 > self.epoch {
                    return Err("PostgreSQL is not ahead of it".to_owned());
                }
                self.record = record(self.phase, self.epoch, Writes::Paused, now.since.0);
            }
            Remedy::RaiseEpoch => {
                if frozen {
                    self.settle()?;
                }
                if self.phase == Phase::DynamoOnly || self.record.is_some_and(|record| record.holds_truth()) {
                    return Err("DynamoDB says that it is the truth".to_owned());
                }
                let of_record = self.record.map_or(0, |record| record.epoch.0);
                self.epoch = of_record.max(self.epoch) + 1;
                self.phase = self.phase.min(Phase::DualWrite);
                self.source_lost = false;
                self.table_lost &= !self.adopted;
            }
            Remedy::SettleSteps => self.settle()?,
            Remedy::LetGoOn => {
                if self.truth() == Truth::InTarget {
                    self.record = self.record.map(|record| TargetRecord { writes: Writes::Open, ..record });
                }
            }
            Remedy::TakeColumns { .. } | Remedy::BringColumns { .. } if frozen => {
                return Err("DynamoDB is the truth".to_owned());
            }
            Remedy::TakeColumns { .. } | Remedy::BringColumns { .. } => self.capture_off = false,
            Remedy::Backfill => self.require_kept()?,
            Remedy::Compare if self.phase.writes_both() && self.only_in_target => {
                return Err("what is in DynamoDB alone is overwritten unasked".to_owned());
            }
            Remedy::List => self.listed = true,
            Remedy::RemakeControl | Remedy::ReturnToSource | Remedy::Compare => {}
        }
        Ok(())
    }

    /// As `moving::settle` does it.
    fn settle(&mut self) -> Result<(), String> {
        let Some((from, to)) = self.open.take() else { return Ok(()) };
        if from != Phase::DynamoOnly && to != Phase::DynamoOnly {
            return Ok(());
        }
        let written = self.may_be_written(from);
        match self.truth() {
            Truth::InSource => return Ok(()),
            Truth::Lost => return Err("the records contradict each other".to_owned()),
            Truth::ToTarget(_) if written => return Err("the control table was lost".to_owned()),
            Truth::ToTarget(_) => {
                self.record = record(Phase::DynamoOnly, self.epoch, Writes::Paused, self.epoch);
            }
            Truth::ToSource(phase, epoch) => {
                (self.phase, self.epoch) = (phase, epoch.0);
                return Ok(());
            }
            Truth::InTarget => {}
        }
        let Some(now) = self.record else { return Err("no record".to_owned()) };
        match now.writes {
            Writes::Open => {}
            Writes::Paused if now.epoch == now.since && !written => {
                self.record = record(Phase::HybridRead, now.epoch.0 + 1, Writes::Paused, now.since.0);
                (self.phase, self.epoch) = (Phase::HybridRead, now.epoch.0 + 1);
            }
            Writes::Paused => self.record = record(now.phase, now.epoch.0, Writes::Open, now.since.0),
        }
        Ok(())
    }
}

fn record(phase: Phase, epoch: i64, writes: Writes, since: i64) -> Option<TargetRecord> {
    let (epoch, since) = (Epoch(epoch), Epoch(since));
    Some(TargetRecord { phase, epoch, writes, since, changed_at: DateTime::UNIX_EPOCH, completed_at: None })
}

/// Every record that DynamoDB may have beside one of PostgreSQL in [`SOURCE_EPOCH`].
fn records() -> Vec<Option<TargetRecord>> {
    let mut all = vec![None];
    for phase in Phase::ALL {
        for epoch in SOURCE_EPOCH - 2..=SOURCE_EPOCH + 3 {
            for writes in [Writes::Open, Writes::Paused] {
                for since in SOURCE_EPOCH - 2..=epoch {
                    all.push(record(phase, epoch, writes, since));
                }
            }
        }
    }
    all
}

/// Every state that is asked about.
fn states() -> Vec<State> {
    let mut steps = vec![None];
    for phase in Phase::ALL {
        let near = [phase.next(), phase.previous()];
        steps.extend(near.into_iter().flatten().map(|to| Some((phase, to))));
    }
    let mut all = Vec::new();
    for phase in Phase::ALL {
        for record in records() {
            for &open in &steps {
                for flags in 0..32 {
                    let flag = |n: u32| flags & (1 << n) != 0;
                    let (source_lost, table_lost, capture_off) = (flag(0), flag(1), flag(2));
                    let behind = record.is_some_and(|record| record.epoch.0 > SOURCE_EPOCH);
                    let state = State {
                        phase,
                        epoch: SOURCE_EPOCH,
                        record,
                        open,
                        noted_open: flag(3),
                        source_lost,
                        table_lost,
                        adopted: false,
                        capture_off,
                        noted: flag(4).then_some(SOURCE_EPOCH + 3),
                        // A step of our own that was decided has seen the feed through before.
                        only_in_target: source_lost
                            || (behind && phase != Phase::DynamoOnly)
                            || (open.is_none() && behind && record.is_some_and(|r| !r.holds_truth())),
                        listed: false,
                    };
                    all.push(state);
                }
            }
        }
    }
    all
}

/// Does what the doctor names, again and again; what it said, where it leads nowhere.
fn led_on(state: &State) -> Result<State, String> {
    let mut now = state.clone();
    for _ in 0..ROUNDS_MAX {
        let said = examine(&now.seen());
        if said.sound && now.writes() && now.open.is_none() {
            return match now.only_in_target && !now.listed {
                true => Err(format!("PostgreSQL lacks what DynamoDB has, and nothing says so: {now:?}")),
                false => Ok(now),
            };
        }
        let plan = plan(&said.findings);
        if plan.is_empty() {
            return Err(format!("nothing is proposed in {now:?}: {said:#?}"));
        }
        if !said.next.iter().any(|next| next.contains(&Advice::RepairState.to_string())) {
            return Err(format!("no command is named in {now:?}: {said:#?}"));
        }
        for remedy in &plan {
            now.apply(remedy).map_err(|why| format!("{remedy:?} of {plan:?} refuses in {now:?}: {why}"))?;
        }
    }
    Err(format!("it is not whole after {ROUNDS_MAX} rounds: {now:?}"))
}

#[test]
fn from_every_pair_of_records_what_the_doctor_names_leads_to_a_phase_in_which_applications_write() {
    let all = states();
    assert!(all.len() > 100_000, "{}", all.len());
    let stuck: Vec<String> = all
        .iter()
        .filter_map(|state| led_on(state).err().map(|why| format!("from {state:?}\n  {why}")))
        .collect();
    let few: Vec<&String> = stuck.iter().take(5).collect();
    assert!(stuck.is_empty(), "{} of {} states lead nowhere: {few:#?}", stuck.len(), all.len());
}

#[test]
fn where_no_application_can_write_the_doctor_does_not_say_that_they_may() {
    for state in states() {
        let said = examine(&state.seen());
        let is_nowhere = !state.writes() && state.truth() != Truth::Lost;
        let may = said.safe.iter().any(|safe| safe.starts_with("Applications may go on"));
        assert!(!(is_nowhere && may), "{state:?}: {:?}", said.safe);
    }
}

#[test]
fn a_source_restored_into_dynamo_only_after_the_way_back_becomes_the_truth_with_everything_that_dynamodb_has()
{
    let state = State {
        phase: Phase::DynamoOnly,
        epoch: SOURCE_EPOCH,
        record: record(Phase::HybridRead, SOURCE_EPOCH + 2, Writes::Paused, SOURCE_EPOCH),
        open: None,
        noted_open: false,
        source_lost: true,
        table_lost: false,
        adopted: false,
        capture_off: false,
        noted: Some(SOURCE_EPOCH),
        only_in_target: true,
        listed: false,
    };
    let said = examine(&state.seen());
    assert_eq!(plan(&said.findings), [Remedy::ReturnToSource, Remedy::List], "{said:#?}");
    let end = led_on(&state).expect("it leads on");
    assert!(end.phase == Phase::DualWrite && !end.only_in_target, "{end:?}");
}
