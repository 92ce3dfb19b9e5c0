//! A declaration for a table that has none: keys and indexes as its primary key, indexes and foreign keys
//! suggest, with the reasons.

mod indexes;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lockstep_postgres::{CatalogColumn, CatalogIndex, CatalogTable};
use lockstep_template::RESERVED_ATTRIBUTES;

use crate::as_toml::{comment, toml_key, toml_text};
use crate::kind::Kind;
use crate::resolve::{is_name, of_key, words};
use crate::unmovable::unmovable;
use indexes::index_name;

/// A declaration as text, to be put into the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The name of the table in the configuration.
    pub name: String,
    /// Whether the table can be moved; if not, every line of the text is a comment.
    pub movable: bool,
    /// The section, with comments.
    pub text: String,
}

/// Distinct values below which a partition of an index would be hot.
const DISTINCT_MIN: f32 = 20.0;

/// Proposes a declaration. `taken` are names of other tables; `lost` what DynamoDB would not have of this
/// one; `empty_keys` whether rows of it have an empty text where a key is of that text alone.
pub fn propose(
    table: &CatalogTable,
    taken: &BTreeSet<String>,
    lost: &[String],
    empty_keys: bool,
) -> Proposal {
    let name = name_of(table, taken);
    let mut text = String::new();
    let relation = toml_text(&source_of(table));
    if let Some(why) = &table.immovable {
        text += &comment(&format!("{} is not declared: {why}.", table.relation));
        return Proposal { name, movable: false, text };
    }
    let Some((key, how)) = key_of(table) else {
        text += &comment(&format!(
            "{} is not declared: it has no primary key and no unique index over columns that are NOT NULL.",
            table.relation
        ));
        text += &comment("Add one, and run `init` again.");
        return Proposal { name, movable: false, text };
    };
    if let Some(why) = table.columns.iter().find_map(|column| unmovable(column, key.contains(&column.name))) {
        text += &comment(&format!("{} is not declared: {why}.", table.relation));
        return Proposal { name, movable: false, text };
    }
    let _ = writeln!(text, "[tables.{name}]");
    let _ = writeln!(text, "source = {relation}");
    if let Some((by, partitions)) = &table.partitions {
        text += &comment(&format!(
            "Partitioned by {by}, {partitions} partitions: capture is on for all, and for those that come. \
             One that is detached or"
        ));
        text +=
            &comment("dropped stops the migration until `repair --state` is told that its rows are deleted.");
    }
    if name.len() < 3 {
        let _ = writeln!(
            text,
            "target = {}  # DynamoDB takes names of 3 characters and more",
            toml_text(&format!("{name}_table"))
        );
    }
    let proposer = Proposer { table, empty_keys };
    if table.primary_key.is_empty() {
        let list: Vec<String> = key.iter().map(|name| toml_text(name)).collect();
        text += &comment(&format!("No primary key; {how}."));
        let _ = writeln!(text, "key = [{}]", list.join(", "));
    }
    proposer.keys(&key, &mut text);
    let renamed = proposer.attributes(&mut text);
    proposer.expiry(&mut text);
    proposer.columns(&mut text);
    for what in lost {
        text += &comment(&format!("In DynamoOnly nothing checks or does any more: {what}"));
    }
    proposer.indexes(&name, &key, &renamed, &mut text);
    Proposal { name, movable: true, text }
}

/// Returns the relation as `source` takes it.
fn source_of(table: &CatalogTable) -> String {
    let quoted = |name: &str| {
        if name.contains(['.', '"']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
    };
    format!("{}.{}", quoted(&table.relation.schema), quoted(&table.relation.name))
}

/// Returns a name of small letters, digits and underscores that no other table has.
fn name_of(table: &CatalogTable, taken: &BTreeSet<String>) -> String {
    let clean = |text: &str| -> String {
        let small = text.chars().flat_map(char::to_lowercase);
        let plain = small.map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' });
        plain.take(30).collect()
    };
    let (schema, own) = (clean(&table.relation.schema), clean(&table.relation.name));
    let whole = format!("{schema}_{own}").chars().take(36).collect::<String>();
    let numbered = (2..).map(|n| format!("{own}_{n}"));
    let mut names = [own.clone(), whole].into_iter().chain(numbered);
    names.find(|name| is_name(name) && !taken.contains(name)).unwrap_or(own)
}

/// Returns the columns that tell rows apart, and why those.
fn key_of(table: &CatalogTable) -> Option<(Vec<String>, String)> {
    if !table.primary_key.is_empty() {
        return Some((table.primary_key.clone(), String::new()));
    }
    let nullable = |name: &String| table.columns.iter().any(|column| column.name == *name && column.nullable);
    let usable = |index: &&CatalogIndex| index.identifies && !index.columns.iter().any(nullable);
    let index = table.indexes.iter().filter(usable).min_by_key(|index| index.columns.len())?;
    Some((index.columns.clone(), format!("the index {} makes these columns unique", index.name)))
}

struct Proposer<'a> {
    table: &'a CatalogTable,
    empty_keys: bool,
}

impl Proposer<'_> {
    fn column(&self, name: &str) -> Option<&CatalogColumn> {
        self.table.columns.iter().find(|column| column.name == name)
    }

    fn kind(&self, name: &str) -> Kind {
        self.column(name).map_or(Kind::Other, |column| Kind::of(column).0)
    }

    fn keys(&self, key: &[String], text: &mut String) {
        let Some((first, rest)) = key.split_first() else { return };
        if rest.is_empty() {
            *text += &comment("One item a row, found by its key.");
        } else {
            *text += &comment(
                "The first column of the key is the partition, so that one query finds all rows that \
                 share it.",
            );
        }
        let _ = writeln!(text, "partition = {}", self.key_part(std::slice::from_ref(first)));
        if let Some(second) = rest.first() {
            let _ = writeln!(text, "sort = {}", self.key_part(rest));
            if self.has_few_values(first) {
                *text += &comment(&format!(
                    "DECIDE: `{first}` has few values, and one partition takes 1,000 writes a second. \
                     Spread them, as in"
                ));
                let spread = toml_text(&format!("{{{first}}}#{{hash({second}) % 16}}"));
                *text += &comment(&format!("partition = {spread}, or put another column first."));
            }
        }
        for name in [std::slice::from_ref(first), rest].into_iter().filter_map(|part| self.may_be_empty(part))
        {
            if self.empty_keys {
                *text += &comment(&format!(
                    "`{name}` may be empty, which a key of DynamoDB may not be: so there is a text before it."
                ));
            } else {
                *text += &comment(&format!(
                    "A row whose `{name}` is empty is set aside as a dead letter, as a key of DynamoDB may not be \
                     empty."
                ));
                let under = toml_text(&format!("{}#{{{name}}}", index_name(name)));
                *text += &comment(&format!("To move such rows, put a text before it: {under}."));
            }
        }
    }

    /// Returns the template of a part of the key, quoted.
    fn key_part(&self, part: &[String]) -> String {
        let template = of_key(part, |name| self.kind(name).alphabet());
        match self.may_be_empty(part) {
            Some(name) if self.empty_keys => toml_text(&format!("{}#{template}", index_name(name))),
            _ => toml_text(&template),
        }
    }

    /// Returns the column that makes this part of a key, where it does so alone and may be an empty text. Of
    /// several columns there is always what stands between them.
    fn may_be_empty<'k>(&self, part: &'k [String]) -> Option<&'k String> {
        match part {
            [only] if matches!(self.kind(only), Kind::Text | Kind::Other) => Some(only),
            _ => None,
        }
    }

    /// Renames of columns whose names are taken; gives the names that are.
    fn attributes(&self, text: &mut String) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            self.table.columns.iter().map(|column| column.name.clone()).collect();
        let mut renames = Vec::new();
        for column in
            self.table.columns.iter().filter(|column| RESERVED_ATTRIBUTES.contains(&column.name.as_str()))
        {
            let plain = column.name.trim_start_matches('_').to_lowercase();
            let mut other = format!("{plain}_column");
            while names.contains(&other) {
                other.push('_');
            }
            renames.push(format!("{} = {}", toml_key(&column.name), toml_text(&other)));
            names.insert(other);
        }
        if !renames.is_empty() {
            *text += &comment("Names that Lockstep or the keys have in an item already.");
            let _ = writeln!(text, "attributes = {{ {} }}", renames.join(", "));
        }
        names
    }

    fn expiry(&self, text: &mut String) {
        let ends = ["expires_at", "expires", "expiry", "expire_at", "valid_until", "delete_after"];
        let by_name = |column: &&CatalogColumn| ends.contains(&column.name.to_lowercase().as_str());
        if let Some(column) = self
            .table
            .columns
            .iter()
            .filter(by_name)
            .find(|column| matches!(Kind::of(column).0, Kind::Instant | Kind::Timestamp | Kind::Date))
        {
            *text += &comment("DynamoDB can remove items by itself; PostgreSQL does not, so this is off.");
            *text += &comment(&format!("expires = {}", toml_text(&column.name)));
        }
    }

    /// Writes what is to be known of columns.
    fn columns(&self, text: &mut String) {
        for column in &self.table.columns {
            let (name, sql_type) = (&column.name, &column.sql_type);
            let told = match Kind::of(column).0 {
                Kind::Other => {
                    format!("`{name}` is {sql_type}; it is stored as text, exactly as PostgreSQL prints it")
                }
                Kind::Numeric => format!(
                    "`{name}` is {sql_type}; it is stored as text, because a number of DynamoDB has 38 digits"
                ),
                Kind::Real | Kind::Double => {
                    format!("`{name}` is {sql_type}; NaN and infinities cannot be moved and are set aside")
                }
                Kind::Text if column.builtin == "bpchar" => {
                    format!("`{name}` is {sql_type}; the blanks that pad it are not stored")
                }
                _ => String::new(),
            };
            if !told.is_empty() {
                *text += &comment(&format!("{told}."));
            }
            let words = words(column);
            if !words.is_empty() && !self.table.primary_key.contains(name) {
                let to = toml_key(name);
                *text += &comment(&format!("`{name}` may be {words} as well: held_as = {{ {to} = \"…\" }}."));
            }
            if column.generated {
                *text += &comment(&format!(
                    "`{name}` is computed by PostgreSQL; in DynamoOnly applications compute it. To leave it \
                     out: omit = [{}].",
                    toml_text(name)
                ));
            }
        }
    }

    /// Tells whether so few values are known of a column that its partitions would be hot: by statistics, or
    /// because its type has no more.
    fn has_few_values(&self, name: &str) -> bool {
        self.distinct(name).is_some_and(|distinct| distinct < DISTINCT_MIN)
            || self.kind(name) == Kind::Boolean
            || self.column(name).is_some_and(|column| column.is_enum)
    }

    /// Distinct values of a column, as the planner believes.
    fn distinct(&self, name: &str) -> Option<f32> {
        let distinct = self.column(name)?.distinct?;
        let rows = self.table.rows_estimate as f32;
        // A small table says nothing about the rows to come.
        (rows > 1_000.0).then(|| if distinct < 0.0 { -distinct * rows } else { distinct })
    }
}
