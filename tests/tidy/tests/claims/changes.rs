//! Claim about where a change goes: each name in the table of CONTRIBUTING.md is in the code, so that a new maintainer who
//! looks for a word finds it.

use std::collections::BTreeSet;

use lockstep_tidy::files;

const PAGE: &str = "CONTRIBUTING.md";
const HEADING: &str = "## Where a change goes";

#[test]
fn each_name_in_the_table_of_changes_is_in_the_code() {
    let text = files::read(PAGE);
    let (_, after) = text.split_once(HEADING).expect("the heading");
    let section = after.split("\n## ").next().expect("a section");
    let names: BTreeSet<String> =
        section.lines().filter(|line| line.starts_with('|')).flat_map(names).collect();
    assert!(names.len() > 25, "the names were found: {names:?}");
    let mut code = String::new();
    for path in files::rust().into_iter().filter(|path| path != "tests/tidy/tests/claims/changes.rs") {
        code += &files::read(&path);
    }
    let words: BTreeSet<&str> = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let gone: Vec<&String> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(gone.is_empty(), "{PAGE} names what no file of Rust has: {gone:?}");
}

/// The names of the code in a line: what stands in backquotes, is one word, and no path (those are held by
/// `paths`). Of `Kind::of` both parts.
fn names(line: &str) -> Vec<String> {
    let is_name = |quoted: &&str| {
        quoted.len() > 2 && quoted.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    let quoted = line.split('`').skip(1).step_by(2).filter(is_name);
    quoted.flat_map(|name| name.split("::")).map(str::to_owned).collect()
}

#[test]
fn names_are_told_from_paths_and_commands() {
    let line =
        "| a gate | `gates/`: a `GateResult`, `Kind::of`, `it/x.rs`, `cargo xtask bench backfill`, `it` |";
    assert_eq!(names(line), ["GateResult", "Kind", "of"]);
}
