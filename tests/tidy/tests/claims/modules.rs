//! Modules can be read one after the other, in the order that each `lib.rs` says.

use std::collections::BTreeSet;

use lockstep_tidy::{cycles, files, imports, lists, rust};

#[test]
fn no_new_import_closes_a_circle_of_modules() {
    let mut found = Vec::new();
    for lib in libraries() {
        let source = lib.trim_end_matches("/lib.rs");
        let name = source.trim_start_matches("crates/").trim_end_matches("/src");
        for (folder, graph) in imports::graphs(source) {
            let place = if folder.is_empty() { name.to_owned() } else { format!("{name}/{folder}") };
            found.extend(cycles::closing(&graph).into_iter().map(|import| format!("{place}: {import}")));
        }
    }
    lists::check(
        "cycles",
        &found,
        "This import closes a circle. Move what both need into a module below them.",
    );
}

/// In these two, a thing that a part needs of its module is a part as well: they decide what moves and
/// what a verdict says, and are read from the bottom up. Elsewhere a part may name the type that its
/// module is about. The `lib.rs` of a crate is left out: it is what its modules have in common.
#[test]
fn in_the_coordinator_and_the_validator_no_part_names_what_its_module_defines() {
    for name in ["coordinator", "validator"] {
        let folders = imports::graphs(&format!("crates/{name}/src")).into_iter();
        for (folder, graph) in folders.filter(|(folder, _)| !folder.is_empty()) {
            let naming = graph.iter().filter(|(_, named)| named.contains(imports::WHOLE));
            let parts: Vec<&String> = naming.map(|(part, _)| part).collect();
            assert!(parts.is_empty(), "{name}/{folder}: move what {parts:?} name into a module beside them");
        }
    }
}

/// A module that the order of reading leaves out is one that its reader does not come to.
#[test]
fn each_library_names_each_of_its_modules_in_its_first_lines() {
    let mut left_out = Vec::new();
    for lib in libraries() {
        left_out.extend(unnamed(&files::read(&lib)).into_iter().map(|module| format!("{lib}: {module}")));
    }
    assert!(left_out.is_empty(), "say where they come in the order of reading:\n{left_out:#?}");
}

/// The order of reading of these two is one from the bottom up.
#[test]
fn in_the_coordinator_and_the_validator_a_module_names_only_those_that_are_read_before_it() {
    for name in ["coordinator", "validator"] {
        let source = format!("crates/{name}/src");
        let lib = files::read(&format!("{source}/lib.rs"));
        let read = order_of_reading(&lib);
        let at = |module: &String| read.iter().position(|other| other == module);
        let graph = imports::graphs(&source).remove("").unwrap_or_default();
        for (module, named) in graph.into_iter().filter(|(module, _)| module != "tests") {
            let later: Vec<_> = named.iter().filter(|other| at(other) > at(&module)).collect();
            assert!(later.is_empty(), "{name}: {module} names {later:?}, which are read after it");
        }
    }
}

/// The modules of a library in the order in which its first lines say that they are read, named by themselves
/// or by what comes from them.
fn order_of_reading(lib: &str) -> Vec<String> {
    let code = rust::parts(lib).code;
    let modules = imports::declared(&code);
    let exported = imports::re_exports(&code, &modules);
    let mut read: Vec<String> = Vec::new();
    let (_, told) = lib.split_once("in this order").expect("the first lines say an order");
    for word in quoted(&format!("//!{told}")) {
        let module = if modules.contains(word) { Some(word) } else { exported.get(word).map(String::as_str) };
        read.extend(module.filter(|module| !read.iter().any(|other| other == module)).map(str::to_owned));
    }
    read
}

/// The `lib.rs` of each crate.
fn libraries() -> Vec<String> {
    let mut found = files::below("crates", "rs");
    found.retain(|path| path.ends_with("/src/lib.rs"));
    found
}

/// Modules that the first lines of a `lib.rs` name neither themselves nor by something that is re-exported
/// from them. Modules of tests are left out.
fn unnamed(lib: &str) -> Vec<String> {
    let code = rust::parts(lib).code;
    let modules = imports::declared(&code);
    let exported = imports::re_exports(&code, &modules);
    let words: BTreeSet<&str> = quoted(lib).into_iter().collect();
    let by_export: BTreeSet<&str> =
        words.iter().filter_map(|word| exported.get(*word)).map(String::as_str).collect();
    let is_named = |module: &str| words.contains(module) || by_export.contains(module);
    modules.iter().filter(|module| *module != "tests" && !is_named(module)).cloned().collect()
}

/// The words in backquotes of the first lines, in their order, without what stands in fences; of a path its
/// first part.
fn quoted(lib: &str) -> Vec<&str> {
    let mut is_code = false;
    let lines = lib.lines().map_while(|line| line.strip_prefix("//!")).filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    let words = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    words.map(|word| word.split([':', '/']).next().unwrap_or(word)).collect()
}

#[test]
fn a_module_is_named_by_itself_or_by_what_comes_from_it_and_not_by_a_word() {
    let lib = "//! First `a/b`, then [`C`], and a word: e.\n//! ```\n//! `f`\n//! ```\n\n\
               mod a;\npub mod c;\nmod e;\nmod f;\nmod tests;\npub use c::{C, D};\n";
    assert_eq!(unnamed(lib), ["e", "f"]);
}
