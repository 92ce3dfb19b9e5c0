//! Names of Lockstep's own attributes, and keys that are columns.

use lockstep_core::{Naming, OwnNames, PK, SK};
use lockstep_template::Template;

use super::{Problems, Resolver, leak_text};
use crate::declaration::NamesDeclaration;
use crate::shape::{Column, IndexShape};

impl Resolver<'_> {
    /// Returns the names that are declared, and says what is wrong with them.
    pub(super) fn own_names(
        &self,
        templates: (&Template, Option<&Template>),
        columns: &[Column],
        indexes: &[IndexShape],
        problems: &mut Problems,
    ) -> OwnNames {
        let names = self.names(columns);
        problems.extend(self.misnamed(&names, templates, columns, indexes));
        names
    }

    /// Tells whether a key of the table is called so.
    pub(super) fn is_table_key(&self, attribute: &str) -> bool {
        let names = &self.declaration.names;
        [&names.partition, &names.sort].into_iter().any(|name| name.as_deref() == Some(attribute))
    }

    /// Those of keys that are columns borrow the columns' names.
    fn names(&self, columns: &[Column]) -> OwnNames {
        let usual = OwnNames::DEFAULT;
        let named = |declared: &Option<String>, usual: &'static str| match declared {
            None => usual,
            Some(name) => {
                let column = columns.iter().find(|column| column.attribute == name);
                column.map_or_else(|| leak_text(name), |column| column.attribute)
            }
        };
        let NamesDeclaration { partition, sort, expiry, version, writers, deleted, mark, marker, probe } =
            &self.declaration.names;
        OwnNames {
            partition: named(partition, usual.partition),
            sort: named(sort, usual.sort),
            expiry: named(expiry, usual.expiry),
            version: named(version, usual.version),
            writers: named(writers, usual.writers),
            deleted: named(deleted, usual.deleted),
            mark: named(mark, usual.mark),
            marker: named(marker, usual.marker),
            probe: named(probe, usual.probe),
        }
    }

    /// Says which names collide, and refuses a key that is called as a column and says another thing.
    fn misnamed(
        &self,
        names: &OwnNames,
        (partition, sort): (&Template, Option<&Template>),
        columns: &[Column],
        indexes: &[IndexShape],
    ) -> Problems {
        let of_columns: Vec<_> = columns.iter().map(|column| (column.name, column.attribute)).collect();
        let of_indexes = indexes.iter().flat_map(|shape| Naming::USUAL.index_key(&shape.index));
        let of_indexes: Vec<_> =
            of_indexes.map(|attribute| attribute.name).filter(|name| ![PK, SK].contains(name)).collect();
        let mut problems = names.problems(sort.is_some(), &of_columns, &of_indexes);
        let keys = [("partition", Some(partition), names.partition), ("sort", sort, names.sort)];
        for (what, template, name) in keys {
            let Some(template) = template else { continue };
            let Some(column) = columns.iter().find(|column| column.attribute == name) else { continue };
            let rename = format!(
                "write names.{what} = \"{name}_key\", or hold the column in another attribute \
                 (attributes = {{ {} = \"{name}_column\" }})",
                column.name
            );
            if template.bare_column() != Some(column.name) {
                problems.push(format!(
                    "names.{what} = {name:?} is the attribute of column `{0}`, and {what} = {1:?} is another \
                     value: a key that is a column is that column alone, {what} = \"{{{0}}}\"; or {rename}",
                    column.name,
                    template.text()
                ));
            } else if !column.kind.can_be_key() {
                problems.push(format!(
                    "names.{what} = {name:?} is the attribute of column `{}`, whose type ({}) is held \
                     otherwise in a key; {rename}",
                    column.name, column.sql_type
                ));
            }
        }
        problems
    }
}
