//! The code of a row, or of a key: what `row!` writes.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::declared::Column;

/// Returns the `Row` of a struct.
pub(crate) fn row_impl(name: &Ident, columns: &[&Column]) -> TokenStream {
    let specs = columns.iter().map(|column| spec(column));
    let readings = readings(columns);
    let writings = writings(columns);
    let comparisons = comparisons(columns);
    quote! {
        const _: () = {
            use ::lockstep::derived as p;
            impl p::Row for #name {
                const COLUMNS: &'static [p::ColumnSpec] = &[#(#specs),*];
                #readings
                #writings
                #comparisons
            }
        };
    }
}

fn sql(column: &Column) -> TokenStream {
    let ty = &column.ty;
    column.sql.as_ref().map_or_else(|| quote!(<#ty as p::Column>::SQL_TYPE), |sql| quote!(#sql))
}

fn spec(column: &Column) -> TokenStream {
    let (name, attribute, ty, sql) = (&column.name, &column.attribute, &column.ty, sql(column));
    let accepts = match &column.sql {
        Some(sql) => quote!(|found: &str| found == #sql),
        None => quote!(<#ty as p::Column>::accepts),
    };
    quote!(p::ColumnSpec {
        name: #name,
        attribute: #attribute,
        sql_type: #sql,
        nullable: <#ty as p::Column>::NULLABLE,
        labels: <#ty as p::Column>::LABELS,
        held_as: <#ty as p::Column>::HELD_AS,
        accepts: #accepts,
        reads: <#ty as p::Column>::accepts,
        key_expression: <#ty as p::Column>::key_expression,
        literal: <#ty as p::Column>::literal_of_field,
    })
}

fn readings(columns: &[&Column]) -> TokenStream {
    let field: Vec<_> = columns.iter().map(|c| &c.field).collect();
    let ty: Vec<_> = columns.iter().map(|c| &c.ty).collect();
    let column: Vec<_> = columns.iter().map(|c| &c.name).collect();
    let attribute: Vec<_> = columns.iter().map(|c| &c.attribute).collect();
    quote! {
        fn from_fields(fields: &mut p::Fields<'_>) -> p::Result<Self, p::Unholdable> {
            p::Ok(Self { #(#field: fields
                .next()
                .and_then(<#ty as p::Column>::from_field)
                .map_err(|e| e.of(#column))?),* })
        }
        fn from_item(item: &dyn p::ItemView) -> p::Result<Self, p::Unholdable> {
            p::Ok(Self { #(#field: <#ty as p::Column>::from_attribute(item.attribute(#attribute))
                .map_err(|e| e.of(#column))?),* })
        }
        fn from_key(elements: &[p::serde_json::Value]) -> p::Result<Self, p::Unholdable> {
            let mut elements = elements.iter();
            p::Ok(Self { #(#field: elements
                .next()
                .ok_or_else(|| p::Unholdable::because("the key has too few elements"))
                .and_then(<#ty as p::Column>::from_key)
                .map_err(|e| e.of(#column))?),* })
        }
    }
}

fn writings(columns: &[&Column]) -> TokenStream {
    let field: Vec<_> = columns.iter().map(|c| &c.field).collect();
    let column: Vec<_> = columns.iter().map(|c| &c.name).collect();
    let attribute: Vec<_> = columns.iter().map(|c| &c.attribute).collect();
    let sql = columns.iter().map(|column| sql(column));
    quote! {
        fn bind(&self, arguments: &mut p::PgArguments) {
            #(p::Column::bind(&self.#field, arguments);)*
        }
        fn into_item(self, item: &mut p::Item) -> p::Result<(), p::Unholdable> {
            #(if let p::Some(value) = p::Column::into_attribute(self.#field).map_err(|e| e.of(#column))? {
                item.push(#attribute, value);
            })*
            p::Ok(())
        }
        fn fitted(self, types: &p::ColumnTypes) -> p::Result<Self, p::Unholdable> {
            p::Ok(Self { #(#field: p::Column::fitted(self.#field, types.of(#column, #sql))
                .map_err(|e| e.of(#column))?),* })
        }
        fn literals(&self) -> p::Result<p::Vec<p::String>, p::Unholdable> {
            p::Ok(p::Vec::from([#(p::Column::literal(&self.#field).map_err(|e| e.of(#column))?),*]))
        }
    }
}

fn comparisons(columns: &[&Column]) -> TokenStream {
    let field: Vec<_> = columns.iter().map(|c| &c.field).collect();
    let column: Vec<_> = columns.iter().map(|c| &c.name).collect();
    quote! {
        fn differing(&self, other: &Self) -> p::Vec<&'static str> {
            let mut columns = p::Vec::new();
            #(if !p::Column::same(&self.#field, &other.#field) { columns.push(#column); })*
            columns
        }
        fn differences(&self, other: &Self) -> p::Vec<p::FieldDiff> {
            let mut found = p::Vec::new();
            #(if let p::Some(difference) = p::Column::difference(&self.#field, &other.#field) {
                found.push(difference.in_column(#column));
            })*
            found
        }
    }
}
