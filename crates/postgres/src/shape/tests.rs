use super::*;

fn fingerprint(shape: &str) -> String {
    format!("id bigint not null\nPRIMARY KEY (id){SHAPE}{shape}")
}

#[track_caller]
fn check(captured: &str, now: &str, expected: &Shape) {
    assert_eq!(Shape::of(captured, now), *expected, "{captured:?} and {now:?}");
}

#[test]
fn a_rewrite_is_told_from_what_changes_no_value() {
    let captured = fingerprint("a b 1");
    for now in ["a b 1", "a b 2", "a c 1"] {
        check(&captured, &fingerprint(now), &Shape::Same);
    }
    for now in ["a c 2", "d b 1", "d c 2"] {
        check(&captured, &fingerprint(now), &Shape::Rewritten);
    }
    check(&captured, "", &Shape::Changed);
    let (ab, ba) = (format!("a text\nb text{SHAPE}1 2 3"), format!("b text\na text{SHAPE}4 2 3"));
    check(&ab, &ba, &Shape::Rewritten);
}

#[test]
fn columns_that_came_or_went_are_told_from_another_key() {
    let captured = fingerprint("a b 1");
    let with = |lines: &str| format!("id bigint not null\n{lines}\nPRIMARY KEY (id){SHAPE}d e 1");
    let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    let columns = |came: &[&str], gone: &[&str]| Shape::Columns { came: owned(came), gone: owned(gone) };
    check(&captured, &with("note text"), &columns(&["note text"], &[]));
    let twice = with("note text\nid bigint not null");
    check(&captured, &twice, &columns(&["id bigint not null", "note text"], &[]));
    let two = columns(&["a integer not null", "b b"], &[]);
    check(&captured, &with("a integer not null\nb b"), &two);
    // One that went, or is another one, besides.
    let wider = with("note text").replacen("bigint", "integer", 1);
    check(&captured, &wider, &columns(&["id integer not null", "note text"], &["id bigint not null"]));
    check(&with("note text"), &captured, &columns(&[], &["note text"]));
    check(&with("note text"), &with("other text"), &columns(&["other text"], &["note text"]));
    // The key is no column.
    check(&captured, &with("note text").replacen("KEY (id)", "KEY (id, note)", 1), &Shape::Changed);
    let keyless = captured.replacen("\nPRIMARY KEY (id)", "", 1);
    check(&keyless, &captured, &Shape::Changed);
    // Rows that cannot be seen come first.
    let hidden = format!("{}{HIDES}rule: r", with("note text"));
    check(&captured, &hidden, &Shape::Hidden(vec!["rule: r".to_owned()]));
}

#[test]
fn a_record_of_an_older_lockstep_is_taken_where_its_columns_agree() {
    let old = "id bigint not null\nPRIMARY KEY (id)";
    check(old, &fingerprint("a b 1"), &Shape::Same);
    check(&old.replacen("bigint", "integer", 1), &fingerprint("a b 1"), &Shape::Changed);
    assert_eq!(columns_of(&fingerprint("a b 1")), old);
}

#[test]
fn partitions_that_went_are_told_from_those_that_came() {
    let leaf = |oid: &str, attached: &str, file: &str, guard: &str| {
        let fresh = if oid == file { "fresh" } else { "moved" };
        format!("{PARTITION}{oid} {attached} {file} {fresh} born captured {guard} p{oid}")
    };
    let of = |leaves: &[String]| format!("{}{}", fingerprint("a b 0"), leaves.concat());
    let (one, two) = (leaf("1", "7", "1", "3:7"), leaf("2", "8", "2", "-"));
    let both = of(&[one.clone(), two.clone()]);
    check(&both, &both, &Shape::Same);
    check(&of(std::slice::from_ref(&one)), &both, &Shape::Grown(vec!["p2".to_owned()]));
    let went = |captured: &str, now: &str| matches!(Shape::of(captured, now), Shape::Partitions(some) if some.len() == 1);
    assert!(went(&both, &of(std::slice::from_ref(&two))), "one is gone");
    // Attached again, it may have lost anything while it was away.
    assert!(went(&both, &of(&[leaf("1", "9", "1", "3:7"), two.clone()])));
    assert!(
        went(&of(std::slice::from_ref(&one)), &of(&[one.clone(), leaf("2", "8", "5", "-")])),
        "it may have been emptied"
    );
    assert!(went(&both, &of(&[one.clone(), leaf("2", "8", "5", "-")])), "nothing refused a TRUNCATE of it");
    check(&both, &of(&[leaf("1", "7", "5", "3:7"), two.clone()]), &Shape::Same);
    let rewritten = of(&[leaf("1", "7", "5", "3:7"), two]).replacen("a b 0", "a c 0", 1);
    check(&both, &rewritten, &Shape::Rewritten);
}

#[test]
fn what_hides_rows_is_never_the_same() {
    let hidden = format!("{}{HIDES}rule: r{HIDES}kind: k", fingerprint("a b 1"));
    check(&hidden, &hidden, &Shape::Hidden(vec!["rule: r".to_owned(), "kind: k".to_owned()]));
    assert_eq!(hides(&hidden).len(), 2);
}

#[test]
fn a_key_that_two_rows_may_have_is_never_the_same_also_by_an_older_record() {
    let way = "key: no unique index".to_owned();
    let keyless = format!("{}{HIDES}{way}", fingerprint("a b 1"));
    let captured = fingerprint("a b 1");
    for captured in [captured.as_str(), "id bigint not null\nPRIMARY KEY (id)"] {
        let shape = Shape::of(captured, &keyless);
        assert_eq!(shape, Shape::Hidden(vec![way.clone()]), "{captured:?}");
        assert!(shape.next().contains("unique index"), "{}", shape.next());
    }
    check(&captured, &keyless.replacen("\nPRIMARY KEY (id)", "", 1), &Shape::Changed);
    let both = format!("{keyless}{HIDES}rule: r").replacen("bigint", "integer", 1);
    check(&captured, &both, &Shape::Hidden(vec![way, "rule: r".to_owned()]));
}

/// A column may be called what our own line begins with.
#[test]
fn a_name_cannot_pass_for_the_shape() {
    let named = |shape: &str| format!("x{SHAPE}a b 1 text\nid bigint not null{SHAPE}{shape}");
    check(&named("a b 1"), &named("d b 1"), &Shape::Rewritten);
}
