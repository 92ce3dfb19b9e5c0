//! Modules can be read one after the other.

use lockstep_tidy::{cycles, files, imports, lists};

#[test]
fn no_new_import_closes_a_circle_of_modules() {
    let mut found = Vec::new();
    for lib in files::below("crates", "rs").into_iter().filter(|path| path.ends_with("/src/lib.rs")) {
        let source = lib.trim_end_matches("/lib.rs");
        let name = source.trim_start_matches("crates/").trim_end_matches("/src");
        found.extend(
            cycles::closing(&imports::graph(source)).into_iter().map(|import| format!("{name}: {import}")),
        );
    }
    lists::check(
        "cycles",
        &found,
        "This import closes a circle. Move what both need into a module below them.",
    );
}

#[test]
fn imports_are_found_at_all() {
    let graph = imports::graph("crates/coordinator/src");
    assert!(graph["relay"].contains("options") && graph["gates"].contains("error"), "{graph:?}");
}
