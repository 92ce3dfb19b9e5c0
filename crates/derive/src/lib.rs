//! `#[derive(lockstep::Table)]`: what `row!` and a hand-written `impl MigratableTable` say, of a plain
//! struct. `#[derive(lockstep::Label)]`: an enum of PostgreSQL as a column of one.
//!
//! Read the modules in this order: `declared` (what attributes say), `kind` (what types say), `refuse` (what
//! cannot be a table), `expand` (the table), `row` (the rows), `label` (enums).

mod declared;
mod expand;
mod kind;
mod label;
mod refuse;
mod row;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a struct the row of a table, and writes its key (`…Key`) and its table (`…Table`, or the name in
/// `table`).
///
/// On the struct: `name`, `partition`, `sort`, `index(name, partition, sort, projection)`, `expires`,
/// `day_column`, `table`,
/// and the constants in `rules`, `aggregates` and `references`. On a field: `primary_key`, `column = ".."`,
/// `attribute = ".."`, `sql = ".."`, `reveal`. What each means, with an example: docs/derive.md.
///
/// The struct itself derives `Clone`, `Debug` and `PartialEq`.
#[proc_macro_derive(Table, attributes(lockstep))]
pub fn table(input: TokenStream) -> TokenStream {
    derive(input.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// Makes an enum without fields a column: `#[lockstep(sql = "shop.status")]` names its type in PostgreSQL,
/// with its schema. A label is the variant in small letters with underscores (`OnHold` is `on_hold`), or what
/// `#[lockstep(label = "On hold")]` on the variant says.
///
/// The enum derives `Clone`, `Copy`, `Debug` and `PartialEq`. A migration does not begin while PostgreSQL has
/// a label that the enum does not have, or the other way round.
#[proc_macro_derive(Label, attributes(lockstep))]
pub fn label(input: TokenStream) -> TokenStream {
    label::derive(input.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// The derive, on tokens that tests can make.
fn derive(input: proc_macro2::TokenStream) -> syn::Result<proc_macro2::TokenStream> {
    let table = declared::Table::read(&syn::parse2(input)?)?;
    refuse::refuse(&table)?;
    Ok(expand::expand(&table))
}
