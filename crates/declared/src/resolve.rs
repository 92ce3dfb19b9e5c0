//! Puts a declared table together from what is declared and what the catalogue says, or says what to repair.
//!
//! In reading order: `named` (columns that are named and not there), `key` (what a row is known by), `held`
//! (what a column is held as), `forms` (columns in a form that they do not have), `names` (attributes),
//! `called` (Lockstep's own), `index` and `times` (indexes, expiry, day), `quality` (rules, sums,
//! references), this file.

mod called;
mod forms;
mod held;
mod index;
mod key;
mod named;
mod names;
mod quality;
mod times;

pub(crate) use held::words;
pub(crate) use key::of_key;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Advice, ColumnSpec, Index, KeyType, Naming, TargetSchema};
use lockstep_postgres::{CatalogColumn, CatalogTable};
use lockstep_template::{Alphabet, RESERVED_ATTRIBUTES, Template, check};

use crate::as_toml::toml_key;
use crate::declaration::Declaration;
use crate::kind::{Kind, Read};
use crate::shape::{Column, Part, Shape};
use crate::spec;
use crate::table::DeclaredTable;
use crate::unmovable::unmovable;
use names::AttributeNames;

/// Most global secondary indexes of a table (DynamoDB Developer Guide, "Quotas").
const INDEXES_MAX: usize = 20;
/// Longest name of a table: with what is put before it, below the 63 bytes that PostgreSQL keeps of the name
/// of a trigger.
const NAME_BYTES_MAX: usize = 40;

/// Tells whether a table may be declared under a name: it becomes part of names in PostgreSQL and of keys in
/// a file.
pub fn is_name(name: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(right)
}

/// Puts a table together. Names are kept for as long as the program lives.
///
/// # Errors
/// Everything that is wrong, one sentence each, with what repairs it.
pub fn resolve(
    name: &'static str,
    declaration: &Declaration,
    table: &CatalogTable,
) -> Result<DeclaredTable, Vec<String>> {
    let resolver = Resolver { name, declaration, table };
    resolver.resolve().map(|shape| DeclaredTable(leak(shape))).map_err(|problems| {
        let table = Advice::Table(name.to_owned());
        problems.into_iter().map(|problem| format!("{table}: {problem}")).collect()
    })
}

pub(crate) fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn leak_text(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

struct Resolver<'a> {
    name: &'static str,
    declaration: &'a Declaration,
    table: &'a CatalogTable,
}

type Problems = Vec<String>;

impl Resolver<'_> {
    fn resolve(&self) -> Result<Shape, Problems> {
        let Self { declaration, table, .. } = self;
        if let Some(why) = &table.immovable {
            return Err(vec![format!("{} cannot be moved: {why}", table.relation)]);
        }
        let mut problems = self.unknown_columns();
        problems.extend(self.omissions());
        let key = self.key().map_err(|problem| problems.push(problem)).unwrap_or_default();
        let is_moved = |column: &&CatalogColumn| !declaration.omit.contains(&column.name);
        let moved = table.columns.iter().filter(is_moved);
        problems.extend(moved.filter_map(|column| unmovable(column, key.contains(&column.name))));
        if !problems.is_empty() {
            return Err(problems);
        }
        let parsed = |what: &str, text: &str| {
            text.parse::<Template>().map_err(|problem| vec![format!("{what}: {problem}")])
        };
        let partition = match &declaration.partition {
            Some(text) => parsed("partition", text)?,
            None => parsed("partition", &self.of_key(&key))?,
        };
        let sort = declaration.sort.as_deref().map(|text| parsed("sort", text)).transpose()?;
        let of_templates = [Some(&partition), sort.as_ref()].into_iter().flatten();
        let mut in_key: BTreeSet<&str> = of_templates.flat_map(|template| template.columns()).collect();
        in_key.extend(key.iter().map(String::as_str));
        let columns = self.columns(&in_key, &mut problems);
        let place_of = |name: &str| columns.iter().position(|column| column.name == name);
        let told_before = problems.len();
        let mut source_key: Vec<usize> = key.iter().filter_map(|name| place_of(name)).collect();
        for (what, template) in [("partition", Some(&partition)), ("sort", sort.as_ref())] {
            for column in template.map(Template::columns).unwrap_or_default() {
                match place_of(column) {
                    None => problems.push(self.no_column(what, column)),
                    Some(place) if columns[place].nullable => problems.push(format!(
                        "{what} is made of `{column}`, which may be NULL: a row without it would have no key; use a \
                         column that is NOT NULL"
                    )),
                    Some(place) if !source_key.contains(&place) => source_key.push(place),
                    Some(_) => {}
                }
            }
        }
        for (what, template) in [("partition", Some(&partition)), ("sort", sort.as_ref())] {
            problems.extend(template.into_iter().flat_map(|template| forms::wrong(what, template, &columns)));
        }
        if problems.len() > told_before {
            return Err(problems);
        }
        let alphabet =
            |name: &str| place_of(name).map_or(Alphabet::Text, |place| columns[place].kind.alphabet());
        let key_names: Vec<&str> = key.iter().map(String::as_str).collect();
        if let Err(problem) = check(&partition, sort.as_ref(), &key_names, alphabet) {
            problems.push(problem.to_string());
        }
        let mut names = AttributeNames::of(&columns, &mut problems);
        let (partition_part, partition_type) = self.part(partition.clone(), &columns);
        let sort_part = sort.clone().map(|template| self.part(template, &columns));
        let mut indexes = Vec::new();
        for (index_name, index) in &declaration.indexes {
            match self.index(index_name, index, &columns, sort.as_ref(), sort_part.as_ref(), &mut names) {
                Ok(index) => indexes.push(index),
                Err(more) => problems.extend(more),
            }
        }
        let too_many = declaration.indexes.len() > INDEXES_MAX;
        problems.extend(too_many.then(|| format!("DynamoDB has at most {INDEXES_MAX} indexes for a table")));
        let own = self.own_names((&partition, sort.as_ref()), &columns, &indexes, &mut problems);
        let expiry = self.expiry(&columns).map_err(|problem| problems.push(problem)).ok().flatten();
        let day = self.day(&columns).map_err(|problem| problems.push(problem)).ok().flatten();
        let (rules, sums) = (self.rules(&columns, &mut problems), self.sums(&columns, &mut problems));
        let references = self.references(&columns, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let specs: &[ColumnSpec] = leak(columns.iter().map(|c| self.spec(c)).collect::<Vec<_>>());
        let key_specs: Vec<ColumnSpec> = source_key.iter().map(|place| self.spec(&columns[*place])).collect();
        let needs_settings = source_key.iter().any(|place| depends_on_settings(&columns[*place]));
        let mut reveals: BTreeSet<String> = declaration.reveals.iter().cloned().collect();
        reveals.extend(source_key.iter().map(|place| columns[*place].name.to_owned()));
        Ok(Shape {
            name: self.name,
            specs,
            naming: Naming::of(own, specs),
            key_specs: leak(key_specs),
            key: source_key,
            primary_columns: key.len(),
            by_primary_key: declaration.key.is_empty(),
            target: TargetSchema {
                partition: partition_type,
                sort: sort_part.as_ref().map(|(_, key_type)| *key_type),
                indexes: leak(indexes.iter().map(|index| index.index).collect::<Vec<Index>>()),
            },
            layout: self.layout(&partition, sort.as_ref(), &columns),
            partition: partition_part,
            sort: sort_part.map(|(part, _)| part),
            indexes,
            expiry,
            day,
            reveals,
            omitted: declaration.omit.clone(),
            rules,
            sums,
            references: leak(references),
            needs_settings,
            columns,
        })
    }

    fn columns(&self, in_key: &BTreeSet<&str>, problems: &mut Problems) -> Vec<Column> {
        let omitted = |column: &&CatalogColumn| !self.declaration.omit.contains(&column.name);
        let mut columns = Vec::new();
        for column in self.table.columns.iter().filter(omitted) {
            let is_in_key = in_key.contains(column.name.as_str());
            let (kind, read) = self.held(column, is_in_key, problems);
            let attribute = self.declaration.attributes.get(&column.name).unwrap_or(&column.name);
            if RESERVED_ATTRIBUTES.contains(&attribute.as_str()) {
                problems.push(format!(
                    "column `{}` would be held in the attribute `{attribute}`, which is Lockstep's own; write \
                     attributes = {{ {} = \"{}_\" }}",
                    column.name,
                    toml_key(&column.name),
                    attribute.to_lowercase()
                ));
            }
            let name = leak_text(&column.name);
            columns.push(Column {
                name,
                attribute: if *attribute == column.name { name } else { leak_text(attribute) },
                sql_type: column.sql_type.clone(),
                nullable: column.nullable,
                kind,
                read,
                is_foreign: column.builtin.is_empty(),
                second_digits: second_digits(kind, column.modifier),
            });
        }
        columns
    }

    fn part(&self, template: Template, columns: &[Column]) -> (Part, KeyType) {
        let alone =
            template.bare_column().and_then(|name| columns.iter().position(|column| column.name == name));
        match alone {
            Some(place) if columns[place].kind == Kind::Integer => (Part::Number(place), KeyType::N),
            _ => (Part::Text(template), KeyType::S),
        }
    }

    fn spec(&self, column: &Column) -> ColumnSpec {
        let catalog = self.catalog_column(column.name);
        let base_type = catalog.map_or("text", |column| column.base_type.as_str());
        ColumnSpec {
            name: column.name,
            attribute: column.attribute,
            sql_type: leak_text(base_type),
            nullable: column.nullable,
            labels: &[],
            // Said in the layout of the declaration.
            held_as: None,
            // Asked of the table, which knows the type; see `AnyTable::accepts`.
            accepts: |_| false,
            reads: |_| true,
            key_expression: spec::key_expression(column),
            literal: spec::literal(column),
        }
    }

    /// Writes what decides keys and items, so that a migration under way refuses to go on with another.
    fn layout(&self, partition: &Template, sort: Option<&Template>, columns: &[Column]) -> String {
        let Declaration { indexes, expires, lists, held_as, omit, names, .. } = self.declaration;
        let renamed: BTreeMap<&str, &str> = columns
            .iter()
            .filter(|column| column.name != column.attribute)
            .map(|column| (column.name, column.attribute))
            .collect();
        let mut said = serde_json::json!({
            "partition": partition.text(),
            "sort": sort.map(Template::text),
            "indexes": indexes,
            "expires": expires,
            "attributes": renamed,
            "omit": omit,
        });
        // Only where there are some: of a migration under way the layout stays as it is.
        if !lists.is_empty() {
            said["lists"] = serde_json::json!(lists);
        }
        if !held_as.is_empty() {
            said["held_as"] = serde_json::json!(held_as);
        }
        if !names.is_empty() {
            said["names"] = serde_json::json!(names);
        }
        said.to_string()
    }
}

/// Digits of a second in the modifier of an interval (`INTERVAL_FULL_PRECISION` where none are declared).
const INTERVAL_DIGITS: i32 = 0xFFFF;

fn second_digits(kind: Kind, modifier: i32) -> Option<usize> {
    match kind {
        Kind::Time | Kind::Timestamp | Kind::Instant => usize::try_from(modifier).ok(),
        Kind::Interval if modifier >= 0 && modifier & INTERVAL_DIGITS != INTERVAL_DIGITS => {
            usize::try_from(modifier & INTERVAL_DIGITS).ok()
        }
        _ => None,
    }
}

/// Tells whether the text of a value inside a key is another one in another session.
fn depends_on_settings(column: &Column) -> bool {
    column.read == Read::Printed
        && !matches!(
            column.kind,
            Kind::Integer
                | Kind::Boolean
                | Kind::Numeric
                | Kind::Scaled(_)
                | Kind::Number
                | Kind::Uuid
                | Kind::UuidBytes
        )
}
