//! Puts a declared table together from what is declared and what the catalogue says, or says what to mend.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{ColumnSpec, Index, KeyAttribute, KeyType, SK, TargetSchema};
use lockstep_postgres::{CatalogColumn, CatalogTable};
use lockstep_template::{Alphabet, Expiry, RESERVED_ATTRIBUTES, Template, check};

use crate::declaration::{Declaration, IndexDeclaration, Projection};
use crate::kind::{Kind, Read};
use crate::shape::{Column, IndexShape, Part, Shape};
use crate::spec;
use crate::table::DeclaredTable;
use crate::unmovable::unmovable;

/// Most global secondary indexes of a table (DynamoDB Developer Guide, "Quotas").
const INDEXES_MAX: usize = 20;
/// Longest name of a table: with what is put before it, below the 63 bytes that PostgreSQL keeps of the name
/// of a trigger.
const NAME_BYTES_MAX: usize = 40;

/// Whether a table may be declared under a name: it becomes part of names in PostgreSQL and of keys in a
/// file.
pub fn is_name(name: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(right)
}

/// Puts a table together. Names are kept for as long as the program lives.
///
/// # Errors
/// Everything that is wrong, one sentence each, with what mends it.
pub fn resolve(
    name: &'static str,
    declaration: &Declaration,
    table: &CatalogTable,
) -> Result<DeclaredTable, Vec<String>> {
    let resolver = Resolver { name, declaration, table };
    resolver
        .resolve()
        .map(|shape| DeclaredTable(leak(shape)))
        .map_err(|problems| problems.into_iter().map(|problem| format!("tables.{name}: {problem}")).collect())
}

fn leak<T>(value: T) -> &'static T {
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
        if declaration.indexes.len() > INDEXES_MAX {
            problems.push(format!("DynamoDB has at most {INDEXES_MAX} indexes for a table"));
        }
        let expiry = self.expiry(&columns).map_err(|problem| problems.push(problem)).ok().flatten();
        let day = self.day(&columns).map_err(|problem| problems.push(problem)).ok().flatten();
        if !problems.is_empty() {
            return Err(problems);
        }
        let specs: Vec<ColumnSpec> = columns.iter().map(|c| self.spec(c)).collect();
        let key_specs: Vec<ColumnSpec> = source_key.iter().map(|place| self.spec(&columns[*place])).collect();
        let static_indexes: Vec<Index> = indexes.iter().map(|index| index.index).collect();
        let needs_settings = source_key.iter().any(|place| depends_on_settings(&columns[*place]));
        let mut reveals: BTreeSet<String> = declaration.reveals.iter().cloned().collect();
        reveals.extend(source_key.iter().map(|place| columns[*place].name.to_owned()));
        Ok(Shape {
            name: self.name,
            specs: leak(specs),
            key_specs: leak(key_specs),
            key: source_key,
            primary_columns: key.len(),
            by_primary_key: declaration.key.is_empty(),
            target: TargetSchema {
                partition: partition_type,
                sort: sort_part.as_ref().map(|(_, key_type)| *key_type),
                indexes: leak(static_indexes),
            },
            layout: self.layout(&partition, sort.as_ref(), &columns),
            partition: partition_part,
            sort: sort_part.map(|(part, _)| part),
            indexes,
            expiry,
            day,
            reveals,
            omitted: declaration.omit.clone(),
            needs_settings,
            columns,
        })
    }

    fn catalog_column(&self, name: &str) -> Option<&CatalogColumn> {
        self.table.columns.iter().find(|column| column.name == name)
    }

    fn no_column(&self, what: &str, column: &str) -> String {
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

    fn unknown_columns(&self) -> Problems {
        let Declaration { key, omit, attributes, day_column, reveals, .. } = self.declaration;
        let named = key.iter().map(|name| ("key", name));
        let named = named.chain(omit.iter().map(|name| ("omit", name)));
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
    fn omissions(&self) -> Problems {
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

    /// The columns that a row is known by.
    fn key(&self) -> Result<Vec<String>, String> {
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

    /// The template of a key by its columns, texts escaped so that none runs into the next.
    fn of_key(&self, key: &[String]) -> String {
        of_key(key, |name| {
            self.catalog_column(name).map_or(Alphabet::Text, |column| Kind::of(column).0.alphabet())
        })
    }

    fn columns(&self, in_key: &BTreeSet<&str>, problems: &mut Problems) -> Vec<Column> {
        let omitted = |column: &&CatalogColumn| !self.declaration.omit.contains(&column.name);
        let mut columns = Vec::new();
        for column in self.table.columns.iter().filter(omitted) {
            let (kind, read) = match Kind::of(column) {
                // Equal documents have several texts, as 1.5 and 1.50, and a key has one: PostgreSQL's own.
                (Kind::Jsonb, _) if in_key.contains(column.name.as_str()) => (Kind::Other, Read::Printed),
                of_type => of_type,
            };
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

    fn index(
        &self,
        name: &str,
        index: &IndexDeclaration,
        columns: &[Column],
        table_sort: Option<&Template>,
        table_sort_part: Option<&(Part, KeyType)>,
        names: &mut AttributeNames,
    ) -> Result<IndexShape, Problems> {
        let mut problems = Vec::new();
        let of = |what: &str, text: &str, problems: &mut Problems| match text.parse::<Template>() {
            Err(problem) => {
                problems.push(format!("indexes.{name}.{what}: {problem}"));
                None
            }
            Ok(template) => {
                let unknown: Vec<&str> = template.columns();
                let unknown = unknown.into_iter().filter(|column| !columns.iter().any(|c| c.name == *column));
                problems
                    .extend(unknown.map(|column| self.no_column(&format!("indexes.{name}.{what}"), column)));
                Some(template)
            }
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if !(3..=255).contains(&name.len()) || !name.bytes().all(legal) {
            problems.push(format!("indexes.{name}: DynamoDB takes names of 3 to 255 of a-z A-Z 0-9 _ - ."));
        }
        let partition = of("partition", &index.partition, &mut problems);
        let sort = index.sort.as_deref().and_then(|text| of("sort", text, &mut problems));
        let mut when = Vec::new();
        for (column, text) in &index.when {
            match columns.iter().position(|c| c.name == *column) {
                None => problems.push(self.no_column(&format!("indexes.{name}.when"), column)),
                Some(place) => match columns[place].kind.of_text(text) {
                    Ok(value) => when.push((place, value)),
                    Err(why) => problems.push(format!("indexes.{name}.when.{column}: {}", why.reason)),
                },
            }
        }
        let (true, Some(partition)) = (problems.is_empty(), partition) else { return Err(problems) };
        // A column that is a key by itself needs no attribute beside its own.
        let own = |template: &Template, named: &Option<String>| {
            let place =
                template.bare_column().and_then(|name| columns.iter().position(|c| c.name == name))?;
            let column = &columns[place];
            let fits = column.kind.can_be_key();
            let key_type = if column.kind == Kind::Integer { KeyType::N } else { KeyType::S };
            (fits && named.is_none() && index.when.is_empty())
                .then_some(KeyAttribute { name: column.attribute, key_type })
        };
        let mut made = |template: Template, named: &Option<String>, ending: &str, problems: &mut Problems| {
            if let Some(attribute) = own(&template, named) {
                return (attribute, None);
            }
            let (part, key_type) = self.part(template, columns);
            let attribute = named.clone().unwrap_or_else(|| format!("{name}_{ending}"));
            names.take(&attribute, &format!("indexes.{name}"), problems);
            (KeyAttribute { name: leak_text(&attribute), key_type }, Some(part))
        };
        let (partition_attribute, partition_part) =
            made(partition, &index.partition_attribute, "pk", &mut problems);
        let (sort_attribute, sort_part) = match sort {
            None => (None, None),
            Some(sort) if index.sort_attribute.is_none() && Some(&sort) == table_sort => {
                let key_type = table_sort_part.map_or(KeyType::S, |(_, key_type)| *key_type);
                (Some(KeyAttribute { name: SK, key_type }), None)
            }
            Some(sort) => {
                let (attribute, part) = made(sort, &index.sort_attribute, "sk", &mut problems);
                (Some(attribute), part)
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let index = Index {
            name: leak_text(name),
            partition: partition_attribute,
            sort: sort_attribute,
            whole_items: index.projection == Projection::All,
        };
        Ok(IndexShape { index, partition: partition_part, sort: sort_part, when })
    }

    fn expiry(&self, columns: &[Column]) -> Result<Option<(usize, i64)>, String> {
        let Some(text) = &self.declaration.expires else { return Ok(None) };
        let parsed: Expiry = text.parse().map_err(|problem| format!("expires: {problem}"))?;
        let Expiry { column, after_s } = parsed;
        let place = columns
            .iter()
            .position(|c| c.name == column)
            .ok_or_else(|| self.no_column("expires", &column))?;
        match columns[place].kind {
            Kind::Instant | Kind::Timestamp | Kind::Date => Ok(Some((place, after_s))),
            _ => Err(format!(
                "expires names `{column}`, which is {} and no date or time",
                columns[place].sql_type
            )),
        }
    }

    fn day(&self, columns: &[Column]) -> Result<Option<usize>, String> {
        let Some(name) = &self.declaration.day_column else { return Ok(None) };
        let place =
            columns.iter().position(|c| c.name == name).ok_or_else(|| self.no_column("day_column", name))?;
        let column = &columns[place];
        match column.kind {
            Kind::Instant if column.attribute == column.name => Ok(Some(place)),
            Kind::Instant => {
                Err(format!("day_column names `{name}`, so its attribute has to be called the same"))
            }
            _ => Err(format!(
                "day_column names `{name}`, which is {}; it must be timestamptz",
                column.sql_type
            )),
        }
    }

    fn spec(&self, column: &Column) -> ColumnSpec {
        let catalog = self.catalog_column(column.name);
        let base_type = catalog.map_or("text", |column| column.base_type.as_str());
        ColumnSpec {
            name: column.name,
            sql_type: leak_text(base_type),
            nullable: column.nullable,
            labels: &[],
            // Asked of the table, which knows the type; see `AnyTable::accepts`.
            accepts: |_| false,
            key_expression: spec::key_expression(column),
            literal: spec::literal(column),
        }
    }

    /// What decides keys and items, so that a migration under way refuses to go on with another.
    fn layout(&self, partition: &Template, sort: Option<&Template>, columns: &[Column]) -> String {
        let Declaration { indexes, expires, omit, .. } = self.declaration;
        let renamed: BTreeMap<&str, &str> = columns
            .iter()
            .filter(|column| column.name != column.attribute)
            .map(|column| (column.name, column.attribute))
            .collect();
        let said = serde_json::json!({
            "partition": partition.text(),
            "sort": sort.map(Template::text),
            "indexes": indexes,
            "expires": expires,
            "attributes": renamed,
            "omit": omit,
        });
        said.to_string()
    }
}

/// Attributes that are taken already.
struct AttributeNames(BTreeMap<String, String>);

impl AttributeNames {
    fn of(columns: &[Column], problems: &mut Problems) -> Self {
        let mut names = Self(BTreeMap::new());
        for column in columns {
            names.take(column.attribute, &format!("column `{}`", column.name), problems);
        }
        names
    }

    fn take(&mut self, attribute: &str, whose: &str, problems: &mut Problems) {
        // Of a column it was said already, with the rename to write.
        if !whose.starts_with("column") && RESERVED_ATTRIBUTES.contains(&attribute) {
            problems.push(format!(
                "{whose} names the attribute `{attribute}`, which is Lockstep's own; choose another name"
            ));
        }
        if attribute.is_empty() || attribute.len() > 255 {
            problems.push(format!("{whose}: an attribute's name has 1 to 255 bytes"));
        }
        if let Some(other) = self.0.insert(attribute.to_owned(), whose.to_owned()) {
            problems.push(format!(
                "{whose} and {other} would share the attribute `{attribute}`; rename one of them"
            ));
        }
    }
}

/// The template of a key by its columns: a text that another one follows is escaped, so that neither runs
/// into the other.
pub(crate) fn of_key(key: &[String], alphabet: impl Fn(&str) -> Alphabet) -> String {
    let one = |(at, name): (usize, &String)| {
        let open = alphabet(name) == Alphabet::Text && at + 1 < key.len();
        format!("{{{name}{}}}", if open { ":esc" } else { "" })
    };
    key.iter().enumerate().map(one).collect::<Vec<_>>().join("#")
}

/// A key as a TOML file takes it.
pub(crate) fn toml_key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { toml_text(name) }
}

/// A string as a TOML file takes it.
pub(crate) fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn second_digits(kind: Kind, modifier: i32) -> Option<usize> {
    let timed = matches!(kind, Kind::Time | Kind::Timestamp | Kind::Instant);
    usize::try_from(modifier).ok().filter(|_| timed)
}

/// Whether the text of a value inside a key is another one in another session.
fn depends_on_settings(column: &Column) -> bool {
    column.read == Read::Printed
        && !matches!(
            column.kind,
            Kind::Integer | Kind::Boolean | Kind::Numeric | Kind::Scaled(_) | Kind::Uuid
        )
}
