//! Gates: docs/gates.md has each name that the code gives one, and no other.

use std::collections::BTreeSet;

use lockstep_tidy::files;

const DOCUMENT: &str = "docs/gates.md";

/// Names of gates that a text gives: what stands first in a call that makes one, itself or by its name there.
fn named(code: &str) -> BTreeSet<String> {
    let calls = ["GateResult::check(", "GateResult::pass(", "GateResult::fail("];
    let ends = calls.iter().flat_map(|call| code.match_indices(call).map(|(at, _)| at + call.len()));
    let first = |at: usize| {
        let rest = code[at..].trim_start().trim_start_matches('&').trim_start_matches("format!(");
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().map(str::to_owned),
            None => bound(code, at, rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?),
        }
    };
    // What follows a colon is the query's.
    ends.filter_map(first).map(|name| name.split(": {").next().unwrap_or_default().to_owned()).collect()
}

/// The text that `name` is bound to: by the last `let` before a place, or as a constant.
fn bound(code: &str, before: usize, name: &str) -> Option<String> {
    let (by_let, by_const) = (format!("let {name} = "), format!("const {name}: &str = "));
    let behind = code[..before].rsplit_once(&by_let).or_else(|| code.split_once(&by_const))?.1;
    let quoted = behind.trim_start_matches("format!(").strip_prefix('"')?;
    quoted.split('"').next().map(str::to_owned)
}

#[test]
fn every_gate_stands_in_the_document_and_nothing_else_does() {
    let mut names = BTreeSet::new();
    for path in files::rust().iter().filter(|path| path.starts_with("crates/coordinator/src/")) {
        let code = files::read(path);
        names.extend(named(code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&code)));
    }
    let text = files::read(DOCUMENT);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let told: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert!(names.len() > 50, "the gates were found: {names:?}");
    let untold: Vec<_> = names.difference(&told).collect();
    let gone: Vec<_> = told.difference(&names).collect();
    assert!(untold.is_empty() && gone.is_empty(), "{DOCUMENT} lacks {untold:?}, and {gone:?} are no gates");
}
