//! Names that an application can use of `lockstep-migrate`: a listing of its public items, re-exports
//! resolved, as `cargo public-api` would make it with a nightly compiler.
//!
//! A name is looked up in the crates that are re-exported, in which no name of a public type comes twice.
//! What only a signature mentions can be held as well, and is listed like the rest. Items under
//! `#[doc(hidden)]` are for Lockstep's own crates, and are left out with all that only they mention.

mod index;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

pub use index::Index;
pub use walk::{exported, own_types};

/// One item that can be named or held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// `struct`, `enum`, `trait`, `fn`, `const`, `type` or `macro`.
    pub kind: &'static str,
    /// Public fields, variants or methods of the item.
    pub members: BTreeSet<String>,
    /// Names of types that its fields and signatures mention.
    pub mentions: BTreeSet<String>,
}

/// Every item that is exported by the crate in `crates/lockstep`, or is mentioned by one that is, by the path
/// that an application has it from.
pub fn reachable() -> BTreeMap<String, Item> {
    let index = Index::of(&["lockstep", "core", "dynamo", "postgres", "derive"]);
    let mut open: Vec<(String, String)> = exported("lockstep");
    // Exported macros are in the root, wherever they are written.
    open.extend(Index::of(&["lockstep"]).macros().map(|name| (name.to_owned(), name.to_owned())));
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    while let Some((path, name)) = open.pop() {
        let Some(item) = index.get(&name) else { continue };
        if !seen.insert(name.clone()) {
            continue;
        }
        open.extend(item.mentions.iter().filter(|mention| index.get(mention).is_some()).map(|mention| {
            // An exported path wins: those are taken first.
            (format!("(held) {mention}"), mention.clone())
        }));
        open.sort_by(|(a, _), (b, _)| order(b).cmp(&order(a)));
        found.insert(path, item);
    }
    found
}

/// Exported before held, short paths before long ones.
fn order(path: &str) -> (bool, usize, &str) {
    (path.starts_with('('), path.matches("::").count(), path)
}

/// The listing, no wider than a screen.
pub fn listing(items: &BTreeMap<String, Item>) -> String {
    let mut lines = String::new();
    for (path, item) in items {
        let members: Vec<&str> = item.members.iter().map(String::as_str).collect();
        let members = if members.is_empty() { String::new() } else { format!(": {}", members.join(", ")) };
        lines += &wrapped(&format!("{} {path}{members}", item.kind));
    }
    lines
}

const WIDTH: usize = 200;

fn wrapped(text: &str) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        if width > 0 && width + 1 + word.len() > WIDTH {
            out += "\n    ";
            width = 4;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out += word;
        width += word.len();
    }
    out + "\n"
}
