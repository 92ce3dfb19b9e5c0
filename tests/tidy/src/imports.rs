//! Imports between neighbouring modules, by `crate::…` and `super::…` paths.

use std::collections::{BTreeMap, BTreeSet};

use crate::{files, rust};

/// For each module of a folder, the modules of the same folder that it names.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Stands in a graph for the file that declares the modules, where a module names what that file defines
/// itself. What it takes from a module counts as that module.
pub const WHOLE: &str = "(the whole)";

/// The imports between the modules of each folder in `source`, the folder of a crate's `lib.rs`; by the path
/// of the folder below it, empty for itself. Tests are left out.
pub fn graphs(source: &str) -> BTreeMap<String, Graph> {
    let files = files::below(source, "rs");
    let mut folders = BTreeSet::from([String::new()]);
    for file in &files {
        let inside = &file[source.len() + 1..];
        folders.extend(inside.match_indices('/').map(|(at, _)| inside[..at].to_owned()));
    }
    let graph_of = |folder: String| {
        let path = [source, &folder].join("/");
        let path = path.trim_end_matches('/');
        let roots = [format!("{path}/lib.rs"), format!("{path}/mod.rs"), format!("{path}.rs")];
        let root = roots.into_iter().find(|root| files.contains(root))?;
        Some((folder.clone(), graph(&files, path, &root, &folder)))
    };
    folders.into_iter().filter_map(graph_of).collect()
}

/// The imports between the modules that the file `root` declares, whose files are in `path`, which is
/// `folder` of its crate. A name that `root` takes from one of them counts as that one.
fn graph(files: &[String], path: &str, root: &str, folder: &str) -> Graph {
    let declaring = rust::parts(&files::read(root)).code;
    let modules = declared(&declaring);
    let exported = re_exports(&declaring, &modules);
    let from_crate: String = std::iter::once("crate")
        .chain(folder.split('/').filter(|part| !part.is_empty()))
        .map(|part| format!("{part}::"))
        .collect();
    let mut graph = Graph::new();
    for file in files {
        let Some(inside) = file.strip_prefix(path).and_then(|inside| inside.strip_prefix('/')) else {
            continue;
        };
        let module = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
        if !modules.contains(module) || inside.ends_with("tests.rs") || inside.contains("/tests/") {
            continue;
        }
        let code = spread(&without_tests(&rust::parts(&files::read(file)).code));
        let up = inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs"));
        let named =
            names_after(&code, &from_crate).into_iter().chain(names_after(&code, &"super::".repeat(up)));
        let others = named.filter_map(|name| match exported.get(&name) {
            _ if modules.contains(&name) => Some(name),
            Some(module) => Some(module.clone()),
            None => defines(&declaring, &name).then(|| WHOLE.to_owned()),
        });
        graph.entry(module.to_owned()).or_default().extend(others.filter(|other| other != module));
    }
    graph
}

/// The modules that a file declares.
pub fn declared(code: &str) -> BTreeSet<String> {
    let lines = code.lines().map(str::trim);
    let names = lines.filter_map(|line| without_visibility(line).strip_prefix("mod "));
    names.filter_map(|name| name.strip_suffix(';')).map(str::to_owned).collect()
}

/// Tells whether a file defines that name itself.
fn defines(code: &str, name: &str) -> bool {
    let kinds = ["const", "static", "fn", "struct", "enum", "trait", "type", "macro_rules!"];
    let rest = code.lines().map(|line| without_visibility(line).trim_start_matches("async "));
    let words =
        rest.filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)?.strip_prefix(' ')));
    words.map(name_at).any(|defined| defined == name)
}

/// Names that a file takes from the modules that it declares, with the module that each comes from: its
/// children name them as its own.
pub fn re_exports(code: &str, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in spread(code).split(';').filter_map(used) {
        let Some((module, name)) = path.trim_start_matches("self::").split_once("::") else { continue };
        if modules.contains(module) {
            let name = name.rsplit(" as ").next().unwrap_or(name).rsplit("::").next().unwrap_or(name);
            found.insert(name.trim().to_owned(), module.to_owned());
        }
    }
    found
}

/// The path of a statement that is a `use`, without the comments and attributes before it.
fn used(statement: &str) -> Option<String> {
    let last = statement.trim().lines().last()?;
    Some(without_visibility(last.trim()).strip_prefix("use ")?.to_owned())
}

/// A line without `pub`, `pub(crate)` and their like.
fn without_visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else { return line };
    match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(") ").map_or(line, |(_, rest)| rest),
        None => rest.strip_prefix(' ').unwrap_or(line),
    }
}

/// The code with each `use` of several names spread to one statement for each name.
fn spread(code: &str) -> String {
    let mut spread = String::new();
    let mut rest = code;
    while let Some(at) = start_of_use(rest) {
        let (before, statement) = rest.split_at(at);
        let Some((statement, after)) = statement.split_once(';') else { break };
        spread.push_str(before);
        let tree: String = statement["use ".len()..].split_whitespace().collect::<Vec<_>>().join(" ");
        for path in paths(&tree) {
            spread.push_str(&format!("\nuse {path};"));
        }
        rest = after;
    }
    spread + rest
}

/// Finds where the next `use` begins: the word, at the beginning of a line or after a visibility.
fn start_of_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        let line = code[..*at].rsplit('\n').next().unwrap_or_default().trim_start();
        line.is_empty() || (line.starts_with("pub") && without_visibility(line).is_empty())
    })
}

/// The paths of a tree of names.
fn paths(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut members, mut member) = (0_usize, Vec::new(), String::new());
    for c in inside.chars() {
        match c {
            ',' if depth == 0 => members.push(std::mem::take(&mut member)),
            c => {
                depth = depth + usize::from(c == '{') - usize::from(c == '}');
                member.push(c);
            }
        }
    }
    members.push(member);
    let members = members.iter().map(|member| member.trim()).filter(|member| !member.is_empty());
    members.flat_map(paths).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// The code before the module of its own tests, which closes a file.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code).to_owned()
}

/// The names that come right after `prefix`. A longer path that ends with `prefix` (`super::super::` for
/// `super::`) is another one.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
            names.push(name_at(&code[at + prefix.len()..]));
        }
    }
    names.retain(|name| !name.is_empty() && name != "super");
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
        let code = spread(
            "use crate::{a::B, c, d::{E, F}};\ncrate::g::h();\nuse super::super::i;\nsuper::j::K; \
             other_crate::l",
        );
        assert_eq!(names_after(&code, "crate::"), ["a", "c", "d", "d", "g"]);
        assert_eq!(names_after(&code, "crate::d::"), ["E", "F"]);
        assert_eq!(names_after(&code, "super::super::"), ["i"]);
        assert_eq!(names_after(&code, "super::"), ["j"]);
    }

    #[test]
    fn a_name_that_a_parent_takes_from_a_module_is_the_modules() {
        let modules = ["error", "step", "page", "own"].map(str::to_owned).into_iter().collect();
        let code = "/// It.\npub use error::{Error, Result};\npub use step::Outcome as End;\n\
                    pub(crate) use page::window;\nuse own::Mine;\nuse other::Theirs;\n";
        let found = re_exports(code, &modules);
        let of = |name: &str| found.get(name).map(String::as_str);
        assert_eq!([of("Result"), of("End"), of("window")], [Some("error"), Some("step"), Some("page")]);
        assert_eq!([of("Mine"), of("Theirs")], [Some("own"), None]);
    }

    #[test]
    fn a_folder_below_a_folder_has_a_graph_of_its_own() {
        let graphs = graphs("crates/coordinator/src");
        assert!(graphs[""]["relay"].contains("options"), "{graphs:?}");
        assert!(graphs["relay"].contains_key("pass"), "{graphs:?}");
    }
}
