//! The body of a batch of inserts, written straight from the items.
//!
//! The SDK signs, sends, retries and reads the answer as ever; only its serialiser is passed over, see
//! `wire_json`.

use std::ops::Range;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use lockstep_core::{Item, PK, SK};

use super::wire_json::{push_list, push_text, push_value};

/// Puts a body in the place of the one that the SDK made of a request without statements.
#[derive(Debug)]
pub(super) struct InsertBody(Bytes);

impl InsertBody {
    /// Makes a batch with [`statement`] for each item, its values as parameters. The answer tells the units.
    pub(super) fn of(table: &str, items: &[Item]) -> Self {
        let bytes: usize = items.iter().map(Item::bytes).sum();
        let mut json = Vec::with_capacity(2 * bytes + 1024);
        json.extend_from_slice(b"{\"Statements\":");
        let mut written: Option<(&Item, Range<usize>)> = None;
        push_list(items, &mut json, |item, json| {
            json.extend_from_slice(b"{\"Statement\":");
            let start = json.len();
            match &written {
                Some((last, text)) if have_same_names(last, item) => json.extend_from_within(text.clone()),
                _ => push_text(&statement(table, item), json),
            }
            written = Some((item, start..json.len()));
            json.extend_from_slice(b",\"Parameters\":");
            push_list(item.iter(), json, |(_, value), json| push_value(value, json));
            json.push(b'}');
        });
        json.extend_from_slice(b",\"ReturnConsumedCapacity\":\"TOTAL\"}");
        Self(json.into())
    }
}

#[dyn_dispatch_hint]
impl Intercept for InsertBody {
    fn name(&self) -> &'static str {
        "InsertBody"
    }

    /// Once a call: each attempt begins with what is left here.
    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        request.headers_mut().try_insert("content-length", self.0.len().to_string())?;
        *request.body_mut() = SdkBody::from(self.0.clone());
        Ok(())
    }
}

/// Tells whether two items have one statement. Most rows of a table do, so a batch spells it once.
fn have_same_names(one: &Item, other: &Item) -> bool {
    one.iter().map(|(name, _)| name).eq(other.iter().map(|(name, _)| name))
}

/// Returns an attribute as a condition of PartiQL names it. A word of the language is quoted, as any other
/// name but our own: some servers know no quotes there.
pub(super) fn path(name: &str) -> String {
    if [PK, SK].contains(&name) {
        return name.to_owned();
    }
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    push_quoted(&mut quoted, name, '"');
    quoted + "\""
}

/// A column may be called `o'clock`, and no name is to end its own quotes.
fn push_quoted(text: &mut String, name: &str, quote: char) {
    for (place, part) in name.split(quote).enumerate() {
        if place > 0 {
            text.extend([quote, quote]);
        }
        text.push_str(part);
    }
}

/// `INSERT INTO "t" VALUE {'a':?,…}`: PartiQL's insert refuses a key that is there (Developer Guide,
/// "PartiQL insert statements").
pub(super) fn statement(table: &str, item: &Item) -> String {
    let names: usize = item.iter().map(|(name, _)| name.len() + "'':?,".len()).sum();
    let mut text = String::with_capacity("INSERT INTO \"\" VALUE {}".len() + table.len() + names);
    for part in ["INSERT INTO \"", table, "\" VALUE {"] {
        text.push_str(part);
    }
    for (place, (name, _)) in item.iter().enumerate() {
        text.push_str(if place > 0 { ",'" } else { "'" });
        push_quoted(&mut text, name, '\'');
        text.push_str("':?");
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use lockstep_core::Naming;

    use aws_sdk_dynamodb::types::AttributeValue;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_body_is_what_the_sdk_would_have_written() {
        let mut item = Item::default();
        item.push("PK", AttributeValue::S("a \"b\"\n\u{1}\u{7f}\u{2028}é".to_owned()));
        item.push("o'clock", AttributeValue::N("12".to_owned()));
        let mut wider = item.clone();
        wider.push("more", AttributeValue::Null(true));
        let InsertBody(body) = InsertBody::of("t", &[item.clone(), item.clone(), wider, item]);
        let read: Value = serde_json::from_slice(&body).expect("JSON");
        let one = json!({
            "Statement": "INSERT INTO \"t\" VALUE {'PK':?,'o''clock':?}",
            "Parameters": [{ "S": "a \"b\"\n\u{1}\u{7f}\u{2028}é" }, { "N": "12" }],
        });
        let mut wider = one.clone();
        wider["Statement"] = json!("INSERT INTO \"t\" VALUE {'PK':?,'o''clock':?,'more':?}");
        wider["Parameters"].as_array_mut().expect("a list").push(json!({ "NULL": true }));
        let statements = [&one, &one, &wider, &one];
        assert_eq!(read, json!({ "Statements": statements, "ReturnConsumedCapacity": "TOTAL" }));
    }

    #[test]
    fn no_name_ends_its_own_quotes() {
        for (name, quoted) in [("PK", "PK"), ("SK", "SK"), ("order", "\"order\""), ("a\"b", "\"a\"\"b\"")] {
            assert_eq!(path(name), quoted);
        }
        let mut item = Item::default();
        item.push("PK", AttributeValue::Bool(true));
        let names = lockstep_core::OwnNames { partition: "o'clock", ..lockstep_core::OwnNames::DEFAULT };
        let named = Naming::of(names, &[]).send_item(item).expect("no column");
        assert_eq!(statement("t", &named), "INSERT INTO \"t\" VALUE {'o''clock':?}");
    }
}
