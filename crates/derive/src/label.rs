//! The code of an enum.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Result};

/// An enum with its labels.
struct Labels {
    name: Ident,
    sql: LitStr,
    variants: Vec<(Ident, String)>,
}

/// The derive, on tokens that tests can make.
pub(crate) fn derive(input: TokenStream) -> Result<TokenStream> {
    Ok(expand(&read(&syn::parse2(input)?)?))
}

fn read(input: &DeriveInput) -> Result<Labels> {
    let wrong = |what: &str| Error::new_spanned(&input.ident, what);
    let Data::Enum(data) = &input.data else { return Err(wrong("labels are the variants of an enum")) };
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new_spanned(parameter, "an enum of PostgreSQL has no parameters"));
    }
    let sql = value(&input.attrs, "sql")?.ok_or_else(|| {
        wrong("which type of PostgreSQL is it? Write #[lockstep(sql = \"shop.status\")], with its schema")
    })?;
    if !sql.value().contains('.') {
        let why = format!("write the schema as well: \"public.{0}\", if that is where `{0}` is", sql.value());
        return Err(Error::new_spanned(&sql, why));
    }
    let mut variants: Vec<(Ident, String)> = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(variant, "a label has no fields"));
        }
        let label = value(&variant.attrs, "label")?
            .map_or_else(|| in_small_letters(&variant.ident.to_string()), |literal| literal.value());
        if variants.iter().any(|(_, other)| *other == label) {
            return Err(Error::new_spanned(variant, format!("two variants are label `{label}`; keep one")));
        }
        variants.push((variant.ident.clone(), label));
    }
    if variants.is_empty() {
        return Err(wrong("an enum needs a variant for each of its labels"));
    }
    Ok(Labels { name: input.ident.clone(), sql, variants })
}

/// Returns the one value that may be given: `sql` of an enum, `label` of a variant.
fn value(attributes: &[syn::Attribute], word: &str) -> Result<Option<LitStr>> {
    let mut found = None;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("lockstep")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident(word) {
                return Err(meta.error(format!("expected {word}")));
            }
            match found.replace(meta.value()?.parse()?) {
                Some(_) => Err(meta.error("given twice; keep one")),
                None => Ok(()),
            }
        })?;
    }
    Ok(found)
}

/// `OnHold` as `on_hold`.
fn in_small_letters(variant: &str) -> String {
    let mut label = String::new();
    for (at, c) in variant.trim_start_matches("r#").chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            label.push('_');
        }
        label.extend(c.to_lowercase());
    }
    label
}

fn expand(labels: &Labels) -> TokenStream {
    let (name, sql) = (&labels.name, &labels.sql);
    let variant: Vec<_> = labels.variants.iter().map(|(variant, _)| variant).collect();
    let label: Vec<_> = labels.variants.iter().map(|(_, label)| label).collect();
    quote! {
        const _: () = {
            use ::lockstep::derived as p;
            impl p::Labelled for #name {
                const LABELS: &'static [&'static str] = &[#(#label),*];
                fn label(self) -> &'static str {
                    match self { #(Self::#variant => #label),* }
                }
                fn of_label(label: &str) -> p::Option<Self> {
                    match label { #(#label => p::Some(Self::#variant),)* _ => p::None }
                }
            }
            impl p::Column for #name {
                const SQL_TYPE: &'static str = #sql;
                const LABELS: &'static [&'static str] = <Self as p::Labelled>::LABELS;
                fn accepts(sql_type: &str) -> bool { p::label::accepts(#sql, sql_type) }
                fn from_field(field: p::Option<&[u8]>) -> p::Result<Self, p::Unholdable> {
                    p::label::from_field(field)
                }
                fn to_attribute(&self) -> p::Result<p::Option<p::AttributeValue>, p::Unholdable> {
                    p::Ok(p::Some(p::label::to_attribute(*self)))
                }
                fn from_attribute(attribute: p::Option<p::Attribute<'_>>) -> p::Result<Self, p::Unholdable> {
                    p::label::from_attribute(attribute)
                }
                fn bind(&self, arguments: &mut p::PgArguments) {
                    p::label::bind(p::Some(*self), arguments);
                }
                fn bind_null(arguments: &mut p::PgArguments) {
                    p::label::bind::<Self>(p::None, arguments);
                }
                fn same(&self, other: &Self) -> bool {
                    p::Labelled::label(*self) == p::Labelled::label(*other)
                }
                fn fitted(self, sql_type: &str) -> p::Result<Self, p::Unholdable> {
                    p::label::fitted(self, sql_type)
                }
                fn from_key(element: &p::serde_json::Value) -> p::Result<Self, p::Unholdable> {
                    p::label::from_key(element)
                }
                fn literal(&self) -> p::Result<p::String, p::Unholdable> {
                    p::Ok(p::String::from(p::Labelled::label(*self)))
                }
                fn literal_of_field(field: p::Option<&[u8]>) -> p::Result<p::String, p::Unholdable> {
                    p::label::literal_of_field(field)
                }
                fn key_expression(name: &str) -> p::String { p::printed(name) }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(input: TokenStream) -> String {
        derive(input).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_label_is_the_variant_in_small_letters_or_what_is_written() {
        let written = derive(quote! {
            #[lockstep(sql = "shop.status")]
            enum Status { New, OnHold, #[lockstep(label = "Sent out")] Sent, r#Type }
        });
        let written = written.expect("it is accepted").to_string();
        for part in [
            "[\"new\" , \"on_hold\" , \"Sent out\" , \"type\"]",
            "SQL_TYPE : & 'static str = \"shop.status\"",
        ] {
            assert!(written.contains(part), "{part} is not in {written}");
        }
    }

    #[test]
    fn what_is_no_enum_of_labels_says_what_to_write() {
        assert!(
            refused(quote!(
                struct S {
                    a: i64,
                }
            ))
            .contains("variants of an enum")
        );
        assert!(
            refused(quote!(
                enum E {
                    A,
                }
            ))
            .contains("#[lockstep(sql = \"shop.status\")]")
        );
        let without = refused(quote!(
            #[lockstep(sql = "status")]
            enum E {
                A,
            }
        ));
        assert!(without.contains("\"public.status\""), "{without}");
        assert!(
            refused(quote!(
                #[lockstep(sql = "a.b")]
                enum E {
                    A(i64),
                }
            ))
            .contains("no fields")
        );
        assert!(
            refused(quote!(
                #[lockstep(sql = "a.b")]
                enum E {}
            ))
            .contains("needs a variant")
        );
        let twice = refused(quote!(
            #[lockstep(sql = "a.b")]
            enum E {
                A,
                #[lockstep(label = "a")]
                B,
            }
        ));
        assert!(twice.contains("two variants are label `a`"), "{twice}");
        assert!(
            refused(quote!(
                #[lockstep(sql = "a.b", sql = "a.c")]
                enum E {
                    A,
                }
            ))
            .contains("twice")
        );
        assert!(
            refused(quote!(
                #[lockstep(name = "a.b")]
                enum E {
                    A,
                }
            ))
            .contains("expected sql")
        );
    }
}
