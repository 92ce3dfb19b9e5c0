use super::*;

#[track_caller]
fn check(adopted: (&str, Option<&str>), configured: (&str, &str), expected: &[&str]) {
    let (layout, expiry) = (adopted.0.to_owned(), adopted.1.map(str::to_owned));
    let text = String::new;
    let (target_name, target_id) = (None, None);
    let (name, relation, columns) = (text(), text(), None);
    let adopted = Adopted { name, relation, target_name, target_id, layout, expiry, columns };
    let told = adopted.decided_by("t", configured.0, configured.1);
    let named: Vec<&str> = told.iter().filter_map(|told| Some(told.split_once(": ")?.0)).collect();
    let setting = |setting: &&str| Advice::TableSetting("t".to_owned(), (*setting).to_owned()).to_string();
    assert_eq!(named, expected.iter().map(setting).collect::<Vec<_>>(), "{told:?}");
}

#[test]
fn of_a_declaration_the_setting_that_differs_is_named() {
    let adopted = r#"{"partition": "{id}", "omit": [], "expires": null}"#;
    check((adopted, Some("off")), (r#"{"omit": [], "expires": null, "partition": "{id}"}"#, "off"), &[]);
    let other = r#"{"partition": "{id}", "omit": ["a"], "expires": "at + 9d"}"#;
    check((adopted, None), (other, "on"), &["expires", "omit"]);
    check((adopted, None), ("partition={id}", "off"), &["* (what decides keys)"]);
}

#[test]
fn what_is_said_of_a_column_that_came_or_went_is_no_difference_and_of_others_it_is() {
    let layout = |text: &str| declared(text).expect("it is of a declared table");
    let same = |one: &str, other: &str| said_of(layout(one), &["a"]) == said_of(layout(other), &["a"]);
    let before = r#"{"partition": "{id}", "omit": ["a", "went"], "attributes": {"a": "b", "went": "x"}}"#;
    let now = r#"{"partition": "{id}", "omit": ["a"], "attributes": {"a": "b", "ttl": "ttl_"},
        "lists": ["came"], "held_as": {"came": "set"}}"#;
    assert!(same(before, now));
    let now = now.replacen("\"came\": \"set\"", "\"a\": \"set\"", 1);
    let before = before.replacen("}}", "}, \"held_as\": {\"a\": \"set\"}}", 1);
    assert!(same(&before, &now));
    for (from, to) in [
        ("\"omit\": [\"a\"]", "\"omit\": []"),
        ("\"b\"", "\"c\""),
        ("{id}", "{ttl}"),
        ("\"set\"", "\"text\""),
    ] {
        assert!(now.contains(from) && !same(&before, &now.replacen(from, to, 1)), "{from}");
    }
}

#[test]
fn what_a_row_type_holds_a_column_as_is_asked_only_of_columns_that_stayed() {
    let layout = "partition={id} a->b a->(binary) came->(number)";
    assert_eq!(called_of(layout, &["a"]), "partition={id} a->b a->(binary)");
    assert_ne!(called_of(layout, &["a"]), called_of("partition={id} a->b came->(number)", &["a"]));
}

#[test]
fn of_a_declaration_the_least_part_that_differs_is_shown_and_no_other() {
    let of = |by_at: Value| {
        let indexes = serde_json::json!({
            "by_at": by_at, "by_kind": { "partition": "KIND#{kind}", "sort": null }
        });
        serde_json::json!({ "partition": "{id}", "indexes": indexes }).to_string()
    };
    let adopted = of(serde_json::json!({ "partition": "{day}", "sort": "{at}" }));
    let changed = of(serde_json::json!({ "partition": "{day}", "sort": "{id}" }));
    check((&adopted, None), (&changed, "off"), &["indexes.by_at.sort"]);
    check((&adopted, None), (&of(Value::Null), "off"), &["indexes.by_at"]);
    let without = serde_json::json!({ "partition": "{id}" }).to_string();
    check((&adopted, None), (&without, "off"), &["indexes"]);
    let text = String::new;
    let (target_name, target_id, expiry) = (None, None, None);
    let adopted = Adopted {
        name: text(),
        relation: text(),
        target_name,
        target_id,
        layout: adopted,
        expiry,
        columns: None,
    };
    let told = adopted.decided_by("t", &changed, "off").join("; ");
    assert!(told.contains(r#"the migration has "{at}", and "{id}" is configured"#), "{told}");
    assert!(!told.contains("by_kind"), "{told}");
}

#[test]
fn an_expiry_that_was_noted_without_its_time_is_taken_with_it_and_no_other_is() {
    for (adopted, configured, is_taken) in [
        (None, "ttl_days=9", true),
        (Some("on"), "ttl_days=9", true),
        (Some("on"), "on", true),
        (Some("off"), "off", true),
        (Some("on"), "off", false),
        (Some("off"), "ttl_days=9", false),
        (Some("ttl_days=9"), "ttl_days=8", false),
        (Some("ttl_days=9"), "on", false),
    ] {
        let wrong: &[&str] = if is_taken { &[] } else { &["* (what decides expiry)"] };
        check(("", adopted), ("", configured), wrong);
    }
}
