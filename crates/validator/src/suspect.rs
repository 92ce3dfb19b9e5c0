//! Suspects: keys on which the stores did not agree when a pass came by.

use lockstep_core::{Attribute, AttributeValue, Item, PK, SK, TargetKey};
use lockstep_postgres::KeyBound;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::name::{Borrowed, written};
use crate::reader::text_of;
use crate::table_report::{FindingClass, RowFinding};
use crate::tasks::Stopped;

/// A key to be read again.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    pub(crate) subject: Subject,
    /// Whether it was met as a source row; otherwise as an item.
    pub(crate) of_row: bool,
    /// The key, as reports show it, of another row that was met at its place.
    pub(crate) shares_place_with: Option<String>,
}

impl Suspect {
    /// Makes a suspect that was met as a source row.
    pub(crate) fn of_row(subject: Subject) -> Self {
        Self { subject, of_row: true, shares_place_with: None }
    }

    /// Makes a suspect that was met as an item.
    pub(crate) fn of_item(subject: Subject) -> Self {
        Self { subject, of_row: false, shares_place_with: None }
    }
}

/// Subject that is to be read again.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A source key and the place of its item.
    Key {
        /// The key, a literal a column.
        key: Vec<String>,
        /// Place of its item, or where that should be.
        place: TargetKey,
    },
    /// An item at whose place no row was met.
    Item {
        /// Place of the item.
        place: TargetKey,
    },
    /// A row that the target cannot hold, so that it has no place there and maybe no whole key.
    Row {
        /// Primary key of the row.
        primary_key: KeyBound,
    },
}

/// A finding, and whether it came of comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) finding: RowFinding,
    /// Whether a row was held against an item, or against its absence.
    pub(crate) compared: bool,
}

impl Subject {
    /// Returns the key as reports show it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Key { key, .. } => array(key),
            Self::Item { place } => array(&parts_of(place)),
            Self::Row { primary_key } => array(primary_key),
        }
    }

    /// Returns its source key, where that is known.
    pub(crate) fn key(&self) -> Option<&Vec<String>> {
        match self {
            Self::Key { key, .. } => Some(key),
            Self::Item { .. } | Self::Row { .. } => None,
        }
    }

    /// Returns the place of its item, where it has one.
    pub(crate) fn place(&self) -> Option<&TargetKey> {
        match self {
            Self::Key { place, .. } | Self::Item { place } => Some(place),
            Self::Row { .. } => None,
        }
    }

    /// Writes the subject as bytes, for the ledger.
    pub(crate) fn to_name(&self) -> Vec<u8> {
        match self {
            Self::Key { key, place } => written(Some(key), Some(borrowed(place))),
            Self::Item { place } => written(None, Some(borrowed(place))),
            Self::Row { primary_key } => written(Some(primary_key), None),
        }
    }

    /// Reads what [`Subject::to_name`] wrote.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        let Name { key, place } = serde_json::from_slice(name).ok()?;
        Some(match (key, place) {
            (Some(key), Some(place)) => Self::Key { key, place: place.into() },
            (None, Some(place)) => Self::Item { place: place.into() },
            (Some(primary_key), None) => Self::Row { primary_key },
            (None, None) => return None,
        })
    }

    /// Returns a finding about it.
    pub(crate) fn finding(&self, class: FindingClass, columns: Vec<String>) -> RowFinding {
        let is_source_key = self.key().is_some();
        RowFinding {
            class,
            key: self.shown(),
            is_source_key,
            columns,
            shares_place_with: None,
            fields: Vec::new(),
        }
    }
}

/// Entry of a pass that has no place in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Aside {
    /// A row that the target cannot hold, by its primary key.
    Unholdable(KeyBound),
    /// A row without a key that could be named, because of this column.
    Nameless(String),
    /// An item that Lockstep did not write, and where it is.
    Foreign(Option<Place>),
}

impl Aside {
    /// Writes the entry as bytes, for the ledger.
    pub(crate) fn to_name(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings are JSON")
    }

    /// Reads what [`Aside::to_name`] wrote.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        serde_json::from_slice(name).ok()
    }
}

/// [`Subject::to_name`] of a row, by its source key and its item: one is made for each row of a table.
pub(crate) fn name_of_row(key: &[String], item: &Item) -> Vec<u8> {
    let part = |name: &str| item.get(name).map(|value| part_of(value.into()));
    written(Some(key), Some((part(PK).expect("every item has a partition key"), part(SK))))
}

/// [`Subject::to_name`] of an item, by the two parts of its key: one is made for each item of a table.
pub(crate) fn name_of_item(partition: Attribute<'_>, sort: Option<Attribute<'_>>) -> Vec<u8> {
    written(None, Some((part_of(partition), sort.map(part_of))))
}

fn borrowed(place: &TargetKey) -> Borrowed<'_> {
    (part_of((&place.partition).into()), place.sort.as_ref().map(|part| part_of(part.into())))
}

/// Type and text of a key attribute, as [`text_of`] gives them.
fn part_of(part: Attribute<'_>) -> (char, &str) {
    match part {
        Attribute::S(text) => ('S', text),
        Attribute::N(digits) => ('N', digits),
        Attribute::Bool(_) | Attribute::Other(_) => ('?', ""),
    }
}

/// A subject as it is read back.
#[derive(Deserialize)]
struct Name {
    #[serde(rename = "k")]
    key: Option<Vec<String>>,
    #[serde(rename = "p")]
    place: Option<Place>,
}

/// A target key as it is written: type and text of each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place((char, String), Option<(char, String)>);

impl From<&TargetKey> for Place {
    fn from(place: &TargetKey) -> Self {
        let part = |part| {
            let (kind, text) = text_of(part);
            (kind, text.to_owned())
        };
        Self(part(&place.partition), place.sort.as_ref().map(part))
    }
}

impl From<Place> for TargetKey {
    fn from(Place(partition, sort): Place) -> Self {
        let part = |(kind, text)| if kind == 'N' { AttributeValue::N(text) } else { AttributeValue::S(text) };
        Self { partition: part(partition), sort: sort.map(part) }
    }
}

/// Returns the place to which an item belongs.
pub(crate) fn place_of(item: &Item) -> TargetKey {
    let partition = item.get(PK).expect("every item has a partition key");
    TargetKey { partition: partition.clone(), sort: item.get(SK).cloned() }
}

/// Returns a finding about an item whose source key is not known.
pub(crate) fn finding_at(place: Option<&TargetKey>, class: FindingClass, columns: Vec<String>) -> Found {
    let key = array(&place.map(parts_of).unwrap_or_default());
    Found {
        finding: RowFinding {
            class,
            key,
            is_source_key: false,
            columns,
            shares_place_with: None,
            fields: Vec::new(),
        },
        compared: false,
    }
}

fn parts_of(place: &TargetKey) -> Vec<String> {
    std::iter::once(&place.partition).chain(&place.sort).map(|part| text_of(part).1.to_owned()).collect()
}

fn array(parts: &[String]) -> String {
    serde_json::Value::from(parts).to_string()
}

/// Queue in which passes put their suspects. A full queue holds the pass back until some are decided.
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
