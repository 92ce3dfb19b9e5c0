//! Refusals of what cannot be a table, told where it is written.

use lockstep_template::{Alphabet, Part, RESERVED_ATTRIBUTES, check};
use proc_macro2::TokenStream;
use quote::ToTokens;

use crate::declared::{Column, Index, Projection, Table, Written};
use crate::kind::Kind;

/// Reason of a refusal, and the tokens that are the cause.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) at: TokenStream,
    pub(crate) why: String,
}

/// Bytes of the name of an attribute (DynamoDB).
const ATTRIBUTE_BYTES_MAX: usize = 255;

type Verdict = Result<(), Refusal>;

fn refused(at: &impl ToTokens, why: impl Into<String>) -> Verdict {
    Err(Refusal { at: at.to_token_stream(), why: why.into() })
}

impl From<Refusal> for syn::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new_spanned(refusal.at, refusal.why)
    }
}

/// Refuses what two rows could share, what names no column, and what could not be found again.
pub(crate) fn refuse(table: &Table) -> Verdict {
    if table.name.value().is_empty() {
        return refused(&table.name, "a table needs a name");
    }
    for (at, column) in table.columns.iter().enumerate() {
        name_of_column(column, &table.columns[..at])?;
    }
    for (at, index) in table.indexes.iter().enumerate() {
        name_of_index(table, index, &table.indexes[..at])?;
        columns_fit(table, &index.partition)?;
        if let Some(sort) = &index.sort {
            columns_fit(table, sort)?;
        }
        projection(table, index)?;
    }
    for written in std::iter::once(&table.partition).chain(&table.sort) {
        columns_fit(table, written)?;
        columns_are_of_a_key(table, written)?;
    }
    names(table)?;
    times(table)?;
    primary_key(table)?;
    findable(table)
}

fn name_of_column(column: &Column, before: &[Column]) -> Verdict {
    let Column { name, attribute, .. } = column;
    if RESERVED_ATTRIBUTES.contains(&attribute.as_str()) {
        let other = format!("{}_column", attribute.trim_start_matches('_').to_lowercase());
        let why = format!(
            "`{attribute}` is a name that Lockstep's items use; hold the column in another attribute with \
             #[lockstep(attribute = \"{other}\")]"
        );
        return refused(&column.field, why);
    }
    if attribute.is_empty() || attribute.len() > ATTRIBUTE_BYTES_MAX {
        let why = format!("an attribute's name has 1 to {ATTRIBUTE_BYTES_MAX} bytes");
        return refused(&column.field, why);
    }
    if before.iter().any(|other| other.name == *name) {
        return refused(&column.field, format!("two fields are column `{name}`; keep one"));
    }
    if let Some(other) = before.iter().find(|other| other.attribute == *attribute) {
        let why = format!(
            "columns `{}` and `{name}` would share the attribute `{attribute}`; give one another name",
            other.name
        );
        return refused(&column.field, why);
    }
    Ok(())
}

fn name_of_index(table: &Table, index: &Index, before: &[Index]) -> Verdict {
    let name = index.name.value();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(3..=255).contains(&name.len()) || !name.bytes().all(legal) {
        return refused(
            &index.name,
            "the name of an index has 3 to 255 letters, digits, `_`, `-` and `.` (DynamoDB)",
        );
    }
    if before.iter().any(|other| other.name.value() == name) {
        return refused(&index.name, "two indexes have this name; rename one");
    }
    let made = table.indexed(index).is_none().then(|| table.attribute(index));
    let sorted = table.sorted_by(index).filter(|(.., is_made)| *is_made).map(|(attribute, ..)| attribute);
    for attribute in made.into_iter().chain(sorted) {
        if table.columns.iter().any(|column| column.attribute == attribute) {
            let why = format!(
                "this index needs the attribute `{attribute}`, which holds a column; rename the index"
            );
            return refused(&index.name, why);
        }
    }
    Ok(())
}

/// Every column that an index carries is there, each once.
fn projection(table: &Table, index: &Index) -> Verdict {
    let Projection::List(columns) = &index.projection else { return Ok(()) };
    if columns.is_empty() {
        return refused(&index.name, "projection lists nothing; write \"keys\", or leave it out");
    }
    for (at, column) in columns.iter().enumerate() {
        let name = column.value();
        if table.column(&name).is_none() {
            let all: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            let why = format!("there is no column `{name}`; there are: {}", all.join(", "));
            return refused(column, why);
        }
        if columns[..at].iter().any(|other| other.value() == name) {
            return refused(column, format!("column `{name}` is listed twice; keep one"));
        }
    }
    Ok(())
}

/// The columns of a template exist, and their values can be written as it says.
fn columns_fit(table: &Table, written: &Written) -> Verdict {
    for part in written.template.parts() {
        let (name, form) = match part {
            Part::Literal(_) => continue,
            Part::Column { name, form } => (name, Some(*form)),
            Part::Shard { name, .. } => (name, None),
        };
        let Some(column) = table.column(name) else {
            let all: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            let why = format!("there is no column `{name}`; there are: {}", all.join(", "));
            return refused(&written.literal, why);
        };
        let Some(kind) = column.kind() else {
            let why = format!(
                "column `{name}` has a type that a key cannot be made of; use i16, i32, i64, String, Uuid, \
                 Vec<u8>, NaiveDate, NaiveTime, NaiveDateTime, DateTime<Utc> or an enum with \
                 #[derive(lockstep::Label)]"
            );
            return refused(&written.literal, why);
        };
        if !form.is_none_or(|form| kind.fits(form)) {
            let why = format!("no value of column `{name}` has this form; write `{{{name}}}`");
            return refused(&written.literal, why);
        }
    }
    Ok(())
}

/// A place exists for each row, and the change of a row names it.
fn columns_are_of_a_key(table: &Table, written: &Written) -> Verdict {
    for column in written.template.columns().into_iter().filter_map(|name| table.column(name)) {
        let name = &column.name;
        if column.may_be_null() {
            let why =
                format!("column `{name}` may be NULL, and a key always has a value; use another column");
            return refused(&written.literal, why);
        }
        if column.kind() == Some(Kind::Boolean) {
            let why =
                format!("column `{name}` is a boolean, which only an index can be made of; use another");
            return refused(&written.literal, why);
        }
    }
    Ok(())
}

/// A key that is called as the attribute of a column is that column, and nothing else is. What else may
/// collide is told when the table is registered, by what also reads names that are written by hand.
fn names(table: &Table) -> Verdict {
    for (of, name) in &table.names {
        let Some(column) = table.columns.iter().find(|column| column.attribute == name.value()) else {
            continue;
        };
        let key = match of.to_string().as_str() {
            "partition" => Some(&table.partition),
            "sort" => table.sort.as_ref(),
            _ => None,
        };
        if key.and_then(|written| table.alone(written)).is_some_and(|alone| alone.name == column.name) {
            continue;
        }
        let why = match key {
            Some(_) => format!(
                "`{0}` is the attribute of column `{1}`: a key that is a column is that column alone, \
                 {of} = \"{{{1}}}\"; or give the key another name",
                name.value(),
                column.name
            ),
            None => format!(
                "`{}` is the attribute of column `{}`; give one of them another name",
                name.value(),
                column.name
            ),
        };
        return refused(name, why);
    }
    Ok(())
}

fn times(table: &Table) -> Verdict {
    let is_time = |name: &str| table.column(name).filter(|column| column.kind() == Some(Kind::Instant));
    if let Some((literal, expiry)) = &table.expires
        && is_time(&expiry.column).is_none()
    {
        return refused(literal, format!("`{}` is no column of type DateTime<Utc>", expiry.column));
    }
    if let Some(literal) = &table.day_column {
        let name = literal.value();
        // Rows without a day would be in no window of a validation, and never be compared.
        if is_time(&name).is_none_or(Column::may_be_null) {
            return refused(
                literal,
                format!("`{name}` is no column of type DateTime<Utc> that is never NULL"),
            );
        }
    }
    Ok(())
}

fn primary_key(table: &Table) -> Verdict {
    let columns = table.primary_key();
    if columns.is_empty() {
        let why = "no field is #[lockstep(primary_key)]; mark each column of the primary key";
        return refused(&table.row, why);
    }
    if let Some(column) = columns.iter().find(|column| column.may_be_null()) {
        let why = "a column of the primary key is never NULL; write the type without Option";
        return refused(&column.field, why);
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let of = |name: &str| table.column(name).and_then(Column::kind).map_or(Alphabet::Text, Kind::alphabet);
    let sort = table.sort.as_ref().map(|sort| &sort.template);
    check(&table.partition.template, sort, &names, of).or_else(|ambiguity| {
        let cause = table.sort.as_ref().filter(|_| ambiguity.template == "sort").unwrap_or(&table.partition);
        refused(&cause.literal, ambiguity.message)
    })
}

/// 1. A row moves with a column that is not in its primary key. 2. In DynamoOnly it is asked for by its id,
/// and nothing knows the place. So the way to look it up is asked for here, and not when DynamoDB is the
/// truth already.
fn findable(table: &Table) -> Verdict {
    let (primary, key) = (table.primary_key(), table.key());
    let Some(moves) = key.get(primary.len()) else { return Ok(()) };
    let in_sort = table.sort.as_ref().filter(|sort| sort.template.columns().contains(&moves.name.as_str()));
    let cause = &in_sort.unwrap_or(&table.partition).literal;
    let [id] = primary[..] else {
        let why = format!(
            "column `{}` is not in the primary key, which has several columns, so in DynamoOnly a row could \
             not be found by it; make the templates of columns of the primary key",
            moves.name
        );
        return refused(cause, why);
    };
    if table.indexes.iter().any(|index| table.indexed(index).is_some_and(|column| column.name == id.name)) {
        return Ok(());
    }
    if id.kind() == Some(Kind::Bytes) {
        let why = format!(
            "column `{}` is not in the primary key, which is bytes, by which no index finds a row in \
             DynamoOnly; make the templates of `{}` alone",
            moves.name, id.name
        );
        return refused(cause, why);
    }
    let why = format!(
        "column `{}` is not in the primary key, so in DynamoOnly a row is found by its id through an index; \
         add #[lockstep(index(name = \"by_id\", partition = \"{{{}}}\"))]",
        moves.name, id.name
    );
    refused(cause, why)
}
