//! Documents that send a reader to a file send to one that is there.

use std::collections::BTreeSet;

use lockstep_tidy::files;

/// What is closed is told there with the files of that time.
const OF_THEN: &str = "docs/holes.md";
/// Stands for the name of a command.
const ANY: &str = "NAME";

#[test]
fn every_file_that_a_document_names_is_there() {
    let there = places();
    let (mut lost, mut seen) = (Vec::new(), 0);
    for document in files::documents().into_iter().filter(|document| document != OF_THEN) {
        for named in named_in(&files::read(&document)) {
            seen += 1;
            if !is_there(&there, &named) {
                lost.push(format!("{document}: {named}"));
            }
        }
    }
    assert!(seen > 60, "the files were found: {seen}");
    assert!(lost.is_empty(), "Name the file that it is in by now.\n{lost:#?}");
}

/// The folders and files of Rust, each with `/` before it.
fn places() -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for file in files::rust() {
        let mut place = format!("/{file}");
        while !place.is_empty() {
            places.insert(place.clone());
            place.truncate(place.rfind('/').unwrap_or(0));
        }
    }
    places
}

/// Files in backquotes, with the alternatives in braces spelt out. A word with a slash that is no file of Rust
/// (a package, a name in S3) counts only below a folder of sources.
fn named_in(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-/{},.".contains(c);
        word.contains('/') && !word.starts_with(['/', '.']) && word.chars().all(plain)
    };
    let all = quoted.filter(is_path).flat_map(spelt_out);
    all.filter(|path| !path.contains(ANY) && (path.ends_with(".rs") || path.contains("/src/"))).collect()
}

fn spelt_out(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (group, after) = rest.split_once('}').unwrap_or((rest, ""));
    group.split(',').flat_map(|one| spelt_out(&format!("{before}{one}{after}"))).collect()
}

/// Whether a place ends so. `.rs` and, after the name of a crate, `src` may be left out.
fn is_there(there: &BTreeSet<String>, named: &str) -> bool {
    let named = named.trim_end_matches('/');
    let in_sources = named.replacen('/', "/src/", 1);
    [named, &in_sources].into_iter().any(|name| {
        let endings = [format!("/{name}"), format!("/{name}.rs")];
        there.iter().any(|place| endings.iter().any(|ending| place.ends_with(ending)))
    })
}

#[test]
fn alternatives_are_spelt_out_and_what_is_no_file_is_left_alone() {
    let found = named_in("`a/src/{b,c}.rs`, `coordinator/src/truth`, `aws/dynamodb`, `x/NAME.rs`, a/b.rs");
    assert_eq!(found, ["a/src/b.rs", "a/src/c.rs", "coordinator/src/truth"]);
    let there = BTreeSet::from(["/crates/a/src/b.rs".to_owned()]);
    assert!(is_there(&there, "a/b.rs") && is_there(&there, "a/src/b") && !is_there(&there, "a/c.rs"));
}
