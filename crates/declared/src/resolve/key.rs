//! The columns that a row is known by, and the key that they make where nothing else is declared.

use std::collections::BTreeSet;

use lockstep_template::Alphabet;

use super::Resolver;
use crate::kind::Kind;

impl Resolver<'_> {
    /// Returns the columns that a row is known by.
    pub(super) fn key(&self) -> Result<Vec<String>, String> {
        let Self { declaration, table, .. } = self;
        if declaration.key.is_empty() {
            if table.primary_key.is_empty() {
                let of = |index: &&lockstep_postgres::CatalogIndex| {
                    let nullable =
                        |name: &String| self.catalog_column(name).is_none_or(|column| column.nullable);
                    index.identifies && !index.columns.iter().any(nullable)
                };
                let hint = match table.indexes.iter().find(of) {
                    Some(index) => format!("write key = {:?}, which the index {} makes unique", index.columns, index.name),
                    None => "give it one, or a unique index over columns that are NOT NULL, and name them in `key`".to_owned(),
                };
                return Err(format!("{} has no primary key; {hint}", table.relation));
            }
            return Ok(table.primary_key.clone());
        }
        let wanted: BTreeSet<&String> = declaration.key.iter().collect();
        let of = |index: &&lockstep_postgres::CatalogIndex| {
            index.identifies && index.columns.iter().collect::<BTreeSet<_>>() == wanted
        };
        let Some(index) = table.indexes.iter().find(of) else {
            return Err(format!(
                "key names {:?}, and no unique index of {} is over exactly these columns (whole, not deferrable, valid)",
                declaration.key, table.relation
            ));
        };
        if let Some(name) =
            index.columns.iter().find(|name| self.catalog_column(name).is_none_or(|column| column.nullable))
        {
            return Err(format!(
                "key names `{name}`, which may be NULL, so that it does not tell rows apart: make it NOT NULL"
            ));
        }
        Ok(index.columns.clone())
    }

    /// Returns the template of a key by its columns, texts escaped so that none runs into the next.
    pub(super) fn of_key(&self, key: &[String]) -> String {
        of_key(key, |name| {
            self.catalog_column(name).map_or(Alphabet::Text, |column| Kind::of(column).0.alphabet())
        })
    }
}

/// Returns the template of a key by its columns: a text that another one follows is escaped, so that neither
/// runs into the other.
pub(crate) fn of_key(key: &[String], alphabet: impl Fn(&str) -> Alphabet) -> String {
    let one = |(at, name): (usize, &String)| {
        let open = alphabet(name) == Alphabet::Text && at + 1 < key.len();
        format!("{{{name}{}}}", if open { ":esc" } else { "" })
    };
    key.iter().enumerate().map(one).collect::<Vec<_>>().join("#")
}
