//! A table of our own, small enough to see through.

use chrono::{DateTime, Utc};
use lockstep_core::{
    AttributeValue, Attributes, Item, Json, KeyType, MigratableTable, TargetKey, TargetSchema, Unholdable,
    Version,
};

lockstep_core::row! {
    pub(super) struct Note {
        pub(super) note_id: i64,
        pub(super) author: String,
        pub(super) text: Option<String>,
        pub(super) tags: Option<Json>,
    }
}

lockstep_core::row! {
    pub(super) struct NoteKey {
        pub(super) note_id: i64,
        pub(super) author: String,
    }
}

/// Notes; with `expires_at_s` every one of them expires then.
pub(super) struct Notes {
    pub(super) expires_at_s: Option<i64>,
}

impl MigratableTable for Notes {
    type Row = Note;
    type Key = NoteKey;

    const NAME: &'static str = "notes";
    const TARGET: TargetSchema = TargetSchema { partition: KeyType::S, sort: Some(KeyType::N), indexes: &[] };

    fn key(row: &Note) -> NoteKey {
        NoteKey { note_id: row.note_id, author: row.author.clone() }
    }

    fn target_key(&self, key: &NoteKey) -> Result<TargetKey, Unholdable> {
        Ok(TargetKey {
            partition: AttributeValue::S(key.author.clone()),
            sort: Some(AttributeValue::N(key.note_id.to_string())),
        })
    }

    fn index_attributes(&self, row: &Note, item: &mut Item) -> Result<(), Unholdable> {
        if let Some(text) = &row.text {
            item.push("GSI1PK", AttributeValue::S(format!("TEXT#{}", text.len())));
        }
        Ok(())
    }

    fn expiry(&self) -> String {
        format!("at {:?}", self.expires_at_s)
    }

    fn expires_at(&self, _row: &Note) -> Option<DateTime<Utc>> {
        self.expires_at_s.and_then(|at_s| DateTime::from_timestamp(at_s, 0))
    }
}

/// A row with something in every column.
pub(super) fn note() -> Note {
    let tags = Json::parse(r#"{"a": 1, "b": [2]}"#).expect("JSON");
    Note { note_id: 7, author: "Ada".to_owned(), text: Some("hello".to_owned()), tags: Some(tags) }
}

pub(super) const NOTES: Notes = Notes { expires_at_s: None };

/// A row as an item at `version`.
pub(super) fn item(table: &Notes, row: &Note, version: i64) -> Attributes {
    MigratableTable::encode(table, row).expect("holdable").at(Version(version)).into_attributes()
}

/// The tombstone in the place of a row.
pub(super) fn tombstone(row: &Note, version: i64) -> Attributes {
    let place = NOTES.target_key(&Notes::key(row)).expect("a key");
    lockstep_core::tombstone(place, Version(version)).into_attributes()
}

/// A row as PostgreSQL sends it in a `COPY`.
pub(super) fn tuple(row: &Note) -> Vec<u8> {
    let mut out = Vec::new();
    let mut field = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("short"));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(bytes.unwrap_or_default());
    };
    field(Some(&row.note_id.to_be_bytes()));
    field(Some(row.author.as_bytes()));
    field(row.text.as_deref().map(str::as_bytes));
    // `jsonb_send` puts its version before the text.
    let tags = row.tags.as_ref().map(|tags| [b"\x01", tags.as_str().as_bytes()].concat());
    field(tags.as_deref());
    out
}
