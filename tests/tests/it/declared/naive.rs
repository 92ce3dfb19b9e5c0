//! The independent checker: every item is put into a twin of its table by PostgreSQL's own input functions,
//! and the texts of all rows are compared there. It shares no line with the product's codecs.

use lockstep_core::{AttributeValue, Attributes, DELETED_ATTRIBUTE};
use lockstep_postgres::quote_identifier;
use lockstep_tests::World;
use sqlx::{AssertSqlSafe, Executor as _};

fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        AttributeValue::Bool(is) => is.to_string(),
        AttributeValue::B(blob) => {
            "\\x".to_owned() + &blob.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        }
        AttributeValue::L(elements) => {
            let quoted = |element: &AttributeValue| match element {
                AttributeValue::Null(_) => "null".to_owned(),
                element => format!("\"{}\"", text(element).replace('\\', "\\\\").replace('"', "\\\"")),
            };
            format!("{{{}}}", elements.iter().map(quoted).collect::<Vec<_>>().join(","))
        }
        AttributeValue::Ss(texts) => {
            text(&AttributeValue::L(texts.iter().cloned().map(AttributeValue::S).collect()))
        }
        AttributeValue::Ns(numbers) => {
            text(&AttributeValue::L(numbers.iter().cloned().map(AttributeValue::N).collect()))
        }
        AttributeValue::Bs(blobs) => {
            text(&AttributeValue::L(blobs.iter().cloned().map(AttributeValue::B).collect()))
        }
        other => panic!("no column is held as {other:?}"),
    }
}

/// The text of a document. Numbers are those of the item, to the digit.
fn json(value: &AttributeValue) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match value {
        AttributeValue::M(members) => {
            let one = |(name, value): (&String, &AttributeValue)| format!("{}:{}", quoted(name), json(value));
            format!("{{{}}}", members.iter().map(one).collect::<Vec<_>>().join(","))
        }
        AttributeValue::L(elements) => {
            format!("[{}]", elements.iter().map(json).collect::<Vec<_>>().join(","))
        }
        AttributeValue::S(text) => quoted(text),
        AttributeValue::Null(_) => "null".to_owned(),
        other => text(other),
    }
}

/// The text of which PostgreSQL makes a value of this type. A set has no order; where the order of a column
/// counts, it ascends.
fn text_of(value: &AttributeValue, kind: &str) -> String {
    match (value, kind) {
        (AttributeValue::B(_), "uuid") => text(value).trim_start_matches("\\x").to_owned(),
        (
            AttributeValue::M(_) | AttributeValue::L(_) | AttributeValue::Null(_) | AttributeValue::Bool(_),
            "json" | "jsonb",
        ) => json(value),
        // A document that is a text, held as one; otherwise it is the text of a document.
        (AttributeValue::S(found), "json" | "jsonb")
            if serde_json::from_str::<serde_json::Value>(found).is_err() =>
        {
            json(value)
        }
        (AttributeValue::Ss(set), _) => {
            let sorted = set.iter().cloned().collect::<std::collections::BTreeSet<_>>();
            text(&AttributeValue::Ss(sorted.into_iter().collect()))
        }
        (AttributeValue::Ns(set), _) => {
            let mut sorted = set.clone();
            sorted.sort_by_key(|digits| digits.parse::<i128>().expect("a whole number"));
            text(&AttributeValue::Ns(sorted))
        }
        (AttributeValue::Bs(set), _) => {
            let mut sorted = set.clone();
            sorted.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
            text(&AttributeValue::Bs(sorted))
        }
        _ => text(value),
    }
}

/// Rows that are in one of the stores only, as texts; empty when both hold the same. `relation` is as SQL
/// takes it, `renamed` says which columns are held in attributes of other names.
pub(super) async fn disagreements(
    world: &World,
    relation: &str,
    target: &str,
    renamed: &[(&str, &str)],
) -> Vec<String> {
    disagreements_of(world, relation, target, renamed, DELETED_ATTRIBUTE).await
}

/// The same of a table in which a tombstone is known by another attribute.
pub(super) async fn disagreements_of(
    world: &World,
    relation: &str,
    target: &str,
    renamed: &[(&str, &str)],
    deleted: &str,
) -> Vec<String> {
    let mut session = world.stranger().await;
    session.execute("SET lc_monetary = 'C'; SET extra_float_digits = 1").await.expect("settings");
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, -1) FROM pg_attribute
         WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    .bind(relation)
    .fetch_all(&mut session)
    .await
    .expect("columns");
    session
        .execute(AssertSqlSafe(format!("CREATE TEMPORARY TABLE twin (LIKE {relation})")))
        .await
        .expect("a twin");
    let places = columns.iter().enumerate().map(|(at, (_, kind))| format!("${}::text::{kind}", at + 1));
    let insert = format!("INSERT INTO twin VALUES ({})", places.collect::<Vec<_>>().join(", "));
    let items: Vec<Attributes> = world.items(target).await;
    for item in items.iter().filter(|item| !item.contains_key(deleted)) {
        let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
        for (name, kind) in &columns {
            let attribute = renamed
                .iter()
                .find(|(column, _)| column == name)
                .map_or(name.as_str(), |(_, attribute)| attribute);
            query = query.bind(item.get(attribute).map(|value| text_of(value, kind)));
        }
        query.execute(&mut session).await.expect("PostgreSQL takes what an item holds");
    }
    let texts = columns
        .iter()
        .map(|(name, _)| format!("coalesce({}::text COLLATE \"C\", '<NULL>')", quote_identifier(name)));
    // No function: they take a hundred arguments, and tables have more columns.
    let row = texts.collect::<Vec<_>>().join(" || '|' || ");
    let sql = format!(
        "(SELECT 'row only: ' || {row} FROM {relation} EXCEPT ALL SELECT 'row only: ' || {row} FROM twin)
         UNION ALL (SELECT 'item only: ' || {row} FROM twin EXCEPT ALL SELECT 'item only: ' || {row} FROM {relation})"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut session).await.expect("compared")
}
