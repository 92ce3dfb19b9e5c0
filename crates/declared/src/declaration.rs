//! `[tables.NAME]` of a declared table: what can be said of one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::held::HeldAs;

/// Declaration of a table. Every field that is left out follows from the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    /// The relation it is read from, `table` or `schema.table`; `public.NAME` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The DynamoDB table it moves to, without the prefix of all target tables; NAME where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Columns of a unique index that stand for a primary key, where the table has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Template of the partition key; the primary key where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Template of the sort key; none where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Time at which an item may be removed: `created_at + 90d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Global secondary indexes, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<String, IndexDeclaration>,
    /// Attributes of columns that are not called as their columns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Names of Lockstep's own attributes.
    #[serde(skip_serializing_if = "NamesDeclaration::is_empty")]
    pub names: NamesDeclaration,
    /// Columns of arrays that are held as lists, and not as PostgreSQL's text of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<String>,
    /// Columns that are held otherwise than others of their type are, each with how.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub held_as: BTreeMap<String, HeldAs>,
    /// Columns that are not moved. Only such that PostgreSQL computes by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
    /// The `timestamptz` column that date windows and daily counts go by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_column: Option<String>,
    /// Columns whose values reports may show, besides those of the key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reveals: Vec<String>,
    /// Conditions that every row keeps, by name: `amount > 0`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
    /// Sums that both sides agree on, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sums: BTreeMap<String, SumDeclaration>,
    /// Columns that refer to tables that stay in PostgreSQL, each with `table.column`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<String, String>,
}

/// Names of the attributes that Lockstep gives, where they are not the usual ones. A key that is called as
/// the attribute of a column is that column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamesDeclaration {
    /// The partition key; `PK` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The sort key; `SK` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// The expiry; `ttl` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
    /// The version of a state; `_v` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The last writers of an item; `_w` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writers: Option<String>,
    /// Attribute that makes an item a tombstone; `_deleted` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
    /// The number of the mark of history; `_mark` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The round of a marker; `_marker` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// The run of a probe; `_probe` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

impl NamesDeclaration {
    /// Tells whether every name is the usual one.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Declaration of a sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumDeclaration {
    /// Column that is added up; without one rows are only counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Columns that make the groups; `paid_at:day` is the day of a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
}

/// Declaration of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexDeclaration {
    /// Template of its partition key. A row in which a column of it is NULL is not in the index.
    pub partition: String,
    /// Template of its sort key; none where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Attributes that the index carries.
    #[serde(default)]
    pub projection: Projection,
    /// Only rows in which these columns have these values, as PostgreSQL prints them, are in the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, String>,
    /// The attribute that holds its partition key; `NAME_pk` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_attribute: Option<String>,
    /// The attribute that holds its sort key; `NAME_sk` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_attribute: Option<String>,
}

/// Attributes that an index carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Projection {
    /// `"keys"` or `"all"`.
    Word(Word),
    /// The attributes of these columns, beside keys.
    Columns(Vec<String>),
}

impl Default for Projection {
    fn default() -> Self {
        Self::Word(Word::Keys)
    }
}

/// Attributes that an index carries, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Keys alone: a new version of a row does not rewrite the index.
    Keys,
    /// Whole items.
    All,
}

impl Declaration {
    /// Keys that only a declaration has, and the settings of the sample's tables do not.
    pub const OWN_KEYS: [&'static str; 15] = [
        "key",
        "partition",
        "sort",
        "expires",
        "indexes",
        "attributes",
        "names",
        "lists",
        "held_as",
        "omit",
        "day_column",
        "reveals",
        "rules",
        "sums",
        "references",
    ];
}
