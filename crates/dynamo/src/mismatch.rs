//! Differences of a table that is there from what the trait says.

use std::fmt;

use aws_sdk_dynamodb::types::{
    KeySchemaElement, Projection, ProjectionType, ScalarAttributeType, TableDescription,
};
use lockstep_core::{Index, KeyType, Naming, PK, Projected, TargetSchema};
use serde::Serialize;

/// Returns the SDK's word for the type of a key attribute.
pub(super) fn scalar(key_type: KeyType) -> ScalarAttributeType {
    match key_type {
        KeyType::S => ScalarAttributeType::S,
        KeyType::N => ScalarAttributeType::N,
    }
}

/// An index of a table that its schema does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndeclaredIndex {
    /// Name of the index.
    pub name: String,
    /// Attributes that are its key and no key attribute of the schema: an item whose value there is empty, or
    /// of another type, is refused.
    pub by: Vec<String>,
    /// Whether it shares its partitions with the table, which are bounded to 10 GB then.
    pub is_local: bool,
}

impl UndeclaredIndex {
    /// Tells whether an item that the schema allows may be refused for it.
    pub fn may_refuse(&self) -> bool {
        !self.by.is_empty()
    }
}

impl fmt::Display for UndeclaredIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = if self.is_local { "local " } else { "" };
        write!(f, "{local}index {}", self.name)?;
        if self.by.is_empty() { Ok(()) } else { write!(f, " by {}", self.by.join(", ")) }
    }
}

/// Returns the indexes of a table that its schema does not have.
pub(super) fn undeclared(
    found: &TableDescription,
    schema: &TargetSchema,
    naming: &Naming,
) -> Vec<UndeclaredIndex> {
    let global = found.global_secondary_indexes().iter().map(|i| (i.index_name(), i.key_schema(), false));
    let local = found.local_secondary_indexes().iter().map(|i| (i.index_name(), i.key_schema(), true));
    let known = naming.key_attributes(schema);
    let is_declared = |name: &str, is_local: bool| {
        schema.indexes.iter().any(|index| index.name == name && (!is_local || index.partition.name == PK))
    };
    let strange = global.chain(local).filter_map(|(name, key, is_local)| {
        let name = name.unwrap_or_default();
        let by = key.iter().map(|part| part.attribute_name.clone());
        let by = by.filter(|attribute| known.iter().all(|ours| ours.name != attribute)).collect();
        (!is_declared(name, is_local)).then(|| UndeclaredIndex { name: name.to_owned(), by, is_local })
    });
    strange.collect()
}

/// Returns one sentence for each difference; none where the table can be written to.
pub(super) fn mismatches(found: &TableDescription, schema: &TargetSchema, naming: &Naming) -> Vec<String> {
    let mut wrong = Vec::new();
    let names =
        |elements: &[KeySchemaElement]| elements.iter().map(|e| e.attribute_name.clone()).collect::<Vec<_>>();
    let type_of = |name: &str| {
        let definition =
            found.attribute_definitions().iter().find(|definition| definition.attribute_name == name);
        definition.map(|definition| definition.attribute_type.clone())
    };
    if !found.replicas().is_empty() || found.multi_region_consistency().is_some() {
        let regions = found
            .replicas()
            .iter()
            .filter_map(|replica| replica.region_name())
            .collect::<Vec<_>>()
            .join(", ");
        wrong.push(format!(
            "it is a global table (replicas in {regions}): a condition holds in one region only and the last writer wins, so an \
             older state may win; remove the replicas until the migration is complete"
        ));
    }
    let expected: Vec<String> = naming.table_key(schema).map(|attribute| attribute.name.to_owned()).collect();
    let key = names(found.key_schema());
    if key != expected {
        wrong.push(format!("its key is ({}), it must be ({})", key.join(", "), expected.join(", ")));
    }
    for attribute in naming.key_attributes(schema) {
        match type_of(attribute.name) {
            Some(found) if found != scalar(attribute.key_type) => {
                wrong.push(format!(
                    "{} is of type {}, it must be {:?}",
                    attribute.name,
                    found.as_str(),
                    attribute.key_type
                ));
            }
            _ => {}
        }
    }
    for index in schema.indexes {
        let expected: Vec<String> = naming.index_key(index).map(|a| a.name.to_owned()).collect();
        let (key, projection) = match index_there(found, index) {
            None => {
                wrong.push(format!("index {} is missing", index.name));
                continue;
            }
            Some(there) => there,
        };
        let key = names(key);
        if key != expected {
            wrong.push(format!(
                "index {} is keyed by ({}), it must be ({})",
                index.name,
                key.join(", "),
                expected.join(", ")
            ));
        }
        wrong.extend(lacks(projection, index));
    }
    wrong
}

/// Returns key and projection of an index that is there. One that shares its partitions with the table may be
/// local: it was made with the table, and is asked in the same way.
fn index_there<'a>(
    found: &'a TableDescription,
    index: &Index,
) -> Option<(&'a [KeySchemaElement], Option<&'a Projection>)> {
    let is_it = |name: Option<&str>| name == Some(index.name);
    let global = found.global_secondary_indexes().iter().find(|there| is_it(there.index_name()));
    let local = found.local_secondary_indexes().iter().filter(|_| index.partition.name == PK);
    let local = || local.clone().find(|there| is_it(there.index_name()));
    global
        .map(|there| (there.key_schema(), there.projection()))
        .or_else(|| local().map(|there| (there.key_schema(), there.projection())))
}

/// Says what the projection of an index lacks of what queries read of it.
fn lacks(projection: Option<&Projection>, index: &Index) -> Option<String> {
    let projected = projection.and_then(Projection::projection_type)?;
    let name = index.name;
    let missing: Vec<&str> = match index.projection {
        _ if *projected == ProjectionType::All => return None,
        Projected::Keys => return None,
        // Queries are answered by such an index alone, and a row is made of every attribute.
        Projected::All => {
            return Some(format!(
                "index {name} has a projection of {projected}, and must be of ALL attributes; make it again"
            ));
        }
        Projected::List(wanted) => {
            let there = projection.map(Projection::non_key_attributes).unwrap_or_default();
            wanted.iter().copied().filter(|wanted| !there.iter().any(|there| there == wanted)).collect()
        }
    };
    (!missing.is_empty()).then(|| {
        format!(
            "index {name} has a projection of {projected} without {}; make the index again with it",
            missing.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{
        GlobalSecondaryIndexDescription, KeyType as Role, LocalSecondaryIndexDescription, ReplicaDescription,
        StreamSpecification,
    };
    use lockstep_core::KeyAttribute;

    use super::*;

    const SCHEMA: TargetSchema = TargetSchema { partition: KeyType::S, sort: None, indexes: &[] };

    #[test]
    fn an_index_that_was_made_beforehand_with_a_part_of_the_attributes_is_a_mismatch() {
        let element = |name: &str, key_type: Role| {
            KeySchemaElement::builder().attribute_name(name).key_type(key_type).build().expect("a key")
        };
        const INDEXED: TargetSchema = TargetSchema {
            partition: KeyType::S,
            sort: None,
            indexes: &[lockstep_core::Index {
                name: "by_customer",
                partition: KeyAttribute { name: "customer_id", key_type: KeyType::N },
                sort: None,
                projection: lockstep_core::Projected::All,
            }],
        };
        for (projected, says) in [
            (Some(ProjectionType::All), None),
            (None, None),
            (Some(ProjectionType::KeysOnly), Some("KEYS_ONLY")),
            (Some(ProjectionType::Include), Some("INCLUDE")),
        ] {
            let projection = Projection::builder().set_projection_type(projected).build();
            let index = GlobalSecondaryIndexDescription::builder()
                .index_name("by_customer")
                .key_schema(element("customer_id", Role::Hash))
                .projection(projection)
                .build();
            let table = TableDescription::builder()
                .key_schema(element(PK, Role::Hash))
                .global_secondary_indexes(index)
                .build();
            let wrong = mismatches(&table, &INDEXED, &Naming::USUAL);
            assert_eq!(wrong.len(), usize::from(says.is_some()), "{wrong:?}");
            assert!(says.is_none_or(|says| wrong[0].contains(says)), "{wrong:?}");
        }
    }

    /// Tables that Terraform has made: what each index lacks is named, of a local one as well.
    #[test]
    fn what_an_index_that_was_made_beforehand_lacks_is_named() {
        let element = |name: &str, key_type: Role| {
            KeySchemaElement::builder().attribute_name(name).key_type(key_type).build().expect("a key")
        };
        const INDEXED: TargetSchema = TargetSchema {
            partition: KeyType::S,
            sort: Some(KeyType::S),
            indexes: &[
                lockstep_core::Index {
                    name: "by_owner",
                    partition: KeyAttribute { name: "owner", key_type: KeyType::S },
                    sort: None,
                    projection: Projected::List(&["total", "status"]),
                },
                lockstep_core::Index {
                    name: "by_time",
                    partition: KeyAttribute { name: PK, key_type: KeyType::S },
                    sort: Some(KeyAttribute { name: "at", key_type: KeyType::S }),
                    projection: Projected::All,
                },
            ],
        };
        let listed = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let of = Projection::builder().projection_type(ProjectionType::Include);
            of.set_non_key_attributes(Some(names)).build()
        };
        let of = |projected: ProjectionType| Projection::builder().projection_type(projected).build();
        let table = |global: Projection, sort: &str, local: Projection| {
            let global = GlobalSecondaryIndexDescription::builder()
                .index_name("by_owner")
                .key_schema(element("owner", Role::Hash))
                .projection(global);
            let local = LocalSecondaryIndexDescription::builder()
                .index_name("by_time")
                .key_schema(element(PK, Role::Hash))
                .key_schema(element(sort, Role::Range))
                .projection(local);
            TableDescription::builder()
                .key_schema(element(PK, Role::Hash))
                .key_schema(element("SK", Role::Range))
                .global_secondary_indexes(global.build())
                .local_secondary_indexes(local.build())
                .build()
        };
        let (all, keys) = (of(ProjectionType::All), of(ProjectionType::KeysOnly));
        for (global, sort, local, says) in [
            (listed(&["status", "more", "total"]), "at", all.clone(), vec![]),
            (all.clone(), "at", all.clone(), vec![]),
            (
                keys.clone(),
                "at",
                all.clone(),
                vec!["by_owner has a projection of KEYS_ONLY without total and status"],
            ),
            (
                listed(&["total"]),
                "at",
                all.clone(),
                vec!["by_owner has a projection of INCLUDE without status"],
            ),
            (
                all.clone(),
                "note",
                keys,
                vec![
                    "by_time is keyed by (PK, note), it must be (PK, at)",
                    "by_time has a projection of KEYS_ONLY",
                ],
            ),
        ] {
            let table = table(global, sort, local);
            let wrong = mismatches(&table, &INDEXED, &Naming::USUAL);
            assert_eq!(wrong.len(), says.len(), "{wrong:?}");
            assert!(wrong.iter().zip(&says).all(|(wrong, says)| wrong.contains(says)), "{wrong:?}");
            assert_eq!(undeclared(&table, &INDEXED, &Naming::USUAL), [], "both are of the design");
        }
    }

    #[test]
    fn an_index_of_another_program_is_named_with_what_it_may_refuse_a_row_for() {
        let element = |name: &str, key_type: Role| {
            KeySchemaElement::builder().attribute_name(name).key_type(key_type).build().expect("a key")
        };
        let global = |name: &str, by: &str| {
            GlobalSecondaryIndexDescription::builder()
                .index_name(name)
                .key_schema(element(by, Role::Hash))
                .build()
        };
        let local = LocalSecondaryIndexDescription::builder()
            .index_name("by_time")
            .key_schema(element(PK, Role::Hash))
            .key_schema(element("at", Role::Range))
            .build();
        const INDEXED: TargetSchema = TargetSchema {
            partition: KeyType::S,
            sort: Some(KeyType::S),
            indexes: &[lockstep_core::Index {
                name: "by_customer",
                partition: KeyAttribute { name: "customer_id", key_type: KeyType::N },
                sort: None,
                projection: lockstep_core::Projected::All,
            }],
        };
        let table = TableDescription::builder()
            .global_secondary_indexes(global("by_customer", "customer_id"))
            .global_secondary_indexes(global("by_note", "note"))
            .global_secondary_indexes(global("inverted", "SK"))
            .local_secondary_indexes(local)
            .build();
        let found: Vec<_> = undeclared(&table, &INDEXED, &Naming::USUAL)
            .iter()
            .map(|index| (index.to_string(), index.may_refuse()))
            .collect();
        let expected =
            [("index by_note by note", true), ("index inverted", false), ("local index by_time by at", true)];
        assert_eq!(found, expected.map(|(words, refuses)| (words.to_owned(), refuses)));
    }

    #[test]
    fn a_global_table_is_refused_and_a_stream_is_not_one() {
        let table = |replicas: Option<Vec<ReplicaDescription>>| {
            let stream = StreamSpecification::builder().stream_enabled(true).build().expect("a stream");
            let key =
                KeySchemaElement::builder().attribute_name(PK).key_type(Role::Hash).build().expect("a key");
            TableDescription::builder()
                .key_schema(key)
                .stream_specification(stream)
                .set_replicas(replicas)
                .build()
        };
        assert_eq!(mismatches(&table(None), &SCHEMA, &Naming::USUAL), Vec::<String>::new());
        let replica = ReplicaDescription::builder().region_name("eu-west-1").build();
        let wrong = mismatches(&table(Some(vec![replica])), &SCHEMA, &Naming::USUAL);
        assert!(
            wrong.len() == 1 && wrong[0].contains("global table") && wrong[0].contains("eu-west-1"),
            "{wrong:?}"
        );
    }
}
