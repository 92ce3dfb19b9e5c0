//! Names that a crate exports, and the path of each.

use std::path::Path;

use syn::{Item as Code, UseTree, Visibility};

use super::index::{hidden, is_test};
use crate::files;

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
                let below = format!("{folder}/{name}");
                let flat = format!("{below}.rs");
                let is_flat = Path::new(&files::root()).join(&flat).exists();
                let file = if is_flat { flat } else { format!("{below}/mod.rs") };
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
