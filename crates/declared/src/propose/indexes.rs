//! Indexes of DynamoDB, as PostgreSQL's suggest them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lockstep_postgres::CatalogIndex;
use lockstep_template::Alphabet;

use super::Proposer;
use crate::as_toml::{comment, toml_text};
use crate::kind::Kind;

/// Most indexes that are proposed; more are written as comments, because each costs a write.
const INDEXES_MAX: usize = 5;

impl Proposer<'_> {
    /// The indexes of DynamoDB that those of PostgreSQL suggest.
    pub(super) fn indexes(&self, table: &str, key: &[String], taken: &BTreeSet<String>, text: &mut String) {
        let mut seen: BTreeSet<&str> = key.first().map(String::as_str).into_iter().collect();
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut proposed = 0;
        for index in self.table.indexes.iter().filter(|index| !finds_by_value(index)) {
            text.push('\n');
            *text += &comment(&format!(
                "{} in PostgreSQL is a {} index; DynamoDB has none of the kind, and what is searched by",
                index.name, index.method
            ));
            *text += &comment("it has to be searched elsewhere.");
        }
        let over_expressions = |index: &&CatalogIndex| finds_by_value(index) && index.has_expressions;
        for index in self.table.indexes.iter().filter(over_expressions) {
            text.push('\n');
            *text += &comment(&format!(
                "{} in PostgreSQL is an index of an expression; DynamoDB has indexes of attributes alone.",
                index.name
            ));
            *text += &comment(
                "Give the table a column that holds it (GENERATED ALWAYS AS … STORED) and an index of that, \
                 or search by it elsewhere.",
            );
        }
        // Whole ones first: a partial one by the same column is not to stand for them.
        let (partial, whole): (Vec<_>, Vec<_>) =
            self.table.indexes.iter().filter(|index| finds_by_value(index)).partition(|index| index.partial);
        for index in whole.into_iter().chain(partial) {
            let Some(first) = index.columns.first() else { continue };
            if index.primary || index.has_expressions || index.columns == key {
                continue;
            }
            if !seen.insert(first) {
                text.push('\n');
                *text += &comment(&format!(
                    "{} in PostgreSQL is not proposed: what it begins with is the partition of the key or of \
                     an index above. Write it by hand where rows are searched by more of it.",
                    index.name
                ));
                continue;
            }
            let Some(partition) = self.index_partition(first) else {
                text.push('\n');
                *text += &comment(&format!(
                    "{} in PostgreSQL is not proposed: the name of its column cannot stand in a template.",
                    index.name
                ));
                continue;
            };
            let mut name = format!("by_{}", index_name(first));
            while !names.insert(name.clone()) {
                name.push('_');
            }
            let second = index.columns.get(1).filter(|name| {
                self.kind(name) != Kind::Text && self.kind(name).can_be_key() && is_plain(name)
            });
            // 1. Orders have an index by customer and time of shipment. 2. An order that was not shipped
            // has no such attribute, so that it is not in the index. 3. Who asks for a customer's orders
            // misses it.
            let (sort, may_be_null) = match second {
                Some(name) if self.column(name).is_none_or(|column| column.nullable) => (None, Some(name)),
                second => (second, None),
            };
            let few = self.has_few_values(first);
            let clashes =
                [format!("{name}_pk"), format!("{name}_sk")].iter().any(|name| taken.contains(name));
            let off = few || index.partial || proposed >= INDEXES_MAX || clashes;
            let why = if few {
                "DECIDE: it has few values, so its partitions would be hot; add {hash(…) % 16} to spread them"
            } else if index.partial {
                "the index of PostgreSQL is partial; say the same with `when`"
            } else if off {
                "one more index; each costs a write unit for each write that changes its key"
            } else {
                "keys only: a new version of a row does not rewrite it"
            };
            let mark = if off { "# " } else { "" };
            text.push('\n');
            *text += &comment(&format!("As {} in PostgreSQL; {why}.", index.name));
            if let Some(name) = may_be_null {
                *text += &comment(&format!(
                    "DECIDE: not sorted by {name}, which may be NULL: rows without it would not be in the \
                     index."
                ));
            }
            let _ = writeln!(text, "{mark}[tables.{table}.indexes.{name}]");
            let _ = writeln!(text, "{mark}partition = {}", toml_text(&partition));
            if let Some(sort) = sort {
                let _ = writeln!(text, "{mark}sort = {}", toml_text(&format!("{{{sort}}}")));
            }
            proposed += usize::from(!off);
        }
    }

    /// Returns the partition of an index by a column. A text may be empty, and an empty key is none, so it
    /// has something before it.
    fn index_partition(&self, name: &str) -> Option<String> {
        is_plain(name).then(|| match self.kind(name).alphabet() {
            Alphabet::Text => format!("{}#{{{name}}}", index_name(name)),
            _ => format!("{{{name}}}"),
        })
    }
}

/// Tells whether a column can be named in a template.
fn is_plain(name: &str) -> bool {
    !name.contains(['{', '}', ':']) && name.trim() == name
}

/// Tells whether it finds rows by the values of its columns, as an index of DynamoDB does. One of the others
/// finds words in a text, parts of a document, or points in a box: under the whole text of such a value
/// nothing is looked for, and a long one is no key in DynamoDB, so that its row would be set aside.
fn finds_by_value(index: &CatalogIndex) -> bool {
    matches!(index.method.as_str(), "btree" | "hash")
}

/// Returns a column's name as a part of another one.
pub(super) fn index_name(column: &str) -> String {
    column.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}
