//! A declaration as a struct of Rust, for a team that wants a store handle.
//!
//! It says what the declaration says, by the derive. What the derive does not have is left out, and told; a
//! table that it cannot hold is told with the reason.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lockstep_postgres::{CatalogColumn, CatalogTable};
use lockstep_template::{Alphabet, Template};

use crate::declaration::{Declaration, IndexDeclaration};
use crate::kind::Kind;
use crate::resolve::of_key;
pub use names::rust_comment;
use names::{camel, field_of, literal, told, variant_of};

/// Digits of a decimal of a table in Rust.
const DIGITS_MAX: u32 = 28;

/// Structs of several tables: an enum is written once, where the first of them has it.
#[derive(Debug, Default)]
pub struct Structs {
    /// The enums that were written, by their types in PostgreSQL.
    enums: BTreeMap<String, String>,
    /// Names of types that are taken.
    names: BTreeSet<String>,
}

/// A column in Rust.
struct Field {
    ty: String,
    /// The type in PostgreSQL, where the Rust type does not say it.
    sql: Option<String>,
}

impl Structs {
    /// Returns the struct of a table with the enums that it needs. `labels` are those of its columns.
    ///
    /// # Errors
    /// What keeps it from being a table in Rust, one sentence each.
    pub fn of(
        &mut self,
        name: &str,
        declaration: &Declaration,
        table: &CatalogTable,
        labels: &BTreeMap<String, Vec<String>>,
    ) -> Result<String, Vec<String>> {
        let mut problems = Vec::new();
        if table.primary_key.is_empty() {
            problems.push("it has no primary key, which a table in Rust is known by".to_owned());
        }
        let mut enums = String::new();
        let mut fields = Vec::new();
        for column in &table.columns {
            match self.field(column, labels.get(&column.name), &mut enums) {
                Ok(field) => fields.push((column, field)),
                Err(why) => problems.push(why),
            }
        }
        let key = &table.primary_key;
        let kind = |name: &str| table.columns.iter().find(|column| column.name == name).map(Kind::of);
        let partition = declaration.partition.clone().unwrap_or_else(|| {
            of_key(key, |name| kind(name).map_or(Alphabet::Text, |(kind, _)| kind.alphabet()))
        });
        for text in [Some(&partition), declaration.sort.as_ref()].into_iter().flatten() {
            problems.extend(unfit(text, table, true).map(|name| no_key(&name)));
        }
        problems.extend(key.iter().filter(|name| !can_be_key(table, name, true)).map(|name| no_key(name)));
        problems.dedup();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut said = enums;
        let row = self.free([camel(name), format!("{}Row", camel(name))]);
        let _ = writeln!(said, "/// A row of {}.", told(&table.relation.to_string()));
        said += "#[derive(Clone, Debug, PartialEq, lockstep::Table)]\n";
        let _ = writeln!(said, "#[lockstep(name = {}, partition = {})]", literal(name), literal(&partition));
        if let Some(sort) = &declaration.sort {
            let _ = writeln!(said, "#[lockstep(sort = {})]", literal(sort));
        }
        for (index_name, index) in &declaration.indexes {
            said += &index_of(index_name, index, declaration.sort.is_some(), table);
        }
        for (word, value) in [("expires", &declaration.expires), ("day_column", &declaration.day_column)] {
            if let Some(value) = value {
                let _ = writeln!(said, "#[lockstep({word} = {})]", literal(value));
            }
        }
        let _ = writeln!(said, "pub struct {row} {{");
        let mut taken = Vec::new();
        for (column, field) in fields {
            said += &field_text(column, &field, declaration, key, &mut taken);
        }
        said += "}\n";
        Ok(said)
    }

    /// Returns the type of a column; its enum is added to `enums`, where no table before has it.
    fn field(
        &mut self,
        column: &CatalogColumn,
        labels: Option<&Vec<String>>,
        enums: &mut String,
    ) -> Result<Field, String> {
        let CatalogColumn { name, sql_type, .. } = column;
        let plain = |ty: &str| Ok(Field { ty: ty.to_owned(), sql: None });
        let said = |ty: &str| Ok(Field { ty: ty.to_owned(), sql: Some(sql_type.clone()) });
        // A time of fewer digits than six is printed with their number.
        let timed = |ty: &str| if column.modifier >= 0 { said(ty) } else { plain(ty) };
        if column.is_domain {
            return Err(format!("column `{name}` is of the domain {sql_type}, which no type in Rust is"));
        }
        if let (true, Some(labels)) = (column.is_enum, labels) {
            return Ok(Field { ty: self.label(&column.base_type, labels, enums), sql: None });
        }
        match column.builtin.as_str() {
            "int2" => plain("i16"),
            "int4" => plain("i32"),
            "int8" => plain("i64"),
            "bool" => plain("bool"),
            "text" | "varchar" => plain("String"),
            // In a key it is padded as PostgreSQL prints it.
            "bpchar" if column.modifier >= 0 => said("String"),
            "uuid" => plain("uuid::Uuid"),
            "bytea" => plain("Vec<u8>"),
            "float4" => plain("f32"),
            "float8" => plain("f64"),
            "jsonb" => plain("lockstep::Json"),
            "date" => plain("chrono::NaiveDate"),
            "time" => timed("chrono::NaiveTime"),
            "timestamp" => timed("chrono::NaiveDateTime"),
            "timestamptz" => timed("chrono::DateTime<chrono::Utc>"),
            "numeric" => match Kind::of(column).0 {
                Kind::Scaled(scale) if scale <= DIGITS_MAX => said(&format!("lockstep::Scaled<{scale}>")),
                _ if column.modifier < 0 => plain("rust_decimal::Decimal"),
                _ => Err(format!("column `{name}` is {sql_type}, which no type in Rust holds")),
            },
            "_text" | "_varchar" => plain("Vec<Option<String>>"),
            "_int2" => plain("Vec<Option<i16>>"),
            "_int4" => plain("Vec<Option<i32>>"),
            "_int8" => plain("Vec<Option<i64>>"),
            _ => Err(format!("column `{name}` is {sql_type}, which no type in Rust holds")),
        }
    }

    /// Returns the first of two names that no type has, or the second one with a number.
    fn free(&mut self, names: [String; 2]) -> String {
        let other = names[1].clone();
        let numbered = (2..).map(|n| format!("{other}{n}"));
        // What the derive makes of a row has its name with an ending.
        let is_free = |name: &String| {
            let with = |ending: &str| self.names.contains(&format!("{name}{ending}"));
            !with("") && !with("Key") && !with("Table")
        };
        let name = names.into_iter().chain(numbered).find(is_free).unwrap_or(other);
        self.names.extend(["", "Key", "Table"].map(|ending| format!("{name}{ending}")));
        name
    }

    /// Returns the name of an enum, which is written where it is met first.
    fn label(&mut self, sql_type: &str, labels: &[String], enums: &mut String) -> String {
        let sql = if sql_type.contains('.') { sql_type.to_owned() } else { format!("public.{sql_type}") };
        if let Some(known) = self.enums.get(&sql) {
            return known.clone();
        }
        let own = camel(sql.rsplit('.').next().unwrap_or(&sql));
        let name = self.free([own.clone(), format!("{own}Label")]);
        let _ = writeln!(enums, "/// {} of PostgreSQL.", told(&sql));
        *enums += "#[derive(Clone, Copy, Debug, PartialEq, lockstep::Label)]\n";
        let _ = writeln!(enums, "#[lockstep(sql = {})]\npub enum {name} {{", literal(&sql));
        let mut taken = Vec::new();
        for label in labels {
            let variant = variant_of(label, &mut taken);
            let _ = writeln!(enums, "    /// {}", literal(label));
            let _ = writeln!(enums, "    #[lockstep(label = {})]\n    {variant},", literal(label));
        }
        *enums += "}\n\n";
        self.enums.insert(sql, name.clone());
        name
    }
}

fn field_text(
    column: &CatalogColumn,
    field: &Field,
    declaration: &Declaration,
    key: &[String],
    taken: &mut Vec<String>,
) -> String {
    let mut words = Vec::new();
    let name = field_of(&column.name, taken);
    if key.contains(&column.name) {
        words.push("primary_key".to_owned());
    }
    if name != column.name {
        words.push(format!("column = {}", literal(&column.name)));
    }
    if let Some(attribute) = declaration.attributes.get(&column.name) {
        words.push(format!("attribute = {}", literal(attribute)));
    }
    if let Some(sql) = &field.sql {
        words.push(format!("sql = {}", literal(sql)));
    }
    if declaration.reveals.contains(&column.name) {
        words.push("reveal".to_owned());
    }
    let mut said = format!("    /// In PostgreSQL {}.\n", told(&column.sql_type));
    if !words.is_empty() {
        let _ = writeln!(said, "    #[lockstep({})]", words.join(", "));
    }
    let ty = if column.nullable { format!("Option<{}>", field.ty) } else { field.ty.clone() };
    let _ = writeln!(said, "    pub {name}: {ty},");
    said
}

/// Returns an index as the derive has it, or, where it has none such, as a comment.
fn index_of(name: &str, index: &IndexDeclaration, has_sort: bool, table: &CatalogTable) -> String {
    let unfit: Vec<String> = unfit(&index.partition, table, false).collect();
    let mut said = String::new();
    let mut tell = |what: &str| {
        said += &rust_comment(&format!("{name}: {what}"));
    };
    let is_left_out = !unfit.is_empty() || !index.when.is_empty();
    if !unfit.is_empty() {
        tell(&format!("left out, because no key in Rust is made of {}", unfit.join(" and ")));
    } else if !index.when.is_empty() {
        tell("left out, because an index in Rust has all rows; write `index_attributes` by hand for it");
    } else if index.sort.is_some() && has_sort {
        tell("sorted by the table's own sort key, as every index in Rust");
    } else if index.sort.is_some() {
        tell("not sorted, as the table has no sort key");
    }
    if !is_left_out {
        let (name, partition) = (literal(name), literal(&index.partition));
        let _ = writeln!(said, "#[lockstep(index(name = {name}, partition = {partition}))]");
    }
    said
}

/// Returns the columns of a template that no key in Rust can be made of.
fn unfit<'a>(text: &'a str, table: &'a CatalogTable, is_own: bool) -> impl Iterator<Item = String> + 'a {
    let template = text.parse::<Template>().ok();
    let columns = template.iter().flat_map(Template::columns).map(str::to_owned).collect::<Vec<_>>();
    columns.into_iter().filter(move |name| !can_be_key(table, name, is_own))
}

fn can_be_key(table: &CatalogTable, name: &str, is_own: bool) -> bool {
    let Some(column) = table.columns.iter().find(|column| column.name == name) else { return false };
    match Kind::of(column).0 {
        Kind::Integer
        | Kind::Uuid
        | Kind::Bytes
        | Kind::Date
        | Kind::Time
        | Kind::Timestamp
        | Kind::Instant => true,
        Kind::Text => column.builtin != "json" && column.builtin != "name",
        Kind::Boolean => !is_own,
        _ => false,
    }
}

fn no_key(column: &str) -> String {
    format!("column `{column}` is in the key, and no key in Rust is made of its type")
}
