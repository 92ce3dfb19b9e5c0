//! Names that a crate exports, and the path of each.

use std::collections::BTreeSet;
use std::path::Path;

use syn::{Item as Code, UseTree, Visibility};

use super::index::{hidden, is_test};
use crate::{files, imports, rust};

/// The path and the name of everything that the public modules of the crate in `crates/FOLDER` define or
/// re-export.
///
/// # Panics
/// When a module's file is not where it has to be.
pub fn exported(folder: &str) -> Vec<(String, String)> {
    let (root, mut found) = (format!("crates/{folder}/src"), Vec::new());
    module(&format!("{root}/lib.rs"), &root, "", &mut found);
    found
}

/// The types and traits of the crate in `crates/FOLDER` that it exports and that are its own, those included
/// that its documentation hides: Lockstep's own crates name them. What is re-exported from another crate is
/// that one's. A constant is no type, nor is a function.
///
/// # Panics
/// When a module's file is not where it has to be.
pub fn own_types(folder: &str) -> BTreeSet<String> {
    let (root, mut found) = (format!("crates/{folder}/src"), BTreeSet::new());
    own_types_of(&format!("{root}/lib.rs"), &root, &mut found);
    found
}

fn own_types_of(file: &str, folder: &str, found: &mut BTreeSet<String>) {
    let text = files::read(file);
    let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let modules = imports::declared(&rust::parts(&text).code);
    let is_here = |tree: &UseTree| match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            modules.contains(&first) || ["crate", "self", "super"].contains(&first.as_str())
        }
        _ => false,
    };
    for item in &parsed.items {
        let (visibility, attributes, name) = match item {
            Code::Mod(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Struct(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Enum(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Trait(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Type(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Use(it) => (&it.vis, &it.attrs, String::new()),
            _ => continue,
        };
        if !matches!(visibility, Visibility::Public(_)) || is_test(attributes) {
            continue;
        }
        match item {
            Code::Mod(it) if it.content.is_none() => {
                let (below, file) = file_of(folder, &name);
                own_types_of(&file, &below, found);
            }
            Code::Mod(_) => {}
            Code::Use(it) if is_here(&it.tree) => leaves(&it.tree, &mut |name| {
                if is_type(name) {
                    found.insert(name.to_owned());
                }
            }),
            Code::Use(_) => {}
            _ => {
                found.insert(name);
            }
        }
    }
}

/// Whether a name is written as those of types are.
fn is_type(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase)
}

/// The folder of a module's own modules, and its file.
fn file_of(folder: &str, module: &str) -> (String, String) {
    let below = format!("{folder}/{module}");
    let flat = format!("{below}.rs");
    let is_flat = Path::new(&files::root()).join(&flat).exists();
    let file = if is_flat { flat } else { format!("{below}/mod.rs") };
    (below, file)
}

fn module(file: &str, folder: &str, path: &str, found: &mut Vec<(String, String)>) {
    let parsed = syn::parse_file(&files::read(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    for item in &parsed.items {
        let (visibility, attributes, name) = match item {
            Code::Mod(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Struct(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Enum(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Trait(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Fn(it) => (&it.vis, &it.attrs, it.sig.ident.to_string()),
            Code::Const(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Type(it) => (&it.vis, &it.attrs, it.ident.to_string()),
            Code::Use(it) => (&it.vis, &it.attrs, String::new()),
            _ => continue,
        };
        if !matches!(visibility, Visibility::Public(_)) || hidden(attributes) || is_test(attributes) {
            continue;
        }
        let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") };
        match item {
            Code::Mod(_) => {
                let (below, file) = file_of(folder, &name);
                module(&file, &below, &inside(&name), found);
            }
            Code::Use(it) => leaves(&it.tree, &mut |name| found.push((inside(name), name.to_owned()))),
            _ => found.push((inside(&name), name)),
        }
    }
}

fn leaves(tree: &UseTree, each: &mut impl FnMut(&str)) {
    match tree {
        UseTree::Path(path) => leaves(&path.tree, each),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, each)),
        UseTree::Name(name) => each(&name.ident.to_string()),
        UseTree::Rename(renamed) => each(&renamed.rename.to_string()),
        UseTree::Glob(_) => {
            panic!("a glob is re-exported: name what it stands for, so that it can be listed")
        }
    }
}
