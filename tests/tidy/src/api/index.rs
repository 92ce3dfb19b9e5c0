//! Every public item of some crates, by its name.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenTree;
use quote::ToTokens;
use syn::{Attribute, ImplItem, Item as Code, TraitItem, Visibility};

use super::Item;
use crate::files;

/// Public items by name, crate by crate: of two that have one name, the one of the crate that is named first
/// is meant.
#[derive(Clone, Debug, Default)]
pub struct Index {
    crates: Vec<BTreeMap<String, Item>>,
}

impl Index {
    /// The items of the crates in these folders of `crates`.
    ///
    /// # Panics
    /// When a file does not parse, which the compiler would say as well.
    pub fn of(crates: &[&str]) -> Self {
        let mut index = Self::default();
        for folder in crates {
            index.crates.push(BTreeMap::new());
            for path in files::below(&format!("crates/{folder}/src"), "rs") {
                if path.contains("/tests") {
                    continue;
                }
                let file = syn::parse_file(&files::read(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
                index.add_all(&file.items);
            }
        }
        index
    }

    /// An item.
    pub fn get(&self, name: &str) -> Option<Item> {
        // Methods alone are of a private type.
        self.crates.iter().find_map(|items| items.get(name).filter(|item| !item.kind.is_empty())).cloned()
    }

    /// The macros.
    pub fn macros(&self) -> impl Iterator<Item = &str> {
        let items = self.crates.iter().flatten();
        items.filter(|(_, item)| item.kind == "macro").map(|(name, _)| name.as_str())
    }

    fn add_all(&mut self, items: &[Code]) {
        for item in items {
            match item {
                Code::Struct(it) if shown(&it.vis, &it.attrs) => {
                    let entry = self.entry(&it.ident.to_string(), "struct");
                    for field in it.fields.iter().filter(|field| shown(&field.vis, &field.attrs)) {
                        entry.members.extend(field.ident.as_ref().map(|name| format!(".{name}")));
                        mention(&field.ty, &mut entry.mentions);
                    }
                }
                Code::Enum(it) if shown(&it.vis, &it.attrs) => {
                    let entry = self.entry(&it.ident.to_string(), "enum");
                    for variant in &it.variants {
                        entry.members.insert(variant.ident.to_string());
                        variant.fields.iter().for_each(|field| mention(&field.ty, &mut entry.mentions));
                    }
                }
                Code::Trait(it) if shown(&it.vis, &it.attrs) => {
                    let entry = self.entry(&it.ident.to_string(), "trait");
                    for member in &it.items {
                        if let TraitItem::Fn(f) = member
                            && !hidden(&f.attrs)
                        {
                            entry.members.insert(f.sig.ident.to_string());
                            mention(&f.sig, &mut entry.mentions);
                        }
                    }
                }
                Code::Fn(it) if it.attrs.iter().any(|attr| attr.path().is_ident("proc_macro_derive")) => {
                    // The one derive, under the name that applications write.
                    self.entry("Table", "derive");
                }
                Code::Fn(it) if shown(&it.vis, &it.attrs) => {
                    let entry = self.entry(&it.sig.ident.to_string(), "fn");
                    mention(&it.sig, &mut entry.mentions);
                }
                Code::Const(it) if shown(&it.vis, &it.attrs) => {
                    self.entry(&it.ident.to_string(), "const");
                }
                Code::Type(it) if shown(&it.vis, &it.attrs) => {
                    let entry = self.entry(&it.ident.to_string(), "type");
                    mention(&it.ty, &mut entry.mentions);
                }
                Code::Macro(it) if it.attrs.iter().any(|attr| attr.path().is_ident("macro_export")) => {
                    if let Some(name) = &it.ident {
                        self.entry(&name.to_string(), "macro");
                    }
                }
                Code::Impl(it) if it.trait_.is_none() => self.add_methods(it),
                Code::Mod(it) if !hidden(&it.attrs) && !is_test(&it.attrs) => {
                    if let Some((_, items)) = &it.content {
                        self.add_all(items);
                    }
                }
                _ => {}
            }
        }
    }

    fn add_methods(&mut self, it: &syn::ItemImpl) {
        let syn::Type::Path(of) = &*it.self_ty else { return };
        let Some(name) = of.path.segments.last().map(|segment| segment.ident.to_string()) else { return };
        let entry = self.of_crate().entry(name).or_default();
        for member in &it.items {
            if let ImplItem::Fn(f) = member
                && shown(&f.vis, &f.attrs)
            {
                entry.members.insert(f.sig.ident.to_string());
                mention(&f.sig, &mut entry.mentions);
            }
        }
    }

    /// The items of the crate that is being read.
    fn of_crate(&mut self) -> &mut BTreeMap<String, Item> {
        if self.crates.is_empty() {
            self.crates.push(BTreeMap::new());
        }
        let last = self.crates.len() - 1;
        &mut self.crates[last]
    }

    fn entry(&mut self, name: &str, kind: &'static str) -> &mut Item {
        let entry = self.of_crate().entry(name.to_owned()).or_default();
        entry.kind = kind;
        entry
    }
}

fn shown(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && !hidden(attributes) && !is_test(attributes)
}

pub(super) fn hidden(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attr| attr.path().is_ident("doc") && attr.to_token_stream().to_string().contains("hidden"))
}

pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attr| {
        let text = attr.to_token_stream().to_string();
        attr.path().is_ident("cfg") && (text.contains("test") || text.contains("doctest"))
    })
}

/// Notes every capitalised word of some code.
fn mention(code: &impl ToTokens, into: &mut BTreeSet<String>) {
    let mut open: Vec<TokenTree> = code.to_token_stream().into_iter().collect();
    while let Some(token) = open.pop() {
        match token {
            TokenTree::Ident(word) if word.to_string().starts_with(char::is_uppercase) => {
                into.insert(word.to_string());
            }
            TokenTree::Group(group) => open.extend(group.stream()),
            _ => {}
        }
    }
}
