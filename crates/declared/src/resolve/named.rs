//! Columns that a declaration names and the table does not have, and those that it may not leave out.

use lockstep_postgres::CatalogColumn;

use super::{Problems, Resolver};
use crate::declaration::Declaration;

impl Resolver<'_> {
    pub(super) fn catalog_column(&self, name: &str) -> Option<&CatalogColumn> {
        self.table.columns.iter().find(|column| column.name == name)
    }

    pub(super) fn no_column(&self, what: &str, column: &str) -> String {
        let is_omitted = self.declaration.omit.iter().any(|omitted| omitted == column);
        if is_omitted {
            return format!("{what} names `{column}`, which `omit` leaves out");
        }
        let lower = column.to_lowercase();
        let near = self.table.columns.iter().find(|other| other.name.to_lowercase() == lower);
        let hint = match near {
            Some(near) => format!("; did you mean `{}`?", near.name),
            None => {
                let all: Vec<&str> = self.table.columns.iter().map(|column| column.name.as_str()).collect();
                format!("; it has: {}", all.join(", "))
            }
        };
        format!("{what} names `{column}`, which {} does not have{hint}", self.table.relation)
    }

    pub(super) fn unknown_columns(&self) -> Problems {
        let Declaration { key, omit, attributes, lists, held_as, day_column, reveals, .. } = self.declaration;
        let named = key.iter().map(|name| ("key", name));
        let named = named.chain(omit.iter().map(|name| ("omit", name)));
        let named = named.chain(lists.iter().map(|name| ("lists", name)));
        let named = named.chain(held_as.keys().map(|name| ("held_as", name)));
        let named = named.chain(attributes.keys().map(|name| ("attributes", name)));
        let named = named.chain(day_column.iter().map(|name| ("day_column", name)));
        let named = named.chain(reveals.iter().map(|name| ("reveals", name)));
        let unknown = named.filter(|(_, name)| self.catalog_column(name).is_none());
        unknown
            .map(|(what, name)| {
                let all: Vec<&str> = self.table.columns.iter().map(|column| column.name.as_str()).collect();
                let relation = &self.table.relation;
                format!("{what} names `{name}`, which {relation} does not have; it has: {}", all.join(", "))
            })
            .collect()
    }

    /// Only what PostgreSQL computes may be left out: of anything else the way back would not know the value.
    pub(super) fn omissions(&self) -> Problems {
        let lost = |name: &&String| self.catalog_column(name).is_some_and(|column| !column.generated);
        let lost = self.declaration.omit.iter().filter(lost);
        lost.map(|name| {
            format!(
                "omit leaves out `{name}`, and on the way back PostgreSQL would not get its value; only columns that \
                 are GENERATED ALWAYS AS (…) can be left out"
            )
        })
        .collect()
    }
}
