//! A derived table is the one that would have been written by hand.

use chrono::{DateTime, Utc};
use lockstep_core::serde_json::json;

use crate::{AttributeValue, Fields, Item, MigratableTable, Row, TTL_ATTRIBUTE, TargetKey};

mod by_hand;

/// A service may have a `Result` of its own.
mod derived {
    use chrono::{DateTime, Utc};

    #[allow(dead_code, reason = "it is here to be in the way")]
    type Result<T> = std::result::Result<T, ()>;

    #[derive(Clone, Debug, PartialEq, crate::Table)]
    #[lockstep(name = "documents", table = "Documents")]
    #[lockstep(partition = "LOAN#{loan_id}", sort = "{created_at}#{document_id:019}")]
    #[lockstep(expires = "seen_at + 90d", day_column = "created_at")]
    #[lockstep(index(name = "by_id", partition = "{document_id}"))]
    #[lockstep(index(name = "by_owner", partition = "OWNER#{owner}"))]
    pub(super) struct Document {
        #[lockstep(primary_key)]
        pub(super) document_id: i64,
        pub(super) loan_id: i32,
        pub(super) title: String,
        pub(super) owner: Option<String>,
        #[lockstep(reveal)]
        pub(super) r#type: String,
        pub(super) created_at: DateTime<Utc>,
        #[lockstep(column = "seen_at")]
        pub(super) seen: Option<DateTime<Utc>>,
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// Rows whose texts look like keys, with and without what may be NULL.
fn rows() -> Vec<derived::Document> {
    let owners = [None, Some(""), Some("a#b"), Some("{owner}")];
    let seen = [None, Some(at("2026-11-28T06:00:00.000001Z"))];
    let ids = [0, 42, -7, i64::MAX];
    let combined = owners.into_iter().flat_map(|owner| seen.into_iter().map(move |seen| (owner, seen)));
    combined
        .zip(ids.into_iter().cycle())
        .map(|((owner, seen), document_id)| derived::Document {
            document_id,
            loan_id: 7,
            title: "ä \"quoted\" {title}".to_owned(),
            owner: owner.map(str::to_owned),
            r#type: String::new(),
            created_at: at("2025-01-31T23:59:59.999999Z"),
            seen,
        })
        .collect()
}

fn by_hand(row: &derived::Document) -> by_hand::Document {
    by_hand::Document {
        document_id: row.document_id,
        loan_id: row.loan_id,
        title: row.title.clone(),
        owner: row.owner.clone(),
        kind: row.r#type.clone(),
        created_at: row.created_at,
        seen_at: row.seen,
    }
}

/// The attributes of an item, with the one column renamed that `row!` cannot call `type`.
fn attributes(item: &Item) -> Vec<(&str, &AttributeValue)> {
    item.iter().map(|(name, value)| (if *name == "kind" { "type" } else { *name }, value)).collect()
}

fn columns<R: Row>() -> Vec<(&'static str, &'static str, bool)> {
    R::COLUMNS.iter().map(|column| (column.name, column.sql_type, column.nullable)).collect()
}

#[test]
fn what_the_table_is_is_the_same() {
    let mut columns_by_hand = columns::<by_hand::Document>();
    columns_by_hand[4].0 = "type";
    assert_eq!(columns::<derived::Document>(), columns_by_hand);
    assert_eq!(columns::<derived::DocumentKey>(), columns::<by_hand::DocumentKey>());
    assert_eq!(derived::Documents::TARGET, by_hand::Documents::TARGET);
    assert_eq!(derived::Documents::NAME, by_hand::Documents::NAME);
    assert_eq!(derived::Documents::PRIMARY_KEY_COLUMNS, by_hand::Documents::PRIMARY_KEY_COLUMNS);
    assert_eq!(derived::Documents::DAY_COLUMN, by_hand::Documents::DAY_COLUMN);
    assert!(derived::Documents.expires());
    assert_eq!(derived::Documents.expiry(), by_hand::Documents.expiry());
}

#[test]
fn an_item_is_the_same_and_reads_back_as_its_row() {
    for row in rows() {
        let item = derived::Documents.encode(&row).expect("it can be held");
        let other = by_hand::Documents.encode(&by_hand(&row)).expect("it can be held");
        assert_eq!(attributes(&item), attributes(&other));
        assert_eq!(item.get("by_owner_pk").is_some(), row.owner.is_some(), "no owner, not in the index");
        let expires = row.seen.map(|at| AttributeValue::N((at.timestamp() + 90 * 86_400).to_string()));
        assert_eq!(item.get(TTL_ATTRIBUTE), expires.as_ref());
        let back = derived::Documents::decode(&item.into_attributes()).expect("it reads back");
        assert_eq!(back.differing(&row), Vec::<&str>::new());
        assert_eq!(back, row);
    }
}

#[test]
fn a_row_has_one_place_by_its_key() {
    for row in rows() {
        let key = derived::Documents::key(&row);
        let place = derived::Documents.target_key(&key).expect("a key");
        let other = by_hand::Documents::key(&by_hand(&row));
        assert_eq!(place, by_hand::Documents.target_key(&other).expect("a key"));
        assert_eq!(key.literals(), other.literals());
    }
    let key = [json!(42), json!(7), json!("2025-01-31T23:59:59.999999")];
    let place = derived::Documents.target_key(&Row::from_key(&key).expect("a key")).expect("a place");
    let sort = "2025-01-31T23:59:59.999999Z#0000000000000000042".to_owned();
    let partition = AttributeValue::S("LOAN#7".to_owned());
    assert_eq!(place, TargetKey { partition, sort: Some(AttributeValue::S(sort)) });
}

#[test]
fn a_row_is_read_as_postgresql_sends_it() {
    let (id, loan, at_us) = (42_i64.to_be_bytes(), 7_i32.to_be_bytes(), 1_000_001_i64.to_be_bytes());
    let sent: [Option<&[u8]>; 7] = [Some(&id), Some(&loan), Some(b"t"), None, Some(b""), Some(&at_us), None];
    let mut tuple = Vec::new();
    for field in sent {
        let length = field.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("short"));
        tuple.extend(length.to_be_bytes());
        tuple.extend(field.unwrap_or_default());
    }
    let row = derived::Document::from_fields(&mut Fields::of_copy(&tuple)).expect("a row");
    assert_eq!(row.created_at, at("2000-01-01T00:00:01.000001Z"));
    let other = by_hand::Document::from_fields(&mut Fields::of_copy(&tuple)).expect("a row");
    assert_eq!(by_hand(&row), other);
}

#[test]
fn what_a_key_cannot_hold_is_told_by_its_column() {
    let mut row = rows().remove(0);
    row.created_at = DateTime::from_timestamp(-99_999_999_999, 0).expect("a time");
    let told = derived::Documents.encode(&row).expect_err("a year before 1");
    assert_eq!(told, by_hand::Documents.encode(&by_hand(&row)).expect_err("a year before 1"));
    assert_eq!(told.column, "created_at");
}

#[test]
fn a_report_shows_the_key_and_what_is_revealed() {
    for (column, shown) in [("document_id", true), ("created_at", true), ("type", true), ("title", false)] {
        assert_eq!(derived::Documents.reveals(column), shown, "{column}");
    }
}

#[test]
fn another_template_is_another_layout() {
    let layout = "partition=LOAN#{loan_id} sort={created_at}#{document_id:019} by_id={document_id} \
                  by_owner=OWNER#{owner}";
    assert_eq!(derived::Documents.layout(), layout);
    assert_eq!(derived::Documents.expiry(), "seen_at + 7776000s");
}

/// The smallest table: no index, no sort key, nothing that is not used.
#[deny(unused)]
mod smallest {
    #[derive(Clone, Debug, PartialEq, crate::Table)]
    #[lockstep(name = "flags", partition = "{flag:esc}#{tenant}", rules = RULES)]
    pub(super) struct Flag {
        #[lockstep(primary_key)]
        pub(super) flag: String,
        #[lockstep(primary_key)]
        pub(super) tenant: i16,
        pub(super) on: bool,
    }

    use crate::Rule;

    const RULES: &[Rule<Flag>] = &[Rule { name: "tenant_is_positive", holds: |flag| flag.tenant > 0 }];
}

#[test]
fn the_smallest_table_has_a_composite_key_and_its_rules() {
    let row = smallest::Flag { flag: "a#b".to_owned(), tenant: 3, on: true };
    let item = smallest::FlagTable.encode(&row).expect("it can be held");
    assert_eq!(item.get("PK"), Some(&AttributeValue::S("a%23b#3".to_owned())));
    assert_eq!(smallest::FlagTable::decode(&item.into_attributes()), Ok(row.clone()));
    assert!(!smallest::FlagTable.expires() && smallest::FlagTable.expires_at(&row).is_none());
    assert!((smallest::FlagTable.rules()[0].holds)(&row));
}

#[test]
fn names_that_the_derive_refuses_are_those_of_the_core() {
    assert_eq!(lockstep_template::RESERVED_ATTRIBUTES, lockstep_core::RESERVED_ATTRIBUTES);
}
