use lockstep_core::{Index, KeyAttribute, KeyType, Projected, TargetSchema};

use super::*;

const BY_OWNER: &[Index] = &[Index {
    name: "by_owner",
    partition: KeyAttribute { name: "it's ${owner}", key_type: KeyType::S },
    sort: Some(KeyAttribute { name: "SK", key_type: KeyType::S }),
    projection: Projected::Keys,
}];

fn documents() -> Vec<Blueprint> {
    let schema = TargetSchema { partition: KeyType::S, sort: Some(KeyType::S), indexes: BY_OWNER };
    let control = Blueprint {
        name: "shop-control".to_owned(),
        schema: CONTROL_SCHEMA,
        naming: Naming::USUAL,
        expires: false,
        stream: false,
    };
    vec![
        Blueprint {
            name: "9-shop.documents".to_owned(),
            schema,
            naming: Naming::USUAL,
            expires: true,
            stream: true,
        },
        control,
    ]
}

#[test]
fn terraform_has_every_key_index_and_protection_and_no_template_in_a_name() {
    let text = terraform(&documents());
    for part in [
        "resource \"aws_dynamodb_table\" \"table_9_shop_documents\" {",
        "  hash_key = \"PK\"\n  range_key = \"SK\"",
        "    hash_key = \"it's $${owner}\"\n    range_key = \"SK\"\n    projection_type = \"KEYS_ONLY\"",
        "  stream_view_type = \"NEW_AND_OLD_IMAGES\"",
        "  ttl {\n    attribute_name = \"ttl\"\n    enabled = true\n  }",
        "  deletion_protection_enabled = true",
        "  point_in_time_recovery {\n    enabled = true\n  }",
        "resource \"aws_dynamodb_table\" \"shop_control\" {",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    assert_eq!(text.matches("attribute {").count(), 3 + 2, "each attribute once: {text}");
    assert_eq!(text.matches("stream_enabled").count(), 1, "the control table has none");
}

#[test]
fn an_index_lists_its_attributes_in_every_form() {
    const LISTED: &[Index] = &[Index { projection: Projected::List(&["total", "it's"]), ..BY_OWNER[0] }];
    let [mut table, control] = <[Blueprint; 2]>::try_from(documents()).expect("two");
    table.schema.indexes = LISTED;
    let tables = [table, control];
    let text = terraform(&tables);
    let part = "projection_type = \"INCLUDE\"\n    non_key_attributes = [\"total\", \"it's\"]";
    assert!(text.contains(part), "{text}");
    let template = cloudformation(&tables);
    let index = &template["Resources"]["9ShopDocumentsTable"]["Properties"]["GlobalSecondaryIndexes"][0];
    let expected = serde_json::json!({ "ProjectionType": "INCLUDE", "NonKeyAttributes": ["total", "it's"] });
    assert_eq!(index["Projection"], expected);
    assert!(aws_cli(&tables).contains("NonKeyAttributes"));
}

#[test]
fn cloudformation_names_each_table_once_and_keeps_the_rows_when_the_stack_goes() {
    let mut tables = documents();
    tables.push(Blueprint { name: "shop_control".to_owned(), ..tables[1].clone() });
    let template = cloudformation(&tables);
    let resources = template["Resources"].as_object().expect("an object");
    let mut ids: Vec<&String> = resources.keys().collect();
    ids.sort();
    assert_eq!(ids, ["9ShopDocumentsTable", "ShopControlTable", "ShopControlTable2"]);
    let documents = &resources["9ShopDocumentsTable"];
    assert_eq!(documents["DeletionPolicy"], "Retain");
    assert_eq!(documents["Properties"]["TimeToLiveSpecification"]["AttributeName"], "ttl");
    assert_eq!(documents["Properties"]["GlobalSecondaryIndexes"][0]["KeySchema"][1]["KeyType"], "RANGE");
}

#[test]
fn commands_survive_a_shell() {
    let text = aws_cli(&documents());
    let first = text.lines().next().expect("a line");
    assert!(first.contains(r#""it'\''s ${owner}""#), "{first}");
    assert_eq!(text.lines().count(), 4 + 3);
}
