//! Resources of Terraform's AWS provider, in its configuration language.

use super::{Blueprint, letter, listed, projection, roles};

/// Writes one resource a table.
pub(crate) fn terraform(tables: &[Blueprint]) -> String {
    tables.iter().map(resource).collect::<Vec<_>>().join("\n\n")
}

fn resource(table: &Blueprint) -> String {
    let mut body = Body::default();
    body.line(1, &format!("name = {}", quoted(&table.name)));
    body.line(1, "billing_mode = \"PAY_PER_REQUEST\"");
    body.line(1, "deletion_protection_enabled = true");
    keys(&mut body, 1, &mut table.naming.table_key(&table.schema));
    if table.stream {
        body.line(1, "stream_enabled = true");
        body.line(1, "stream_view_type = \"NEW_AND_OLD_IMAGES\"");
    }
    for attribute in table.naming.key_attributes(&table.schema) {
        let (name, kind) = (quoted(attribute.name), quoted(letter(attribute.key_type)));
        body.block("attribute", |body| {
            body.line(2, &format!("name = {name}"));
            body.line(2, &format!("type = {kind}"));
        });
    }
    for index in table.schema.indexes {
        body.block("global_secondary_index", |body| {
            body.line(2, &format!("name = {}", quoted(index.name)));
            keys(body, 2, &mut table.naming.index_key(index));
            body.line(2, &format!("projection_type = {}", quoted(projection(index))));
            if let Some(names) = listed(index) {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                body.line(2, &format!("non_key_attributes = [{}]", names.join(", ")));
            }
        });
    }
    if let Some(attribute) = table.expiry() {
        body.block("ttl", |body| {
            body.line(2, &format!("attribute_name = {}", quoted(attribute)));
            body.line(2, "enabled = true");
        });
    }
    body.block("point_in_time_recovery", |body| body.line(2, "enabled = true"));
    format!("resource \"aws_dynamodb_table\" \"{}\" {{\n{}}}", label(&table.name), body.0)
}

fn keys(body: &mut Body, depth: usize, key: &mut dyn Iterator<Item = lockstep_core::KeyAttribute>) {
    for (attribute, role) in roles(key) {
        let argument = if role == "HASH" { "hash_key" } else { "range_key" };
        body.line(depth, &format!("{argument} = {}", quoted(attribute.name)));
    }
}

#[derive(Default)]
struct Body(String);

impl Body {
    fn line(&mut self, depth: usize, text: &str) {
        self.0 += &format!("{}{text}\n", "  ".repeat(depth));
    }

    fn block(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.line(1, &format!("{name} {{"));
        inside(self);
        self.line(1, "}");
    }
}

/// Returns a name for the resource: letters, digits and underscores, not beginning with a digit.
fn label(name: &str) -> String {
    let text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) { format!("table_{text}") } else { text }
}

/// Returns a literal in which nothing is a template: `${` and `%{` begin one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{")
}
