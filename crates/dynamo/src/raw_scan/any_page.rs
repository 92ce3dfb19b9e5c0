//! Random items, and the many ways to write each of them.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::Value;

use lockstep_core::Attributes;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_#]{0,8}",
        // Quotes, escapes, controls, what is in JSON, what needs surrogates.
        vec(
            prop_oneof![
                any::<char>(),
                prop::sample::select(vec!['"', '\\', '/', '\0', '\n', '\u{7f}', '\u{2028}', 'é', '😀', '{'])
            ],
            0..8
        )
        .prop_map(|chars| chars.into_iter().collect()),
        Just(r#"{"a":"\"\\u0041","b":[1.0,null]}"#.to_owned()),
    ]
}

fn any_number() -> impl Strategy<Value = String> {
    prop_oneof!["-?[0-9]{1,38}", "-?[0-9]{1,20}\\.[0-9]{1,18}", "[0-9]{1,5}[eE][-+]?[0-9]{1,3}", any_text()]
}

fn any_bytes() -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..6).prop_map(Blob::new)
}

fn any_value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        any_text().prop_map(AttributeValue::S),
        any_number().prop_map(AttributeValue::N),
        any_text().prop_map(AttributeValue::S),
        any_number().prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<bool>().prop_map(AttributeValue::Null),
        any_bytes().prop_map(AttributeValue::B),
        vec(any_text(), 0..3).prop_map(AttributeValue::Ss),
        vec(any_number(), 0..3).prop_map(AttributeValue::Ns),
        vec(any_bytes(), 0..3).prop_map(AttributeValue::Bs),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(AttributeValue::L),
            hash_map(any_text(), inner, 0..3).prop_map(AttributeValue::M),
        ]
    })
}

pub(super) fn any_item() -> impl Strategy<Value = HashMap<String, AttributeValue>> {
    hash_map(any_text(), any_value(), 0..5)
}

/// Way in which a text is written, among those that mean the same: a small generator of its own (xorshift).
pub(super) struct Style(pub(super) u64);

impl Style {
    fn draw(&mut self, of: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % of
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n\t", "\r"][self.draw(6) as usize]
    }

    fn text(&mut self, text: &str) -> String {
        let mut out = String::from("\"");
        for c in text.chars() {
            let plain = Value::from(c.to_string()).to_string();
            match self.draw(4) {
                0 => c
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
                1 if c == '/' => out.push_str("\\/"),
                _ => out.push_str(&plain[1..plain.len() - 1]),
            }
        }
        out + "\""
    }

    fn list<T>(&mut self, parts: &[T], mut write: impl FnMut(&mut Self, &T) -> String) -> String {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| format!("{}{}{}", self.space(), write(self, part), self.space()))
            .collect();
        format!("[{}]", parts.join(","))
    }

    /// Sometimes with an earlier member of the same name, which does not count.
    fn item(&mut self, item: &Attributes) -> String {
        let mut members = Vec::new();
        for (name, value) in item {
            if self.draw(8) == 0 {
                members.push(format!("{}:{{\"S\":\"not this one\"}}", self.text(name)));
            }
            members.push(format!(
                "{}{}:{}{}",
                self.text(name),
                self.space(),
                self.space(),
                self.value(value)
            ));
        }
        format!("{{{}{}}}", self.space(), members.join(","))
    }

    fn value(&mut self, value: &AttributeValue) -> String {
        let base64 = |blob: &Blob| format!("\"{}\"", aws_smithy_types::base64::encode(blob));
        let (kind, written) = match value {
            AttributeValue::S(text) => ("S", self.text(text)),
            AttributeValue::N(digits) => ("N", self.text(digits)),
            AttributeValue::Bool(is) => ("BOOL", is.to_string()),
            AttributeValue::Null(is) => ("NULL", is.to_string()),
            AttributeValue::B(blob) => ("B", base64(blob)),
            AttributeValue::Ss(set) => ("SS", self.list(set, |style, text| style.text(text))),
            AttributeValue::Ns(set) => ("NS", self.list(set, |style, text| style.text(text))),
            AttributeValue::Bs(set) => ("BS", self.list(set, |_, blob| base64(blob))),
            AttributeValue::L(list) => ("L", self.list(list, Self::value)),
            AttributeValue::M(map) => ("M", self.item(map)),
            other => unreachable!("no such value is made: {other:?}"),
        };
        let (before, after) = match self.draw(12) {
            0 => ("\"__type\":\"x\",", ""),
            1 => ("\"SS\":null,", ""),
            2 => ("", ",\"N\":null"),
            _ => ("", ""),
        };
        format!("{{{}{before}\"{kind}\"{}:{written}{after}}}", self.space(), self.space())
    }
}

/// Returns a page of these items.
pub(super) fn page(items: &[Attributes], style: &mut Style) -> String {
    let count = items.len();
    let items = style.list(items, Style::item);
    let key = match style.draw(3) {
        0 => String::new(),
        1 => "\"LastEvaluatedKey\":null,".to_owned(),
        _ => format!("\"LastEvaluatedKey\":{{\"PK\":{{\"S\":{}}}}},", style.text("p\"k")),
    };
    format!(
        "{{\"Count\":{count},{key}\"Items\":{items},\"ConsumedCapacity\":{{\"CapacityUnits\":{count}.5}}}}"
    )
}
