//! An index: its keys, and the attributes that hold them.

use lockstep_core::{Index, KeyAttribute, KeyType, Projected, SK};
use lockstep_template::Template;

use super::names::AttributeNames;
use super::{Problems, Resolver, forms, leak, leak_text};
use crate::declaration::{IndexDeclaration, Projection, Word};
use crate::kind::Kind;
use crate::shape::{Column, IndexShape, Part};

/// Most attributes that an index is asked to list here; DynamoDB has room for 100 in all indexes of a table
/// together (Developer Guide, "Quotas").
const LISTED_MAX: usize = 100;

impl Resolver<'_> {
    /// Returns the attributes that an index carries. Those of its keys and the table's are there anyway.
    fn projected(
        &self,
        name: &str,
        projection: &Projection,
        columns: &[Column],
        problems: &mut Problems,
    ) -> Projected {
        let listed = match projection {
            Projection::Word(Word::Keys) => return Projected::Keys,
            Projection::Word(Word::All) => return Projected::All,
            Projection::Columns(listed) => listed,
        };
        let what = format!("indexes.{name}.projection");
        let mut names: Vec<&'static str> = Vec::with_capacity(listed.len());
        for column in listed {
            match columns.iter().find(|c| c.name == *column) {
                None => problems.push(self.no_column(&what, column)),
                Some(column) if names.contains(&column.attribute) => {
                    problems.push(format!("{what} names `{}` twice", column.name));
                }
                Some(column) => names.push(column.attribute),
            }
        }
        if listed.is_empty() {
            problems.push(format!("{what} lists nothing; write \"keys\", or leave it out"));
        }
        if listed.len() > LISTED_MAX {
            problems.push(format!("{what} lists more than {LISTED_MAX} columns; write \"all\""));
        }
        Projected::List(leak(names))
    }

    pub(super) fn index(
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
                problems.extend(forms::wrong(&format!("indexes.{name}.{what}"), &template, columns));
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
        let projection = self.projected(name, &index.projection, columns, &mut problems);
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
        // What is a key of the index or of the table is there anyway, and refused beside it.
        let is_key = |name: &str| {
            self.is_table_key(name)
                || name == partition_attribute.name
                || sort_attribute.is_some_and(|sort| sort.name == name)
        };
        let projection = without(projection, &is_key);
        let index =
            Index { name: leak_text(name), partition: partition_attribute, sort: sort_attribute, projection };
        Ok(IndexShape { index, partition: partition_part, sort: sort_part, when })
    }
}

fn without(projection: Projected, is_key: &dyn Fn(&str) -> bool) -> Projected {
    match projection {
        Projected::List(names) => {
            let names: Vec<&str> = names.iter().copied().filter(|name| !is_key(name)).collect();
            if names.is_empty() { Projected::Keys } else { Projected::List(leak(names)) }
        }
        whole_or_keys => whole_or_keys,
    }
}
