//! Refusals of the derive, and where each points.

use proc_macro2::TokenStream;
use quote::quote;

use crate::{declared, refuse};

fn message(input: TokenStream) -> String {
    crate::derive(input).expect_err("it is refused").to_string()
}

/// The reason, and the tokens that the error points at.
fn refused(input: TokenStream) -> (String, String) {
    let table = declared::Table::read(&syn::parse2(input).expect("a struct")).expect("it can be read");
    let refusal = refuse::refuse(&table).expect_err("it is refused");
    (refusal.why, refusal.at.to_string())
}

fn keyed(partition: &str) -> TokenStream {
    quote! {
        #[lockstep(name = "services", partition = #partition)]
        struct Service {
            #[lockstep(primary_key)] service: String,
            #[lockstep(primary_key)] name: String,
            note: Option<String>,
            paid: bool,
        }
    }
}

/// A table whose rows move with `at`, and one more attribute.
fn moving(attribute: &TokenStream) -> TokenStream {
    quote! {
        #[lockstep(name = "t", partition = "{owner}", sort = "{at}#{id:019}", #attribute)]
        struct T {
            #[lockstep(primary_key)] id: i64,
            owner: String,
            at: DateTime<Utc>,
            seen: Option<DateTime<Utc>>,
        }
    }
}

fn accepted(input: TokenStream) -> String {
    crate::derive(input).expect("it is accepted").to_string()
}

#[test]
fn a_table_of_two_texts_is_written() {
    let written = accepted(keyed("{service:esc}#{name}"));
    for part in ["struct ServiceKey", "struct ServiceTable", "PRIMARY_KEY_COLUMNS : usize = 2usize"] {
        assert!(written.contains(part), "{part} is not in {written}");
    }
}

#[test]
fn a_key_that_two_rows_share_is_refused_with_the_template_to_write() {
    let (why, at) = refused(keyed("{service}#{name}"));
    assert!(why.contains("is not injective") && why.contains("{service:esc}#{name}"), "{why}");
    assert_eq!(at, "\"{service}#{name}\"");
}

#[test]
fn an_error_points_at_the_template_that_is_the_cause() {
    let (why, at) = refused(keyed("{nme}"));
    assert_eq!(at, "\"{nme}\"");
    assert_eq!(why, "there is no column `nme`; there are: service, name, note, paid");

    let (why, at) = refused(quote! {
        #[lockstep(name = "t", partition = "{tenant}", sort = "{a}#{b}")]
        struct T { tenant: i64, #[lockstep(primary_key)] a: String, #[lockstep(primary_key)] b: String }
    });
    assert!(why.starts_with("sort template"), "{why}");
    assert_eq!(at, "\"{a}#{b}\"");
}

#[test]
fn a_form_that_loses_information_does_not_determine_the_key() {
    assert!(refused(keyed("{service:upper}#{name}")).0.contains("service"));
    // The texts "7" and "07" would be one key.
    assert!(refused(keyed("{service:020}#{name}")).0.contains("service"));
}

#[test]
fn a_form_that_no_value_has_is_refused() {
    let (why, _) = refused(quote! {
        #[lockstep(name = "t", partition = "{id:date}")]
        struct T { #[lockstep(primary_key)] id: i64 }
    });
    assert!(why.contains("no value of column `id`"), "{why}");
}

#[test]
fn a_key_column_that_may_be_null_or_cannot_be_in_a_key_is_refused() {
    assert!(refused(keyed("{service:esc}#{name:esc}#{note}")).0.contains("`note` may be NULL"));
    assert!(refused(keyed("{service:esc}#{name:esc}#{paid}")).0.contains("`paid` is a boolean"));
}

#[test]
fn a_name_that_items_use_is_refused_and_no_other() {
    let named = |name: &str| {
        quote! {
            #[lockstep(name = "t", partition = "{id}")]
            struct T { #[lockstep(primary_key)] id: i64, #[lockstep(column = #name)] other: Option<i64> }
        }
    };
    for (name, other) in [("ttl", "ttl"), ("_v", "v"), ("_w", "w"), ("PK", "pk"), ("SK", "sk")] {
        let (why, at) = refused(named(name));
        let said = format!("#[lockstep(attribute = \"{other}_column\")]");
        assert!(why.contains(&format!("`{name}`")) && why.contains(&said), "{why}");
        assert_eq!(at, "other");
    }
    assert!(refused(named("_deleted")).0.contains("deleted_column"));
    for name in ["_id", "_", "_version", "pk", "TTL"] {
        accepted(named(name));
    }
    assert!(refused(named("id")).0.contains("two fields are column `id`"));
}

#[test]
fn a_column_is_held_in_the_attribute_that_is_said_and_no_two_in_one() {
    let held = |name: &str, column: &str, attribute: &str| {
        let by_other = format!("O#{{{column}}}");
        quote! {
            #[lockstep(name = "t", partition = "{id}", sort = "{at}")]
            #[lockstep(index(name = #name, partition = "{id}"))]
            #[lockstep(index(name = "by_other", partition = #by_other))]
            struct T {
                #[lockstep(primary_key, attribute = "ident")] id: i64,
                at: DateTime<Utc>,
                #[lockstep(column = #column, attribute = #attribute)] other: Option<i64>,
            }
        }
    };
    // A column that is called as items are is moved under another name.
    let written = accepted(held("by_id", "ttl", "ttl_column"));
    for part in [
        "name : \"id\" , attribute : \"ident\"",
        "item . attribute (\"ttl_column\")",
        "item . push (\"ttl_column\"",
        // The index by the primary key goes by the attribute, and so does what a migration under way holds
        // to.
        "name : \"by_id\" , partition : p :: KeyAttribute { name : \"ident\"",
        " id->ident ttl->ttl_column\"",
    ] {
        assert!(written.contains(part), "{part} is not in {written}");
    }
    for (attribute, part) in [
        ("ident", "columns `id` and `other` would share the attribute `ident`"),
        ("at", "columns `at` and `other` would share the attribute `at`"),
        ("PK", "`PK` is a name that Lockstep's items use"),
        ("", "1 to 255 bytes"),
        ("by_other_pk", "this index needs the attribute `by_other_pk`"),
    ] {
        let (why, _) = refused(held("by_id", "other", attribute));
        assert!(why.contains(part), "{attribute}: {why}");
    }
}

#[test]
fn a_primary_key_is_marked_and_never_null() {
    let (why, at) = refused(quote!(
        #[lockstep(name = "t", partition = "{id}")]
        struct T {
            id: i64,
        }
    ));
    assert!(why.contains("primary_key"), "{why}");
    assert_eq!(at, "T");
    let (why, _) = refused(quote!(
        #[lockstep(name = "t", partition = "{id}")]
        struct T {
            id: i64,
            #[lockstep(primary_key)]
            other: Option<i64>,
        }
    ));
    assert!(why.contains("without Option"), "{why}");
}

#[test]
fn a_row_that_moves_needs_an_index_by_its_id() {
    let (why, at) = refused(moving(&quote!()));
    assert!(why.contains("index(name = \"by_id\", partition = \"{id}\")"), "{why}");
    assert_eq!(at, "\"{owner}\"");
    let written = accepted(moving(&quote!(index(name = "by_id", partition = "{id}"))));
    assert!(written.contains("name : \"id\" , key_type : p :: KeyType :: N"), "{written}");
}

#[test]
fn a_row_that_moves_has_a_primary_key_of_one_column() {
    let (why, at) = refused(quote! {
        #[lockstep(name = "t", partition = "{tenant}", sort = "{at}#{id:019}")]
        struct T {
            #[lockstep(primary_key)] tenant: i64,
            #[lockstep(primary_key)] id: i64,
            at: DateTime<Utc>,
        }
    });
    assert!(why.contains("column `at` is not in the primary key, which has several columns"), "{why}");
    assert_eq!(at, "\"{at}#{id:019}\"");
}

#[test]
fn an_index_is_sorted_and_carries_what_it_says_and_what_it_cannot_is_refused() {
    let by = |more: TokenStream| {
        moving(&quote!(
            index(name = "by_id", partition = "{id}"),
            index(name = "by_seen", partition = "O#{owner}", #more)
        ))
    };
    for (more, parts) in [
        (quote!(), ["name : p :: SK", "p :: Projected :: Keys"]),
        (quote!(sort = "{at}#{id:019}"), ["name : \"SK\"", "by_seen.sort={at}#{id:019}"]),
        (quote!(sort = "{id}"), ["name : \"id\" , key_type : p :: KeyType :: N", "by_seen.sort={id}"]),
        (quote!(sort = "S#{seen}"), ["push (\"by_seen_sk\" , sort)", "name : \"by_seen_sk\""]),
        (quote!(projection = "all"), ["p :: Projected :: All", "push (\"by_seen_pk\""]),
        (quote!(projection = ["seen", "at"]), ["List (& [\"seen\" , \"at\"])", "by_seen=O#{owner}"]),
        (quote!(sort = "{seen}", projection = ["seen"]), ["p :: Projected :: Keys", "name : \"seen\""]),
    ] {
        let written = accepted(by(more.clone())).replace("name : p :: SK", "name : \"SK\"");
        for part in parts.map(|part| part.replace("p :: SK", "\"SK\"")) {
            assert!(written.contains(&part), "{more}: {part} is not in {written}");
        }
    }
    for (more, part) in [
        (quote!(sort = "{none}"), "there is no column `none`; there are: id, owner, at, seen"),
        (quote!(sort = "{id:date}"), "no value of column `id` has this form"),
        (quote!(projection = ["none"]), "there is no column `none`"),
        (quote!(projection = ["at", "at"]), "listed twice"),
        (quote!(projection = []), "lists nothing"),
    ] {
        let (why, _) = refused(by(more.clone()));
        assert!(why.contains(part), "{more}: {why}");
    }
    for (more, part) in [
        (quote!(projection = "some"), "expected \"keys\", \"all\" or a list of columns"),
        (quote!(local = true), "expected name, partition, sort or projection"),
    ] {
        let told = message(by(more.clone()));
        assert!(told.contains(part), "{more}: {told}");
    }
}

#[test]
fn an_index_has_a_legal_name_of_its_own() {
    let by = |name: &str| moving(&quote!(index(name = #name, partition = "O#{owner}")));
    assert!(refused(by("by owner")).0.contains("3 to 255 letters"));
    let twice =
        quote!(index(name = "by_id", partition = "{id}"), index(name = "by_id", partition = "O#{owner}"));
    assert!(refused(moving(&twice)).0.contains("two indexes"));
}

#[test]
fn a_day_is_never_null_and_an_expiry_may_be() {
    let by_id = quote!(index(name = "by_id", partition = "{id}"));
    accepted(moving(&quote!(#by_id, day_column = "at", expires = "seen + 90d")));
    assert!(refused(moving(&quote!(#by_id, day_column = "seen"))).0.contains("never NULL"));
    assert!(refused(moving(&quote!(#by_id, expires = "id + 90d"))).0.contains("`id` is no column"));
}

#[test]
fn what_stands_elsewhere_says_what_to_write_instead() {
    let with = |table: TokenStream, field: TokenStream| {
        message(quote! {
            #[lockstep(name = "t", partition = "{id}", #table)]
            struct T { #[lockstep(primary_key, #field)] id: i64 }
        })
    };
    let source = with(quote!(source = "shop.documents"), quote!());
    assert!(source.contains("[tables.documents]") && source.contains("MigrationOptions::table"), "{source}");
    assert!(with(quote!(partition = "{id}"), quote!()).contains("given twice"));
    assert!(with(quote!(frm = "x"), quote!()).contains("expected name"));
    assert!(with(quote!(), quote!(frm = "x")).contains("expected primary_key"));
}

#[test]
fn every_setting_that_decides_keys_is_in_the_layout() {
    let written = accepted(moving(&quote!(index(name = "by_id", partition = "{id}"))));
    assert!(written.contains("partition={owner} sort={at}#{id:019} by_id={id}"), "{written}");
}

/// A table whose one key column has a type.
fn of(ty: TokenStream, partition: &str, more: TokenStream) -> TokenStream {
    quote! {
        #[lockstep(name = "t", partition = #partition, #more)]
        struct T { #[lockstep(primary_key)] id: #ty, other: Option<#ty> }
    }
}

#[test]
fn a_key_is_made_of_every_type_whose_text_is_its_value() {
    for ty in [
        quote!(Uuid),
        quote!(uuid::Uuid),
        quote!(Vec<u8>),
        quote!(NaiveDate),
        quote!(chrono::NaiveTime),
        quote!(NaiveDateTime),
        quote!(Status),
    ] {
        let written =
            accepted(of(ty.clone(), "{id}", quote!(index(name = "by_other", partition = "{other}"))));
        assert!(written.contains("partition : p :: KeyType :: S"), "{ty}: {written}");
        let bytes = ty.to_string() == "Vec < u8 >";
        assert_eq!(written.contains("name : \"by_other_pk\""), bytes, "{ty}: bytes are no key as they are");
        let label = written.contains("label_in_key (p :: Some (& key . id))");
        assert_eq!(label, ty.to_string() == "Status", "{ty}: {written}");
    }
    for ty in
        [quote!(f64), quote!(f32), quote!(Decimal), quote!(Scaled<2>), quote!(Vec<String>), quote!(Json)]
            .into_iter()
            .chain([quote!(UuidBytes), quote!(FloatText<f64>)])
            .chain([quote!(std::collections::BTreeSet<String>)])
    {
        let (why, at) = refused(of(ty.clone(), "{id}", quote!()));
        assert!(why.contains("a key cannot be made of") && why.contains("Uuid"), "{ty}: {why}");
        assert_eq!(at, "\"{id}\"");
    }
}

#[test]
fn a_fixed_width_divides_and_a_label_does_not() {
    let two = |ty: TokenStream| {
        quote! {
            #[lockstep(name = "t", partition = "{a}{b}")]
            struct T { #[lockstep(primary_key)] a: #ty, #[lockstep(primary_key)] b: String }
        }
    };
    for ty in [quote!(Uuid), quote!(NaiveDate), quote!(NaiveTime), quote!(NaiveDateTime)] {
        accepted(two(ty));
    }
    for ty in [quote!(Status), quote!(Vec<u8>)] {
        assert!(refused(two(ty)).0.contains("is not injective"));
    }
}

#[test]
fn a_row_that_moves_is_not_found_by_bytes() {
    let (why, _) = refused(quote! {
        #[lockstep(name = "t", partition = "{owner}", sort = "{id}")]
        #[lockstep(index(name = "by_id", partition = "{id}"))]
        struct T { #[lockstep(primary_key)] id: Vec<u8>, owner: String }
    });
    assert!(why.contains("which is bytes") && why.contains("make the templates of `id` alone"), "{why}");
}
