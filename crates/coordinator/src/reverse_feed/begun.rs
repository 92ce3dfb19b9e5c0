//! Newest epoch that was ever begun, where both stores show it.
//!
//! A version of a later one is either of a time that a store has lost, or another program's choice. Of the
//! first kind it can only be where PostgreSQL forgot an epoch and DynamoDB's record as well: every epoch in
//! which an application writes DynamoDB is in its record before it does, and marks of history tell of a
//! PostgreSQL that was set back.

use std::fmt::Display;

use lockstep_core::{Doing, Epoch, TargetRecord, Truth, truth};

use crate::continuity;
use crate::error::Result;
use crate::loss::Found;
use crate::options::MigrationContext;
use crate::records::how_set_back;
use crate::truth::set_back;

/// The newest epoch, and what tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// No version of a later epoch is ours.
    pub(super) epoch: Epoch,
    /// DynamoDB's record, where it is the truth.
    pub(super) truth_there: Option<TargetRecord>,
}

/// Asks both stores; the inner error says why they do not show it.
///
/// # Errors
/// The stores'.
pub(super) async fn newest(migration: &MigrationContext) -> Result<std::result::Result<Begun, String>> {
    let (source, target) = (&migration.source, &migration.target);
    let histories = continuity::look(source, target, &migration.tables).await?;
    if let Some(loss) = histories.losses().first() {
        return Ok(not_shown(loss));
    }
    for binding in &migration.tables {
        let table = histories.tables.iter().find(|table| table.name == binding.name());
        match table.map(|table| &table.found) {
            Some(Found::There { mark: Some(_), .. }) => {}
            Some(Found::Unknown(why)) => return Ok(not_shown(why)),
            _ => return Ok(not_shown(format!("{} has no mark of history", binding.target_name))),
        }
    }
    let (now, control) = (source.control().await?, target.control());
    let record = control.record().await?;
    let is_there = match truth(&now, record.as_ref()) {
        Truth::InTarget => true,
        Truth::InSource => false,
        Truth::ToTarget(_) | Truth::ToSource(..) => {
            return Ok(not_shown("the truth is on its way from one store to the other"));
        }
        Truth::Lost => return Ok(not_shown("the control records contradict each other")),
    };
    let Some(record) = record.filter(|_| is_there) else {
        return Ok(Ok(Begun { epoch: now.epoch, truth_there: None }));
    };
    let newest = source.newest_target_epoch().await?;
    if record.since > now.epoch || newest.is_none_or(|newest| newest < record.epoch) {
        return Ok(not_shown(format!(
            "PostgreSQL does not know of epoch {}, in which DynamoDB is the truth",
            record.epoch
        )));
    }
    let doing = "asking for ids";
    let connection = source.pool().acquire().await;
    let mut connection = connection.doing(doing)?;
    let ids = set_back(&mut connection, &control, &migration.tables).await?;
    if let Some(how) = how_set_back(&record, newest, &ids) {
        return Ok(not_shown(format!("DynamoDB's control table was set back: {how}")));
    }
    Ok(Ok(Begun { epoch: record.epoch.max(now.epoch), truth_there: Some(record) }))
}

fn not_shown(why: impl Display) -> std::result::Result<Begun, String> {
    Err(why.to_string())
}
