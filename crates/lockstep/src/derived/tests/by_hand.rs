//! The table as it would be written by hand.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{AttributeValue, Index, Item, KeyAttribute, KeyType, MigratableTable, Projected, SK};
use crate::{TargetKey, TargetSchema, Unholdable, fixed_width};

crate::row! {
    pub(super) struct Document {
        pub(super) document_id: i64,
        pub(super) loan_id: i32,
        pub(super) title: String,
        pub(super) owner: Option<String>,
        pub(super) kind: String,
        pub(super) created_at: DateTime<Utc>,
        pub(super) seen_at: Option<DateTime<Utc>>,
    }
}

crate::row! {
    pub(super) struct DocumentKey {
        pub(super) document_id: i64,
        pub(super) loan_id: i32,
        pub(super) created_at: DateTime<Utc>,
    }
}

pub(super) struct Documents;

const BY_ID: Index = Index {
    name: "by_id",
    partition: KeyAttribute { name: "document_id", key_type: KeyType::N },
    sort: None,
    projection: Projected::Keys,
};
const BY_OWNER: Index = Index {
    name: "by_owner",
    partition: KeyAttribute { name: "by_owner_pk", key_type: KeyType::S },
    sort: Some(KeyAttribute { name: SK, key_type: KeyType::S }),
    projection: Projected::Keys,
};
const INDEXES: [Index; 2] = [BY_ID, BY_OWNER];

const fn by_text(indexes: &'static [Index]) -> TargetSchema {
    TargetSchema { partition: KeyType::S, sort: Some(KeyType::S), indexes }
}

impl MigratableTable for Documents {
    type Row = Document;
    type Key = DocumentKey;
    const NAME: &'static str = "documents";
    const TARGET: TargetSchema = by_text(&INDEXES);
    const DAY_COLUMN: Option<&'static str> = Some("created_at");

    fn key(row: &Document) -> DocumentKey {
        DocumentKey { document_id: row.document_id, loan_id: row.loan_id, created_at: row.created_at }
    }

    fn target_key(&self, key: &DocumentKey) -> Result<TargetKey, Unholdable> {
        let at = fixed_width(key.created_at).map_err(|e| e.of("created_at"))?;
        Ok(TargetKey {
            partition: AttributeValue::S(format!("LOAN#{}", key.loan_id)),
            sort: Some(AttributeValue::S(format!("{at}#{:019}", key.document_id))),
        })
    }

    fn index_attributes(&self, row: &Document, item: &mut Item) -> Result<(), Unholdable> {
        if let Some(owner) = &row.owner {
            item.push("by_owner_pk", AttributeValue::S(format!("OWNER#{owner}")));
        }
        Ok(())
    }

    fn expires(&self) -> bool {
        true
    }

    fn expiry(&self) -> String {
        format!("seen_at + {}s", 90 * 86_400)
    }

    fn expires_at(&self, row: &Document) -> Option<DateTime<Utc>> {
        row.seen_at?.checked_add_signed(TimeDelta::days(90))
    }
}
