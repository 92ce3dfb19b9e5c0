//! Values of the attributes.

use lockstep_template::{Expiry, Template};
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream};
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Path, Result, Token, Type, Visibility, token};

/// A template, and the literal that errors point at.
pub(crate) struct Written {
    pub(crate) literal: LitStr,
    pub(crate) template: Template,
}

/// A secondary index.
pub(crate) struct Index {
    pub(crate) name: LitStr,
    pub(crate) partition: Written,
    /// None sorts by the table's own sort key.
    pub(crate) sort: Option<Written>,
    pub(crate) projection: Projection,
}

/// Attributes that an index carries beside keys.
pub(crate) enum Projection {
    Keys,
    All,
    /// Those of these columns.
    List(Vec<LitStr>),
}

/// A column.
pub(crate) struct Column {
    pub(crate) field: Ident,
    pub(crate) ty: Type,
    pub(crate) name: String,
    pub(crate) attribute: String,
    pub(crate) sql: Option<LitStr>,
    pub(crate) primary_key: bool,
    pub(crate) reveal: bool,
}

/// A struct with its attributes.
pub(crate) struct Table {
    pub(crate) row: Ident,
    pub(crate) vis: Visibility,
    pub(crate) table: Ident,
    pub(crate) name: LitStr,
    pub(crate) partition: Written,
    pub(crate) sort: Option<Written>,
    pub(crate) expires: Option<(LitStr, Expiry)>,
    pub(crate) day_column: Option<LitStr>,
    pub(crate) rules: Option<Path>,
    pub(crate) aggregates: Option<Path>,
    pub(crate) references: Option<Path>,
    pub(crate) indexes: Vec<Index>,
    /// Words of the attributes of Lockstep's own that are called otherwise, and what they are called.
    pub(crate) names: Vec<(Ident, LitStr)>,
    pub(crate) columns: Vec<Column>,
}

/// Attributes of Lockstep's own, by the words that say what they are called.
pub(crate) const NAMES: [&str; 9] =
    ["partition", "sort", "expiry", "version", "writers", "deleted", "mark", "marker", "probe"];

/// Values that a struct gives, before it is known whether they are enough.
#[derive(Default)]
struct Said {
    name: Option<LitStr>,
    partition: Option<LitStr>,
    sort: Option<LitStr>,
    expires: Option<LitStr>,
    day_column: Option<LitStr>,
    table: Option<LitStr>,
    rules: Option<Path>,
    aggregates: Option<Path>,
    references: Option<Path>,
    indexes: Vec<Index>,
    names: Vec<(Ident, LitStr)>,
}

impl Said {
    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match word(meta).as_str() {
            "name" => once(&mut self.name, meta),
            "partition" => once(&mut self.partition, meta),
            "sort" => once(&mut self.sort, meta),
            "expires" => once(&mut self.expires, meta),
            "day_column" => once(&mut self.day_column, meta),
            "table" => once(&mut self.table, meta),
            "rules" => once(&mut self.rules, meta),
            "aggregates" => once(&mut self.aggregates, meta),
            "references" => once(&mut self.references, meta),
            "index" => {
                self.indexes.push(index(meta)?);
                Ok(())
            }
            "names" => meta.parse_nested_meta(|inner| name_of_own(&mut self.names, &inner)),
            "source" | "target" | "schema" | "relation" => Err(meta.error(
                "where a table lies is no part of its type; write name = \"documents\" here, and \
                 source = \"shop.documents\" and target = \"documents\" under [tables.documents] of the \
                 configuration (in an application: the arguments of MigrationOptions::table)",
            )),
            _ => Err(meta.error(
                "expected name, partition, sort, expires, day_column, table, rules, aggregates, references, \
                 names(..) or index(..)",
            )),
        }
    }
}

impl Table {
    /// Reads a struct.
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let wrong = |what| Error::new_spanned(&input.ident, what);
        let fields = match &input.data {
            Data::Struct(data) => &data.fields,
            _ => return Err(wrong("a table is a struct with named fields".to_owned())),
        };
        let Fields::Named(fields) = fields else {
            return Err(wrong("a table is a struct with named fields".to_owned()));
        };
        if !input.generics.params.is_empty() {
            return Err(Error::new_spanned(&input.generics, "a row has no parameters; write the types out"));
        }
        let mut said = Said::default();
        for attribute in input.attrs.iter().filter(|a| a.path().is_ident("lockstep")) {
            attribute.parse_nested_meta(|meta| said.take(&meta))?;
        }
        let missing = |what: &str| wrong(format!("`{}` needs #[lockstep({what})]", input.ident));
        Ok(Self {
            row: input.ident.clone(),
            vis: input.vis.clone(),
            table: match said.table {
                Some(literal) => literal.parse()?,
                None => quote::format_ident!("{}Table", input.ident),
            },
            name: said.name.ok_or_else(|| missing("name = \"documents\""))?,
            partition: written(said.partition.ok_or_else(|| missing("partition = \"{id}\""))?)?,
            sort: said.sort.map(written).transpose()?,
            expires: said.expires.map(expiry).transpose()?,
            day_column: said.day_column,
            rules: said.rules,
            aggregates: said.aggregates,
            references: said.references,
            indexes: said.indexes,
            names: said.names,
            columns: fields.named.iter().map(column).collect::<Result<_>>()?,
        })
    }
}

fn word(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(ToString::to_string).unwrap_or_default()
}

/// Reads the value behind `=` into its slot.
fn once<T: syn::parse::Parse>(slot: &mut Option<T>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    let value = meta.value()?.parse()?;
    match slot.replace(value) {
        Some(_) => Err(meta.error("given twice; keep one")),
        None => Ok(()),
    }
}

/// Reads what an attribute of Lockstep's own is called.
fn name_of_own(names: &mut Vec<(Ident, LitStr)>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    let said = word(meta);
    if !NAMES.contains(&said.as_str()) {
        return Err(meta.error(format!("expected {}", NAMES.join(", "))));
    }
    let mut name = names.iter().find(|(of, _)| *of == said).map(|(_, name)| name.clone());
    once(&mut name, meta)?;
    names.extend(meta.path.get_ident().cloned().zip(name));
    Ok(())
}

fn written(literal: LitStr) -> Result<Written> {
    let template = literal.value().parse::<Template>().map_err(|e| Error::new(literal.span(), e))?;
    Ok(Written { literal, template })
}

fn expiry(literal: LitStr) -> Result<(LitStr, Expiry)> {
    let expiry = literal.value().parse::<Expiry>().map_err(|e| Error::new(literal.span(), e))?;
    Ok((literal, expiry))
}

fn index(meta: &ParseNestedMeta<'_>) -> Result<Index> {
    let (mut name, mut partition, mut sort, mut projection) = (None, None, None, None);
    meta.parse_nested_meta(|inner| match word(&inner).as_str() {
        "name" => once(&mut name, &inner),
        "partition" => once(&mut partition, &inner),
        "sort" => once(&mut sort, &inner),
        "projection" => once(&mut projection, &inner),
        _ => Err(inner.error("expected name, partition, sort or projection")),
    })?;
    let name = name.ok_or_else(|| meta.error("an index needs name = \"..\""))?;
    let partition = partition.ok_or_else(|| meta.error("an index needs partition = \"..\""))?;
    let (partition, sort) = (written(partition)?, sort.map(written).transpose()?);
    Ok(Index { name, partition, sort, projection: projection.unwrap_or(Projection::Keys) })
}

impl Parse for Projection {
    /// As a declaration has it: `"keys"`, `"all"`, or a list of columns.
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(token::Bracket) {
            let content;
            syn::bracketed!(content in input);
            let listed = content.parse_terminated(<LitStr as Parse>::parse, Token![,])?;
            return Ok(Self::List(listed.into_iter().collect()));
        }
        let word: LitStr = input.parse()?;
        match word.value().as_str() {
            "keys" => Ok(Self::Keys),
            "all" => Ok(Self::All),
            _ => Err(Error::new(
                word.span(),
                "expected \"keys\", \"all\" or a list of columns, as [\"total\"]",
            )),
        }
    }
}

fn column(field: &syn::Field) -> Result<Column> {
    let Some(ident) = field.ident.clone() else {
        return Err(Error::new_spanned(field, "a column needs a name"));
    };
    // `r#type` is the column `type`.
    let name = ident.to_string().trim_start_matches("r#").to_owned();
    let (mut renamed, mut attribute, mut sql) = (None::<LitStr>, None::<LitStr>, None);
    let (mut primary_key, mut reveal) = (false, false);
    for said in field.attrs.iter().filter(|a| a.path().is_ident("lockstep")) {
        said.parse_nested_meta(|meta| {
            match word(&meta).as_str() {
                "primary_key" => primary_key = true,
                "reveal" => reveal = true,
                "column" => once(&mut renamed, &meta)?,
                "sql" => once(&mut sql, &meta)?,
                "attribute" => once(&mut attribute, &meta)?,
                _ => return Err(meta.error("expected primary_key, column, attribute, sql or reveal")),
            }
            Ok(())
        })?;
    }
    let name = renamed.map_or(name, |literal| literal.value());
    let attribute = attribute.map_or_else(|| name.clone(), |literal| literal.value());
    Ok(Column { field: ident, ty: field.ty.clone(), name, attribute, sql, primary_key, reveal })
}
