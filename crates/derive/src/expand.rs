//! The code of a table.
//!
//! It names everything through `lockstep::derived`, `Result` and `Some` included: a service may have a
//! `Result` of its own.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::declared::{Index, NAMES, Projection, Table, Written};
use crate::kind::Kind;
use crate::row::row_impl;

/// Writes the row, its key and its table.
pub(crate) fn expand(table: &Table) -> TokenStream {
    let (vis, row_name, marker) = (&table.vis, &table.row, &table.table);
    let key_name = format_ident!("{row_name}Key");
    let in_key = table.key();
    let row = row_impl(row_name, &table.columns.iter().collect::<Vec<_>>());
    let key_row = row_impl(&key_name, &in_key);
    let key_fields = in_key.iter().map(|column| {
        let (field, ty, docs) = (&column.field, &column.ty, format!("Column `{}`.", column.name));
        quote!(#[doc = #docs] #vis #field: #ty)
    });
    let key_docs = format!("The key of a [`{row_name}`]: its primary key, then what else decides its place.");
    let table_docs = format!("The table of [`{row_name}`].");
    let primary = table.primary_key().into_iter().map(|column| &column.field).collect::<Vec<_>>();
    let constants = constants(table);
    let keys = keys(table, &key_name);
    let settings = settings(table);
    quote! {
        #row
        #[doc = #key_docs]
        #[derive(Clone, Debug, PartialEq)]
        #vis struct #key_name { #(#key_fields),* }
        #key_row
        #[doc = #table_docs]
        #[derive(Clone, Copy, Debug, Default)]
        #vis struct #marker;
        const _: () = {
            use ::lockstep::derived as p;
            // A verb that takes a primary key takes the key of a row, whose first columns are that.
            impl p::PrimaryKey for #key_name {
                fn bind(&self, arguments: &mut p::PgArguments) {
                    #(p::Column::bind(&self.#primary, arguments);)*
                }
                fn attributes(&self) -> p::Result<p::Vec<p::AttributeValue>, p::Unholdable> {
                    let mut attributes = p::Vec::new();
                    #(attributes.extend(p::Column::to_attribute(&self.#primary)?);)*
                    p::Ok(attributes)
                }
            }
            impl p::MigratableTable for #marker {
                type Row = #row_name;
                type Key = #key_name;
                #constants
                #keys
                #settings
            }
        };
    }
}

fn constants(table: &Table) -> TokenStream {
    let name = &table.name;
    let primary = table.primary_key().len();
    let partition = key_type(table, &table.partition);
    let sort = optional(table.sort.as_ref().map(|sort| key_type(table, sort)));
    let indexes = table.indexes.iter().map(|index| index_of(table, index));
    let names = table.names.iter().map(|(of, name)| quote!(#of: #name));
    let others = (table.names.len() < NAMES.len()).then(|| quote!(..p::OwnNames::DEFAULT));
    let names = (!table.names.is_empty())
        .then(|| quote!(const NAMES: p::OwnNames = p::OwnNames { #(#names,)* #others };));
    let day = optional(table.day_column.as_ref().map(|column| quote!(#column)));
    quote! {
        const NAME: &'static str = #name;
        const PRIMARY_KEY_COLUMNS: usize = #primary;
        const TARGET: p::TargetSchema =
            p::TargetSchema { partition: #partition, sort: #sort, indexes: &[#(#indexes),*] };
        const DAY_COLUMN: p::Option<&'static str> = #day;
        #names
    }
}

fn index_of(table: &Table, index: &Index) -> TokenStream {
    let (name, attribute) = (&index.name, table.attribute(index));
    let partition = key_type(table, &index.partition);
    let sorted = table.sorted_by(index).map(|(name, written, _)| (name, key_type(table, written)));
    let of_table = |name: &str| {
        table.names.iter().any(|(of, own)| (*of == "partition" || *of == "sort") && own.value() == name)
    };
    let is_key = |name: &str| {
        of_table(name) || name == attribute || sorted.as_ref().is_some_and(|(sort, _)| sort == name)
    };
    let projection = match &index.projection {
        Projection::Keys => quote!(p::Projected::Keys),
        Projection::All => quote!(p::Projected::All),
        Projection::List(columns) => {
            let listed = columns.iter().filter_map(|column| table.column(&column.value()));
            // What is a key of the index or of the table is there anyway, and refused beside it.
            let listed: Vec<&String> =
                listed.map(|column| &column.attribute).filter(|name| !is_key(name)).collect();
            if listed.is_empty() {
                quote!(p::Projected::Keys)
            } else {
                quote!(p::Projected::List(&[#(#listed),*]))
            }
        }
    };
    let sort = optional(sorted.map(|(name, ty)| quote!(p::KeyAttribute { name: #name, key_type: #ty })));
    quote!(p::Index {
        name: #name,
        partition: p::KeyAttribute { name: #attribute, key_type: #partition },
        sort: #sort,
        projection: #projection,
    })
}

/// Puts the keys of an index into an item, as far as they are no attributes of it already. Where one of them
/// is NULL the row is not in the index, and the other one is of no use.
fn pushed(table: &Table, index: &Index) -> TokenStream {
    let row = format_ident!("row");
    let of = |attribute: String, written| (attribute, rendered(table, written, &row));
    let partition = table.indexed(index).is_none().then(|| of(table.attribute(index), &index.partition));
    let sort = table.sorted_by(index).filter(|(.., is_made)| *is_made);
    let sort = sort.map(|(attribute, written, _)| of(attribute, written));
    match (partition, sort) {
        (None, None) => TokenStream::new(),
        (Some((name, value)), None) | (None, Some((name, value))) => {
            quote!(if let p::Some(value) = #value { item.push(#name, value); })
        }
        (Some((name, value)), Some((sort_name, sort))) => quote! {
            if let (p::Some(value), p::Some(sort)) = (#value, #sort) {
                item.push(#name, value);
                item.push(#sort_name, sort);
            }
        },
    }
}

fn keys(table: &Table, key_name: &Ident) -> TokenStream {
    let field: Vec<_> = table.key().into_iter().map(|column| &column.field).collect();
    let place = |written| {
        let key = rendered(table, written, &format_ident!("key"));
        quote!(#key.ok_or_else(|| p::Unholdable::because("a column of the key is NULL"))?)
    };
    let partition = place(&table.partition);
    let sort = optional(table.sort.as_ref().map(place));
    let pushed = table.indexes.iter().map(|index| pushed(table, index));
    let layout = layout(table);
    quote! {
        fn key(row: &Self::Row) -> Self::Key {
            #key_name { #(#field: ::core::clone::Clone::clone(&row.#field)),* }
        }
        fn target_key(&self, key: &Self::Key) -> p::Result<p::TargetKey, p::Unholdable> {
            p::Ok(p::TargetKey { partition: #partition, sort: #sort })
        }
        fn index_attributes(&self, row: &Self::Row, item: &mut p::Item) -> p::Result<(), p::Unholdable> {
            // A table may have no index that needs an attribute.
            let _ = (row, &item);
            #(#pushed)*
            p::Ok(())
        }
        fn layout(&self) -> p::String { p::String::from(#layout) }
    }
}

fn settings(table: &Table) -> TokenStream {
    let noted = table
        .expires
        .as_ref()
        // However it is spelled: `at + 7d` and `at+1w` are one.
        .map_or_else(|| "off".to_owned(), |(_, expiry)| format!("{} + {}s", expiry.column, expiry.after_s));
    let expires = table.expires.as_ref().map(|(_, expiry)| {
        let seconds = expiry.after_s;
        let field = table.column(&expiry.column).map(|column| &column.field);
        quote! {
            fn expires(&self) -> bool { true }
            fn expires_at(&self, row: &Self::Row) -> p::Option<p::chrono::DateTime<p::chrono::Utc>> {
                p::expiry(row.#field, #seconds)
            }
        }
    });
    let in_key = table.key();
    let is_shown = |name: &str| in_key.iter().any(|column| column.name == name);
    let shown =
        table.columns.iter().filter(|column| column.reveal || is_shown(&column.name)).map(|c| &c.name);
    let rules =
        table.rules.as_ref().map(|path| quote!(fn rules(&self) -> &'static [p::Rule<Self::Row>] { #path }));
    let aggregates = table
        .aggregates
        .as_ref()
        .map(|path| quote!(fn aggregates(&self) -> &'static [p::Aggregate<Self::Row>] { #path }));
    let references = table
        .references
        .as_ref()
        .map(|path| quote!(fn references(&self) -> &'static [p::Reference] { #path }));
    quote! {
        #expires
        fn expiry(&self) -> p::String { p::String::from(#noted) }
        fn reveals(&self, column: &str) -> bool { [#(#shown),*].contains(&column) }
        #rules
        #aggregates
        #references
    }
}

fn optional(tokens: Option<TokenStream>) -> TokenStream {
    tokens.map_or_else(|| quote!(p::None), |tokens| quote!(p::Some(#tokens)))
}

fn key_type(table: &Table, written: &Written) -> TokenStream {
    if table.is_number(written) { quote!(p::KeyType::N) } else { quote!(p::KeyType::S) }
}

/// Returns a template with the values of `of`; `None` where one of them is NULL.
fn rendered(table: &Table, written: &Written, of: &Ident) -> TokenStream {
    let columns = written.template.columns().into_iter().filter_map(|name| table.column(name));
    let value: Vec<_> = columns
        .map(|column| {
            let (field, name) = (&column.field, &column.name);
            match (column.kind(), column.may_be_null()) {
                (Some(Kind::Label), false) => quote!((#name, p::label_in_key(p::Some(&#of.#field)))),
                (Some(Kind::Label), true) => quote!((#name, p::label_in_key(#of.#field.as_ref()))),
                _ => quote!((#name, p::KeyValue::of(&#of.#field).map_err(|e| e.of(#name))?)),
            }
        })
        .collect();
    let (literal, number, count) = (&written.literal, table.is_number(written), value.len());
    quote!({
        static TEMPLATE: p::Parsed = p::Parsed::new(|| p::parsed(#literal));
        let values: [(&str, p::Option<p::KeyText<'_>>); #count] = [#(#value),*];
        p::render(&TEMPLATE, &values, #number)?
    })
}

/// Returns every template, because each decides what an item is found by.
fn layout(table: &Table) -> String {
    let mut layout = format!("partition={}", table.partition.literal.value());
    if let Some(sort) = &table.sort {
        layout += &format!(" sort={}", sort.literal.value());
    }
    for index in &table.indexes {
        layout += &format!(" {}={}", index.name.value(), index.partition.literal.value());
        if let Some(sort) = &index.sort {
            layout += &format!(" {}.sort={}", index.name.value(), sort.literal.value());
        }
    }
    // Only those that are called otherwise: of a migration under way the layout stays as it is.
    for column in table.columns.iter().filter(|column| column.attribute != column.name) {
        layout += &format!(" {}->{}", column.name, column.attribute);
    }
    layout
}
