use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::Value;

fn alphabet(name: &str) -> Alphabet {
    match name {
        "id" | "n" => Alphabet::Integer,
        "at" => Alphabet::Fixed(27),
        "paid" => Alphabet::Boolean,
        _ => Alphabet::Text,
    }
}

fn checked(partition: &str, sort: Option<&str>, key: &[&str]) -> Result<(), Ambiguity> {
    let parse = |text: &str| text.parse::<Template>().expect(text);
    check(&parse(partition), sort.map(parse).as_ref(), key, alphabet)
}

#[test]
fn keys_that_can_be_read_again_are_accepted() {
    for (partition, sort, key) in [
        ("{id}", None, vec!["id"]),
        ("LOAN#{n}", Some("{at}#{id}"), vec!["id"]),
        ("{service:esc}#{name}", None, vec!["service", "name"]),
        ("{service}#{at:date}", Some("{at}#{id:019}"), vec!["id"]),
        ("A#{name}#{n}", None, vec!["name", "n"]),
        ("{n}#{name}#{id}", None, vec!["n", "name", "id"]),
        ("{at}{name}", None, vec!["at", "name"]),
        ("{name}{at}", None, vec!["at", "name"]),
        ("{paid}#{n}", None, vec!["n"]),
        ("S{hash(id) % 16}", Some("{id}"), vec!["id"]),
        ("{service}", Some("{name}"), vec!["service", "name"]),
        ("{a:esc}/{b:esc}/{c}", None, vec!["a", "b", "c"]),
    ] {
        assert_eq!(checked(partition, sort, &key), Ok(()), "{partition} {sort:?}");
    }
}

#[test]
fn two_texts_with_a_separator_that_either_may_contain_are_refused_with_what_mends_it() {
    let refused = checked("{service}#{name}", None, &["service", "name"]).expect_err("it is ambiguous");
    assert_eq!(
        refused.message,
        "partition template `{service}#{name}` is not injective: (\"a#b\",\"c\") and (\"a\",\"b#c\") give one key; write \
         `{service:esc}#{name}`, or put one of the two into the other template"
    );
    assert_eq!(checked("{service:esc}#{name}", None, &["service", "name"]), Ok(()), "the advice holds");
}

#[test]
fn other_ways_to_mix_rows_up_are_refused() {
    for (partition, sort, key, part) in [
        ("{a}{b}", None, vec!["a", "b"], "(\"ab\",\"c\") and (\"a\",\"bc\")"),
        ("{n}{id}", None, vec!["n", "id"], "not injective"),
        ("{n}-{id}", None, vec!["n", "id"], "not injective"),
        ("{a:esc}%{b}", None, vec!["a", "b"], "not injective"),
        ("{a:esc}A{b}", None, vec!["a", "b"], "not injective"),
        ("{name:upper}", None, vec!["name"], "only a part of it"),
        ("{at:date}", None, vec!["at"], "only a part of it"),
        ("S{hash(id) % 16}", None, vec!["id"], "only a part of it"),
        ("{service}", Some("{at}"), vec!["id"], "column `id` of the primary key is in no template"),
        ("{hash(a) % 16}{n}", None, vec!["n"], "not injective"),
        ("{a:020}", None, vec!["a"], "only a part of it"),
        ("{name:upper}", None, vec!["name"], "write partition = \"{name:upper}#{name:esc}\""),
    ] {
        let refused = checked(partition, sort, &key).expect_err(partition);
        assert!(refused.message.contains(part), "{partition}: {refused}");
    }
}

#[test]
fn the_template_that_is_the_cause_is_named() {
    for (partition, sort, key, cause) in [
        ("{n}", "{a}#{b}", vec!["a", "b"], "sort"),
        ("{a}#{b}", "{n}", vec!["a", "b"], "partition"),
        ("{service}#{name}", "{a}#{b}", vec!["a"], "sort"),
        ("{a:upper}", "{n}", vec!["a"], "partition"),
        ("{n}", "{at}", vec!["id"], "sort"),
    ] {
        let refused = checked(partition, Some(sort), &key).expect_err(partition);
        assert_eq!(refused.template, cause, "{partition} {sort}: {refused}");
    }
}

fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{a}",
        "{b}",
        "{a:esc}",
        "{b:esc}",
        "{n}",
        "{id}",
        "{n:012}",
        "#",
        "-",
        "x#",
        "/",
        "{paid}",
        "{hash(n) % 3}",
        "{hash(a) % 99}",
        "{a:upper}",
    ])
}

type Row = (String, String, i64, i64, bool);

fn row() -> impl Strategy<Value = Row> {
    let text = prop::sample::select(vec![
        "", "#", "a", "a#", "#a", "x#", "%23", "%", "A", "/", "-1", "1", "a#b", "b#a", "12",
    ]);
    let number = prop::sample::select(vec![-12_i64, -1, 0, 1, 2, 11, 12, 112]);
    (text.clone(), text, number.clone(), number, any::<bool>())
        .prop_map(|(a, b, n, id, paid)| (a.to_owned(), b.to_owned(), n, id, paid))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_global_rejects: 200_000, ..ProptestConfig::default() })]
    #[test]
    fn what_is_accepted_keeps_rows_apart(
        partition in prop::collection::vec(part(), 1..5),
        sort in prop::option::of(prop::collection::vec(part(), 1..4)),
        key in prop::sample::subsequence(vec!["a", "b", "n", "id"], 1..=4),
        rows in prop::collection::vec(row(), 2..60),
    ) {
        let partition: Template = partition.concat().parse().expect("a template");
        let sort: Option<Template> = sort.map(|parts| parts.concat().parse().expect("a template"));
        prop_assume!(check(&partition, sort.as_ref(), &key, alphabet).is_ok());
        let mut places: HashMap<(String, Option<String>), Vec<String>> = HashMap::new();
        for (a, b, n, id, paid) in &rows {
            let value = |name: &str| Some(match name {
                "a" => Value::Text(a),
                "b" => Value::Text(b),
                "n" => Value::Integer(*n),
                "id" => Value::Integer(*id),
                _ => Value::Text(if *paid { "true" } else { "false" }),
            });
            let primary: Vec<String> = key.iter().map(|name| format!("{:?}", value(name))).collect();
            let place = (
                partition.render(value).expect("it fits").expect("not NULL"),
                sort.as_ref().map(|sort| sort.render(value).expect("it fits").expect("not NULL")),
            );
            let before = places.entry(place).or_insert_with(|| primary.clone());
            prop_assert_eq!(&*before, &primary, "partition {} sort {:?}", partition, sort);
        }
    }
}
