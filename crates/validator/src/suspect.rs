//! Suspects: keys on which the stores did not agree when a pass came by.

use lockstep_core::source::KeyBound;
use lockstep_core::{Item, PK, SK, TargetKey};
use tokio::sync::mpsc;

use crate::reader::text_of;
use crate::report::{Finding, FindingClass};
use crate::tasks::Stopped;

/// A key to be read again.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    pub(crate) subject: Subject,
    /// Whether the forward pass met it, as a source row; otherwise it is an item that the backward pass met.
    pub(crate) of_row: bool,
}

/// What is to be read again.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A source key and the place of its item.
    Key {
        /// The key, a literal a column.
        key: Vec<String>,
        /// Where its item is, or should be.
        place: TargetKey,
    },
    /// A row that the target cannot hold, so that it has no place there and maybe no whole key.
    Row {
        /// Its primary key.
        primary_key: KeyBound,
    },
}

/// A finding, and whether it came of comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    /// Whether a row was held against an item, or against its absence.
    pub(crate) compared: bool,
}

impl Subject {
    /// The key as reports show it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Key { key, .. } => array(key),
            Self::Row { primary_key } => array(primary_key),
        }
    }

    /// A finding about it.
    pub(crate) fn finding(&self, class: FindingClass, columns: Vec<String>) -> Finding {
        Finding { class, key: self.shown(), columns }
    }
}

/// Where an item belongs.
pub(crate) fn place_of(item: &Item) -> TargetKey {
    let partition = item.get(PK).expect("every item has a partition key");
    TargetKey { partition: partition.clone(), sort: item.get(SK).cloned() }
}

/// A finding about an item whose source key is not known.
pub(crate) fn finding_at(place: Option<&TargetKey>, class: FindingClass, columns: Vec<String>) -> Found {
    let parts = place.map(|place| std::iter::once(&place.partition).chain(&place.sort).map(|part| text_of(part).1.to_owned()));
    let key = array(&parts.map(Vec::from_iter).unwrap_or_default());
    Found { finding: Finding { class, key, columns }, compared: false }
}

fn array(parts: &[String]) -> String {
    serde_json::Value::from(parts).to_string()
}

/// Where passes put their suspects. A full queue holds the pass back until some have settled.
#[derive(Clone, Debug)]
pub(crate) struct Suspects(pub(crate) mpsc::Sender<Suspect>);

impl Suspects {
    /// Puts suspects into the queue.
    pub(crate) async fn raise(&self, suspects: Vec<Suspect>) -> Result<(), Stopped> {
        for suspect in suspects {
            self.0.send(suspect).await.map_err(|_| Stopped::RecheckEnded)?;
        }
        Ok(())
    }
}
