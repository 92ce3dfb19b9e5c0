//! Which top-level module of a crate names which other one, by `crate::…` and `super::…` paths.

use std::collections::{BTreeMap, BTreeSet};

use crate::{files, rust};

/// For each module of a crate, the modules of the same crate that it names.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The imports between the top-level modules of the crate whose sources are in `source`, tests left out. A
/// name that `lib.rs` re-exports counts as the module that it comes from.
pub fn graph(source: &str) -> Graph {
    let lib = rust::parts(&files::read(&format!("{source}/lib.rs"))).code;
    let modules = declared(&lib);
    let exported = re_exports(&lib, &modules);
    let mut graph = Graph::new();
    for file in files::below(source, "rs") {
        let inside = &file[source.len() + 1..];
        let module = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
        if !modules.contains(module) || inside.ends_with("tests.rs") || inside.contains("/tests/") {
            continue;
        }
        let code = without_tests(&rust::parts(&files::read(&file)).code);
        let up = inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs"));
        let named =
            first_names(&code, "crate::").into_iter().chain(first_names(&code, &"super::".repeat(up)));
        let others =
            named.filter_map(
                |name| if modules.contains(&name) { Some(name) } else { exported.get(&name).cloned() },
            );
        graph.entry(module.to_owned()).or_default().extend(others.filter(|other| other != module));
    }
    graph
}

/// The modules that `lib.rs` declares.
pub fn declared(lib: &str) -> BTreeSet<String> {
    let lines = lib.lines().map(str::trim);
    let names = lines.filter_map(|line| {
        line.trim_start_matches("pub ").trim_start_matches("(crate) ").strip_prefix("mod ")
    });
    names.filter_map(|name| name.strip_suffix(';')).map(str::to_owned).collect()
}

/// Names that `lib.rs` re-exports, with the module that each comes from.
pub fn re_exports(lib: &str, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for statement in lib.split(';').filter_map(|statement| statement.split("pub use ").nth(1)) {
        let Some((path, names)) = statement.split_once("::") else { continue };
        if !modules.contains(path.trim()) {
            continue;
        }
        for name in names.split([',', '{', '}']) {
            let name = name.rsplit(" as ").next().unwrap_or(name).rsplit("::").next().unwrap_or(name).trim();
            found.insert(name.to_owned(), path.trim().to_owned());
        }
    }
    found
}

/// The code before the module of its own tests, which closes a file.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code).to_owned()
}

/// The names that come right after `prefix`, those of a group in braces included. A longer path that ends
/// with `prefix` (`super::super::` for `super::`) is another one.
fn first_names(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(of_group(group)),
            None => names.push(name_at(rest)),
        }
    }
    names.retain(|name| !name.is_empty() && name != "super");
    names
}

/// The first name of each member of a group, whose opening brace has been taken.
fn of_group(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut member) = (0_usize, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => member = true,
            c if depth == 0 && member && !c.is_whitespace() => {
                names.push(name_at(&group[at..]));
                member = false;
            }
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths_and_of_groups_are_found_and_longer_paths_are_not() {
        let code = "use crate::{a::B, c, d::{E, F}}; crate::g::h(); use super::super::i; super::j::K; other_crate::l";
        assert_eq!(first_names(code, "crate::"), ["a", "c", "d", "g"]);
        assert_eq!(first_names(code, "super::super::"), ["i"]);
        assert_eq!(first_names(code, "super::"), ["j"]);
    }

    #[test]
    fn a_name_that_lib_re_exports_is_its_modules() {
        let modules = BTreeSet::from(["error".to_owned(), "step".to_owned()]);
        let found = re_exports("pub use error::{Error, Result};\npub use step::Outcome as End;", &modules);
        assert_eq!(found.get("Result").map(String::as_str), Some("error"));
        assert_eq!(found.get("End").map(String::as_str), Some("step"));
    }
}
